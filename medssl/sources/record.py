"""What a source hands to ingest: a `Record` (where, whose, which labels) and what reading it gives.

A record is cheap: a source lists thousands of them from tables and names. Reading happens in a worker.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Label = float | str | tuple[str, ...]
AIR_HU = -1024.0  # CT holds less where it holds nothing, outside the field of view
# Units as files and people write them, without case -> as they are written here.
UNIT_NAMES = {
    **{f"{short}v": f"{short}V" for short in ("n", "u", "m", "")}, "\u03bcv": "uV",
    **{f"{long}volt{s}": f"{long[:1]}V" for long in ("nano", "milli", "") for s in ("", "s")},
    "microvolt": "uV", "microvolts": "uV",
    **dict.fromkeys(("hu", "hounsfield", "hounsfield unit", "hounsfield units"), "HU"),
    **dict.fromkeys(("nu", "n.u.", "au", "a.u.", "arb. units", "arbitrary units"), "1"),
}  # fmt: skip

# Characters that Unicode lets programs leave out (Default_Ignorable_Code_Point), beyond those of format (Cf).
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}([.,' ]\d{3})+")
# Capitals of Cyrillic and Greek that look like Latin ones.
ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "ABEKMHOPCTYXSIJ" + "ABEZHIKMNOPTYX",
)


class BadRecord(Exception):
    """A record that cannot become samples.

    Args:
        reason: a short code that ends in ``rejects.parquet`` (``missing_file``, ``unreadable``, ``no_rate``,
            ``too_short``, ``missing_channel``, ``outside_folder``, ``no_samples``, ...).
        detail: one sentence without any identifier of the source: no file name, no header text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # apart, as __init__ gets them again beyond a process boundary
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class SourceError(ValueError):
    """A source that cannot be listed at all (missing root, missing table); one clear line for the user."""


def unit_name(text: str) -> str:
    """Return a unit as medssl writes it (``mv`` and ``millivolts`` are ``mV``), or the text itself if it knows none."""
    return UNIT_NAMES.get(text.strip().casefold(), text.strip())


def one_form(identifier: str) -> str:
    """Return the one form of an identifier that tables, files and programs write in several.

    Unicode is composed, characters that cannot be seen go, blanks become one, and a whole number loses the ``.0`` that
    a column of floats gives it. Not in ``1.000``, which may be a thousand. Case, leading zeros and everything else
    stay: they may tell persons apart.
    """
    text = identifier
    if not (text.isascii() and text.isprintable()):
        seen = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
        text = unicodedata.normalize("NFC", UNSEEN.sub("", "".join(seen)))
    text = " ".join(text.split())
    number = re.fullmatch(r"([+-]?\d+)[.,]0*", text)
    return number[1] if number and not THOUSANDS.fullmatch(text) else text


def likenesses(identifier: str) -> set[str]:
    """Return what an identifier may stand for; those of one person, written in several forms, have one in common.

    Case, look-alike letters, digits of other scripts, leading zeros, signs and punctuation do not count, unless it
    stands between digits: ``1-12`` is not ``11-2``. What may be a thousand (``1,000``) stands for two numbers.
    """
    text = unicodedata.normalize("NFKC", identifier).casefold().upper().translate(ALIKE)
    text = "".join(str(unicodedata.digit(c, c)) for c in text if unicodedata.category(c) != "Me")
    # Vowels of some scripts are marks, which are no punctuation.
    plain = "".join(c if c.isalnum() or unicodedata.category(c) in ("Mn", "Mc") else " " for c in text)
    parts = [part.replace(" ", "") for part in re.split(r"(?<=\d) +(?=\d)", plain)]
    found = ["-".join(parts)]
    if THOUSANDS.fullmatch(text):
        found += ["".join(parts), *(parts[:1] if not int("".join(parts[1:])) else [])]
    return {re.sub(r"0*(\d+)", r"\1", form) for form in found}


@dataclass(frozen=True)
class Record:
    """One raw recording.

    Attributes:
        path: the file, or the folder of a DICOM series.
        format: key of `medssl.sources.READERS`.
        patient: the source's own identifier, in `one_form`. It is hashed with the project's key during ingest and goes
            no further.
        trial: the source's name of this recording, likewise; unique within the patient.
        source: short public name of the data set.
        labels: by task, without prefix. float for numbers, str for classes, tuple of str for multi-label.
        anatomy: measures known from a table, unit as suffix of the name (``_mm3``, ``_ml``, ``_years``).
        fold: the publisher's fold, if any.
        mask: file of an organ label map on the grid of the recording.
        mask_labels: value in the mask -> organ name; each becomes the measure ``<name>_ml``.
        events: file of what happened when, on the recording's clock: EDF+ annotations or a BIDS table of events.
        event_labels: text in that file -> task and class; a window has the class that covers most of it.
        hints: what the file itself does not say, for its reader (``rate_hz``, ``unit``, ``columns``, ...).
        start_s, end_s: part of the recording to use; None for all.
        row: 1-based row of the user's own table, to find the record by without naming it; None without a table.
    """

    path: Path
    format: str
    patient: str
    trial: str
    source: str = ""
    labels: Mapping[str, Label] = field(default_factory=dict)
    anatomy: Mapping[str, float] = field(default_factory=dict)
    fold: int | None = None
    mask: Path | None = None
    mask_labels: Mapping[int, str] = field(default_factory=dict)
    events: Path | None = None
    event_labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    start_s: float | None = None
    end_s: float | None = None
    row: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patient", one_form(self.patient))
        object.__setattr__(self, "trial", one_form(self.trial))
        if "unit" in self.hints:
            object.__setattr__(self, "hints", {**self.hints, "unit": unit_name(str(self.hints["unit"]))})


@dataclass(frozen=True)
class Signal:
    """A recording in time. ``values`` float32 ``(C, T)`` in ``unit``; NaN where a value is missing."""

    values: np.ndarray
    rate_hz: float
    channels: tuple[str, ...]
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", unit_name(self.unit))


@dataclass(frozen=True)
class Volume:
    """An image or volume. ``values`` float32 ``(D, H, W)``, D = 1 for a single slice.

    Axes point to superior, posterior, left: slice ``values[d]`` shown as a picture has anterior on top and the
    patient's right side on the left. ``spacing_mm`` is ``(D, H, W)``, NaN where the source gives none.
    ``mask`` int ``(D, H, W)`` on the same grid, or None. ``notes`` are what a reader did or saw that a user should know
    of, as numbers that become columns ``quality_<note>`` of every sample and lines of ``medssl check``.
    """

    values: np.ndarray
    spacing_mm: tuple[float, float, float]
    unit: str
    mask: np.ndarray | None = None
    notes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", unit_name(self.unit))


def inside(path: Path, root: Path) -> Path:
    """Return ``path`` resolved, or refuse it if it leaves ``root`` (links and ``..`` included)."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise BadRecord(
            "outside_folder",
            "the path leads outside the data folder; move the file inside, or the table to the folder that holds all",
        )
    return resolved
