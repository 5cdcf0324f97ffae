"""What an encoder's card says of the data: counts, receipts of split and dedup, and who the people are.

It is written into the encoder's folder, which is handed on. So it holds counts alone, and no small ones of people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medssl.table import SPLITS

LEAST = 5  # people in a cell that is shown
AGES = {"<40": (-np.inf, 40.0), "40-60": (40.0, 60.0), "60+": (60.0, np.inf)}  # years, as those of subgroups
UNKNOWN = "unknown"
Counts = dict[str, int | None]


def facts(table: pd.DataFrame) -> dict[str, Any]:
    """Return what a card says of a cohort: ``receipts`` of all its samples, ``people`` of those who are trained on.

    Args:
        table: sample table with ``split``, and with dedup's receipts where there are any.
    """
    return {"receipts": receipts(table), "people": people(table[table["split"] == "train"])}


def receipts(table: pd.DataFrame) -> dict[str, Any]:
    """Return ``samples``, ``trials`` and ``patients`` by part; where dedup was, ``kept`` and ``removed`` by method."""
    parts = {part: int(table.loc[table["split"] == part, "patient"].nunique()) for part in SPLITS}
    found = {"samples": len(table), "trials": int(table["trial"].nunique()), "patients": parts}
    if "kept" not in table:
        return found
    removed = table.loc[~table["kept"].astype(bool), "method"].value_counts().sort_index()
    return found | {"kept": int(table["kept"].sum()), "removed": {str(m): int(n) for m, n in removed.items()}}


def people(table: pd.DataFrame) -> dict[str, Counts]:
    """Return patients by ``sex`` and by ``age`` as far as the table tells them, without small cells (`withheld`).

    Sex is ``label_sex``; age, in years, is ``label_age``, else ``anat_age_years``; of several ages of a patient, the
    first.
    """
    found: dict[str, dict[str, int]] = {}
    if "label_sex" in table:
        sex = table.groupby("patient")["label_sex"].first()
        found["sex"] = {str(value): int(n) for value, n in sex.value_counts().sort_index().items()}
        found["sex"][UNKNOWN] = int(sex.isna().sum())
    if age := next((column for column in ("label_age", "anat_age_years") if column in table), None):
        years = pd.to_numeric(table.groupby("patient")[age].first(), errors="coerce")
        found["age"] = {name: int(((years >= low) & (years < high)).sum()) for name, (low, high) in AGES.items()}
        found["age"][UNKNOWN] = int(years.isna().sum())
    there = {name: {value: n for value, n in counts.items() if n} for name, counts in found.items()}
    return {name: withheld(counts) for name, counts in there.items() if set(counts) - {UNKNOWN}}


def withheld(counts: Mapping[str, int], *, least: int = LEAST) -> Counts:
    """Return counts with None in place of small ones.

    A card tells the total as well, so that a single gap could be filled by subtraction, and so could several that add
    up to little. Larger counts are left out, the smallest first, until at least two are, of twice ``least`` together.
    """
    order = sorted(counts, key=lambda value: (counts[value], value))
    number = sum(counts[value] < least for value in order)
    while 0 < number < len(order) and sum(counts[v] for v in order[:number]) < 2 * least:
        number += 1
    return {value: None if value in order[:number] else n for value, n in counts.items()}
