"""The search of one run: trials one after the other, each an MLflow child run, resumable after any of them.

A trial pretrains once per inner fold that chooses (`medssl.tune.inner`), and its score is the mean headline of the
labels. The first trial is the run as it stands. Everything random follows from a seed and the trial's number, so that
a search which was stopped and went on, even within a trial, is the one that was never stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from medssl import config, tracking
from medssl.evaluate.metrics import LEAST_PATIENTS
from medssl.pretrain.data import training_rows
from medssl.pretrain.fit import drawn
from medssl.pretrain.resume import run_hash
from medssl.store import Store, read_parquet, write_parquet
from medssl.tune import space
from medssl.tune.inner import Development, Measured, headlines, predicted, scorable, score, unwatched

RANDOM = 8  # trials drawn without looking at others, after which the sampler learns
WATCHED = 5  # finished trials before one is stopped early for being below their median
TENTHS = 3  # of its training that a trial has in any case
REPEATS = 20  # of trials that were tried before, in a row, after which little is left to try
OWN = 0  # number of the trial of the run as it stands


@dataclass(frozen=True)
class Search:
    """What is searched, and on whom.

    Attributes:
        name: in ``runs``.
        run: as it stands.
        stores: of each inner fold.
        labels: that trials are scored on.
        axes: what may change.
        choosing: how many inner folds decide; the others confirm.
        seed: of trainings and draws.
        compute: of trainings.
        home: folder of all searches' states; this one's has a name of its own in it.
        notes: what was left out, and why.
    """

    name: str
    run: config.Run
    stores: Sequence[Store]
    labels: Sequence[str]
    axes: Sequence[space.Axis]
    choosing: int
    seed: int
    compute: config.Compute
    home: Path
    notes: Sequence[str] = field(default=())

    @property
    def folder(self) -> Path:
        """Where the state is: by run, data, folds, space, seed and precision; with another of these it starts anew."""
        facts = [run_hash(self.run, one, self.seed) for one in self.stores]
        said = [
            facts,
            [axis.facts() for axis in self.axes],
            list(self.labels),
            self.choosing,
            self.run.evaluate.pooling,
            self.compute.precision,
        ]
        digest = hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=6).hexdigest()
        return self.home / f"{self.name}-{digest}"

    @property
    def watched(self) -> int:
        """How many validating patients tell of a training whether it is worth its end; 0 where too few would."""
        table, column = self.stores[0].table, f"label_{self.run.pretrain.monitor_label}"
        if column not in table:
            return 0
        patients = int(table.loc[(table["split"] == "val") & table[column].notna(), "patient"].nunique())
        return patients if patients >= LEAST_PATIENTS else 0

    def predictions(self, run: config.Run, fold: int, watch: Measured = unwatched) -> pd.DataFrame:
        """Return what `predicted` does, found again where it was computed before."""
        path = self.folder / "predictions" / f"{run_hash(run, self.stores[fold], self.seed)}.parquet"
        if not path.is_file():
            table = predicted(
                self.stores[fold],
                run,
                self.labels,
                fold=fold,
                seed=self.seed,
                compute=self.compute,
                checkpoints=self.folder / "checkpoints",
                on_measured=watch,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            write_parquet(table, partial)
            partial.replace(path)
        return read_parquet(path)

    def steps(self, run: config.Run) -> int:
        """Return how many optimiser steps a training has in the first inner fold."""
        rows = training_rows(self.stores[0].table, run.pretrain.duplicates)
        _, _, batches = drawn(self.stores[0], rows, run, self.seed)
        return run.pretrain.epochs * -(-len(batches) // run.pretrain.accumulate)


def prepare(
    name: str,
    run: config.Run,
    store: Store,
    split: config.SplitParams,
    *,
    home: Path,
    compute: config.Compute,
    labels: Sequence[str] = (),
    rows: Sequence[space.Row] = space.SPACE,
    folds: int = 1,
    seed: int = 0,
) -> Search:
    """Return a search, after all is refused that would fail later.

    Args:
        name: in ``runs``.
        run: entry of ``runs``.
        store: opened with receipts and the fixed split.
        split: how the cohort is split, for strata and the share of validation.
        home: folder of states.
        compute: section of params.yaml; trainings take one device.
        labels: to score on; none: those of ``evaluate.labels``.
        rows: what may change.
        folds: inner folds that decide.
        seed: of inner folds, trainings and draws.

    Raises:
        ValueError: a run that trains nothing or starts from another; no label, nobody or nothing to search with.
    """
    if run.encoder_from is not None:
        raise ValueError(f"runs.{name}.encoder_from: {run.encoder_from} is trained already; there is nothing to tune")
    if run.start is not None:
        raise ValueError(
            f"runs.{name}.start: {run.start} has validated on patients that an inner fold would hold out; tune a run "
            "without start, such as that one"
        )
    stores = Development(store).inner(split, seed=seed)
    kept, left_out = scorable(stores, labels or run.evaluate.labels)
    table = stores[0].table
    setting = space.Setting.of(run, store.facts, table[table["split"] == "train"])
    axes, notes = space.axes(rows, run, setting)
    notes += [f"label '{label}' is not scored: {reason}" for label, reason in left_out.items()]
    if seen := [label for label in kept if label in run.reads()]:
        notes.append(f"pretraining reads {', '.join(seen)}, which the score counts too; --labels narrows it")
    alone = compute.model_copy(update={"devices": 1, "nodes": 1, "progress": False})
    made = Search(name, run, stores, kept, axes, folds, seed, alone, home, notes)
    if not made.watched:
        why = f"no monitor_label that {LEAST_PATIENTS} validating patients have"
        notes.append(f"no trial is stopped early: {why}")
    return made


def study_of(search: Search) -> optuna.Study:
    """Return the trials so far, the first of them waiting where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=search.name,
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(search.folder / "trials.jsonl"))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WATCHED, n_warmup_steps=TENTHS),
        direction="maximize",
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({axis.key: axis.stored() for axis in search.axes})
    return study


