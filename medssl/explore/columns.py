"""Which columns of a sample table may be seen, and how they travel: classes as codes, numbers as float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# What is not listed stays out: a column that someone adds to a table may hold a path or a name.
NAMED = ("split", "kept", "source", "patient")
PREFIXES = {"label_": "labels", "anat_": "anatomy", "quality_": "quality"}


@dataclass(frozen=True)
class Column:
    """A colour to choose: ``values`` are int32 codes of ``classes``, -1 unknown, or without classes float32."""

    name: str
    title: str
    group: str  # labels | anatomy | cohort | quality
    classes: list[str] | None
    values: np.ndarray


def allowed(name: str) -> bool:
    """Say whether a column may go into a page."""
    return name in NAMED or name == "quality" or name.startswith(tuple(PREFIXES))


def visible(table: pd.DataFrame, units: Mapping[str, str]) -> list[Column]:
    """Return the allowed columns, labels first; one that has a single value tells nothing apart and is left out.

    Args:
        table: of samples.
        units: of ``anat_<measure>``, by measure.
    """
    order = ["labels", "anatomy", "cohort", "quality"]
    found = [_column(table[name], units) for name in map(str, table.columns) if allowed(name)]
    found = [column for column in found if _distinct(column) > 1]
    return sorted(found, key=lambda column: (order.index(column.group), column.name))


def _distinct(column: Column) -> int:
    known = column.values[column.values >= 0] if column.classes is not None else column.values
    return pd.Series(known).nunique() + (column.classes is not None and bool((column.values < 0).any()))


def _column(values: pd.Series, units: Mapping[str, str]) -> Column:
    name = str(values.name)
    prefix = next((p for p in PREFIXES if name.startswith(p)), "")
    bare = name.removeprefix(prefix)
    group = PREFIXES[prefix] if prefix else "quality" if name == "quality" else "cohort"
    unit = units.get(bare, "") if prefix == "anat_" else ""
    title = bare.replace("_", " ")
    if unit not in ("", "1") and bare.split("_")[-1].removesuffix("s") != unit.replace("^", ""):
        title += f" ({unit})"
    plain = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if plain and name != "patient":
        return Column(name, title, group, None, values.to_numpy(np.float32, na_value=np.nan))
    text = values.map(_code if name == "patient" else _text)
    # The most frequent first: these get the colours that are easiest to tell apart.
    classes = list(text.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index)
    return Column(name, title, group, classes, pd.Index(classes).get_indexer(text).astype(np.int32))


def _code(patient: int) -> str:
    return f"{int(patient):016x}"


def _text(value: Any) -> str | None:
    """Return a class as text, several of a multi-label joined, None where it is unknown."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return " + ".join(sorted(map(str, value))) or "none"
    if pd.isna(value):
        return None
    return {True: "yes", False: "no"}[bool(value)] if isinstance(value, bool | np.bool_) else str(value)
