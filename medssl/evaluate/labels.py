"""What a label can be used for, from the sample table alone: known before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medssl import table as tables


def require(have: Sequence[str], wanted: Sequence[str], *, key: str, what: str = "label") -> None:
    """Refuse a name that the cohort does not have.

    Raises:
        ValueError: with the key of ``params.yaml``, the name and what the cohort has.
    """
    for name in wanted:
        if name not in have:
            raise ValueError(f"{key}: no {what} '{name}'; the cohort has: {', '.join(have) or 'none'}")


def are_classes(column: pd.Series) -> bool:
    """Say whether the values of a label are classes, not numbers or several labels at once."""
    return bool(column.dropna().map(lambda value: isinstance(value, str)).all())


def kind(column: pd.Series) -> str:
    """Return what a label is: ``class``, ``number`` or ``multilabel``."""
    return "class" if are_classes(column) else "number" if simple(column.dropna()) else "multilabel"


def simple(column: pd.Series) -> bool:
    """Say whether each value of a label is one class or one number."""
    return bool(column.map(lambda value: np.ndim(value) == 0).all())


def as_numbers(column: pd.Series) -> np.ndarray:
    """Return a label of numbers as (n, 1), one of K classes as (n, K) of 0 and 1."""
    if are_classes(column):
        return pd.get_dummies(column).to_numpy(float)
    return column.to_numpy(float)[:, None]


def finetuned(wanted: Sequence[str], probed: Sequence[str]) -> list[str]:
    """Return the labels that networks are trained on: those asked for, else the first of those that are probed."""
    return list(wanted or probed[:1])


def usable(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the positions of the rows that have the label; exact copies stay out."""
    return np.flatnonzero((table[f"label_{name}"].notna() & (table["method"] != "exact")).to_numpy())


def unit_of(known: pd.DataFrame, name: str) -> str:
    """Return the coarsest unit (``patient``, ``trial`` or ``sample_id``) of one value of the label and in one part.

    Where the publisher's parts divide patients, a mean over a patient would carry test samples into training.
    """
    coarsest = tables.unit_of(known, f"label_{name}")
    for unit in ("patient", "trial")[("patient", "trial", "sample_id").index(coarsest) :]:
        if (known.groupby(unit)["split"].nunique() <= 1).all():
            return unit
    return "sample_id"


def obstacle(values: Sequence[Any], split: np.ndarray) -> str | None:
    """Return why nothing can be learned of a label or tested, None if something can.

    Values are a class, a number, or the labels of a multi-label task for each unit or sample, in parts ``split``.
    """
    texts = np.array([str(sorted(map(str, v))) if np.ndim(v) else str(v) for v in values], dtype=np.str_)
    train = texts[split == "train"]
    if not len(train):
        return "no training patient has this label"
    if len(np.unique(train)) < 2:
        classes = "two classes" if isinstance(values[0], str) else "two values"
        return f"fewer than {classes} among the training patients"
    if not (split == "test").any():
        return "no test patient has this label; give the test part a larger share"
    return None


def left_out(table: pd.DataFrame, names: Sequence[str], *, key: str = "evaluate.labels") -> dict[str, str]:
    """Return the labels that cannot be evaluated in this cohort, each with its reason.

    Raises:
        ValueError: a label that the cohort does not have at all.
    """
    require(tables.tasks(table), names, key=key)
    out = {}
    for name in names:
        known = table.iloc[usable(table, name)]
        reason = obstacle(known[f"label_{name}"].to_list(), known["split"].to_numpy(dtype=str))
        if reason is not None:
            out[name] = reason
    return out


def crossing_patients(table: pd.DataFrame) -> int:
    """Return how many patients are in more than one part, not counting exact copies, which nothing uses."""
    used = table[table["method"] != "exact"]
    return int((used.groupby("patient")["split"].nunique() > 1).sum())
