"""Every planted leak is found and named; a clean split passes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from medssl import config
from medssl.curate import leakage
from medssl.store import Store
from pipeline import split, stage


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


def pair(row_a: int, row_b: int) -> pd.DataFrame:
    """Return a table of copies with one pair of rows."""
    return pd.DataFrame({"row_a": [row_a], "row_b": [row_b], "correlation": [0.99]})


def test_near_duplicate() -> None:
    with pytest.raises(
        ValueError, match=r"1 found. near duplicate: id1 \(train\) and id4 \(test\)\. .*one patient for both"
    ):
        leakage.refuse(table(), pair(1, 4))
    assert leakage.find(table(), pair(4, 5)) == []  # the same side
    assert leakage.find(table(method={4: "exact"}), pair(1, 4)) == []  # nothing uses it
    (exact,) = leakage.find(table(content={4: "b"}), pair(1, 4))
    assert exact.reason == "same content"  # named once
    assert leakage.find(table(), pair(1, 4).iloc[:0]) == []
    moved = table().set_axis(list("uvwxyz"))  # positions, whatever the index
    assert [leak[1:3] for leak in leakage.find(moved, pair(1, 4))] == [("id1", "id4")]


def test_patients_may_cross_parts_by_picture_and_nothing_else_may() -> None:
    crossed = table(patient={2: 1, 5: 2})
    assert leakage.refuse(table(), crossing=True) == []
    leaks = leakage.refuse(crossed, crossing=True)
    assert [(leak.reason, leak.first, leak.second) for leak in leaks] == [
        ("same patient", "id0", "id2"), ("same patient", "id3", "id5")
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"2 found\. same patient"):
        leakage.refuse(crossed)
    with pytest.raises(ValueError, match=r"1 found. same content: .* Remove copies first.$"):
        leakage.refuse(table(patient={2: 1}, content={2: "a"}), crossing=True)
    with pytest.raises(ValueError, match=r"1 found. overlapping interval"):
        leakage.refuse(table(patient={2: 1}, trial={2: 10}, start_s={2: 4.0}, split={1: "val"}), crossing=True)
    with pytest.raises(ValueError, match=r"1 found. near duplicate: .* leave one recording out"):
        leakage.refuse(crossed, pair(1, 2), crossing=True)


def test_between_two_tables() -> None:
    one, two = table(), table(sample_id={i: f"other{i}" for i in range(6)}, content={i: f"c{i}" for i in range(6)})
    for column in ("patient", "trial"):
        two[column] += 1000
    assert leakage.between(one, two) == []
    assert leakage.between(one, two, pair(5, 0)) == [leakage.Leak("near duplicate", "id5", "other0", ("A", "B"))]
    two.loc[3, ["patient", "trial", "start_s"]] = 3, 30, 7.0
    leaks = leakage.between(one, two)
    assert leaks == [
        leakage.Leak("same patient", "id4", "other3", ("A", "B")),
        leakage.Leak("overlapping interval", "id5", "other3", ("A", "B")),
    ]


def slow_overlaps(rows: pd.DataFrame) -> set[str]:
    """Return the samples that overlap one of another part that begins no later, pair by pair."""
    found = set()
    for i in rows.itertuples():
        for j in rows.itertuples():
            before = (i.start_s, i.Index) < (j.start_s, j.Index)
            if i.trial == j.trial and i.split != j.split and before and i.start_s + i.duration_s > j.start_s + 1e-9:
                found.add(str(j.sample_id))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_sweep_finds_what_a_loop_over_pairs_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    rows = pd.DataFrame(
        {
            "sample_id": [f"id{i}" for i in range(n)],
            "patient": np.arange(n),
            "trial": rng.integers(0, 4, n),
            "content": [f"c{i}" for i in range(n)],
            "start_s": rng.integers(0, 40, n).astype(float),
            "duration_s": rng.integers(1, 5, n).astype(float),
            "split": rng.choice(["train", "val", "test"], n, p=[0.9, 0.05, 0.05]),
        }
    )
    leaks = leakage.find(rows)
    assert {leak.second for leak in leaks} == slow_overlaps(rows)
    ends = rows.set_index("sample_id")
    for leak in leaks:
        one, two = ends.loc[leak.first], ends.loc[leak.second]
        assert one["trial"] == two["trial"]
        assert one["split"] != two["split"]
        assert one["start_s"] <= two["start_s"] < one["start_s"] + one["duration_s"]


def test_a_long_trial_is_swept_fast() -> None:
    n = 100_000  # half-overlapping windows; one runs from the start to the end
    rows = pd.DataFrame(
        {
            "sample_id": np.arange(n).astype(str),
            "patient": 1,
            "trial": 1,
            "content": np.arange(n),
            "start_s": np.arange(n) * 0.5,
            "duration_s": np.where(np.arange(n) == 0, n, 1.0),
            "split": np.where(np.arange(n) < n // 2, "train", "test"),
        }
    )
    start = time.perf_counter()
    leaks = leakage.find(rows)
    assert time.perf_counter() - start < 10  # pair by pair it takes an hour
    assert len(leaks) == 1 + n // 2


@pytest.mark.parametrize("wanted", [True, False])
def test_a_near_duplicate_fails_the_split_stage(
    signal_folder: Path, signal_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    params = config.load_default()
    cohort = params.modalities["ecg"]
    cohort = cohort.model_copy(update={"split": config.SplitParams(copies=wanted)})
    params = params.model_copy(update={"modalities": {"ecg": cohort}})
    (tmp_path / "ecg").mkdir()
    for name in ("store", "dedup.parquet"):
        (tmp_path / "ecg" / name).symlink_to(signal_folder / name)
    monkeypatch.setattr(stage, "DATA", tmp_path)
    run = contextlib.nullcontext(mock.Mock())
    monkeypatch.setattr("medssl.tracking.stage_run", lambda *_, **__: run)
    seen = []
    monkeypatch.setattr("medssl.curate.copies.pairs", lambda store: (seen.append(len(store)), pair(0, 7 * 6))[1])
    by_patient = signal_store.table["patient"].map(lambda code: "test" if code >= 1007 else "train")
    monkeypatch.setattr("medssl.curate.split.by_patient", lambda *_, **__: by_patient)
    if not wanted:
        split.work(params, "ecg")
        assert (tmp_path / "ecg" / "split.parquet").exists()
        assert not seen
        return
    ids = signal_store.table["sample_id"]
    with pytest.raises(ValueError, match=rf"near duplicate: {ids[0]} \(train\) and {ids[42]} \(test\)"):
        split.work(params, "ecg")
    assert not (tmp_path / "ecg" / "split.parquet").exists()
