"""Prove that no patient, recording or copy sits on two sides of a split."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Leak(NamedTuple):
    """Two samples that must not be on different sides, and why."""

    reason: str
    first: str
    second: str
    parts: tuple[str, str]


def find(table: pd.DataFrame) -> list[Leak]:
    """Return one leak for each patient, content or raw interval found in more than one part.

    Args:
        table: sample table with ``split`` and the dedup receipts; exact copies that dedup removed are left out,
            since nothing uses them.
    """
    used = table[table["method"] != "exact"] if "method" in table else table
    leaks = []
    for column, reason in (("patient", "same patient"), ("content", "same content")):
        crossing = used.groupby(column)["split"].transform("nunique") > 1
        for _, rows in used[crossing].groupby(column):
            leaks.append(_leak(reason, rows))
    timed = used.dropna(subset=["start_s"]).sort_values(["trial", "start_s"], kind="stable")
    divided = timed.groupby("trial")["split"].transform("nunique") > 1
    for _, rows in timed[divided].groupby("trial"):
        start, part = rows["start_s"].to_numpy(), rows["split"].to_numpy()
        end = start + rows["duration_s"].to_numpy()
        for i in range(len(rows)):
            for j in range(i + 1, len(rows)):
                if start[j] >= end[i] - 1e-9:
                    break
                if part[i] != part[j]:
                    leaks.append(_leak("overlapping interval", rows.iloc[[i, j]]))
    return leaks


def _leak(reason: str, rows: pd.DataFrame) -> Leak:
    pair = rows.drop_duplicates("split").iloc[:2]
    first, second = pair["sample_id"]
    left, right = pair["split"]
    return Leak(reason, first, second, (left, right))


def refuse(table: pd.DataFrame) -> None:
    """Stop if anything leaks.

    Raises:
        ValueError: with the number of leaks and the first of each kind: two sample ids, their parts, the reason.
    """
    leaks = find(table)
    if leaks:
        firsts = {leak.reason: leak for leak in reversed(leaks)}
        shown = "; ".join(
            f"{leak.reason}: {leak.first} ({leak.parts[0]}) and {leak.second} ({leak.parts[1]})"
            for leak in firsts.values()
        )
        raise ValueError(f"leakage: {len(leaks)} found. {shown}. Split by patient and remove copies first.")
