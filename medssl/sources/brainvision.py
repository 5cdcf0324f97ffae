r"""Read BrainVision recordings: a text header (``.vhdr``) that names a file of plain numbers (``.eeg``).

Read here directly, since numbers that follow a header need no library, and since whatever opens the file that a
header names must be what checked that name. Tests compare the values with mne's.

Source: Brain Products, "BrainVision Core Data Format 1.0" (2019).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_bytes, require_file, span
from medssl.sources.electrodes import MAX_VOLTS, as_float32, asked_unit, check_rate, clean_name, is_marker
from medssl.sources.record import BadRecord, Record, Signal, inside

MAX_HEADER_BYTES = 1_000_000
TYPES = {"INT_16": "i2", "UINT_16": "u2", "INT_32": "i4", "IEEE_FLOAT_32": "f4"}
UNITS = {unit.casefold(): volts for unit, volts in VOLTS.items()}
READ = {"common infos", "binary infos", "channel infos"}
TITLE = re.compile(r"\s*Brain ?Vision.*Header File", re.IGNORECASE)


@dataclass(frozen=True)
class _Header:
    """What the header claims. ``channels`` are the voltages: row in the file, clean name, volts of one step."""

    data: Path
    dtype: np.dtype
    multiplexed: bool
    count: int
    points: int
    rate_hz: float
    channels: tuple[tuple[int, str, float], ...]


def read(record: Record) -> Signal:
    """Read one BrainVision recording in ``hints["unit"]`` (uV by default), names cleaned by `clean_name`.

    Channels in a unit of voltage are kept; a channel without unit is in uV, as the format says. The file of
    markers is not opened, so a pause of the amplifier, which only a marker tells, is not seen.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (data as text, in segments or in frequencies) or ``unreadable``.
    """
    unit, unit_volts = asked_unit(record)
    require_file(record.path)
    with guarded("the BrainVision header"):
        header = _check_header(record.path)
    start, stop = span(record, header.rate_hz, header.points)
    values = np.empty((len(header.channels), stop - start), dtype=np.float32)
    with guarded("the BrainVision reader"):
        stored = _stored(header, start, stop)
        for row, (i, _, step) in zip(values, header.channels, strict=True):
            row[:] = as_float32(stored[i].astype(np.float64) * (step / unit_volts))
    return Signal(values, header.rate_hz, tuple(name for _, name, _ in header.channels), unit)


def _stored(header: _Header, start: int, stop: int) -> np.ndarray:
    """Return the numbers of the file from time step ``start`` to ``stop``, (all channels, T)."""
    item = header.dtype.itemsize
    if header.multiplexed:
        flat = np.fromfile(header.data, header.dtype, (stop - start) * header.count, offset=start * header.count * item)
        return flat.reshape(stop - start, header.count).T
    rows = range(start, header.count * header.points, header.points)
    return np.stack([np.fromfile(header.data, header.dtype, stop - start, offset=at * item) for at in rows])


def _check_header(path: Path) -> _Header:
    """Compare the header with the file it names, which must lie beside it, and choose the channels."""
    sections = _sections(path)
    common = sections.get("common infos", {})
    files = [common[key].replace("$b", path.stem) for key in ("datafile", "markerfile") if common.get(key)]
    for name in files:  # before anything else: whatever is wrong, such a record must not be followed
        if re.search(r"[/\\\0]|^\w:|^\.*$", name):
            raise BadRecord("outside_folder", "the header names a file outside its own folder")
        inside(path.parent / name, path.parent)
    if not common.get("datafile"):
        raise BadRecord("unreadable", "the header names no data file")
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        raise BadRecord("unsupported", "the data are text; export them as binary")
    if common.get("datatype", "TIMEDOMAIN").upper() != "TIMEDOMAIN":
        raise BadRecord("unsupported", "the data are no recording in time")
    if common.get("segmentationtype", "NOTSEGMENTED").upper() not in ("", "NOTSEGMENTED"):
        raise BadRecord("unsupported", "the recording is cut into segments; export it in one piece")
    orientation = common.get("dataorientation", "MULTIPLEXED").upper()
    binary = sections.get("binary infos", {})
    kind = TYPES.get(binary.get("binaryformat", "INT_16").upper())
    if kind is None or orientation not in ("MULTIPLEXED", "VECTORIZED"):
        raise BadRecord("unsupported", "the header names an unknown layout of the numbers")
    dtype = np.dtype(("<", ">")[binary.get("usebigendianorder", "NO").upper() == "YES"] + kind)

    interval_us = positive(common.get("samplinginterval"))
    if interval_us is None:
        raise BadRecord("no_rate", "the header states no sampling interval")
    rate_hz = check_rate(1e6 / interval_us)
    lines = sections.get("channel infos", {})
    count = int(common.get("numberofchannels", "0"))
    if count <= 0:
        raise BadRecord("no_samples", "the header describes no channel")
    if count != len(lines) or set(lines) != {f"ch{i + 1}" for i in range(count)}:
        raise BadRecord("unreadable", "the header's number of channels differs from its channel lines")
    channels = _voltages([lines[f"ch{i + 1}"] for i in range(count)])

    data = path.parent / files[0]
    points, rest = divmod(require_file(data), count * dtype.itemsize)
    if common.get("datapoints"):
        claimed = int(common["datapoints"])
        require_bytes(claimed, points)
        if orientation == "VECTORIZED" and claimed != points:
            raise BadRecord("unreadable", "the header's number of samples differs from the data file")
        points = claimed if claimed > 0 else points
    elif rest:
        raise BadRecord("unreadable", "the data file ends within a sample; it may be cut off")
    return _Header(data, dtype, orientation == "MULTIPLEXED", count, points, rate_hz, channels)


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """Return the header by section and key, both in lower case; free text after ``[Comment]`` is left out.

    A key that stands twice where it matters is refused: readers differ in which one they follow.
    """
    if require_file(path) > MAX_HEADER_BYTES:
        raise BadRecord("unreadable", "the header is longer than 1 MB")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # older files are in the code page of a European Windows
        text = raw.decode("latin-1")
    first, *lines = text.splitlines() or [""]
    if not TITLE.match(first):
        raise BadRecord("unreadable", "the file is no BrainVision header")
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    name = ""
    for line in lines:
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip().lower()
            if name == "comment":
                break
            section = sections.setdefault(name, {})
        elif "=" in line and not line.startswith(";"):
            key, value = line.split("=", 1)
            key = key.strip().lower()
            if key in section and name in READ:
                raise BadRecord("unreadable", "the header states a value twice")
            section[key] = value.strip()
    return sections


def _voltages(lines: list[str]) -> tuple[tuple[int, str, float], ...]:
    r"""Return the voltages among lines ``name,reference,resolution,unit``; a comma in a name is written ``\1``."""
    found = []
    for i, line in enumerate(lines):
        parts = [part.strip() for part in line.split(",")]
        name, _, resolution, unit = (parts + [""] * 3)[:4]
        name = name.replace("\\1", ",")
        # µ comes in two code points, and as two characters where UTF-8 was read as Latin-1.
        volts = UNITS.get((unit or "uV").replace("Â", "").casefold())
        sign = -1.0 if resolution.startswith("-") else 1.0
        step = positive(resolution.removeprefix("-") or 1.0)
        if volts is None or is_marker(name):
            continue
        if step is None or step * volts * 2**32 > MAX_VOLTS:
            raise BadRecord("bad_unit", "the header states no usable resolution of a channel")
        found.append((i, clean_name(name) or f"channel {i + 1}", sign * step * volts))
    if not found:
        raise BadRecord("bad_unit", "no channel is in V, mV, uV or nV")
    return tuple(found)
