"""How much of each stratum of a cohort deduplication keeps: of each label, source, measure and third of a trial."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from medssl import table as tables

UNKNOWN, NONE = "unknown", "none"
THIRDS = ("first third", "middle third", "last third")


def strata(table: pd.DataFrame, kept: np.ndarray | pd.Series) -> pd.DataFrame:
    """Return how much of each stratum is kept: ``stratum, value, samples, kept, keep_ratio``.

    Strata are ``label_*``, ``source``, ``anat_*`` and, where a trial has more than three samples,
    ``index_in_trial`` (thirds of each trial). Numbers with more than three values are cut at their terciles. A sample
    with several labels counts under each, one with an empty list under ``none``, a missing value under ``unknown``.
    ``kept`` is bool (N,), in the table's order.
    """
    mask = np.asarray(kept, dtype=bool)
    if mask.shape != (len(table),):
        raise ValueError(f"kept has shape {mask.shape}; expected one value for each of the {len(table)} samples")
    columns = [f"label_{task}" for task in tables.tasks(table)]
    columns += ["source"] + [f"anat_{measure}" for measure in tables.measures(table)]
    parts = [_count(column, *_values(table[column].reset_index(drop=True)), mask) for column in columns]
    size = table.groupby("trial")["index_in_trial"].transform("size").to_numpy()
    if (size > 3).any():
        rank = table.groupby("trial")["index_in_trial"].rank(method="first").to_numpy()
        third = (3 * (rank - 0.5) / size).astype(int)  # where the middle of a sample's share of the trial lies
        parts.append(_count("index_in_trial", np.arange(len(table)), third, list(THIRDS), mask))
    return pd.concat(parts, ignore_index=True)


def _count(stratum: str, rows: np.ndarray, codes: np.ndarray, names: list[str], kept: np.ndarray) -> pd.DataFrame:
    """Count samples and kept ones by code; values without samples are left out."""
    samples = np.bincount(codes, minlength=len(names))
    left = np.bincount(codes[kept[rows]], minlength=len(names))
    have = samples > 0
    return pd.DataFrame(
        {
            "stratum": stratum,
            "value": np.array(names, dtype=object)[have],
            "samples": samples[have],
            "kept": left[have],
            "keep_ratio": left[have] / samples[have],
        }
    )


def _values(column: pd.Series) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the rows that have a value, its code in each of them, and what the codes mean, in the order to show.

    A row with several values is there several times. The last code is unknown.
    """
    if pd.api.types.infer_dtype(column, skipna=True) in ("floating", "integer", "mixed-integer-float"):
        codes, names = terciles(column.to_numpy(dtype=float, na_value=np.nan))
        return np.arange(len(column)), codes, names
    known = column[column.notna().to_numpy()].explode()
    text = known.astype(object).where(known.notna(), NONE).astype(str)
    pairs = pd.DataFrame({"row": text.index, "value": text.to_numpy()}).drop_duplicates()
    counts = pairs["value"].value_counts()
    names = sorted(counts.index, key=lambda value: (-int(counts[value]), value))
    missing = np.flatnonzero(column.isna())
    rows = np.concatenate([pairs["row"].to_numpy(dtype=np.int64), missing])
    codes = np.concatenate([pd.Index(names).get_indexer(pd.Index(pairs["value"])), np.full(len(missing), len(names))])
    return rows, codes.astype(np.int64), [*names, UNKNOWN]


def terciles(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Cut numbers at their terciles, or not at all where there are no more than three; the last code is unknown."""
    finite = np.isfinite(values)
    known = values[finite]
    distinct = np.unique(known)
    codes = np.empty(len(values), np.int64)
    if len(distinct) <= 3:
        names = _texts(distinct)
        codes[finite] = np.searchsorted(distinct, known)
    else:
        # Edges are values of the cohort, and the outer strata are open: its extremes can tell who is in it.
        edges = np.unique(np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf"))
        edges = edges[edges < distinct[-1]]
        if not len(edges):  # more than two thirds share the largest value
            edges = distinct[-2:-1]
        text = _texts(edges)
        names = [f"≤ {text[0]}", *(f"> {a}, ≤ {b}" for a, b in itertools.pairwise(text)), f"> {text[-1]}"]
        codes[finite] = np.searchsorted(edges, known)
    codes[~finite] = len(names)
    return codes, [*names, UNKNOWN]


def _texts(numbers: np.ndarray) -> list[str]:
    """Write numbers with as few digits as tell them apart, at least four."""
    for digits in range(4, 17):
        text = [f"{v:.{digits}g}" for v in numbers]
        if len(set(text)) == len(text):
            return text
    return [repr(float(v)) for v in numbers]
