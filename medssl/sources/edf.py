"""Read EDF, EDF+, BDF and BDF+ recordings, channels of several rates included.

The header is checked here, the samples are decoded by mne. It is given blocks of the file behind a header of numbers
alone: so patient, dates and annotations reach no message and make no file unreadable, and channels of one rate are
decoded at a time, since mne resamples the others without a filter.

Source: Kemp & Olivan, "European data format 'plus' (EDF+)", Clin Neurophysiol 114 (2003); www.biosemi.com for BDF.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, span
from medssl.sources.electrodes import MAX_VOLTS, SCALP, UNITS, as_float32, asked_unit, check_rate, clean_name, is_marker
from medssl.sources.record import BadRecord, Record, Signal
from medssl.sources.resampling import REACH, polyphase

FIELDS = (  # name and width of the per-channel fields, in file order
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip
RANGE = ("physical_min", "physical_max", "digital_min", "digital_max")
# A ratio of two rates whose terms are larger needs a filter of millions of steps; such a channel is left out.
MAX_RATIO = 10_000
# Channels brought to a faster rate take memory; more than this times the file's samples is a header gone wrong.
MAX_GROWTH = 50
# Decoded at a time: mne takes four times as much memory and more.
PIECE_BYTES = 32_000_000


@dataclass(frozen=True)
class _Channel:
    """One voltage: number ``index`` of the file, with ``samples`` a block in steps of ``volts``."""

    index: int
    name: str
    samples: int
    volts: float
    limits: tuple[str, ...]  # as written in the header, in the order of `RANGE`


@dataclass(frozen=True)
class _Header:
    """What the header claims, compared with the file. ``samples`` is a block's number at the common rate."""

    data_at: int
    sample_bytes: int
    blocks: int
    block_s: float
    samples: int
    samples_of: tuple[int, ...]  # of every channel of the file, in a block
    channels: tuple[_Channel, ...]


