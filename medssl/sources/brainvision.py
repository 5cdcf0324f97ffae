r"""Read BrainVision recordings: a text header (``.vhdr``) that names a file of plain numbers (``.eeg``).

mne reads them and opens whatever the header names, so the names and sizes are checked here before, on the same text
as mne decodes and parses it. The file of markers, in which people are named, is not opened.

Source: Brain Products, "BrainVision Core Data Format 1.0" (2019).
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, require_plain_name, span, text_of
from medssl.sources.electrodes import MAX_VOLTS, as_float32, asked_unit, channel_names, check_rate, volts_of
from medssl.sources.record import BadRecord, Record, Signal, inside

MAX_HEADER_BYTES = 1_000_000
SAMPLE_BYTES = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
CODEPAGES = {"UTF-8": "utf-8", "ANSI": "cp1252"}
TITLE = re.compile(rb"(\xef\xbb\xbf)?\s*Brain ?Vision.*Header File", re.IGNORECASE)
# The units that mne scales to V; it leaves the numbers of any other as they are.
SCALED = {"V", "mV", "µV", "uV", "nV"}
# Decoded at a time: mne gives float64.
PIECE_VALUES = 4_000_000


def read(record: Record) -> Signal:
    """Read one BrainVision recording in ``hints["unit"]`` (uV by default), names cleaned by `channel_names`.

    Channels in a unit of voltage are kept; a channel without unit is in uV, as the format says. A pause of the
    amplifier, which only a marker tells, is not seen.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (data as text, in segments, in frequencies or big-endian, two channels of one name) or
            ``unreadable``.
    """
    import mne

    unit, unit_volts = asked_unit(record)
    with guarded("the BrainVision header"):
        rate_hz, points, channels = _check_header(record.path)
    start, stop = span(record, rate_hz, points)
    values = np.empty((len(channels), stop - start), dtype=np.float32)
    rows, names, volts = zip(*channels, strict=True)
    scales = np.array(volts)[:, None] / unit_volts
    with guarded("mne"):
        raw = mne.io.read_raw_brainvision(record.path, overrides={"marker_fname": False}, verbose="error")
        step = max(1, PIECE_VALUES // len(raw.ch_names))
        for at in range(start, stop, step):
            end = min(stop, at + step)
            decoded = raw.get_data(list(rows), at, end, verbose="error")
            values[:, at - start : end - start] = as_float32(decoded * scales)
    return Signal(values, rate_hz, names, unit)


def _check_header(path: Path) -> tuple[float, int, list[tuple[int, str, float]]]:
    """Return rate, number of time steps and `_voltages`, after a look at the files that the header names."""
    header = _parse(path)
    # NeurOne writes a small letter.
    section = "Common Infos" if header.has_section("Common Infos") else "Common infos"
    if not header.has_section(section):
        raise BadRecord("unreadable", "the header says nothing of the recording")
    common = header[section]
    names = [common[key] for key in ("DataFile", "MarkerFile") if common.get(key)]
    for name in names:  # before anything else: whatever is wrong, such a record must not be followed
        require_plain_name(name)
        inside(path.parent / name, path.parent)
    if not common.get("DataFile"):
        raise BadRecord("unreadable", "the header names no data file")
    data = path.parent / names[0]
    if not data.exists():
        raise BadRecord("missing_file", "the data file that the header names is absent; keep .vhdr and .eeg together")
    size = require_file(data)

    binary = header["Binary Infos"] if header.has_section("Binary Infos") else {}
    for given, default, allowed, detail in (
        (common.get("DataFormat"), "", {"BINARY"}, "the data are text; export them as binary"),
        (common.get("DataType"), "TIMEDOMAIN", {"TIMEDOMAIN"}, "the data are no recording in time"),
        (common.get("SegmentationType"), "", {"", "NOTSEGMENTED"}, "the recording is in segments; export one piece"),
        (common.get("DataOrientation"), "", {"MULTIPLEXED", "VECTORIZED"}, "the layout of the numbers is unknown"),
        (binary.get("BinaryFormat"), "", set(SAMPLE_BYTES), "the kind of the numbers is none that mne reads"),
        (binary.get("UseBigEndianOrder"), "NO", {"NO"}, "the numbers are big-endian; export them little-endian"),
    ):
        if (default if given is None else given) not in allowed:
            raise BadRecord("unsupported", detail)

    interval_us = positive(common.get("SamplingInterval"))
    if interval_us is None:
        raise BadRecord("no_rate", "the header states no sampling interval")
    rate_hz = check_rate(1e6 / interval_us)
    lines = dict(header["Channel Infos"]) if header.has_section("Channel Infos") else {}
    count = int(common.get("NumberOfChannels", "0"))
    if count <= 0:
        raise BadRecord("no_samples", "the header describes no channel")
    if count != len(lines) or set(lines) != {f"ch{i + 1}" for i in range(count)}:
        raise BadRecord("unreadable", "the header's number of channels differs from its channel lines")

    points, rest = divmod(size, count * SAMPLE_BYTES[binary["BinaryFormat"]])
    claimed = int(common.get("DataPoints") or 0)
    require_bytes(claimed, points)
    if rest and not claimed:
        raise BadRecord("unreadable", "the data file ends within a sample; it may be cut off")
    if claimed > 0 and claimed != points and common["DataOrientation"] == "VECTORIZED":
        raise BadRecord("unreadable", "the header's number of samples differs from the data file")
    return rate_hz, claimed if claimed > 0 else points, _voltages([lines[f"ch{i + 1}"] for i in range(count)])


def _parse(path: Path) -> configparser.ConfigParser:
    """Return the header as mne sees it, so that no name can mean one file here and another there."""
    if require_file(path) > MAX_HEADER_BYTES:
        raise BadRecord("unreadable", "the header is longer than 1 MB")
    title, _, raw = path.read_bytes().partition(b"\n")
    if not TITLE.match(title):
        raise BadRecord("unreadable", "the file is no BrainVision header")
    stated = re.search("Codepage=(.+)", raw.decode("ascii", "ignore"))
    codepage = CODEPAGES.get(stated[1].strip() if stated else "UTF-8")
    if codepage is None:
        raise BadRecord("unsupported", "the header is in a code page other than UTF-8 and ANSI")
    header = configparser.ConfigParser(interpolation=None)
    header.read_string(text_of(raw, codepage).partition("[Comment]")[0])
    return header


def _voltages(lines: list[str]) -> list[tuple[int, str, float]]:
    r"""Return row, name and volts of one step of mne's values of the voltages among the channel lines.

    A line is ``name,reference,resolution,unit``; a comma in a name is written ``\1``.
    """
    rows = [(line.split(",") + [""] * 3)[:4] for line in lines]
    if len({name for name, *_ in rows}) < len(rows):
        raise BadRecord("unsupported", "two channels have one name, which mne does not read; rename one")
    found = []
    rows = [[name.replace("\\1", ","), *rest] for name, *rest in rows]
    names = channel_names([name for name, *_ in rows])
    for i, (name, _, resolution, unit) in enumerate(rows):
        # µ comes in two code points, and as two characters where UTF-8 was read as Latin-1.
        unit = unit.replace("Â", "") or "µV"
        if (volts := volts_of(name, unit)) is None:
            continue
        step = positive(resolution.strip().removeprefix("-") or 1.0)
        if step is None or step * volts * 2**32 > MAX_VOLTS:
            raise BadRecord("bad_unit", "the header states no usable resolution of a channel")
        found.append((i, names[i], 1.0 if unit in SCALED else volts))
    if not found:
        raise BadRecord("bad_unit", "no channel is in V, mV, uV or nV")
    return found
