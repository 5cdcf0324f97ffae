"""Strata counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.report.strata import strata, terciles


def value_rows(table: pd.DataFrame, stratum: str) -> list[tuple[Any, ...]]:
    here = table[table["stratum"] == stratum].drop(columns="stratum")
    return [tuple(row) for row in here.itertuples(index=False)]


def test_strata_by_hand() -> None:
    table = pd.DataFrame(
        {
            "trial": [1, 1, 1, 1, 2, 2, 2],
            "index_in_trial": [0, 5, 6, 9, 0, 1, 2],
            "source": ["a", "a", "a", "b", "b", "b", "b"],
            "label_disease": ["x", "y", None, "y", "y", "y", "x"],
            "label_findings": [["af", "mi"], ["af"], [], None, ["mi"], np.array(["af", "af"]), ["af"]],
            "label_age": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, np.nan],
            "label_flag": [0.0, 1.0, 1.0, 1.0, np.nan, 0.0, 0.0],
            "label_null": [None] * 7,
            "anat_empty": [np.nan] * 7,
        },
        index=[9, 8, 7, 6, 5, 4, 3],
    )
    kept = np.array([True, False, True, False, True, True, False])
    out = strata(table, kept)
    assert list(out.columns) == ["stratum", "value", "samples", "kept", "keep_ratio"]
    assert value_rows(out, "source") == [("b", 4, 2, 0.5), ("a", 3, 2, 2 / 3)]
    assert value_rows(out, "label_disease") == [("y", 4, 2, 0.5), ("x", 2, 1, 0.5), ("unknown", 1, 1, 1.0)]
    assert value_rows(out, "label_findings") == [
        ("af", 4, 2, 0.5), ("mi", 2, 2, 1.0), ("none", 1, 1, 1.0), ("unknown", 1, 0, 0.0),
    ]  # fmt: skip
    assert value_rows(out, "label_age") == [
        ("≤ 20", 2, 1, 0.5), ("> 20, ≤ 40", 2, 1, 0.5), ("> 40", 2, 2, 1.0), ("unknown", 1, 0, 0.0),
    ]  # fmt: skip
    assert value_rows(out, "label_flag") == [("0", 3, 2, 2 / 3), ("1", 3, 1, 1 / 3), ("unknown", 1, 1, 1.0)]
    assert value_rows(out, "label_null") == [("unknown", 7, 4, 4 / 7)]
    assert value_rows(out, "anat_empty") == [("unknown", 7, 4, 4 / 7)]
    # Four samples: 1, 2, 1; three samples: 1, 1, 1.
    assert value_rows(out, "index_in_trial") == [
        ("first third", 2, 2, 1.0), ("middle third", 3, 2, 2 / 3), ("last third", 2, 0, 0.0),
    ]  # fmt: skip


def test_short_trials_have_no_places() -> None:
    table = pd.DataFrame({"trial": [1, 1, 1, 2], "index_in_trial": [0, 1, 2, 0], "source": "a"})
    assert set(strata(table, np.ones(4, bool))["stratum"]) == {"source"}
    with pytest.raises(ValueError, match="one value for each of the 4 samples"):
        strata(table, np.ones(3, bool))


def test_terciles_of_mostly_one_number() -> None:
    codes, names = terciles(np.array([9.0] * 8 + [1.0, 2.0, 3.0]))
    assert names == ["≤ 3", "> 3", "unknown"]
    assert np.bincount(codes).tolist() == [3, 8]
    codes, names = terciles(np.array([1.00001, 1.00002, 1.00003, 1.00004, 1.00005, 1.00006]))
    assert names == ["≤ 1.00002", "> 1.00002, ≤ 1.00004", "> 1.00004", "unknown"]
