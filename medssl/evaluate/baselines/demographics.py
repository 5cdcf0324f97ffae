"""Who a person is, from other labels: what a recording has to add to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.evaluate.tasks import Task

# Known at the desk, before anything is recorded. A site or a device is none: it says how a patient was found.
DEMOGRAPHICS = (
    "age", "sex", "gender", "height", "weight", "bmi", "smoker", "smoking", "ethnicity", "race", "handedness",
)  # fmt: skip
SAME = ({"sex", "gender"}, {"smoker", "smoking"}, {"ethnicity", "race"})  # one thing by two names


def demographics(table: pd.DataFrame, task: Task) -> np.ndarray | None:
    """Return demographics (n_units, d) in the order of the task's units, NaN = unknown; None where there are none.

    A number is a column, a class one column for each of its values. A unit has the mean, for instance the mean age over
    a patient's recordings. `DEMOGRAPHICS` are used where the table has them as labels, but none that the task is, or is
    made of: neither ``age`` nor ``sex`` by another name for itself, nor ``age`` for ``age_band``, nor ``age_band`` for
    ``age``.

    Args:
        table: the sample table that the task is of.
        task: whose units they describe.
    """
    columns: list[np.ndarray] = []
    for name in DEMOGRAPHICS:
        if f"label_{name}" not in table or _states(name, task.name):
            continue
        values = table[f"label_{name}"].iloc[task.rows].reset_index(drop=True)
        if not values.notna().any():
            continue
        if pd.api.types.is_numeric_dtype(values):
            each = values.to_frame().astype(float)
        else:
            texts = values.dropna().astype(str)
            each = pd.get_dummies(texts, dtype=float).reindex(values.index)
        of_units = each.groupby(task.member).mean()  # skips what is unknown
        columns.append(of_units.to_numpy())
    return np.concatenate(columns, axis=1) if columns else None


def _states(name: str, task: str) -> bool:
    """Say whether a demographic is what a task asks for."""
    same = next((names for names in SAME if name in names), {name})
    return any(task == one or task.startswith(f"{one}_") or one.startswith(f"{task}_") for one in same)
