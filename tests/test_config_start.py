"""Runs that start from others: which may, and from which of their trainings."""

from __future__ import annotations

from typing import Any

import pytest

from medssl import config
from tests.test_config import RUN, SIGNAL, assert_refused, parse


def other(**ingest: Any) -> dict[str, Any]:
    """Return a second cohort of ECG."""
    return {"source": {"root": "data/raw/other"}, "ingest": SIGNAL | ingest}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs__two": RUN | {"start": "three"}}, ["runs.two.start 'three' is not in runs", "allowed: one, two"]),
        ({"runs__two": RUN | {"start": "two"}}, ["runs.two.start 'two': two -> two is a circle"]),
        (
            {"runs__two": RUN | {"start": "three"}, "runs__three": RUN | {"start": "two"}},
            ["three -> two -> three is a circle; one of them starts from nothing"],
        ),
        (
            {"modalities__ecg-b": other(rate_hz=50), "runs__two": RUN | {"start": "one", "modality": "ecg-b"}},
            ["runs.two.start 'one' is of cohort ecg, and two of ecg-b, which differ in rate_hz; give both"],
        ),
        (
            {
                "modalities__ecg-b": other(rate_hz=50, channels=["I"]),
                "runs__two": RUN | {"start": "one", "modality": "ecg-b"},
            },
            ["which differ in channels and rate_hz"],
        ),
        (
            {"modalities__ppg": other(), "runs__two": RUN | {"start": "one", "modality": "ppg"}},
            ["runs.two.start 'one' is of cohort ecg, and two of ppg, which differ in modality"],
        ),
        (
            {"runs__two": RUN | {"start": "one", "encoder": {"name": "dilated1d"}}},
            ["runs.two.start 'one' has another encoder"],
        ),
        (
            {
                "runs__two": RUN | {"recipe": "mcl", "start": "one"},
                "runs__three": RUN | {"start": "two"},
            },
            ["runs.three.start 'two' is an encoder of several stages (recipe mcl), and recipe simclr trains one"],
        ),
        ({"runs__two": RUN | {"start": "one", "seeds": 2}}, ["has seeds: 1, and two 2; take as many or fewer"]),
        (
            {
                "runs__one": {"modality": "ecg", "evaluate": {}, "encoder_from": "a:b"},
                "runs__two": RUN | {"start": "one"},
            },
            ["runs.two.start 'one' takes a trained encoder; name a run with a recipe"],
        ),
        ({"runs__two": RUN | {"start": "one"}}, ["sequels {}: each run with", "write sequels: {two: one}"]),
        ({"sequels": {"one": "two"}}, ["sequels {one: two}", "write sequels: {}"]),
    ],
)
def test_a_start_that_cannot_be(change: dict[str, Any], words: list[str]) -> None:
    assert_refused(change, words)


def test_a_run_has_read_what_the_runs_it_starts_from_read() -> None:
    first = RUN | {"recipe": "conr", "pretrain": {"labels": ["age"]}}
    runs = {"runs__one": first, "runs__two": RUN | {"start": "one"}, "runs__three": RUN | {"start": "two"}}
    made = parse(**runs, sequels={"two": "one", "three": "two"})
    assert made.runs["three"].reads() == ()
    assert {name: made.reads(name) for name in made.runs} == dict.fromkeys(("one", "two", "three"), ("age",))


def test_a_training_starts_from_its_fold_or_from_the_fixed_split_of_another_cohort() -> None:
    folds = {"modalities__ecg__split__folds": 2, "folds": {"f0": None, "f1": None}}
    runs = {"runs__two": RUN | {"start": "one", "seeds": 2}, "sequels": {"two": "one"}}
    made = parse(**folds, **runs, runs__one__seeds=2)
    assert made.started("one", 1, 1) is None
    assert made.started("two", 1, 1) == ("one", 1, 1)
    runs["runs__two"] |= {"modality": "ecg-b"}
    cohort = {"modalities__ecg-b": other(window_s=5)}
    # Without folds the first one trains as many as its seeds; with folds, one on the fixed split.
    made = parse(**runs, **cohort, runs__one__seeds=2)
    assert made.started("two", None, 1) == ("one", None, 1)
    assert parse(**folds, **runs, **cohort).started("two", None, 1) == ("one", None, 0)
    with pytest.raises(config.ConfigError, match=r"has seeds: 1, and two 2"):
        parse(**runs, **cohort)
