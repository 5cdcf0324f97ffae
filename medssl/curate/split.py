"""Split by patient: all samples of a patient on one side, strata in proportion, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from medssl.table import SPLITS, tasks


def strata(table: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    """Return one string per patient (index) from the given label tasks; numbers are cut into terciles.

    Numbers known of fewer than three patients stay as they are. A label that varies within a patient counts by its
    first known value.

    Raises:
        ValueError: a task that the table does not have.
    """
    patients = table.drop_duplicates("patient")["patient"].to_numpy()
    parts = []
    for task in labels:
        column = f"label_{task}"
        if column not in table:
            raise ValueError(f"split.stratify: no label '{task}'; the cohort has: {', '.join(tasks(table)) or 'none'}")
        values = table.dropna(subset=[column]).drop_duplicates("patient").set_index("patient")[column]
        if pd.api.types.is_numeric_dtype(values) and len(values) >= 3:
            values = pd.qcut(values.rank(method="first"), 3, labels=["low", "mid", "high"]).astype(str)
        parts.append(values.map(str).reindex(patients).fillna("unknown").astype(str))
    if not parts:
        return pd.Series("all", index=patients)
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + "|" + part
    # A stratum of one or two patients cannot be spread over three parts; pool those.
    rare = joined.map(joined.value_counts()) < 3
    return joined.mask(rare, "rare")


def by_patient(
    table: pd.DataFrame,
    *,
    shares: Mapping[str, float],
    stratify: Sequence[str] = (),
    seed: int = 0,
    folds: Mapping[str, Sequence[int]] | None = None,
    parts: str = "patients",
) -> pd.Series:
    """Return ``train``, ``val`` or ``test`` for each row of ``table``.

    Args:
        table: sample table; its order of patients, not their codes, decides, so that another hash key gives the
            same split.
        shares: share of patients per part; they sum to 1.
        stratify: label tasks whose proportions are kept.
        seed: of the shuffle inside each stratum.
        folds: the publisher's folds per part, such as ``{"val": (9,), "test": (10,)}``; other folds train.
        parts: ``patients``, or ``as_published`` to take folds that divide patients.

    Raises:
        ValueError: an unknown task; folds asked for where the cohort has none; a patient in folds of two parts; fewer
            patients than parts whose share is positive.
    """
    stratum = strata(table, stratify)
    if folds:
        return _by_fold(table, folds, parts)
    rng = np.random.default_rng(seed)
    part = pd.Series("", index=stratum.index, dtype=object)
    debt = dict.fromkeys(SPLITS, 0.0)
    for name in sorted(stratum.unique()):
        members = rng.permutation(stratum.index[stratum == name].to_numpy())
        # Carry the rounding error from stratum to stratum, so that the totals match the shares.
        wish = {s: shares[s] * len(members) + debt[s] for s in SPLITS}
        counts = _round_to(wish, len(members))
        debt = {s: wish[s] - counts[s] for s in SPLITS}
        start = 0
        for s in SPLITS:
            part[members[start : start + counts[s]]] = s
            start += counts[s]
    wanted = [s for s in SPLITS if shares[s] > 0]
    _fill_empty(part, stratum, wanted)
    _refuse_empty(part, wanted)
    return table["patient"].map(part)


def _fill_empty(part: pd.Series, stratum: pd.Series, wanted: Sequence[str]) -> None:
    """Give each empty part a patient of the largest one, in place, as long as there are enough patients.

    The patient comes from the stratum that the largest part has most of, so that a rare class stays where it is.
    """
    for empty in wanted:
        sizes = part.value_counts()
        if empty in sizes or sizes.max() < 2:
            continue
        largest = next(s for s in SPLITS if sizes.get(s) == sizes.max())
        members = part.index[part == largest]
        most = stratum[members].value_counts(sort=False).idxmax()
        part[members[stratum[members] == most][-1]] = empty


def _round_to(wish: Mapping[str, float], total: int) -> dict[str, int]:
    """Round to whole numbers >= 0 that sum to ``total`` (largest remainder)."""
    counts = {s: max(0, int(np.floor(w))) for s, w in wish.items()}
    for s in sorted(wish, key=lambda s: wish[s] - counts[s], reverse=True):
        if sum(counts.values()) < total:
            counts[s] += 1
    while sum(counts.values()) > total:
        counts[max(counts, key=lambda s: counts[s] - wish[s])] -= 1
    while sum(counts.values()) < total:
        counts["train"] += 1
    return counts


def _by_fold(table: pd.DataFrame, folds: Mapping[str, Sequence[int]], parts: str) -> pd.Series:
    """Return the part of each row from the publisher's folds."""
    if table["fold"].isna().any():
        raise ValueError("split.publisher_folds: some samples have no fold; remove the key or use another source")
    part = pd.Series("train", index=table.index, dtype=object)
    for name, numbers in folds.items():
        part[table["fold"].isin(list(numbers))] = name
    divided = part.groupby(table["patient"]).nunique() > 1
    if divided.any() and parts != "as_published":
        raise ValueError(
            f"split.publisher_folds: {int(divided.sum())} patients are in folds of two parts; the publisher's folds "
            "do not keep patients apart: remove the key, or set split.publisher_parts: as_published for results that "
            "are not patient-safe"
        )
    have = ", ".join(f"{fold:g}" for fold in sorted(table["fold"].unique()))
    _refuse_empty(part, ["train", *folds], fix=f"the cohort has the folds {have}; see split.publisher_folds")
    return part


def _refuse_empty(part: pd.Series, wanted: Sequence[str], *, fix: str = "") -> None:
    empty = [s for s in wanted if not (part == s).any()]
    if empty:
        fix = fix or f"{len(part)} patients for {len(wanted)} parts: add patients, or set a share to 0"
        raise ValueError(f"split: no patient left for {', '.join(empty)}; {fix}")
