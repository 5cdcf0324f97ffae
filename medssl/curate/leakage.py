"""Prove that no patient, recording or copy sits on two sides: of a split, or of two stores prepared apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

REASONS = ("same patient", "same content", "overlapping interval", "near duplicate")


class Leak(NamedTuple):
    """Two samples that must not be on different sides, and why."""

    reason: str
    first: str
    second: str
    parts: tuple[str, str]


def find(table: pd.DataFrame, copies: pd.DataFrame | None = None) -> list[Leak]:
    """Return what is found in more than one part, in the order of `REASONS`.

    One leak for each patient and each content; for each sample whose raw interval overlaps that of an earlier one, with
    the earlier one that ends last; for each pair of ``copies`` of different content.

    Args:
        table: sample table with ``split`` and the dedup receipts; exact copies that dedup removed are left out,
            since nothing uses them.
        copies: ``row_a`` and ``row_b``, positions in ``table`` of pairs that `medssl.curate.copies.pairs` found.
    """
    removed = (table["method"] == "exact").to_numpy() if "method" in table else np.zeros(len(table), bool)
    used = table[~removed]
    leaks = [
        *_shared(used, "patient", "same patient"),
        *_shared(used, "content", "same content"),
        *_overlaps(used),
    ]
    if copies is not None:
        rows = copies[["row_a", "row_b"]].to_numpy(dtype=int)
        rows = rows[~removed[rows].any(axis=1)]
        content, part = table["content"].to_numpy(), table["split"].to_numpy()
        one, two = rows.T
        apart = (content[one] != content[two]) & (part[one] != part[two])
        leaks += _leaks("near duplicate", table.iloc[one[apart]], table.iloc[two[apart]])
    return leaks


def between(a: pd.DataFrame, b: pd.DataFrame, copies: pd.DataFrame | None = None) -> list[Leak]:
    """Return what two sample tables share; the parts are ``A`` and ``B``.

    Patients and intervals are compared by their codes, which agree only if both were made from the same source names
    with the same key.

    Args:
        a, b: sample tables; a split they may have does not matter.
        copies: ``row_a`` (position in ``a``) and ``row_b`` (in ``b``) of `medssl.curate.copies.pairs`.
    """
    needed = ["sample_id", "patient", "trial", "content", "start_s", "duration_s"]
    both = pd.concat([a[needed].assign(split="A"), b[needed].assign(split="B")], ignore_index=True)
    return find(both, None if copies is None else copies.assign(row_b=copies["row_b"] + len(a)))


def refuse(table: pd.DataFrame, copies: pd.DataFrame | None = None, *, crossing: bool = False) -> list[Leak]:
    """Stop if anything leaks, and return what was let through: nothing, or one leak a patient in several parts.

    Args:
        table, copies: those of `find`.
        crossing: let patients be in several parts, as the publisher's parts by picture have them. All else still stops:
            with the same content, the same seconds or a copy of them on both sides, a result says nothing even by
            picture.

    Raises:
        ValueError: with the number of leaks and the first of each kind: two sample ids, their parts, the reason.
    """
    found = find(table, copies)
    allowed = [leak for leak in found if crossing and leak.reason == "same patient"]
    leaks = [leak for leak in found if not (crossing and leak.reason == "same patient")]
    if leaks:
        shown = "; ".join(describe(leak) for leak in firsts(leaks))
        fix = "Remove copies first." if crossing else "Split by patient and remove copies first."
        if any(leak.reason == "near duplicate" for leak in leaks):
            fix += " Near duplicates: "
            fix += "leave" if crossing else "name one patient for both in the source, or leave"
            fix += " one recording out."
        raise ValueError(f"leakage: {len(leaks)} found. {shown}. {fix}")
    return allowed


def firsts(leaks: list[Leak]) -> list[Leak]:
    """Return the first leak of each reason."""
    return list({leak.reason: leak for leak in reversed(leaks)}.values())[::-1]


def describe(leak: Leak) -> str:
    """Return a leak in words."""
    return f"{leak.reason}: {leak.first} ({leak.parts[0]}) and {leak.second} ({leak.parts[1]})"


def _shared(table: pd.DataFrame, column: str, reason: str) -> list[Leak]:
    """Return the first two samples of different parts for each value of ``column`` in more than one part."""
    first = table.drop_duplicates(column).set_index(column)
    part = table[column].map(first["split"])
    second = table[(table["split"] != part).to_numpy()].drop_duplicates(column)
    return _leaks(reason, first.loc[second[column]], second)


def _overlaps(table: pd.DataFrame) -> list[Leak]:
    """Sweep each trial by start; of each part, the sample seen so far that ends last overlaps if any of it does."""
    rows = table.dropna(subset=["start_s"]).sort_values(["trial", "start_s"], kind="stable").reset_index(drop=True)
    end, latest = rows["start_s"] + rows["duration_s"], np.full(len(rows), -np.inf)
    holder = np.zeros(len(rows), dtype=int)
    for part in rows["split"].unique():
        here = (rows["split"] == part).to_numpy()
        seen = end.where(here, -np.inf).groupby(rows["trial"]).cummax()
        leads = here & (end == seen).to_numpy()
        owner = np.maximum.accumulate(np.where(leads, np.arange(len(rows)), 0))
        later = ~here & (seen.to_numpy() > latest)
        latest[later], holder[later] = seen.to_numpy()[later], owner[later]
    crossing = np.flatnonzero(latest > rows["start_s"].to_numpy() + 1e-9)
    return _leaks("overlapping interval", rows.iloc[holder[crossing]], rows.iloc[crossing])


def _leaks(reason: str, first: pd.DataFrame, second: pd.DataFrame) -> list[Leak]:
    """Return leaks of samples side by side."""
    columns = (first["sample_id"], second["sample_id"], first["split"], second["split"])
    return [Leak(reason, a, b, (left, right)) for a, b, left, right in zip(*columns, strict=True)]
