"""Read EDF, EDF+, BDF and BDF+ recordings, gaps in time and channels of several rates included.

The format is a table of numbers after a plain header, so it is read here directly: mne resamples channels of other
rates without a filter and refuses files over their annotations or dates, which are of no use here. Tests compare
the values with mne's.

Source: Kemp & Olivan, "European data format 'plus' (EDF+)", Clin Neurophysiol 114 (2003); www.biosemi.com for BDF.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_bytes, require_file, span
from medssl.sources.electrodes import MAX_VOLTS, SCALP, as_float32, asked_unit, check_rate, clean_name, is_marker
from medssl.sources.record import BadRecord, Record, Signal

FIELDS = (  # name and width of the per-channel fields, in file order
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip
UNITS = {unit.casefold(): volts for unit, volts in VOLTS.items()}
# A ratio of two rates whose terms are larger needs a filter of millions of steps; such a channel is left out.
MAX_RATIO = 10_000
# Channels brought to a faster rate take memory; more than this times the file's samples is a header gone wrong.
MAX_GROWTH = 50
# Gaps become NaN, so they take memory; a recording with more than this times its length in gaps is refused.
MAX_GAPS = 10
# Start of a block in EDF+D: "+<seconds>" and an annotation that is empty.
ONSET = re.compile(rb"([+-]\d{1,12}(?:\.\d{1,12})?)\x14\x14?")


@dataclass(frozen=True)
class _Channel:
    """One voltage: ``volts = (digital - digital_min) * gain + low``; ``samples`` a block from position ``at``."""

    name: str
    at: int
    samples: int
    digital_min: float
    gain: float
    low: float


@dataclass(frozen=True)
class _Header:
    """What the header claims, compared with the file. ``samples`` is a block's number at the common rate."""

    data_at: int
    sample_bytes: int
    blocks: int
    block_samples: int
    block_s: float
    samples: int
    channels: tuple[_Channel, ...]
    onsets: tuple[int, int] | None  # position and length of the annotations, where blocks may leave gaps


@dataclass(frozen=True)
class _Run:
    """Blocks without a gap: ``count`` of them from ``first``, whose samples begin at ``start`` of the recording."""

    first: int
    count: int
    start: int


def read(record: Record) -> Signal:
    """Read one EDF or BDF file in ``hints["unit"]`` (uV by default), channel names cleaned by `clean_name`.

    All channels in a unit of voltage are kept, save markers and those without a range. The recording has the rate
    of most scalp channels (of the fastest channel where there are none); channels of another rate are brought to
    it by an anti-aliased polyphase filter with their mean removed and restored, unless the ratio has terms above
    10,000. Gaps in time (EDF+D, BDF+D) are NaN; time starts at the first block.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``, ``unsupported``
            (gaps ten times longer than the recording, rates too far apart) or ``unreadable``.
    """
    unit, unit_volts = asked_unit(record)
    size = require_file(record.path)
    with guarded("the EDF header"):
        header = _check_header(record.path, size)
        runs = _runs(record.path, header)
    rate_hz = header.samples / header.block_s
    length = runs[-1].start + runs[-1].count * header.samples
    if length > (1 + MAX_GAPS) * header.blocks * header.samples:
        raise BadRecord("unsupported", f"the gaps are over {MAX_GAPS} times longer than the recording; split it")
    start, stop = span(record, rate_hz, length)
    values = np.full((len(header.channels), stop - start), np.nan, dtype=np.float32)
    with guarded("the EDF reader"):
        for run in runs:
            first, last = max(start, run.start), min(stop, run.start + run.count * header.samples)
            if first < last:
                into = values[:, first - start : last - start]
                _read_run(into, record.path, header, run, first - run.start, unit_volts)
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
    onsets = None
    if fixed[8:13] in (b"EDF+D", b"BDF+D"):
        notes = [i for i, label in enumerate(columns["label"]) if label.endswith("Annotations") and samples[i]]
        if not notes:
            raise BadRecord("unreadable", "the recording has gaps in time (EDF+D) but does not say where")
        onsets = sum(samples[: notes[0]]), samples[notes[0]]
    return _Header(data_at, sample_bytes, blocks, sum(samples), block_s, common, tuple(kept), onsets)


