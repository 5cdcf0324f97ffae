"""A task: one label, the units it belongs to, and how predictions of it are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
        return cls(name, kind, unit, classes, truth, patient, split, member, rows)

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

    def rarest(self) -> int | None:
        """Return how many test patients the rarer class has; None for numbers.

        Of several labels at once it is the median label's number, with or without it, whichever is less: a draw that
        lacks a label averages the others.
        """
        if self.kind == "number":
            return None
        units = self.part("test")
        patient, truth = self.patient[units], self.truth[units]

        def patients(these: np.ndarray) -> int:
            return len(np.unique(patient[these]))

        if self.kind == "class":
            return min(patients(truth == c) for c in np.unique(truth)) if len(np.unique(truth)) > 1 else 0
        counts = [min(patients(column), patients(~column)) for column in truth.T if 0 < column.sum() < len(column)]
        return int(np.median(counts)) if counts else 0

    def score(self, predicted: np.ndarray, units: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """Return metrics per bootstrap draw of predictions for ``units``."""
        if self.kind == "class":
            return metrics.class_metrics(predicted, self.truth[units], self.classes, weights)
        if self.kind == "multilabel":
            return metrics.multilabel_metrics(predicted, self.truth[units], weights)
        return metrics.number_metrics(predicted[:, 0], self.truth[units], weights)


def pooled(
    tasks: Sequence[Task], blocks: Iterable[np.ndarray], features: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """Return, for each task, the mean features (n, d) over the rows of each unit, holding those of one block.

    Args:
        tasks: of one sample table.
        blocks: runs of consecutive positions in it, as of `medssl.store.Store.blocks`.
        features: (rows, d) of a block.
    """
    sums: list[np.ndarray] = []
    for block in blocks:
        values = features(block)
        sums = sums or [np.zeros((len(task.patient), values.shape[1])) for task in tasks]
        for task, total in zip(tasks, sums, strict=True):
            here = slice(*np.searchsorted(task.rows, (block[0], block[-1] + 1)))
            np.add.at(total, task.member[here], values[task.rows[here] - block[0]])
    return [total / np.bincount(task.member)[:, None] for task, total in zip(tasks, sums, strict=True)]


def joined(names: Iterable[str]) -> str:
    """Return names of classes as one text, separated by ``|``, which itself becomes ``%7C`` in a name."""
    return "|".join(name.replace("%", "%25").replace("|", "%7C") for name in names)


def parted(text: str) -> list[str]:
    """Return the names in a text of `joined`."""
    return [name.replace("%7C", "|").replace("%25", "%") for name in text.split("|")]


@dataclass
class Results:
    """Metrics and predictions of a run as they come in.

    Metrics are ``{task: {protocol: {fraction: {metric: value}}}}`` with values of `metrics.summarise`, and ``{task:
    {"left_out": reason}}`` for what cannot be evaluated.
    """

    bootstrap: int  # draws
    metrics: dict[str, Any]
    predictions: list[pd.DataFrame]  # a table for each task, protocol and fraction

    @classmethod
    def empty(cls, bootstrap: int) -> Results:
        """Return results with nothing in them."""
        return cls(bootstrap, {}, [])

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Record labels that cannot be evaluated, each with its reason."""
        self.metrics |= {name: {"left_out": reason} for name, reason in reasons.items()}

    def add(self, task: Task, protocol: str, fraction: float, per_seed: list[np.ndarray]) -> None:
        """Score test predictions, one array (n_test, K) per seed, and keep them."""
        units = task.part("test")
        patient, truth = task.patient[units], task.truth[units]
        weights = metrics.draw_weights(patient, self.bootstrap)
        scored = [task.score(p, units, weights) for p in per_seed]
        table = self.metrics.setdefault(task.name, {}).setdefault(protocol, {})
        table[f"{fraction:g}"] = metrics.summarise(scored, patient, rarest=task.rarest())
        for seed, predicted in enumerate(per_seed):
            self.predictions.append(
                pd.DataFrame(
                    {
                        "task": task.name,
                        "kind": task.kind,
                        "protocol": protocol,
                        "fraction": fraction,
                        "seed": seed,
                        "patient": patient,
                        "unit": task.unit,
                        "truth": [joined(task.classes[t]) if task.kind == "multilabel" else str(t) for t in truth],
                        "classes": joined(task.classes),
                        "scores": list(np.asarray(predicted, dtype=np.float32)),
                    }
                )
            )

    def frame(self) -> pd.DataFrame:
        """Return all predictions as one table; without any label an empty one."""
        if not self.predictions:
            names = ("task", "kind", "protocol", "fraction", "seed", "patient", "unit", "truth", "classes", "scores")
            return pd.DataFrame({name: pd.Series(dtype="object") for name in names})
        return pd.concat(self.predictions, ignore_index=True)
