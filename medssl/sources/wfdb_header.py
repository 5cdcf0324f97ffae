"""The text header (``.hea``) of a WFDB record: its channels, or the segments it is made of.

It is not left to the ``wfdb`` package, which silently follows any file name, takes µV for V where the µ is not ASCII,
and assumes 250 Hz where no rate is stated and 200 units per mV where no gain is.

Source: header(5) of the WFDB Applications Guide, https://physionet.org/physiotools/wag/header-5.htm
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medssl.sources.claims import positive, require_file, require_plain_name, spelt, text_of
from medssl.sources.record import BadRecord, unit_name

MAX_HEADER_BYTES = 1_000_000
# Bytes per sample of each signal format. FLAC (the last three) shrinks a constant block a thousand times; no
# real recording shrinks further.
FORMAT_BYTES = {
    "8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3,
    "508": 1 / 2000, "516": 1 / 2000, "524": 1 / 2000,
}  # fmt: skip
FLAC = ("508", "516", "524")
GAP = "~"
LAYOUT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
GAIN = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(\S+))?")

Key = tuple[str, int]  # a channel's name, and which one of that name it is


@dataclass(frozen=True)
class Channel:
    """One signal line: value = (stored - ``baseline``) / ``gain`` in ``unit``, ``skew`` frames late in the file."""

    key: Key
    unit: str
    file: str
    format: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    initial: int


@dataclass(frozen=True)
class Header:
    """The header of the record ``base`` (path without suffix).

    ``frames`` is None where it states no length; ``segments`` are names and lengths in frames.
    """

    base: Path
    rate_hz: float | None
    count: int
    frames: int | None
    channels: tuple[Channel, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()


def parse(base: Path) -> Header:
    """Return what the header of the record ``base`` says, without any look at other files."""
    path = base.with_name(spelt(base.parent, base.name + ".hea"))
    if require_file(path) > MAX_HEADER_BYTES:
        raise BadRecord("unreadable", "the header is longer than 1 MB")
    lines = [line.split() for line in text_of(path.read_bytes()).splitlines()]
    first, *rows = [line for line in lines if line and not line[0].startswith("#")] or [[]]
    if len(first) < 2:
        raise BadRecord("unreadable", "the header has no record line")
    for line in rows:  # before anything else: whatever is wrong, such a record must not be followed
        require_plain_name(line[0])
    rate_hz = positive(re.split(r"[/(]", first[2])[0]) if len(first) > 2 else None
    if len(first) > 2 and rate_hz is None:
        raise BadRecord("no_rate", "the header states no sampling rate; add it to the record line")
    if not first[1].isdigit():
        raise BadRecord("unreadable", "the header's number of channels is not a number")
    if len(first) > 3 and not first[3].isdigit():
        raise BadRecord("unreadable", "the header's number of samples is not a number")
    count, frames = int(first[1]), int(first[3]) if len(first) > 3 else None
    if "/" in first[0]:
        if int(first[0].split("/")[1]) != len(rows):
            raise BadRecord("unreadable", "the header's number of segments differs from its segment lines")
        return Header(base, rate_hz, count, frames, segments=tuple((name, int(length)) for name, length in rows))
    if count != len(rows):
        raise BadRecord("unreadable", "the header's number of channels differs from its channel lines")
    if not rows:
        raise BadRecord("no_samples", "the header describes no channel")
    seen: Counter[str] = Counter()
    files = {name: name if name == GAP else spelt(base.parent, name) for name in {line[0] for line in rows}}
    channels = tuple(_channel([files[name], *line], i, seen) for i, (name, *line) in enumerate(rows, start=1))
    return Header(base, rate_hz, count, frames, channels)


def _channel(line: list[str], number: int, seen: Counter[str]) -> Channel:
    """Return one signal line: file, format, gain, ADC bits, ADC zero, first value, checksum, block size, name."""
    layout = LAYOUT.fullmatch(line[1]) if len(line) > 1 else None
    if layout is None or (layout[1] not in FORMAT_BYTES and line[0] != GAP):
        raise BadRecord("unsupported", "a channel line names an unknown signal format")
    gain = GAIN.fullmatch(line[2]) if len(line) > 2 else None
    if gain is None or not positive(abs(float(gain[1]))):
        raise BadRecord("bad_unit", "the header states no gain for a channel, so its unit is unknown")
    name = " ".join(line[8:]) or f"channel {number}"
    seen[name] += 1
    zero = int(line[4]) if len(line) > 4 else 0
    return Channel(
        key=(name, seen[name]),
        unit=unit_name(gain[3] or "mV"),
        file=line[0],
        format=layout[1],
        per_frame=int(layout[2] or 1) or 1,
        skew=int(layout[3] or 0),
        offset=int(layout[4] or 0),
        gain=float(gain[1]),
        baseline=zero if gain[2] is None else int(gain[2]),
        initial=int(line[5]) if len(line) > 5 else zero,
    )
