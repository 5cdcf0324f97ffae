"""Split by patient: all samples of a patient on one side, strata in proportion, reproducible from a seed.

One split by shares (`by_patient`) or as published (`published`), or the splits of a cross-validation (`folds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from medssl.table import SPLITS, tasks

UNUSED = "unused"  # part of the patients whom a published split leaves out: they neither train nor validate nor test


class Published(NamedTuple):
    """A split that others report results on: the sources it is of, and the numbers in ``fold`` of each part."""

    sources: tuple[str, ...]
    parts: Mapping[str, Sequence[int]]


# The readers number the parts of a publisher 0, 1, 2.
PARTS = {"train": (0,), "val": (1,), "test": (2,)}
PUBLISHED = {
    # Strodthoff et al. 2021, doi:10.1109/JBHI.2020.3022989, as the authors of the set recommend.
    "ptbxl": Published(("ptbxl", "ptbxl_500"), {"train": range(1, 9), "val": (9,), "test": (10,)}),
    # Pillai et al. 2025, arXiv:2410.20542: 123, 41 and 41 of the 219 patients of PPG-BP; 14 are in no part.
    "papagei": Published(("ppg_bp",), PARTS),
    # Wang et al. 2025 (CBraMod), arXiv:2412.07236: subjects 00-27, 28-31 and 32-35.
    "eegmat": Published(("eegmat",), PARTS),
}


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
    part = _shared_out(stratum, shares, np.random.default_rng(seed))
    _refuse_empty(part, [s for s in SPLITS if shares[s] > 0])
    return table["patient"].map(part)


def published(table: pd.DataFrame, name: str) -> pd.Series:
    """Return ``train``, ``val``, ``test`` or ``unused`` for each row of ``table`` as a published split has it.

    Args:
        table: sample table, with the publisher's numbers in ``fold``.
        name: of `PUBLISHED`.

    Raises:
        ValueError: the cohort is of another source, or has no patient of a part.
    """
    split, have = PUBLISHED[name], sorted(set(table["source"]))
    if not set(have) <= set(split.sources):
        raise ValueError(
            f"split.published: {name} divides the patients of {' and '.join(split.sources)}, and this cohort is of "
            f"{', '.join(have)}; remove the key"
        )
    part = pd.Series(UNUSED, index=table.index, dtype=object)
    for s, numbers in split.parts.items():
        part[table["fold"].isin(list(numbers))] = s
    fix = "take the whole set, without source.limit, and ingest again if the store was made by an earlier version"
    _refuse_empty(part, SPLITS, fix=f"split.published: {name} needs them all: {fix}")
    return part


def folds(
    table: pd.DataFrame,
    *,
    folds: int,
    repeats: int = 1,
    val: float = 0.1,
    stratify: Sequence[str] = (),
    seed: int = 0,
    publisher: bool = True,
) -> pd.DataFrame:
    """Return the splits of a repeated cross-validation: columns ``split@0`` to ``split@<folds * repeats - 1>``.

    In each repeat every patient is tested once: fold k of repeat r is ``split@<r * folds + k>``. The sizes of folds
    differ by one patient at most, and so do those of a stratum in them. Of the patients who are not tested, a share
    ``val`` validates, stratified likewise.

    Args:
        table: sample table. What the samples hold decides, not their order nor the codes of patients, so that another
            order of rows and another hash key give the same splits.
        folds: 2 or more.
        repeats: each after the first is shuffled anew.
        val: share of the patients who are not tested.
        stratify: label tasks whose proportions are kept.
        seed: of all shuffles.
        publisher: the first repeat tests by the publisher's folds where the source has them (`publisher_folds`), which
            need not be of one size.

    Raises:
        ValueError: an unknown task; fewer patients than folds, or too few to train and validate beside one.
    """
    stratum = strata(_by_content(table), stratify)
    if len(stratum) < folds:
        raise ValueError(f"split.folds: {folds} folds of {len(stratum)} patients; a fold tests at least one")
    given = publisher_folds(table, folds) if publisher else None
    columns = {}
    for repeat in range(repeats):
        tested = given if given is not None and repeat == 0 else _dealt(stratum, folds, seed, repeat)
        tested = tested.reindex(stratum.index)
        for fold in range(folds):
            rng = np.random.default_rng([seed, repeat, fold])
            others = _shared_out(stratum[tested != fold], {"train": 1 - val, "val": val, "test": 0.0}, rng)
            _refuse_empty(others, ["train", "val"] if val else ["train"])
            part = others.reindex(stratum.index, fill_value="test")
            columns[f"split@{repeat * folds + fold}"] = table["patient"].map(part)
    return pd.DataFrame(columns, index=table.index)


def publisher_folds(table: pd.DataFrame, folds: int) -> pd.Series | None:
    """Return the fold, 0 to ``folds - 1``, in which the publisher tests each patient (index), None where he has none.

    Publisher's folds in excess are joined evenly and in order, ten to five as 1 and 2, 3 and 4 and so on. Numbers that
    some sample lacks, that divide a patient, or of which there are three at most, which are a publisher's train, val
    and test, are no folds; nor are fewer than ``folds``.
    """
    numbers = np.unique(table["fold"].dropna())
    patients = table.groupby("patient", sort=False)["fold"]
    if table["fold"].isna().any() or len(numbers) < max(folds, 4) or (patients.nunique() > 1).any():
        return None
    joined = {number: k for k, several in enumerate(np.array_split(numbers, folds)) for number in several}
    return patients.first().map(joined)


def _by_content(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in an order that their content decides, those of a patient together."""
    rows = table.sort_values("content", kind="stable", ignore_index=True)
    held = rows["content"].groupby(rows["patient"], sort=False).agg("".join).sort_values(kind="stable")
    place = pd.Series(np.arange(len(held)), index=held.index)
    return rows.iloc[np.argsort(rows["patient"].map(place), kind="stable")]


def _dealt(stratum: pd.Series, folds: int, seed: int, repeat: int) -> pd.Series:
    """Return the fold of each patient: shuffled within each stratum, one stratum after the other dealt in turn."""
    rng = np.random.default_rng([seed, repeat])
    members = [rng.permutation(stratum.index[stratum == name].to_numpy()) for name in sorted(stratum.unique())]
    return pd.Series(np.arange(len(stratum)) % folds, index=np.concatenate(members))


def _shared_out(stratum: pd.Series, shares: Mapping[str, float], rng: np.random.Generator) -> pd.Series:
    """Return the part of each patient by shares of each stratum; one of a positive share stays empty only for want."""
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
    _fill_empty(part, stratum, [s for s in SPLITS if shares[s] > 0])
    return part


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
