"""Whom a search sees: no patient of the test part, each other one held out once."""

from __future__ import annotations

from copy import copy

import numpy as np
import pandas as pd
import pytest

from medssl.store import Store
from medssl.tune import inner
from tests.tune.conftest import SPLIT


def test_patients_of_the_test_part_are_not_there(signal_store: Store) -> None:
    whole = signal_store.table
    seen = inner.Development(signal_store)
    outside = set(whole.loc[whole["split"] == "test", "patient"])
    assert set(seen.table["patient"]) == set(whole["patient"]) - outside
    assert len(seen) == len(seen.table) == (~whole["patient"].isin(outside)).sum()
    # Positions are those of its own table.
    rows = np.array([0, 17, len(seen) - 1])
    place = pd.Index(whole["sample_id"]).get_indexer(pd.Index(seen.table["sample_id"].iloc[rows]))
    assert np.array_equal(seen.read(rows), signal_store.read(place))
    assert np.array_equal(seen[17], signal_store[int(place[1])])
    assert sum(map(len, seen.blocks())) == len(seen)
    assert len(signal_store) == len(whole)  # the store itself is as it was


def test_divided_and_unused_patients_are_left_out_whole(signal_store: Store) -> None:
    store = copy(signal_store)
    table = signal_store.table.copy()
    first, second = table["patient"].unique()[:2]
    table.loc[table.index[table["patient"] == first][0], "split"] = "test"
    table.loc[table["patient"] == second, "split"] = "unused"
    store.table = table
    assert not {first, second} & set(inner.Development(store).table["patient"])


def test_a_copy_of_a_test_sample_stays_removed(signal_store: Store) -> None:
    store = copy(signal_store)
    table = signal_store.table.copy()
    test = table.loc[table["split"] == "test", "sample_id"].iloc[0]
    row = table.index[table["split"] == "train"][0]
    table.loc[row, ["kept", "duplicate_of", "method"]] = [False, test, "dhash"]
    store.table = table
    kept = inner.Development(store).table.set_index("sample_id").loc[table.loc[row, "sample_id"]]
    assert not kept["kept"]
    assert pd.isna(kept["duplicate_of"])


def test_inner_folds_hold_each_patient_out_once(signal_store: Store) -> None:
    stores = inner.Development(signal_store).inner(SPLIT, seed=3)
    assert len(stores) == inner.FOLDS
    held = [set(one.table.loc[one.table["split"] == "test", "patient"]) for one in stores]
    assert set.union(*held) == set(stores[0].table["patient"])
    assert sum(map(len, held)) == len(set.union(*held))
    for one in stores:
        assert (one.table.groupby("patient")["split"].nunique() == 1).all()
        assert set(one.table["split"]) == {"train", "val", "test"}
        assert one.table.loc[one.table["split"] == "test", "label_disease"].nunique() == 2  # stratified
    again = inner.Development(signal_store).inner(SPLIT, seed=3)
    other = inner.Development(signal_store).inner(SPLIT, seed=4)
    assert [list(a.table["split"]) for a in again] == [list(s.table["split"]) for s in stores]
    assert [list(a.table["split"]) for a in other] != [list(s.table["split"]) for s in stores]


def test_labels_that_cannot_be_scored(signal_store: Store) -> None:
    stores = inner.Development(signal_store).inner(SPLIT, seed=3)
    for one in stores:
        held = one.table["split"] == "test"
        one.table = one.table.assign(label_state=np.where(held, "rest", one.table["label_state"]))
    kept, reasons = inner.scorable(stores, ["disease", "state"])
    assert kept == ["disease"]
    assert "same value" in reasons["state"]
    with pytest.raises(ValueError, match="no label to score trials on"):
        inner.scorable(stores, ["state"])
    with pytest.raises(ValueError, match=r"evaluate\.labels is empty"):
        inner.scorable(stores, [])
    with pytest.raises(ValueError, match="nonsense"):
        inner.scorable(stores, ["nonsense"])


def test_a_score_is_a_mean_with_a_floor() -> None:
    assert inner.score({"auroc/disease": 0.8, "r2/age": 0.3}) == pytest.approx(0.55)
    assert inner.score({"auroc/disease": 0.8, "r2/age": -30.0}) == pytest.approx(-0.1)
