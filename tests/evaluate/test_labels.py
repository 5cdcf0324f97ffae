"""What a label can be used for is known from the table, before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.evaluate import labels


def cohort(**columns: list[Any]) -> pd.DataFrame:
    """Return six patients of one sample: three to train on, one to validate, two to test."""
    table = pd.DataFrame({"patient": range(6), "trial": range(6), "sample_id": list("abcdef"), "method": ""})
    split = ["train"] * 3 + ["val"] + ["test"] * 2
    return table.assign(split=split, **{f"label_{name}": values for name, values in columns.items()})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (list("ababab"), None),
        ([1.0, 2, 3, 4, 5, 6], None),
        ([["a"], ["a", "b"], [], [], [], ["c"]], None),
        (["a", "a", "a", "b", "b", "b"], "fewer than two classes among the training patients"),
        (["a", "a", None, "b", "b", "b"], "fewer than two classes among the training patients"),
        ([5.0, 5, 5, 4, 3, 2], "fewer than two values among the training patients"),
        ([["a", "b"], ["b", "a"], None, ["c"], ["c"], ["c"]], "fewer than two values among the training patients"),
        ([None, None, None, "a", "b", "a"], "no training patient has this label"),
        ([None] * 6, "no training patient has this label"),
        (["a", "b", "a", "b", None, None], "no test patient has this label; give the test part a larger share"),
    ],
)
def test_obstacles(values: list[Any], reason: str | None) -> None:
    assert labels.left_out(cohort(x=values), ["x"]) == ({} if reason is None else {"x": reason})


def test_exact_copies_do_not_count() -> None:
    table = cohort(x=["a", "b", "a", "a", "a", "a"])
    assert labels.left_out(table, ["x"]) == {}
    table.loc[1, "method"] = "exact"
    assert list(labels.left_out(table, ["x"])) == ["x"]


def test_what_does_not_exist_is_named_with_what_does() -> None:
    with pytest.raises(ValueError, match=r"^evaluate.finetune_labels: no label 'sexx'; the cohort has: sex, age$"):
        labels.left_out(cohort(sex=list("ababab"), age=[1.0] * 6), ["sex", "sexx"], key="evaluate.finetune_labels")
    with pytest.raises(ValueError, match="the cohort has: none"):
        labels.left_out(cohort(), ["sex"])


def test_classes() -> None:
    assert labels.are_classes(pd.Series(["a", None, "b"]))
    assert not labels.are_classes(pd.Series([1.0, np.nan]))
    assert not labels.are_classes(pd.Series([["a"], None]))


def test_crossing_patients() -> None:
    table = cohort()
    assert labels.crossing_patients(table) == 0
    table["patient"] = [0, 0, 1, 1, 1, 0]
    assert labels.crossing_patients(table) == 2
    assert labels.crossing_patients(table.assign(method=["", "", "exact", "", "", ""])) == 2
    assert labels.crossing_patients(table.assign(method=["", "", "", "", "", "exact"])) == 1
