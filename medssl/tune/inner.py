"""Whom a search may see, and how a training is scored on them.

The patients of the fixed split's training and validation parts are cut anew: K inner folds, by patient and stratified
as the split is. In each, a share of those who are not held out validates, which pretraining watches. Patients of the
test part are in no table that a search is given, nor can their samples be read through its store.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd

from medssl import table as tables
from medssl.config import Compute, Run, SplitParams
from medssl.curate import split
from medssl.evaluate import labels
from medssl.evaluate.frozen import Part
from medssl.evaluate.replicates import Replicates, completed
from medssl.evaluate.results import Predictions
from medssl.evaluate.tasks import Task
from medssl.models.embed import device_of, embed_samples
from medssl.pretrain.fit import fit
from medssl.store import Store

FOLDS = 3
LEAST = -1.0  # that a label may contribute: a wild R^2 of a few patients would drown the others
DEVELOPMENT = ("train", "val")

Measured = Callable[[dict[str, float], int], None]  # of a row of curves and the number of steps


def unwatched(row: dict[str, float], step: int) -> None:
    """Take a row of curves and do nothing."""


class Development(Store):
    """A store of the patients who train and validate; the others are not in it.

    Args:
        store: opened with its receipts and the fixed split. A patient whom the publisher's parts divide, and who so has
            samples in the test part too, is left out with all of them.
    """

    def __init__(self, store: Store) -> None:
        self.__dict__.update(store.__dict__)
        whole = store.table
        outside = set(whole.loc[~whole["split"].isin(DEVELOPMENT), "patient"])
        rows = np.flatnonzero(~whole["patient"].isin(outside))
        self._shard, self._row = self._shard[rows], self._row[rows]
        table = whole.iloc[rows].reset_index(drop=True)
        # What a sample outside stood for has no representative here; it stays removed.
        of = table["duplicate_of"]
        self.table = table.assign(duplicate_of=of.where(of.isin(table["sample_id"]), None))
        assert set(self.table["split"]) <= set(DEVELOPMENT), "a sample of the test part is in a search"
        assert not outside & set(self.table["patient"]), "a patient of the test part is in a search"

    def inner(self, params: SplitParams, *, seed: int) -> list[Store]:
        """Return the store of each inner fold, whose parts are ``train``, ``val`` and ``test``, the held-out patients.

        Raises:
            ValueError: too few patients.
        """
        drawn = split.folds(
            self.table, folds=FOLDS, val=params.val or 0.1, stratify=params.stratify, seed=seed, publisher=False
        )
        stores: list[Store] = []
        for name in drawn:
            one = copy(self)
            one.table = self.table.assign(split=drawn[name])
            stores.append(one)
        return stores


def scorable(stores: Sequence[Store], names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the labels that every inner fold can be scored on, and the others with the reason.

    Raises:
        ValueError: a label that the cohort does not have, or none that can be scored on.
    """
    reasons: dict[str, str] = {}
    for store in stores:
        reasons |= labels.left_out(store.table, names)
        for name in (name for name in names if name not in reasons):
            known = store.table.iloc[labels.usable(store.table, name)]
            held_out = known.loc[known["split"] == "test", f"label_{name}"]
            if held_out.map(str).nunique() < 2:
                reasons[name] = "held-out patients of an inner fold all have the same value"
    kept = [name for name in names if name not in reasons]
    if not kept:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "evaluate.labels is empty"
        raise ValueError(f"no label to score trials on ({why}); name others with --labels")
    return kept, reasons


def predicted(
    store: Store,
    run: Run,
    names: Sequence[str],
    *,
    fold: int,
    seed: int,
    compute: Compute,
    checkpoints: Path,
    on_measured: Measured = unwatched,
) -> pd.DataFrame:
    """Pretrain on the training patients of an inner fold, probe on them, and return predictions of those held out.

    Args:
        store: of the inner fold.
        run: what is tried.
        names: of labels.
        fold: its number.
        seed: of the training.
        compute: section of params.yaml, for one device.
        checkpoints: folder of the training's state; it goes on there after a stop.
        on_measured: see `medssl.pretrain.fit.fit`.

    Raises:
        ValueError: values that do not go together, or a training that diverged.
    """
    assert set(store.table["split"]) <= set(tables.SPLITS)
    fitted = fit(store, run, seed=seed, compute=compute, checkpoints=checkpoints, on_measured=on_measured)
    values = embed_samples(fitted.encoder, store, device=device_of(compute.accelerator))
    shutil.rmtree(fitted.checkpoints, ignore_errors=True)
    if not np.isfinite(values).all():
        raise ValueError(f"the training diverged, embeddings are not finite; lower pretrain.lr ({run.pretrain.lr:g})")
    results = Predictions()
    part = Part(store, [Task.of(store.table, name) for name in names], run.evaluate, results, fold=fold)
    part.fitted("probe", [part.pooled(values)], fractions=[1.0])
    return results.frame()


def headlines(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the headline of each label by ``metric/label``: AUROC, or R^2 for numbers; pairs are within folds."""
    out = {}
    for name, rows in completed(predictions).groupby("task", sort=False):
        metric, measured = next(iter(Replicates.of(rows).measured(0, only_headline=True, trainings=False).items()))
        out[f"{metric}/{name}"] = measured.mean
    return out


def score(of_labels: Mapping[str, float]) -> float:
    """Return the mean of the labels' headlines, none below `LEAST`.

    AUROC and R^2 are not on one scale: their mean is a choice, which says that 0.01 of either is worth the same.
    """
    return float(np.mean([max(value, LEAST) for value in of_labels.values()]))
