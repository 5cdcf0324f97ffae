"""Keyed codes, content hashes, and the checks of the sample table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medssl import table as tables
from medssl.store import Store


def test_keyed_codes() -> None:
    code = tables.keyed_code(b"k", "ptb", "p1")
    assert 0 <= code < 2**63
    assert code == tables.keyed_code(b"k", "ptb", "p1")
    others = {tables.keyed_code(*a) for a in ((b"x", "ptb", "p1"), (b"k", "ptbx", "p1"), (b"k", "ptb", "p2"))}
    # Parts do not run into each other.
    others |= {tables.keyed_code(b"k", "ptbp", "1"), tables.keyed_code(b"k", "ptb", "p", "1")}
    assert len(others | {code}) == 6
    name = tables.keyed_name(b"k", "ptb", "p1")
    assert len(name) == 12
    assert int(name, 16) >= 0


def test_content_hash_forgives_gain_offset_and_rounding() -> None:
    x = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32)
    first = tables.content_hash(x)
    assert len(first) == 32
    assert tables.content_hash(x.copy()) == first
    assert tables.content_hash(2.0**10 * x) == first
    other = x.copy()
    other[0, 0] += 0.1
    for changed in (other, -x, x[:, ::-1], x.reshape(6, 100)):
        assert tables.content_hash(changed) != first


def test_content_hash_survives_a_change_of_unit() -> None:
    # Values on the grid of a 16 bit recorder, in mV and in uV with an offset.
    x = np.rint(np.random.default_rng(0).standard_normal((2, 100)) * 200)
    assert tables.content_hash(x * 0.005) == tables.content_hash(x * 5 + 40)


def test_constant_arrays_hash_by_shape() -> None:
    assert tables.content_hash(np.zeros((2, 5))) == tables.content_hash(np.full((2, 5), 7.0))
    assert tables.content_hash(np.zeros((2, 5))) != tables.content_hash(np.zeros((5, 2)))


def test_sample_id_depends_on_all_parts() -> None:
    ids = {tables.sample_id(*parts) for parts in (("a", 1, 2, 3), ("b", 1, 2, 3), ("a", 2, 2, 3), ("a", 1, 3, 3))}
    ids |= {tables.sample_id("a", 1, 2, 4), tables.sample_id("a", 12, 3, 4)}
    assert len(ids) == 6
    assert all(len(i) == 16 for i in ids)


def test_check(signal_store: Store) -> None:
    table = signal_store.table
    tables.check(table, "here")
    with pytest.raises(ValueError, match=r"here: columns \['rate_hz'\] are missing"):
        tables.check(table.drop(columns="rate_hz"), "here")
    with pytest.raises(ValueError, match="patient is float64; expected int64"):
        tables.check(table.astype({"patient": float}), "here")
    with pytest.raises(ValueError, match="appears more than once"):
        tables.check(pd.concat([table, table.iloc[:1]]), "here")
    moved = table.copy()
    moved.loc[0, "patient"] = 7
    with pytest.raises(ValueError, match="belongs to more than one patient"):
        tables.check(moved, "here")


def test_join_matches_by_id() -> None:
    table = pd.DataFrame({"sample_id": ["a", "b"], "x": [1, 2]})
    extra = pd.DataFrame({"sample_id": ["b", "a"], "x": [9, 9], "kept": [False, True]})
    joined = tables.join(table, extra, "here")
    assert joined["kept"].tolist() == [True, False]
    assert joined["x"].tolist() == [1, 2]
    for wrong in (extra.iloc[:1], extra.assign(sample_id=["a", "c"]), pd.concat([extra, extra.iloc[:1]])):
        with pytest.raises(ValueError, match="do not match the 2 samples"):
            tables.join(table, wrong, "here")


def test_tasks(signal_store: Store) -> None:
    assert sorted(tables.tasks(signal_store.table)) == ["age", "disease", "findings", "state"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "a", "a", "a", "b", "b"], "patient"),
        (["a", "a", "b", "b", "b", "b"], "trial"),
        (["a", "b", "b", "b", "b", "b"], "sample_id"),
        (["a", None, "a", "a", "b", None], "patient"),
        ([1.0, 1.0, 1.0, float("nan"), 2.0, 2.0], "patient"),
        ([["x"], ["x"], ["x", "y"], ["x", "y"], ["z"], None], "trial"),
        ([np.array(["x"])] * 6, "patient"),
    ],
)
def test_unit_of(values: list[object], expected: str) -> None:
    table = pd.DataFrame({"patient": [1, 1, 1, 1, 2, 2], "trial": [1, 1, 2, 2, 3, 3]})
    table["label_x"] = pd.Series(values, dtype=object)
    assert tables.unit_of(table, "label_x") == expected


def test_classes_with_a_bar_are_not_two() -> None:
    known = pd.DataFrame({"patient": [1, 1], "trial": [1, 2], "label_x": [["a|b"], ["a", "b"]]})
    assert tables.unit_of(known, "label_x") == "trial"
