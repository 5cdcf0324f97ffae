"""What a card says of a cohort: counts and receipts, and nothing that could tell a person."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from medssl.evaluate.results import AGES
from medssl.report import cohort
from medssl.store import Store


def people(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"patient": range(len(next(iter(columns.values())))), **columns})


def test_counts_of_patients_not_of_samples() -> None:
    table = people(label_sex=["female"] * 8 + ["male"] * 6, label_age=[30.0] * 7 + [40.0] * 7)
    twice = pd.concat([table, table], ignore_index=True)
    assert cohort.people(twice) == {"sex": {"female": 8, "male": 6}, "age": {"<40": 7, "40-60": 7}}


def test_ages_are_those_of_subgroups() -> None:
    assert {name: (low, high) for low, high, name in AGES} == cohort.AGES


def test_unknown_is_a_cell_of_its_own() -> None:
    table = people(label_sex=["female"] * 8 + [None] * 6, anat_age_years=[65.0] * 9 + [np.nan] * 5)
    assert cohort.people(table) == {"sex": {"female": 8, "unknown": 6}, "age": {"60+": 9, "unknown": 5}}
    assert cohort.people(people(label_sex=[None, None], label_age=[np.nan, np.nan])) == {}
    assert cohort.people(people(label_other=[1, 2])) == {}


def test_small_cells_cannot_be_told_by_subtraction() -> None:
    assert cohort.withheld({"a": 5, "b": 50}) == {"a": 5, "b": 50}
    assert cohort.withheld({"a": 4, "b": 50}) == {"a": None, "b": None}
    assert cohort.withheld({"a": 4, "b": 50, "c": 6}) == {"a": None, "b": 50, "c": None}
    assert cohort.withheld({"a": 1, "b": 1, "c": 9, "d": 50}) == {"a": None, "b": None, "c": None, "d": 50}
    assert cohort.withheld({"a": 3}) == {"a": None}
    assert cohort.withheld({}) == {}


def test_facts_of_a_store(signal_store: Store) -> None:
    table = signal_store.table.assign(label_sex="female")
    found = cohort.facts(table)
    receipts = found["receipts"]
    assert (receipts["samples"], receipts["trials"]) == (len(table), table["trial"].nunique())
    assert receipts["patients"] == {"train": 8, "val": 4, "test": 4}
    assert receipts["kept"] + sum(receipts["removed"].values()) == len(table)
    assert found["people"]["sex"] == {"female": 8}  # those who are trained on
    assert json.loads(json.dumps(found)) == found  # it goes into config.json
    copy = table["kept"] & (np.arange(len(table)) > 2)
    assert cohort.receipts(table.assign(kept=copy, method="dhash"))["removed"] == {"dhash": len(table) - copy.sum()}
    assert "kept" not in cohort.receipts(table.drop(columns=["kept", "method"]))
