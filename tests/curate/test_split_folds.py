"""Published splits and cross-validation: who is tested when, whatever the order of rows and the key of the codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.config import SplitParams
from medssl.curate import split
from medssl.evaluate.tasks import Task
from medssl.pretrain.data import training_rows


def cohort(n: int, *, samples: int = 3, seed: int = 0) -> pd.DataFrame:
    """Samples of n patients, a fifth of them sick, in ten folds of the publisher; codes and content are random."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n), samples)
    return pd.DataFrame(
        {
            "patient": draw.permutation(10 * n)[patient],
            "source": "ptbxl",
            "content": [f"{number:032x}" for number in draw.permutation(100 * n * samples)[: n * samples]],
            "label_disease": np.where(patient % 5 == 0, "sick", "healthy"),
            "fold": (patient % 10 + 1).astype(float),
        }
    )


def by_patient(table: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    """Return the parts, one row a patient, after proof that no patient is in two of one split."""
    grouped = parts.groupby(table["patient"], sort=False)
    assert (grouped.nunique() == 1).all(axis=None)
    return grouped.first()


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(12, 150),
    k=st.integers(2, 6),
    repeats=st.integers(1, 3),
    val=st.sampled_from([0.0, 0.1, 0.25]),
    stratify=st.sampled_from([(), ("disease",)]),
    seed=st.integers(0, 1000),
)
def test_every_patient_is_tested_once_a_repeat(
    n: int, k: int, repeats: int, val: float, stratify: tuple[str, ...], seed: int
) -> None:
    table = cohort(n)
    options: dict[str, Any] = {"folds": k, "repeats": repeats, "val": val, "stratify": stratify, "seed": seed}
    made = split.folds(table, **options, publisher=False)
    assert list(made) == [f"split@{i}" for i in range(k * repeats)] and made.index.equals(table.index)
    parts = by_patient(table, made)
    assert set(np.unique(parts)) <= {"train", "val", "test"}
    tested = (parts == "test").to_numpy().reshape(n, repeats, k)
    assert (tested.sum(axis=2) == 1).all()
    sizes = tested.sum(axis=0)
    assert all(np.ptp(row) <= 1 for row in sizes)
    for i, column in enumerate(parts):
        others = n - sizes[i // k, i % k]
        wanted = val * others
        assert abs((parts[column] == "val").sum() - wanted) <= 1 and (parts[column] == "train").any()
    if stratify:
        sick = table.groupby("patient", sort=False)["label_disease"].first().eq("sick").reindex(parts.index).to_numpy()
        for among in (sick, ~sick):
            counts = tested[among].sum(axis=0)
            assert all(np.ptp(row) <= 1 for row in counts)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(12, 60), seed=st.integers(0, 100), publisher=st.booleans())
def test_neither_order_of_rows_nor_key_matters(n: int, seed: int, publisher: bool) -> None:
    table = cohort(n)
    # Of three samples one says nothing and another is healthy, so that the first known value depends on the order.
    table.loc[::3, "label_disease"] = None
    table["label_age"] = np.random.default_rng(seed).integers(20, 30, len(table)).astype(float)
    options: dict[str, Any] = {"folds": 3, "repeats": 2, "stratify": ("disease", "age"), "seed": seed}
    made = split.folds(table, **options, publisher=publisher)
    order = np.random.default_rng(seed).permutation(len(table))
    pd.testing.assert_frame_equal(split.folds(table.iloc[order], **options, publisher=publisher), made.iloc[order])
    codes = dict(zip(table["patient"].unique(), np.random.default_rng(seed + 1).permutation(10**6)[:n], strict=True))
    other = table.assign(patient=table["patient"].map(codes))
    pd.testing.assert_frame_equal(split.folds(other, **options, publisher=publisher), made)


def test_the_seed_and_the_repeat_decide() -> None:
    table = cohort(40)
    options: dict[str, Any] = {"folds": 4, "repeats": 2, "publisher": False}
    first = split.folds(table, **options, seed=1)
    assert first.equals(split.folds(table, **options, seed=1))
    assert not first.equals(split.folds(table, **options, seed=2))
    assert not (first["split@0"] == "test").equals(first["split@4"] == "test")
    # More repeats change nothing of those before.
    assert split.folds(table, folds=4, repeats=3, publisher=False, seed=1)[list(first)].equals(first)


def test_the_first_repeat_follows_the_publishers_folds() -> None:
    table = cohort(60)
    made = split.folds(table, folds=5, repeats=2, val=0.25)
    for k in range(5):
        assert (table.loc[made[f"split@{k}"] == "test", "fold"].isin([2 * k + 1, 2 * k + 2])).all()
        assert (made[f"split@{k}"] == "test").sum() == 3 * 12
        assert table.loc[made[f"split@{k}"] == "val", "patient"].nunique() == 12
    assert table.loc[made["split@5"] == "test", "fold"].nunique() > 2
    ten = split.folds(table, folds=10)
    assert all((table.loc[ten[f"split@{k}"] == "test", "fold"] == k + 1).all() for k in range(10))


