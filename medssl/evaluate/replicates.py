"""The test sets behind one figure: predictions of one task, protocol and label fraction, a test set for each training.

A replicate is one whole test set: one repeat of the cross-validation (a fixed split has one), one trained encoder, one
seed. In each every patient is tested once, so a metric has a value for each replicate and each draw of patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medssl.evaluate.intervals import Variance, between, drawn_blocks, of_draws
from medssl.evaluate.tasks import Task, parted

KEYS = ["repeat", "training", "seed"]


def kind_of(rows: pd.DataFrame) -> str:
    """Return what the task is: as the table says, or where nothing else is possible in tables of earlier versions.

    Raises:
        ValueError: the table has no ``kind``, and its values are those of classes as well as of several labels.
    """
    if "kind" in rows and isinstance(kind := rows["kind"].iloc[0], str):
        return kind
    classes = rows["classes"].iloc[0]
    if classes == "":
        return "number"
    # Each patient may have one of several labels by chance, and their shares may sum to one: neither tells.
    if rows["truth"].astype(str).isin(parted(classes)).all():
        raise ValueError(
            f"task '{rows['task'].iloc[0]}': predictions of an earlier version do not say whether its labels exclude "
            "one another; run the probe again"
        )
    return "multilabel"


def completed(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a table of an earlier version with the columns of this one: a fixed split, one training, units in order.

    Units of such a table are told apart by their patient and their order.
    """
    out = predictions.copy(deep=False)
    for name in ("fold", "repeat", "training"):
        if name not in out:
            out[name] = 0
        elif out[name].isna().any():
            out[name] = out[name].fillna(0).astype(int)
    if "id" not in out or out["id"].isna().any():
        key = ["task", "protocol", "fraction", *KEYS, "patient"]
        made = out["patient"].astype(str) + "/" + out.groupby(key, sort=False).cumcount().astype(str)
        out["id"] = out["id"].fillna(made) if "id" in out else made
    return out


class Measured(NamedTuple):
    """Values of one metric, over replicates and draws."""

    mean: float  # over replicates
    draws: np.ndarray  # (B,) mean over replicates in each draw of patients
    whole: np.ndarray  # (repeats, S) of each whole test set
    swapped: np.ndarray  # (F, S) of test sets in which one fold is of another run, see `intervals.between`
    drawn: np.ndarray  # (B, S) mean over repeats in each draw of patients
    runs: np.ndarray  # (S, 2) their training and seed

    def patients(self, freedom: int) -> Variance:
        """Return the variance of the mean that patients bring, with its degrees of freedom."""
        return of_draws(self.draws, freedom)

    def trainings(self, *, alone: bool = True) -> Variance | None:
        """Return the variance of the mean that trainings bring; None of a single one.

        ``alone``: without what patients add to the variance between trainings, as for an interval. What is taken off
        is an estimate too, and of three trainings it is off by so much that a test of a difference would not keep its
        level: it called equal methods different in 7.9 % of 800 simulated studies of 200 patients, and in 3.7 % of 300
        with all of it.
        """
        return between(self.whole, self.swapped, self.drawn if alone else self.drawn[:0], self.runs)

    def values(self) -> np.ndarray:
        """Return the metric (S,) of each run, averaged over repeats."""
        return self.whole.mean(0)

    def minus(self, other: Measured) -> Measured:
        """Return the difference of two that have the same patients, folds and runs."""
        return Measured(
            self.mean - other.mean,
            self.draws - other.draws,
            self.whole - other.whole,
            self.swapped - other.swapped,
            self.drawn - other.drawn,
            self.runs,
        )


