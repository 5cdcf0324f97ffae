"""Whose a recording is, guessed from where it lies and what it is called, where the pattern is clear.

A wrong guess that joins two people costs a little; one that divides a person lets a split leak. So a name that could be
read in two ways is left to the user, and every guess is told in words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

# Words before the number of a person; what is called so is a person whether or not several files are hers.
PERSON = re.compile(r"(?i)^((?:subject|subj|sub|patient|pat|participant|person|p|s|id)[-_ ]?\d+)(?![a-z]*\d*\.)")
# A number that other words follow, apart from them: 100_1, 100-rest, S001R01.
APART = re.compile(r"^([^_\s]*?\d[A-Za-z\d]*?)[-_ .]+(.+)$|^([A-Za-z]+\d+)([A-Za-z]+\d+)$")
DATE = re.compile(r"(19|20)\d\d(\d{4})?")
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "images", "imagestr", "imagests", "data"}
CROWD = 50  # files of a folder beyond which it is a batch of files rather than a person
CLASSES = 20


class RuleError(ValueError):
    """A rule of the user that no file fits."""


@dataclass(frozen=True)
class Owners:
    """Patient and trial of each recording in the order of the paths, and how they were found."""

    patients: list[str]
    trials: list[str]
    how: str


def of(paths: Sequence[PurePosixPath], rule: str | None = None) -> Owners | None:
    """Return whose the recordings are, or None where no pattern is clear.

    Args:
        paths: from the folder of recordings, without suffixes.
        rule: ``file``, ``folder`` or a regular expression with one or two groups; None: a clear pattern.

    Raises:
        RuleError: a rule that is no expression or does not fit all paths.
    """
    if rule is not None:
        return _by_rule(paths, rule)
    for guess in (_by_bids, _by_folder, _by_word, _by_repetition):
        if found := guess(paths):
            return found
    return None


def classes(paths: Sequence[PurePosixPath]) -> list[str] | None:
    """Return the class of each recording where the first folders are classes (``normal/x``, ``covid/x``), else None.

    Such folders are 2 to 20 words without a number, none of which is a usual name for a part of a data set.
    """
    firsts = Counter(path.parts[0] for path in paths if len(path.parts) > 1)
    words = all(not re.search(r"\d", name) and name.lower() not in PARTS for name in firsts)
    if words and firsts.total() == len(paths) and 2 <= len(firsts) <= CLASSES and min(firsts.values()) > 1:
        return [path.parts[0] for path in paths]
    return None


def _by_rule(paths: Sequence[PurePosixPath], rule: str) -> Owners:
    if rule == "file":
        names = [path.name for path in paths]
        whole = names if len(set(names)) == len(names) else [str(path) for path in paths]
        return Owners(whole, ["1"] * len(paths), "each file is a patient, as you say")
    if rule == "folder":
        if alone := sum(len(path.parts) < 2 for path in paths):
            raise RuleError(
                f"--patients folder: {alone} of {len(paths)} recordings lie in no folder; take file or a rule"
            )
        return _first_folder(paths, "each first folder is a patient, as you say")
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise RuleError(f"--patients {rule}: no regular expression ({error}); or take file or folder") from None
    if expression.groups not in (1, 2):
        raise RuleError(
            f"--patients {rule}: {expression.groups} groups; expected one (patient) or two (patient, trial)"
        )
    found = [expression.search(str(path)) for path in paths]
    if lacking := sum(match is None or not match[1] for match in found):
        raise RuleError(f"--patients {rule}: {lacking} of {len(paths)} recordings do not fit it; widen it")
    patients = [match[1] for match in found if match]
    trials = [match[2] or "" for match in found if match] if expression.groups == 2 else [str(path) for path in paths]
    return Owners(patients, _unique(patients, trials, paths), "whose a recording is follows your expression")


def _by_bids(paths: Sequence[PurePosixPath]) -> Owners | None:
    found = [re.search(r"(?:^|/)(sub-[A-Za-z0-9]+)", str(path)) for path in paths]
    if not all(found) or not paths:
        return None
    patients = [match[1] for match in found if match]
    trials = [path.name.removeprefix(f"{patient}_") for path, patient in zip(paths, patients, strict=True)]
    return Owners(patients, _unique(patients, trials, paths), "a patient is what follows sub- in its path")


def _by_folder(paths: Sequence[PurePosixPath]) -> Owners | None:
    """Take first folders that differ in their numbers alone, such as P001 and P002."""
    inner = _without_common(paths)
    firsts = Counter(path.parts[0] for path in inner if len(path.parts) > 1)
    if len(firsts) < 2 or firsts.total() < len(paths) or max(firsts.values()) > CROWD or not _alike(firsts):
        return None
    return _first_folder(inner, "a patient is the first folder, whose names differ in numbers")


def _by_word(paths: Sequence[PurePosixPath]) -> Owners | None:
    found = [PERSON.match(path.name) for path in paths]
    if not all(found) or not paths:
        return None
    patients = [match[1] for match in found if match]
    trials = [path.name[len(p) :].strip("-_ .") for path, p in zip(paths, patients, strict=True)]
    return Owners(patients, _unique(patients, trials, paths), "a patient is the word and number that names begin with")


def _by_repetition(paths: Sequence[PurePosixPath]) -> Owners | None:
    """Take a first part of the names that repeats, such as 100 of 100_1 and 100_2."""
    found = [APART.match(path.name) for path in paths]
    if not all(found) or not paths:
        return None
    patients = [match[1] or match[3] for match in found if match]
    trials = [match[2] or match[4] for match in found if match]
    distinct = set(patients)
    if not 1 < len(distinct) < len(paths) or any(DATE.fullmatch(name) for name in distinct) or not _alike(distinct):
        return None
    return Owners(patients, _unique(patients, trials, paths), "a patient is the first part of the names, which repeats")


def _first_folder(paths: Sequence[PurePosixPath], how: str) -> Owners:
    patients = [path.parts[0] for path in paths]
    trials = ["/".join(path.parts[1:]) for path in paths]
    return Owners(patients, _unique(patients, trials, paths), how)


def _without_common(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Return the paths without the first folders that all share."""
    out = list(paths)
    while out and all(len(path.parts) > 1 for path in out) and len({path.parts[0] for path in out}) == 1:
        out = [PurePosixPath(*path.parts[1:]) for path in out]
    return out


def _alike(names: Sequence[str] | set[str] | Counter[str]) -> bool:
    """Say whether all names hold a number and differ in it alone."""
    return len({re.sub(r"\d+", "0", name) for name in names}) == 1 and all(re.search(r"\d", name) for name in names)


def _unique(patients: Sequence[str], trials: Sequence[str], paths: Sequence[PurePosixPath]) -> list[str]:
    """Return trials that are unique within each patient: as given, else by the whole path."""
    given = [trial or "1" for trial in trials]
    count = Counter(zip(patients, given, strict=True))
    pairs = zip(patients, given, paths, strict=True)
    return [trial if count[patient, trial] == 1 else str(path) for patient, trial, path in pairs]
