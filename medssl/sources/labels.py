"""What the labels of a user's table are: classes, numbers or several classes at once, and why.

``label_kinds.csv`` beside the table decides (columns ``label``, ``kind``: ``class``, ``number`` or ``multilabel``).
Else a column named ``label_<task>_multi`` holds several classes, and the cells of the others tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from medssl.sources import delimited
from medssl.sources.claims import finite
from medssl.sources.record import Label, one_form

Kind = Literal["class", "number", "multilabel"]
KINDS = ("class", "number", "multilabel")
ABSENT = {"", "nan", "na", "n/a", "none", "null", "<na>", "#n/a", "nat"}
# Small whole numbers, few of them, are codes as a rule: 0 and 1, or the grades 1 to 4. More of them count or measure.
CODES = range(-1, 10)
MOSTLY = 0.8  # of the cells are numbers: then the others are slips
CODED = "few small whole numbers, which are codes as a rule; else say number in label_kinds.csv"
SHOWN = 8  # rows, at most
FEW = 12  # more classes than these may be remarks about persons and are not named
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")


@dataclass(frozen=True)
class Column:
    """One label of a table: its task, kind and the reason for it, its values by row, and what is wrong with it.

    ``values`` has an entry for each row, None where the cell is empty or wrong; ``wrong`` are 1-based rows.
    """

    task: str
    kind: Kind
    why: str
    values: list[Label | None]
    wrong: list[int] = field(default_factory=list)
    alike: tuple[tuple[str, ...], ...] = ()

    @property
    def problem(self) -> str:
        """What to correct, or an empty string."""
        if not self.wrong:
            return ""
        more = f" and {len(self.wrong) - SHOWN} more" if len(self.wrong) > SHOWN else ""
        rows = f"row{'s'[: len(self.wrong) > 1]} {', '.join(map(str, self.wrong[:SHOWN]))}{more}"
        what = "codes" if self.kind == "class" else "numbers"
        return (
            f"{self.task}: a column of {what}, but not in {rows} of the table, or commas there may be of thousands; "
            "correct or empty the cell, or say class for the label in label_kinds.csv"
        )

    @property
    def note(self) -> str:
        """Classes that differ in form alone, or an empty string."""
        if not self.alike:
            return ""
        named = len({value for value in self.values if value is not None}) <= FEW
        pairs = ": " + "; ".join(" and ".join(f"'{name}'" for name in names) for names in self.alike) if named else ""
        what = f"{len(self.alike)} classes have forms that differ in case, blanks or zeros alone"
        return f"label {self.task}: {what}{pairs}"


def column(name: str, cells: Sequence[str], said: Mapping[str, str]) -> Column:
    """Return what the column ``name`` (``label_<task>`` or ``label_<task>_multi``) of a table holds.

    ``cells`` are its texts, stripped, one a row; ``said`` are kinds by task, as the user gives them.
    """
    task = name.removeprefix("label_")
    several = task.endswith("_multi") and task not in said
    task = task.removesuffix("_multi") if several else task
    cells = [one_form(cell) for cell in cells]
    filled = [cell for cell in cells if cell.lower() not in ABSENT]
    comma = delimited.decimal_comma([cell for cell in filled if number(cell) is None and cell[-1:].isdigit()] or filled)
    values = [None if cell.lower() in ABSENT else number(cell, comma=comma) for cell in cells]
    found = [value for value in values if value is not None]
    unsure = sum(bool(THOUSANDS.fullmatch(cell)) for cell in filled if number(cell, comma=comma) is None)
    kind, why = _kind(len(filled), found, unsure)
    codes = why == CODED
    if several:
        kind, why = "multilabel", "its name ends in _multi"
    if task in said:
        kind, why, codes = said[task], "as label_kinds.csv says", False  # type: ignore[assignment]
    # A class may be called none; beside numbers and where a cell is empty it says that nothing is known.
    absent = ABSENT - {"none"} if kind == "class" and not found else ABSENT
    given = [cell.lower() not in absent for cell in cells]
    slips = [i for i, (value, there) in enumerate(zip(values, given, strict=True), 1) if value is None and there]
    wrong = slips if kind == "number" or codes else []
    if kind == "number":
        return Column(task, kind, why, list(values), wrong)
    if kind == "multilabel":
        parts = [tuple(one_form(part) for part in cell.split(";") if part.strip()) for cell in cells]
        return Column(task, kind, why, [part if there else None for part, there in zip(parts, given, strict=True)])
    words = [cell if there else None for cell, there in zip(cells, given, strict=True)]
    for row in wrong:
        words[row - 1] = None
    forms: dict[str, set[str]] = {}
    for word in words:
        if word is not None:
            forms.setdefault(re.sub(r"\b0+(?=\d)", "", " ".join(word.casefold().split())), set()).add(word)
    alike = tuple(tuple(sorted(names)) for names in forms.values() if len(names) > 1)
    return Column(task, kind, why, list(words), wrong, alike)


def _kind(filled: int, found: Sequence[float], unsure: int) -> tuple[Kind, str]:
    """Return the kind of a column of ``filled`` cells, of which ``found`` and ``unsure`` ones are numbers, and why."""
    if filled and len(found) + unsure >= max(min(filled, 2), MOSTLY * filled):
        if found and all(value in CODES for value in found):
            return "class", CODED
        if len(found) == filled:
            return "number", "all its cells are numbers"
        return "number", f"{len(found) + unsure} of {filled} cells are numbers"
    return "class", f"only {len(found)} of {filled} cells are numbers" if found else "its cells are words"


def number(text: str, *, comma: bool = False) -> float | None:
    """Return a finite number, or None for an empty cell or a word; ``comma`` is the decimal sign where it is True."""
    text = text.replace(",", ".") if comma and text.count(",") == 1 and "." not in text else text
    return None if "_" in text else finite(text)  # Python takes it for a separator of thousands