def _voltages(columns: dict[str, list[str]], samples: list[int]) -> list[_Channel]:
    """Return the channels that are voltages and have a range of values, in file order."""
    found: list[_Channel] = []
    ranged = False
    for i, label in enumerate(columns["label"]):
        low, high, digital_min, digital_max = (
            _number(columns[name][i]) for name in ("physical_min", "physical_max", "digital_min", "digital_max")
        )
        # Comparisons with NaN, a field that is no number, are false.
        if label.endswith("Annotations") or not samples[i] or not digital_min < digital_max or not abs(high - low) > 0:
            continue
        ranged = True
        volts = UNITS.get(columns["unit"][i].casefold())
        if volts is None or is_marker(label) or max(abs(low), abs(high)) * volts > MAX_VOLTS:
            continue
        gain = (high - low) / (digital_max - digital_min)
        found.append(_Channel(clean_name(label), sum(samples[:i]), samples[i], digital_min, gain * volts, low * volts))
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


def _blocks(path: Path, header: _Header, first: int, count: int) -> np.ndarray:
    """Return ``count`` blocks from ``first``, as bytes ``(count, block_samples, sample_bytes)``."""
    block_bytes = header.block_samples * header.sample_bytes
    raw = np.fromfile(path, np.uint8, count * block_bytes, offset=header.data_at + first * block_bytes)
    return raw.reshape(count, header.block_samples, header.sample_bytes)


def _runs(path: Path, header: _Header) -> list[_Run]:
    """Return the parts of the recording without a gap; just one unless the header announces gaps."""
    if header.onsets is None:
        return [_Run(0, header.blocks, 0)]
    at, width = header.onsets
    rate_hz = header.samples / header.block_s
    runs: list[_Run] = []
    with path.open("rb") as file:
        onsets = []
        for block in range(header.blocks):
            file.seek(header.data_at + (block * header.block_samples + at) * header.sample_bytes)
            onsets.append(ONSET.match(file.read(min(width * header.sample_bytes, 64))))
    for block, onset in enumerate(onsets):
        if onset is None or onsets[0] is None:
            raise BadRecord("unreadable", "a block of a recording with gaps does not say when it starts")
        start = round((float(onset[1]) - float(onsets[0][1])) * rate_hz)
        expected = runs[-1].start + runs[-1].count * header.samples if runs else 0
        if runs and abs(start - expected) <= 1:  # onsets are rounded
            runs[-1] = _Run(runs[-1].first, runs[-1].count + 1, runs[-1].start)
        elif start < expected:
            raise BadRecord("unreadable", "the blocks of the recording overlap or go back in time")
        else:
            runs.append(_Run(block, 1, start))
    return runs


def _read_run(into: np.ndarray, path: Path, header: _Header, run: _Run, start: int, unit_volts: float) -> None:
    """Fill ``into``, float32 (C, T), with the samples of ``run`` from ``start`` on, at the common rate."""
    stop = start + into.shape[1]
    # A filter needs neighbours on either side, and whole blocks keep the channels in step.
    margin = max(_margin(channel.samples, header.samples) for channel in header.channels)
    first = max(0, math.floor(start / header.samples - margin))
    last = min(run.count, math.ceil(stop / header.samples + margin))
    raw = _blocks(path, header, run.first + first, last - first)
    offset = first * header.samples
    for row, channel in zip(into, header.channels, strict=True):
        digital = _integers(raw[:, channel.at : channel.at + channel.samples]).reshape(-1)
        values = ((digital - channel.digital_min) * channel.gain + channel.low) / unit_volts
        if channel.samples != header.samples:
            values = _resample(values, header.samples, channel.samples)
        row[:] = as_float32(values[start - offset : stop - offset])


def _integers(raw: np.ndarray) -> np.ndarray:
    """Return the signed little-endian integers in the last axis (2 or 3 bytes) of ``raw``."""
    if raw.shape[-1] == 2:
        return np.ascontiguousarray(raw).view("<i2")[..., 0].astype(np.float64)
    wide = np.zeros((*raw.shape[:-1], 4), dtype=np.uint8)
    wide[..., 1:] = raw  # in the upper bytes, so that the sign is in its place
    return (wide.view("<i4")[..., 0] >> 8).astype(np.float64)


def _margin(samples: int, common: int) -> float:
    """Return how many blocks `_resample` looks to either side: ten samples of the slower rate, and one to round."""
    return 0.0 if samples == common else 10 / min(samples, common) + 1 / samples


def _resample(values: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return ``values`` at ``up / down`` times their rate, filtered against aliases around their mean."""
    from scipy.signal import resample_poly

    shared = math.gcd(up, down)
    return resample_poly(values, up // shared, down // shared, padtype="mean")