@contextmanager
def _alone(search: Search) -> Iterator[None]:
    """Keep a second process from the same search, whose trials in hand it would take for stopped ones.

    Raises:
        ValueError: there is one.
    """
    search.folder.mkdir(parents=True, exist_ok=True)
    with (search.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"runs.{search.name}: another process is at this search; let it end") from None
        yield


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that ended, in whatever way."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def go(
    search: Search,
    *,
    seconds: float | None,
    trials: int | None,
    settings: config.Tracking,
    parent: tracking.StageRun,
    progress: bool = True,
) -> optuna.Study:
    """Try values until ``trials`` have ended, earlier ones included, or ``seconds`` have passed; return all trials.

    Time is looked at between trials: the one in hand is finished.

    Raises:
        ValueError: the run as it stands fails.
    """
    begin, repeats = time.monotonic(), 0
    with _alone(search), tqdm(total=trials, desc=search.name, unit="trial", disable=None if progress else True) as bar:
        study = study_of(search)
        done = len(finished(study))
        bar.update(done)
        while repeats < REPEATS and (trials is None or done < trials):
            if seconds is not None and time.monotonic() - begin >= seconds:
                break
            stopped = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            seed = int(np.random.SeedSequence([search.seed, done]).generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=seed)
            # A trial that was in hand when the search was stopped keeps its number and its values.
            trial = Trial(study, stopped[0]._trial_id) if stopped else study.ask()
            _try(search, study, trial, settings, parent)
            ended = finished(study)
            done = len(ended)
            repeats = repeats + 1 if any(one.params == ended[-1].params for one in ended[:-1]) else 0
            bar.update()
            bar.set_postfix(best=f"{best(study).value:.3f}")
    return study


def _try(
    search: Search, study: optuna.Study, trial: Trial, settings: config.Tracking, parent: tracking.StageRun
) -> None:
    """Run a trial and note its end: a score, a stop before it was trained out, or the reason of its failure."""
    values, begin = space.drawn(trial, search.axes), time.monotonic()
    data = search.stores[0].content_hash
    about: dict[str, Any] = {"run": search.name, "modality": search.run.modality, "data_hash": data}
    about["tags"] = {"stage": f"tune@{search.name}"}
    found: dict[str, float] = {}
    end, reason = TrialState.COMPLETE, ""
    try:
        with tracking.stage_run(settings, f"tune@{search.name} trial {trial.number}", below=parent, **about) as child:
            child.params(values)
            try:
                found = _scored(search, space.applied(search.run, space.changed(search.axes, values)), trial, child)
                child.metrics({"score": score(found), "seconds": time.monotonic() - begin, **found})
            except optuna.TrialPruned:
                end, reason = TrialState.PRUNED, "below the median of earlier trials"
                child.tag("reason", reason)
            except (ValueError, RuntimeError) as error:  # a CPU without memory raises the latter
                end, reason = TrialState.FAIL, " ".join(str(error).split())
                child.tag("reason", reason)
                raise
    except (ValueError, RuntimeError):
        # Also of MLflow, which is no failure of the trial, and of the run as it stands, which makes all others vain.
        if end is not TrialState.FAIL or trial.number == OWN:
            raise
    shutil.rmtree(search.folder / "checkpoints", ignore_errors=True)
    for name, value in {"seconds": time.monotonic() - begin, "reason": reason, "labels": found}.items():
        trial.set_user_attr(name, value)
    study.tell(trial, score(found) if found else None, state=end)


def _scored(search: Search, run: config.Run, trial: Trial, child: tracking.StageRun) -> dict[str, float]:
    """Return the headlines of a trial over the inner folds that choose.

    The curve of the first of them may stop it: the nearest-neighbour score on validating patients is compared with that
    of earlier trials at the same tenth of the training, because trainings differ in length. A run without a
    ``monitor_label``, or with fewer than `LEAST_PATIENTS` validating patients, trains every trial to its end.

    Raises:
        optuna.TrialPruned: it is below their median.
        ValueError: values that do not go together, a training that diverged, or a label without a value.
    """
    steps, watched, said = search.steps(run), search.watched, set(_reported(trial))

    def watch(row: dict[str, float], step: int) -> None:
        child.metrics({name: value for name, value in row.items() if name != "step"}, step)
        value, tenth = row.get("val/knn", float("nan")), 10 * step // steps
        if not watched or not np.isfinite(value) or tenth in said or tenth >= 10:  # trained out, it is scored
            return
        said.add(tenth)
        trial.report(value, tenth)
        if trial.should_prune():
            raise optuna.TrialPruned

    folds = range(search.choosing)
    tables = [search.predictions(run, fold, watch if fold == 0 else unwatched) for fold in folds]
    found = headlines(pd.concat(tables, ignore_index=True))
    if bad := [name for name, value in found.items() if not np.isfinite(value)]:
        raise ValueError(f"{', '.join(bad)} cannot be measured on these held-out patients")
    return found


def _reported(trial: Trial) -> Mapping[int, float]:
    """Return what a trial that was stopped had reported."""
    return trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values


def best(study: optuna.Study) -> FrozenTrial:
    """Return the trial of the highest score, of equal ones the first."""
    return max(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: (t.value, -t.number))


def values_of(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Return what a trial changes of the run, by key."""
    return space.changed(search.axes, {axis.key: axis.value(trial.params[axis.key]) for axis in search.axes})