def read(record: Record) -> Signal:
    """Read one EDF or BDF file in ``hints["unit"]`` (uV by default), channel names cleaned by `clean_name`.

    All channels in a unit of voltage are kept, save markers and those without a range. The recording has the rate
    of most scalp channels (of the fastest channel where there are none); channels of another rate are brought to
    it by `medssl.sources.resampling.polyphase`, unless the ratio has terms above 10,000.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``, ``unsupported``
            (gaps in time, rates too far apart) or ``unreadable``.
    """
    unit, unit_volts = asked_unit(record)
    size = require_file(record.path)
    with guarded("the EDF header"):
        header = _check_header(record.path, size)
    rate_hz = header.samples / header.block_s
    start, stop = span(record, rate_hz, header.blocks * header.samples)
    # A filter needs neighbours on either side, and whole blocks keep the channels in step.
    margin = max(_margin(channel.samples, header.samples) for channel in header.channels)
    first = max(0, math.floor(start / header.samples - margin))
    last = min(header.blocks, math.ceil(stop / header.samples + margin))
    part = slice(start - first * header.samples, stop - first * header.samples)
    values = np.empty((len(header.channels), stop - start), dtype=np.float32)
    for samples in {channel.samples for channel in header.channels}:
        rows = [i for i, channel in enumerate(header.channels) if channel.samples == samples]
        decoded = _decode(record.path, header, [header.channels[i] for i in rows], first, last, unit_volts)
        if samples != header.samples:
            shared = math.gcd(header.samples, samples)
            decoded = polyphase(decoded, header.samples // shared, samples // shared)
        values[rows] = decoded[:, part]
    return Signal(values, rate_hz, tuple(channel.name for channel in header.channels), unit)


def _check_header(path: Path, size: int) -> _Header:
    """Compare the header's claims with the file size and choose the channels; patient fields are skipped over."""
    with path.open("rb") as file:
        version = file.read(8)
        file.seek(184)
        fixed = file.read(72)
        sample_bytes = {b"0": 2, b"\xffBIOSEMI": 3}.get(version.strip(b" "))
        if sample_bytes is None or len(fixed) < 72:
            raise BadRecord("unreadable", "the file is neither EDF nor BDF, or its header is cut off")
        if fixed[8:13] in (b"EDF+D", b"BDF+D"):
            raise BadRecord("unsupported", "the recording has gaps in time (EDF+D); export it as EDF+C")
        data_at, blocks, count = int(fixed[:8]), int(fixed[52:60]), int(fixed[68:72])
        block_s = positive(fixed[60:68].decode("ascii"))
        if count <= 0 or blocks == 0:
            raise BadRecord("no_samples", "the file holds no data")
        if block_s is None:
            raise BadRecord("no_rate", "the header gives data blocks without a duration, so no sampling rate")
        require_bytes(256 * (count + 1), size)
        if data_at != 256 * (count + 1):
            raise BadRecord("unreadable", "the header's length contradicts its number of channels")
        columns: dict[str, list[str]] = {}
        file.seek(256)
        for name, width in FIELDS:
            text = file.read(width * count).decode("latin-1")
            columns[name] = [text[i * width : (i + 1) * width].split("\0")[0].strip() for i in range(count)]
    samples = [int(n) for n in columns["samples"]]
    if min(samples) < 0:
        raise BadRecord("unreadable", "the header claims a negative number of samples")
    block_bytes = sum(samples) * sample_bytes
    # -1 blocks means "unknown" while recording; then what is there counts.
    require_bytes(data_at + max(blocks, 1) * block_bytes, size)
    if blocks < 0:
        blocks = (size - data_at) // max(block_bytes, 1)

    voltages = _voltages(columns, samples)
    scalp = [channel.samples for channel in voltages if channel.name in SCALP]
    common = Counter(scalp).most_common(1)[0][0] if scalp else max(channel.samples for channel in voltages)
    check_rate(common / block_s)
    kept = [c for c in voltages if max(c.samples, common) // math.gcd(c.samples, common) <= MAX_RATIO]
    if len(kept) * common > MAX_GROWTH * sum(channel.samples for channel in kept):
        raise BadRecord("unsupported", "nearly all channels are far slower than the one that sets the rate")
    return _Header(data_at, sample_bytes, blocks, block_s, common, tuple(samples), tuple(kept))


def _voltages(columns: dict[str, list[str]], samples: list[int]) -> list[_Channel]:
    """Return the channels that are voltages and have a range of values, in file order."""
    found: list[_Channel] = []
    ranged = False
    for i, label in enumerate(columns["label"]):
        limits = tuple(columns[name][i] for name in RANGE)
        low, high, digital_min, digital_max = (_number(text) for text in limits)
        # Comparisons with NaN, a field that is no number, are false.
        has_range = 0 < digital_max - digital_min < math.inf and abs(high - low) > 0
        if label.endswith("Annotations") or not samples[i] or not has_range:
            continue
        ranged = True
        volts = UNITS.get(columns["unit"][i].casefold())
        if volts is None or is_marker(label) or max(abs(low), abs(high)) * volts > MAX_VOLTS:
            continue
        found.append(_Channel(i, clean_name(label), samples[i], volts, limits))
    if not ranged:
        raise BadRecord("no_samples", "no channel has samples and a range of values")
    if not found:
        raise BadRecord("bad_unit", "no channel is in V, mV, uV or nV")
    return found


def _number(text: str) -> float:
    """Return a header number, NaN for what is none; some writers put a decimal comma."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _decode(
    path: Path, header: _Header, channels: list[_Channel], first: int, last: int, unit_volts: float
) -> np.ndarray:
    """Return ``channels``, which share a rate, of blocks ``first`` to ``last``: float32 (C, T)."""
    import mne

    read_raw = mne.io.read_raw_edf if header.sample_bytes == 2 else mne.io.read_raw_bdf
    names = [str(channel.index) for channel in channels]
    scales = np.array([[channel.volts / unit_volts] for channel in channels])
    samples, block_bytes = channels[0].samples, sum(header.samples_of) * header.sample_bytes
    values = np.empty((len(channels), (last - first) * samples), dtype=np.float32)
    step = max(1, PIECE_BYTES // block_bytes)
    with guarded("mne"), path.open("rb") as file, np.errstate(over="ignore", invalid="ignore"):
        file.seek(header.data_at + first * block_bytes)
        for at in range(first, last, step):
            count = min(step, last - at)
            piece = BytesIO(_plain_header(header, count) + file.read(count * block_bytes))
            raw = read_raw(piece, include=names, preload=True, verbose="error")
            decoded = raw.get_data()
            decoded *= scales
            values[:, (at - first) * samples : (at - first + count) * samples] = decoded
    return as_float32(values)


def _plain_header(header: _Header, blocks: int) -> bytes:
    """Return a header of ``blocks`` blocks with the sizes and ranges alone: numbers for labels, all else blank."""
    columns = {"label": [str(i) for i in range(len(header.samples_of))], "samples": list(map(str, header.samples_of))}
    columns |= {name: ["0"] * len(header.samples_of) for name in RANGE}
    for channel in header.channels:
        for name, text in zip(RANGE, channel.limits, strict=True):
            columns[name][channel.index] = text
    count = len(header.samples_of)
    # Blocks of 1 s: the rate is not taken from mne.
    fixed = f"{0:<8}{'':160}01.01.8500.00.00{header.data_at:<8}{'':44}{blocks:<8}{1:<8}{count:<4}"
    fields = (f"{text:<{width}}" for name, width in FIELDS for text in columns.get(name, [""] * count))
    return (fixed + "".join(fields)).encode("latin-1")


def _margin(samples: int, common: int) -> float:
    """Return how many blocks the filter that joins two rates looks to either side, and one sample to round."""
    return 0.0 if samples == common else REACH / min(samples, common) + 1 / samples
