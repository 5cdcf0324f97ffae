"""Splits by patient: disjoint, in proportion, stratified, reproducible, independent of the hash key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.config import SplitParams
from medssl.curate.split import by_patient, strata
from medssl.table import SPLITS

SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}


def cohort(n: int, *, offset: int = 0, samples: int = 3) -> pd.DataFrame:
    patient = np.repeat(np.arange(n), samples)
    return pd.DataFrame(
        {
            "patient": patient * 7919 % 104_729 + offset,
            "label_disease": np.where(patient % 5 == 0, "sick", "healthy"),
            "label_age": 20.0 + patient % 60,
            "fold": (patient % 10 + 1).astype(float),
        }
    )


def counts(part: pd.Series, table: pd.DataFrame) -> dict[str, int]:
    per_patient = part.groupby(table["patient"]).agg(["nunique", "first"])
    assert (per_patient["nunique"] == 1).all()
    return per_patient["first"].value_counts().to_dict()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(12, 200), seed=st.integers(0, 1000), strata_of=st.sampled_from([(), ("disease",), ("age",)]))
def test_patients_on_one_side_and_totals_match(n: int, seed: int, strata_of: tuple[str, ...]) -> None:
    table = cohort(n)
    found = counts(by_patient(table, shares=SHARES, stratify=strata_of, seed=seed), table)
    assert sum(found.values()) == n
    for name, share in SHARES.items():
        assert abs(found.get(name, 0) - share * n) <= 1.5


def test_strata_keep_their_proportions() -> None:
    table = cohort(100)
    part = by_patient(table, shares=SHARES, stratify=["disease"], seed=0)
    first = table.assign(part=part).drop_duplicates("patient")
    crossed = pd.crosstab(first["part"], first["label_disease"])
    assert crossed.loc["train"].tolist() == [48, 12]
    assert crossed.loc["val"].tolist() == [8, 2]
    assert crossed.loc["test"].tolist() == [24, 6]
    plain = [
        pd.crosstab(first.assign(p=by_patient(table, shares=SHARES, seed=s))["p"], first["label_disease"]).loc[
            "test", "sick"
        ]
        for s in range(8)
    ]
    assert len(set(plain)) > 1  # without strata the share wanders


def test_seed_decides() -> None:
    table = cohort(60)
    first = by_patient(table, shares=SHARES, seed=1)
    assert first.equals(by_patient(table, shares=SHARES, seed=1))
    assert not first.equals(by_patient(table, shares=SHARES, seed=2))


def test_another_hash_key_gives_the_same_split() -> None:
    table = cohort(60)
    other = table.assign(patient=np.random.default_rng(0).permutation(10_000)[:60].repeat(3))
    for labels in ((), ("disease", "age")):
        options: dict[str, Any] = {"shares": SHARES, "stratify": labels, "seed": 4}
        assert by_patient(table, **options).tolist() == by_patient(other, **options).tolist()


def test_publisher_folds() -> None:
    table = cohort(60)
    part = by_patient(table, shares=SHARES, folds={"val": (9,), "test": (10,)})
    assert (part[table["fold"] == 10] == "test").all()
    assert (part[table["fold"] == 9] == "val").all()
    assert (part[table["fold"] < 9] == "train").all()


def test_errors() -> None:
    table = cohort(60)
    with pytest.raises(ValueError, match="no label 'sex'; the cohort has: disease, age"):
        by_patient(table, shares=SHARES, stratify=["sex"])
    with pytest.raises(ValueError, match="some samples have no fold"):
        by_patient(table.assign(fold=np.nan), shares=SHARES, folds={"test": (10,)})
    with pytest.raises(ValueError, match="no patient left for test"):
        by_patient(table, shares=SHARES, folds={"test": (77,)})
    with pytest.raises(ValueError, match="no patient left for"):
        by_patient(cohort(2), shares=SHARES)


def test_a_patient_in_folds_of_two_parts_is_refused() -> None:
    table = cohort(60)
    table.loc[0, "fold"] = 10.0
    table.loc[1, "fold"] = 9.0
    with pytest.raises(ValueError, match="fold"):
        by_patient(table, shares=SHARES, folds={"val": (9,), "test": (10,)})


def test_the_publishers_parts_by_picture() -> None:
    table = cohort(60)
    table.loc[0, "fold"] = 10.0
    folds = {"val": (9,), "test": (10,)}
    with pytest.raises(ValueError, match=r"1 patients are in folds of two parts.*split.publisher_parts: as_published"):
        by_patient(table, shares=SHARES, folds=folds)
    part = by_patient(table, shares=SHARES, folds=folds, parts="as_published")
    expected = np.where(table["fold"] == 10, "test", np.where(table["fold"] == 9, "val", "train"))
    assert (part == expected).all()
    with pytest.raises(ValueError, match=r"no patient left for test; the cohort has the folds 1, 2, 3, .*, 10"):
        by_patient(table, shares=SHARES, folds={"test": (77,)}, parts="as_published")
    with pytest.raises(ValueError, match="some samples have no fold"):
        by_patient(table.assign(fold=np.nan), shares=SHARES, folds=folds, parts="as_published")
    with pytest.raises(ValueError, match=r"split.stratify: no label 'sex'"):
        by_patient(table, shares=SHARES, folds=folds, stratify=["sex"])


def test_parts_by_picture_need_folds() -> None:
    folds = {"val": (1,), "test": (2,)}
    assert SplitParams(publisher_folds=folds, publisher_parts="as_published").publisher_parts == "as_published"
    for none in (None, {}):
        with pytest.raises(ValueError, match="as_published needs publisher_folds"):
            SplitParams(publisher_folds=none, publisher_parts="as_published")  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.4), (0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("labels", [(), ("disease",), ("age",), ("disease", "age")])
def test_no_part_stays_empty(n: int, shares: tuple[float, ...], labels: tuple[str, ...]) -> None:
    table = cohort(n)
    for seed in range(5):
        part = by_patient(table, shares=dict(zip(SPLITS, shares, strict=True)), stratify=labels, seed=seed)
        assert set(counts(part, table)) == set(SPLITS)


def test_an_empty_part_takes_from_the_largest_stratum_of_the_largest_part() -> None:
    table = cohort(10, samples=1)
    table["label_disease"] = ["healthy"] * 7 + ["sick"] * 3
    for seed in range(10):
        part = by_patient(table, shares={"train": 0.98, "val": 0.01, "test": 0.01}, stratify=["disease"], seed=seed)
        assert counts(part, table) == {"train": 8, "val": 1, "test": 1}
        assert (part[7:] == "train").all()


def test_a_class_of_one_patient_and_numbers_known_of_one() -> None:
    table = cohort(5)
    table["label_disease"] = ["odd"] * 3 + ["common"] * 12
    table["label_age"] = [61.0] * 3 + [np.nan] * 12
    for labels in (["disease"], ["age"], ["disease", "age"]):
        assert set(by_patient(table, shares=SHARES, stratify=labels)) == set(SPLITS)
    assert strata(table.assign(label_age=np.nan), ["age"]).unique().tolist() == ["unknown"]


def test_the_splits_of_before() -> None:
    """What version 1 gave: the same seed and enough patients give the same split."""
    table = cohort(12, samples=1)
    assert "".join(p[1] for p in by_patient(table, shares=SHARES, seed=3)) == "rrrereareerr"
    assert "".join(p[1] for p in by_patient(table, shares=SHARES, stratify=["disease"], seed=3)) == "rrrrerrearee"


def test_a_share_of_zero_may_stay_empty() -> None:
    table = cohort(30)
    found = counts(by_patient(table, shares={"train": 0.7, "val": 0.0, "test": 0.3}), table)
    assert found == {"train": 21, "test": 9}


def test_strata_pool_what_cannot_be_spread() -> None:
    table = cohort(30)
    table.loc[0:2, "label_disease"] = "odd"
    table.loc[3:5, "label_disease"] = None
    found = strata(table, ["disease"])
    assert len(found) == 30
    assert (found.iloc[:2] == "rare").all()
    terciles = strata(table, ["age"]).value_counts().to_dict()
    assert terciles == {"low": 10, "mid": 10, "high": 10}