@pytest.mark.parametrize("what", ["fewer", "parts", "absent", "dividing"])
def test_numbers_that_are_no_folds_are_not_followed(what: str) -> None:
    table, k = cohort(60), 5
    if what == "fewer":
        k = 11
    elif what == "parts":
        table["fold"], k = table["fold"] % 3, 3
    elif what == "absent":
        table.loc[:2, "fold"] = np.nan
    else:
        table.loc[0, "fold"] = 7.0
    assert split.publisher_folds(table, k) is None
    assert split.folds(table, folds=k).equals(split.folds(table, folds=k, publisher=False))


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split.folds: 4 folds of 3 patients; a fold tests at least one"):
        split.folds(cohort(3), folds=4)
    with pytest.raises(ValueError, match=r"split: no patient left for val"):
        split.folds(cohort(2), folds=2)
    with pytest.raises(ValueError, match=r"split.stratify: no label 'sex'"):
        split.folds(cohort(20), folds=2, stratify=("sex",))


def test_ptbxl_as_published() -> None:
    table = cohort(60)
    for source in ("ptbxl", "ptbxl_500"):
        part = split.published(table.assign(source=source), "ptbxl")
        assert (
            part.tolist()
            == np.where(table["fold"] == 10, "test", np.where(table["fold"] == 9, "val", "train")).tolist()
        )


@pytest.mark.parametrize(("name", "source"), [("papagei", "ppg_bp"), ("eegmat", "eegmat")])
def test_patients_of_no_part_neither_train_nor_test(name: str, source: str) -> None:
    table = cohort(40).assign(source=source, method="", kept=True)
    table["fold"] = np.select([table["fold"] < 6, table["fold"] < 8, table["fold"] < 9], [0.0, 1.0, 2.0], np.nan)
    table["split"] = split.published(table, name)
    left = table["fold"].isna().to_numpy()
    assert (table.loc[left, "split"] == split.UNUSED).all() and left.any()
    for number, part in enumerate(("train", "val", "test")):
        assert (table.loc[table["fold"] == number, "split"] == part).all()
    assert not left[training_rows(table, "remove")].any()
    task = Task.of(table, "disease")
    whose = set(table.loc[left, "patient"])
    for part in ("train", "val", "test"):
        assert len(task.part(part)) and not whose & set(task.patient[task.part(part)])
    assert not whose & set(task.patient[task.subset(0.5, 0)])


def test_a_published_split_is_of_its_source() -> None:
    with pytest.raises(
        ValueError, match=r"papagei divides the patients of ppg_bp, and this cohort is of ptbxl; remove"
    ):
        split.published(cohort(20), "papagei")
    mixed = cohort(20)
    mixed.loc[0, "source"] = "manifest"
    with pytest.raises(ValueError, match=r"of ptbxl and ptbxl_500, and this cohort is of manifest, ptbxl;"):
        split.published(mixed, "ptbxl")
    old = cohort(20).assign(source="eegmat", fold=np.nan)
    with pytest.raises(ValueError, match=r"no patient left for train, val, test; .*ingest again if the store was made"):
        split.published(old, "eegmat")


def test_each_name_of_the_parameters_is_a_split() -> None:
    for name in split.PUBLISHED:
        assert SplitParams(published=name).published == name  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'ptbxl', 'papagei' or 'eegmat'"):
        SplitParams(published="chapman")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"published": "ptbxl", "publisher_folds": {"test": (10,)}}, "publisher_folds and published each decide"),
        ({"folds": 5, "val": 0.25}, r"train \+ val \+ test = 1.15; expected 1"),
        ({"repeats": 2}, "repeats: 2 needs folds, such as 5"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"folds": 5, "repeats": 0}, "greater than or equal to 1"),
        ({"folds": 5, "val": 1.0}, "val: 1 leaves nobody to train"),
        ({"folds": 5, "publisher_parts": "as_published"}, "as_published needs publisher_folds"),
    ],
)
def test_parameters_that_contradict_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SplitParams(**given)


def test_folds_stand_beside_a_fixed_split() -> None:
    both = SplitParams(published="ptbxl", folds=5, repeats=2, val=0.25)
    assert (both.published, both.folds, both.val) == ("ptbxl", 5, 0.25)
    assert SplitParams(publisher_folds={"test": (10,)}, folds=5).folds == 5
    with pytest.raises(ValueError, match=r"train \+ val \+ test = 1.15; expected 1"):
        SplitParams(val=0.25)
