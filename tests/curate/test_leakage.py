"""Every planted leak is found and named; a clean split passes."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from medssl.curate import leakage
from medssl.store import Store


def table(**changes: dict[int, Any]) -> pd.DataFrame:
    """Return six windows of three patients; ``changes`` overwrites cells: column={row: value}."""
    out = pd.DataFrame(
        {
            "sample_id": [f"id{i}" for i in range(6)],
            "patient": [1, 1, 2, 2, 3, 3],
            "trial": [10, 10, 20, 20, 30, 30],
            "content": list("abcdef"),
            "start_s": [0.0, 5.0] * 3,
            "duration_s": [5.0] * 6,
            "split": ["train", "train", "val", "val", "test", "test"],
            "method": [""] * 6,
        }
    )
    for column, cells in changes.items():
        for row, value in cells.items():
            out.loc[row, column] = value
    return out


def test_clean() -> None:
    assert leakage.find(table()) == []
    leakage.refuse(table())


def test_same_patient() -> None:
    leaks = leakage.find(table(patient={2: 1}))
    (leak,) = [x for x in leaks if x.reason == "same patient"]
    assert (leak.first, leak.second, leak.parts) == ("id0", "id2", ("train", "val"))
    with pytest.raises(ValueError, match=r"same patient: id0 \(train\) and id2 \(val\)"):
        leakage.refuse(table(patient={2: 1}))


def test_same_content() -> None:
    planted = table(content={4: "b"})
    with pytest.raises(ValueError, match=r"1 found. same content: id1 \(train\) and id4 \(test\)"):
        leakage.refuse(planted)
    # Nothing uses a copy that was removed.
    assert leakage.find(table(content={4: "b"}, method={4: "exact"})) == []
    assert len(leakage.find(table(content={4: "b"}, method={4: "dhash"}))) == 1


def test_overlapping_interval() -> None:
    planted = table(split={1: "test"}, start_s={1: 4.0}, patient={1: 3})
    with pytest.raises(ValueError, match=r"overlapping interval: id0 \(train\) and id1 \(test\)"):
        leakage.refuse(planted)
    apart = table(split={1: "test"}, patient={1: 3})
    assert leakage.find(apart) == []  # touching is not overlapping
    assert leakage.find(table(start_s={1: 4.0})) == []  # the same side


def test_a_long_window_reaches_past_its_neighbour() -> None:
    # Window 0 covers 0 to 20 s, its neighbour 5 to 10 s is on the same side, window 4 at 12 s is not.
    planted = table(trial={4: 10}, duration_s={0: 20.0}, start_s={4: 12.0})
    assert "overlapping interval" in {leak.reason for leak in leakage.find(planted)}


def test_all_kinds_at_once_name_the_first_of_each() -> None:
    planted = table(patient={2: 1, 5: 2}, content={3: "b"}, split={1: "test"}, start_s={1: 4.0})
    with pytest.raises(ValueError, match="leakage") as caught:
        leakage.refuse(planted)
    text = str(caught.value)
    for reason in ("same patient", "same content", "overlapping interval"):
        assert text.count(reason) == 1


def test_stores_of_the_fixtures_are_clean(signal_store: Store, image_store: Store) -> None:
    for store in (signal_store, image_store):
        assert leakage.find(store.table) == []
