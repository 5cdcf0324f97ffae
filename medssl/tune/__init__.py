"""Search of pretraining choices on training and validation patients alone."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

DATA = Path("data")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def budget(text: str) -> float:
    """Return seconds of a time such as ``90s``, ``45m``, ``2h`` or ``1h30m``.

    Raises:
        ValueError: anything else.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"--budget {text}: expected a time such as 90s, 45m, 2h or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have Lightning and MONAI not speak, once a trial, of choices that are made here on purpose."""
    # Both loggers get their level when they are imported, which is so late that it must have happened.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tune(
    name: str,
    *,
    params: Path = Path("params.yaml"),
    seconds: float | None = None,
    trials: int | None = None,
    folds: int = 1,
    seed: int | None = None,
    labels: Sequence[str] = (),
    rows: Sequence[str] = (),
    write: bool = False,
) -> list[str]:
    """Search a run of a params file, write ``data/tune/<name>``, and return in lines what was found.

    The inner folds that did not choose confirm the best after the budget: two trainings each.

    Args:
        name: in ``runs``.
        params: the file; stores, splits and receipts are those of its pipeline in ``data``.
        seconds: budget; the trial in hand is finished.
        trials: in all, those of an earlier search included.
        folds: inner folds that choose, 1 to 3.
        seed: of inner folds, trainings and draws; None: that of the file.
        labels: to score on; none: ``evaluate.labels``.
        rows: what may change, see `medssl.tune.space.named`; none: the whole table.
        write: change the params file.

    Raises:
        ValueError: neither a budget nor trials; several processes; what `medssl.tune.search.prepare` refuses.
    """
    from medssl import config, project, tracking
    from medssl import table as tables
    from medssl.store import open_store
    from medssl.tune import page, patch, search, space
    from medssl.tune.confirm import confirm
    from medssl.tune.inner import FOLDS

    if seconds is None and trials is None:
        raise ValueError("nothing says when to end; give --budget, --trials or both")
    if not (seconds is None or seconds > 0) or not (trials is None or trials > 0):
        raise ValueError(
            f"--budget {seconds} s, --trials {trials}: expected more than 0; the run as it stands is a trial"
        )
    if project.launched():
        raise ValueError("a search trains on one device; start it without torchrun")
    if not 1 <= folds <= FOLDS:
        raise ValueError(f"--folds {folds}: expected 1 to {FOLDS}")
    given = config.load(params)
    run: config.Run = config.part(given, "runs", name)
    cohort: config.Cohort = config.part(given, "modalities", run.modality)
    home = DATA / run.modality
    store = open_store(home / "store", home / "split.parquet", home / "dedup.parquet")
    store.table = tables.of_fold(store.table, None)
    wanted = search.prepare(
        name,
        run,
        store,
        cohort.split,
        home=project.root() / ".medssl" / "tune",
        compute=given.compute,
        labels=labels,
        rows=space.named(rows),
        folds=folds,
        seed=given.seed if seed is None else seed,
    )
    out = DATA / "tune" / name
    about: dict[str, Any] = {"run": name, "modality": run.modality, "data_hash": store.content_hash}
    about |= {"alone": True, "tags": {"kind": "search"}}
    with _quiet(), tracking.stage_run(given.tracking, f"tune@{name}", **about) as parent:
        parent.params({"seed": wanted.seed, "folds": folds, "labels": ", ".join(wanted.labels)})
        budgeted = {"seconds": seconds, "trials": trials, "progress": given.compute.progress}
        study = search.go(wanted, **budgeted, settings=given.tracking, parent=parent)  # type: ignore[arg-type]
        top = search.best(study)
        values = search.values_of(wanted, top)
        confirmed = []
        try:
            confirmed = confirm(wanted, values)
        except (ValueError, RuntimeError) as error:
            said = f"the best failed in an inner fold that chose nothing: {' '.join(str(error).split())}"
            wanted = replace(wanted, notes=[*wanted.notes, said])
        lines = page.write(out, wanted, study, confirmed, params)
        parent.metrics({"score": float(top.value or 0), "trials": len(search.finished(study))})
        parent.artifact(out)
    if write and values:
        patch.write(params, name, values)
    return [*wanted.notes, *lines, f"{out}: page.html, trials.parquet, params.yaml.patch"]
