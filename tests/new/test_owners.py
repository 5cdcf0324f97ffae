"""Patients are guessed where names are clear, told in words, and left to the user elsewhere."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from medssl.new import owners


def of(*paths: str, rule: str | None = None) -> owners.Owners | None:
    return owners.of([PurePosixPath(path) for path in paths], rule)


@pytest.mark.parametrize(
    ("paths", "patients", "trials"),
    [
        (("P001/a", "P001/b", "P002/a"), ["P001", "P001", "P002"], ["a", "b", "a"]),
        (("all/P001/a", "all/P002/x/a"), ["P001", "P002"], ["a", "x/a"]),
        (("Subject00_1", "Subject00_2", "Subject01_1"), ["Subject00", "Subject00", "Subject01"], ["1", "2", "1"]),
        (("p1", "p2", "p3"), ["p1", "p2", "p3"], ["1", "1", "1"]),
        (("100_1", "100_2", "101_1"), ["100", "100", "101"], ["1", "2", "1"]),
        (("S001R01", "S001R02", "S002R01"), ["S001", "S001", "S002"], ["R01", "R02", "R01"]),
        (("sub-A/eeg/sub-A_rest", "sub-B/eeg/sub-B_rest"), ["sub-A", "sub-B"], ["rest", "rest"]),
        (("scan/p7_1", "rescan/p7_1"), ["p7", "p7"], ["scan/p7_1", "rescan/p7_1"]),  # one name twice: by the whole path
    ],
)
def test_clear_patterns(paths: tuple[str, ...], patients: list[str], trials: list[str]) -> None:
    found = of(*paths)
    assert found is not None and (found.patients, found.trials) == (patients, trials)
    assert found.how and not any(name in found.how for name in patients)


@pytest.mark.parametrize(
    "paths",
    [
        ("A00001", "A00002", "A00003"),  # a number of its own each: people or recordings?
        ("00001_lr", "00002_lr"),
        ("hippocampus_001", "hippocampus_003"),
        ("2021-03-04_1", "2021-03-05_1", "2022-03-05_1"),
        ("100_1", "rest"),
        ("P001/a", "b"),
        ("a/1", "b/1"),
        (),
        tuple(f"batch{k}/{i}" for k in range(2) for i in range(owners.CROWD + 1)),
    ],
    ids=lambda paths: " ".join(paths[:2]),
)
def test_what_could_be_read_in_two_ways_is_left(paths: tuple[str, ...]) -> None:
    assert of(*paths) is None


def test_rules_of_the_user() -> None:
    numbered = ("x/A1", "x/A2")
    found = of(*numbered, rule="file")
    assert found is not None and found.patients == ["A1", "A2"]
    found = of("x/1", "y/1", rule="file")  # files of one name in two folders are two
    assert found is not None and found.patients == ["x/1", "y/1"]
    found = of("ann/1", "ben/1", "ben/2", rule="folder")
    assert found is not None and (found.patients, found.trials) == (["ann", "ben", "ben"], ["1", "1", "2"])
    found = of("r1-ann", "r2-ann", rule=r"(r\d)-(.+)")
    assert found is not None and (found.patients, found.trials) == (["r1", "r2"], ["ann", "ann"])
    found = of("r1-ann", "r2-ann", rule=r"-(.+)")
    assert found is not None and (found.patients, found.trials) == (["ann", "ann"], ["r1-ann", "r2-ann"])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("(", "no regular expression"),
        ("a", "0 groups"),
        (r"(\d)", "1 of 2 recordings do not fit"),
        ("folder", "2 of 2"),
    ],
)
def test_rules_that_do_not_fit(rule: str, says: str) -> None:
    with pytest.raises(owners.RuleError, match=says):
        of("a1", "b", rule=rule)


def test_folders_that_are_classes() -> None:
    def classes(*paths: str) -> list[str] | None:
        return owners.classes([PurePosixPath(path) for path in paths])

    assert classes("normal/1", "normal/2", "covid/1", "covid/2") == ["normal", "normal", "covid", "covid"]
    assert classes("train/1", "train/2", "test/1", "test/2") is None
    assert classes("P1/1", "P1/2", "P2/1", "P2/2") is None
    assert classes("normal/1", "normal/2", "covid/1") is None  # one file is no class
    assert classes("normal/1", "normal/2", "3") is None
