"""A task: one label, the units it belongs to, and how predictions of it are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from medssl import table as tables
from medssl.evaluate import labels, metrics

Kind = Literal["class", "multilabel", "number"]


@dataclass(frozen=True)
class Task:
    """One label over units (patients, trials or samples, whichever is the coarsest with one value and in one part)."""

    name: str  # label without prefix
    kind: Kind
    unit: str  # patient, trial or sample_id
    classes: np.ndarray  # names in sorted order (empty for numbers)
    truth: np.ndarray  # (n,) class names or numbers, (n, K) bool for multi-label
    patient: np.ndarray  # (n,) of each unit
    split: np.ndarray  # (n,) part of each unit
    member: np.ndarray  # (rows,) unit of each row of ``rows``
    rows: np.ndarray  # positions in the sample table that have the label, ascending
    id: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))  # (n,) code of each unit as text

    @classmethod
    def of(cls, table: pd.DataFrame, name: str) -> Task:
        """Build a task from a sample table with split; exact copies and unlabelled rows stay out.

        Without any training patient it can still score predictions that were made elsewhere.

        Raises:
            ValueError: no such label, no value of it, or one that cannot be learned or tested (`labels.obstacle`).
        """
        labels.require(tables.tasks(table), [name], key="evaluate.labels")
        column = f"label_{name}"
        rows = labels.usable(table, name)
        known = table.iloc[rows]
        if not len(rows):
            raise ValueError(f"evaluate.labels '{name}': no sample has this label")
        unit = labels.unit_of(known, name)
        member = pd.factorize(known[unit])[0]  # by appearance: codes depend on the project's key
        first = np.unique(member, return_index=True)[1]
        values = known[column].iloc[first]
        sample = values.iloc[0]
        kind: Kind
        if isinstance(sample, str):
            kind, classes, truth = "class", np.unique(values.astype(str)), values.to_numpy(dtype=str)
        elif isinstance(sample, list | tuple | np.ndarray):
            kind = "multilabel"
            classes = np.unique(np.concatenate([np.asarray(v, dtype=str) for v in values]))
            truth = np.stack([np.isin(classes, np.asarray(v, dtype=str)) for v in values])
        else:
            kind, classes, truth = "number", np.array([]), values.to_numpy(float)
        split = known["split"].iloc[first].to_numpy(dtype=str)
        reason = labels.obstacle(values.to_list(), split)
        if reason is not None and (split == "train").any():
            raise ValueError(f"evaluate.labels '{name}': {reason}")
        patient = known["patient"].iloc[first].to_numpy()
        code = known[unit].iloc[first].astype(str).to_numpy(dtype=str)
        return cls(name, kind, unit, classes, truth, patient, split, member, rows, code)

    def part(self, name: str) -> np.ndarray:
        """Return the units of a split."""
        return np.flatnonzero(self.split == name)

    def subset(self, fraction: float, seed: int) -> np.ndarray:
        """Return training units of a share of the training *patients*, each class at least once.

        "1 % of labels" is 1 % of patients here, not of windows spread over nearly all of them. The patients of a
        smaller share are among those of a larger one with the same seed.
        """
        units = self.part("train")
        if fraction >= 1:
            return units
        rng = np.random.default_rng([seed, 7])
        patients = rng.permutation(pd.unique(self.patient[units]))
        wanted = max(2, math.ceil(fraction * len(patients)))
        chosen = list(patients[:wanted])
        if self.kind == "class":
            for c in np.unique(self.truth[units]):
                if not (self.truth[units][np.isin(self.patient[units], chosen)] == c).any():
                    has = set(self.patient[units][self.truth[units] == c])
                    chosen.append(next(p for p in patients if p in has))
        return units[np.isin(self.patient[units], chosen)]

    def rarest(self, label: str | None = None) -> int | None:
        """Return how many test patients the rarer class has; None for numbers.

        Of several labels at once it is the median label's number, with or without it, whichever is less: a draw that
        lacks a label averages the others. With ``label`` it is that of this one.
        """
        if self.kind == "number":
            return None
        units = self.part("test")
        patient, truth = self.patient[units], self.truth[units]

        def patients(these: np.ndarray) -> int:
            return len(np.unique(patient[these]))

        if self.kind == "class":
            return min(patients(truth == c) for c in np.unique(truth)) if len(np.unique(truth)) > 1 else 0
        columns = truth.T if label is None else truth.T[self.classes == label]
        counts = [min(patients(column), patients(~column)) for column in columns if 0 < column.sum() < len(column)]
        return int(np.median(counts)) if counts else 0

    def strata(self) -> np.ndarray | None:
        """Return the stratum (n,) of each unit for draws of patients: its class, or the rarest label it has.

        None for numbers. A unit without any label is in stratum -1.
        """
        if self.kind == "number":
            return None
        if self.kind == "class":
            return np.searchsorted(self.classes, self.truth)
        counts = np.where(self.truth, self.truth.sum(0), len(self.truth) + 1)
        return np.where(self.truth.any(1), counts.argmin(1), -1)

    def score(
        self,
        predicted: np.ndarray,
        units: np.ndarray,
        weights: np.ndarray,
        *,
        fold: np.ndarray | None = None,
        only_headline: bool = False,
    ) -> dict[str, np.ndarray]:
        """Return metrics per bootstrap draw of predictions for ``units``, the headline first.

        Args:
            predicted: (units, K).
            units: positions.
            weights: (B, units).
            fold: (units,) of the model that predicted each; None: one model.
            only_headline: leave the other metrics out, which is many times faster.
        """
        truth = self.truth[units]
        if self.kind == "class":
            return metrics.class_metrics(
                predicted, truth, self.classes, weights, fold=fold, only_headline=only_headline
            )
        if self.kind == "multilabel":
            return metrics.multilabel_metrics(
                predicted, truth, weights, labels=self.classes, fold=fold, only_headline=only_headline
            )
        return metrics.number_metrics(predicted[:, 0], truth, weights, only_headline=only_headline)


def pooled(
    tasks: Sequence[Task], blocks: Iterable[np.ndarray], features: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """Return, for each task, the mean features (n, d) over the rows of each unit, holding those of one block.

    NaN, an unknown value, has no part in a mean; where no row of a unit knows one the mean is NaN.

    Args:
        tasks: of one sample table.
        blocks: runs of consecutive positions in it, as of `medssl.store.Store.blocks`.
        features: (rows, d) of a block.
    """
    sums: list[np.ndarray] = []
    lacking: list[np.ndarray] = []  # rows of a unit that do not know a value
    for block in blocks:
        values = features(block)
        unknown = np.isnan(values)
        values = np.where(unknown, 0, values)
        shapes = [(len(task.patient), values.shape[1]) for task in tasks]
        sums = sums or [np.zeros(shape) for shape in shapes]
        lacking = lacking or [np.zeros(shape, np.int32) for shape in shapes]
        for task, total, without in zip(tasks, sums, lacking, strict=True):
            here = slice(*np.searchsorted(task.rows, (block[0], block[-1] + 1)))
            rows, member = task.rows[here] - block[0], task.member[here]
            np.add.at(total, member, values[rows])
            if unknown.any():
                np.add.at(without, member, unknown[rows])
    with np.errstate(invalid="ignore"):
        return [
            total / (np.bincount(task.member)[:, None] - without)
            for task, total, without in zip(tasks, sums, lacking, strict=True)
        ]


def joined(names: Iterable[str]) -> str:
    """Return names of classes as one text, separated by ``|``, which itself becomes ``%7C`` in a name."""
    return "|".join(name.replace("%", "%25").replace("|", "%7C") for name in names)


def parted(text: str) -> list[str]:
    """Return the names in a text of `joined`."""
    return [name.replace("%7C", "|").replace("%25", "%") for name in text.split("|")]