@dataclass(frozen=True)
class Replicates:
    """Replicates of one task, protocol and fraction."""

    task: Task  # its units are all tested units
    keys: list[tuple[int, int, int]]  # repeat, training and seed of each replicate, sorted
    units: list[np.ndarray]  # tested in each replicate
    folds: list[np.ndarray]  # of each of them
    scores: list[np.ndarray]  # (units, K)

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Replicates:
        """Align the rows of one task, protocol and fraction of a predictions table, `completed`.

        Raises:
            ValueError: a unit has two predictions in one replicate; see also `kind_of`.
        """
        name, unit, kind = rows["task"].iloc[0], rows["unit"].iloc[0], kind_of(rows)
        first = rows.drop_duplicates("id").sort_values("id")
        code = first["id"].to_numpy(dtype=str)
        classes = np.array([] if kind == "number" else parted(first["classes"].iloc[0]))
        truth = first["truth"].to_numpy(float if kind == "number" else str)
        if kind == "multilabel":
            truth = np.stack([np.isin(classes, parted(t)) for t in truth])
        every = np.arange(len(code))
        test = np.full(len(code), "test")
        task = Task(name, kind, unit, classes, truth, first["patient"].to_numpy(), test, every, every, code)  # type: ignore[arg-type]
        keys, units, folds, scores = [], [], [], []
        key: Any
        for key, part in rows.groupby(KEYS, sort=True):
            at = np.searchsorted(code, part["id"].to_numpy(dtype=str))
            order = np.argsort(at, kind="stable")
            if (np.diff(at[order]) == 0).any():
                words = ", ".join(f"{k} {v}" for k, v in zip(KEYS, key, strict=True))
                raise ValueError(f"task '{name}', {words}: a unit has two predictions; each is tested once in a repeat")
            keys.append((int(key[0]), int(key[1]), int(key[2])))
            units.append(at[order])
            folds.append(part["fold"].to_numpy()[order])
            scores.append(np.stack(list(part["scores"])).astype(np.float64)[order])
        return cls(task, keys, units, folds, scores)

    def subset(self, chosen: np.ndarray) -> Replicates:
        """Return the replicates of the units where ``chosen`` (n,) is true."""
        keep = [chosen[u] for u in self.units]
        parts = [[x[k] for x, k in zip(xs, keep, strict=True)] for xs in (self.units, self.folds, self.scores)]
        code = np.where(chosen, "test", "")
        task = Task(**{**self.task.__dict__, "split": code})
        return Replicates(task, self.keys, *parts)

    def patients(self) -> int:
        """Return how many patients are tested."""
        return len(np.unique(self.task.patient[self.task.part("test")]))

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (repeats, S) of the runs that all repeats have, and their training and seed (S, 2)."""
        repeats = sorted({repeat for repeat, *_ in self.keys})
        of = [{key[1:]: i for i, key in enumerate(self.keys) if key[0] == r} for r in repeats]
        common = sorted(set.intersection(*map(set, of)))
        if not common:  # then a repeat is one training
            return np.array([[min(positions.values())] for positions in of]), np.zeros((1, 2), dtype=int)
        return np.array([[positions[run] for run in common] for positions in of]), np.array(common)

    def value(
        self, at: int, weights: np.ndarray, *, only_headline: bool, scores: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return the metrics (B,) of a replicate, or of other ``scores`` of its units; weights (B, n) of all units."""
        units = self.units[at]
        used = self.scores[at] if scores is None else scores
        return self.task.score(used, units, weights.T[units].T, fold=self.folds[at], only_headline=only_headline)

    def _swapped(self, *, only_headline: bool) -> list[list[dict[str, float]]]:
        """Return the metrics, by fold of all repeats and run, of test sets that are of the first run but in one fold.

        The difference to the first run is what another training of that one fold changes. A fold whose runs did not
        test the same units has none.
        """
        ones, out = np.ones((1, len(self.task.patient))), []

        def score(at: int, scores: np.ndarray | None = None) -> dict[str, float]:
            found = self.value(at, ones, only_headline=only_headline, scores=scores)
            return {name: float(value[0]) for name, value in found.items()}

        for base, *others in self.grid()[0]:
            unchanged, folds = score(base), self.folds[base]
            for fold in np.unique(folds):
                here, row = folds == fold, [unchanged]
                for other in others:
                    same = np.array_equal(self.units[base], self.units[other])
                    if not same or not np.array_equal(folds, self.folds[other]):
                        row.append({})
                    else:
                        row.append(score(base, np.where(here[:, None], self.scores[other], self.scores[base])))
                out.append(row)
        return out

    def by_fold(self) -> np.ndarray:
        """Return the headline of each fold of all repeats alone (F,), averaged over runs."""
        out = []
        for runs in self.grid()[0]:
            values = []
            for at in runs:
                units, folds = self.units[at], self.folds[at]
                of = {}
                for fold in np.unique(folds):
                    here = units[folds == fold]
                    scored = self.task.score(
                        self.scores[at][folds == fold], here, np.ones((1, len(here))), only_headline=True
                    )
                    of[int(fold)] = float(next(iter(scored.values()))[0])
                values.append(of)
            out += [np.mean([of.get(fold, np.nan) for of in values]) for fold in values[0]]
        return np.array(out)

    def measured(self, draws: int, *, only_headline: bool = False, trainings: bool = True) -> dict[str, Measured]:
        """Return each metric over replicates and ``draws`` of patients, the headline first.

        Without ``trainings`` runs are not swapped fold by fold, which is what many runs cost.
        """
        tested, strata = self.task.part("test"), self.task.strata()
        blocks = []
        for drawn in drawn_blocks(self.task.patient[tested], draws, strata=None if strata is None else strata[tested]):
            weights = np.zeros((len(self.task.patient), len(drawn))).T
            weights[:, tested] = drawn
            blocks.append([self.value(at, weights, only_headline=only_headline) for at in range(len(self.keys))])
        grid, runs = self.grid()
        swapped = self._swapped(only_headline=only_headline) if trainings else []
        out = {}
        for name in blocks[0][0]:
            if not all(name in values for values in blocks[0]):
                continue  # such as a Brier score that not every replicate has
            values = np.concatenate([[v[name] for v in block] for block in blocks], axis=1)  # (replicates, 1 + B)
            mean = values.mean(0)
            alone = np.array([[v.get(name, np.nan) for v in row] for row in swapped])
            drawn = values[grid, 1:].mean(0).T
            out[name] = Measured(float(mean[0]), mean[1:], values[grid, 0], alone, drawn, runs)
        return out
