"""Read EDF, EDF+, BDF and BDF+ recordings, channels of several rates included.

The header is checked here, the samples are decoded by mne. It is given blocks of the file behind a header of numbers
alone: so patient, dates and annotations reach no message and make no file unreadable, and channels of one rate are
decoded at a time, since mne resamples the others without a filter.

EDF+D and BDF+D are recordings with gaps in time: each block says when it starts, in the first bytes of the annotation
channel (*time keeping*). mne passes over that and joins the blocks; here the time between them is NaN.

Source: Kemp & Olivan, "European data format 'plus' (EDF+)", Clin Neurophysiol 114 (2003); www.biosemi.com for BDF.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, span
from medssl.sources.electrodes import MAX_VOLTS, SCALP, as_float32, asked_unit, channel_names, check_rate, volts_of
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
# Onsets of blocks may claim gaps of any length. Beyond this many samples of gap per recorded one it is a mistake.
MAX_GAP_RATIO = 100
# Decoded at a time: mne takes four times as much memory and more.
PIECE_BYTES = 32_000_000
ANNOTATIONS = "Annotations"  # how the labels of channels end that hold text
NUMBER = rb"\d{1,12}(?:\.\d{0,30})?"  # seconds; bounded, so that no float and no product with a rate overflows
TIME_KEEPING = re.compile(rb"([+-]" + NUMBER + rb")\x14\x14")  # an onset with an empty text


@dataclass(frozen=True)
class Layout:
    """Where a file keeps its blocks, compared with its size. ``block_s`` is None where the header gives none.

    ``columns`` are the per-channel fields, ``samples_of`` a channel's number in a block.
    """

    data_at: int
    sample_bytes: int
    blocks: int
    block_s: float | None
    has_gaps: bool
    columns: dict[str, list[str]]
    samples_of: tuple[int, ...]
    block_bytes: int


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
    """What the header claims of voltages. ``samples`` is a block's number at the common rate, ``rate_hz``."""

    layout: Layout
    rate_hz: float
    samples: int
    channels: tuple[_Channel, ...]


@dataclass(frozen=True)
class _Run:
    """Blocks ``first`` to ``last`` (excluded) without a gap, the first of which starts at sample ``at``."""

    first: int
    last: int
    at: int


def read(record: Record) -> Signal:
    """Read one EDF or BDF file in ``hints["unit"]`` (uV by default), channel names cleaned by `channel_names`.

    All channels in a unit of voltage are kept, save markers and those without a range. The recording has the rate
    of most scalp channels (of the fastest channel where there are none); channels of another rate are brought to
    it by `medssl.sources.resampling.polyphase`, unless the ratio has terms above 10,000. Gaps in time are NaN, and
    ``start_s`` and ``end_s`` count them.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``, ``unsupported``
            (rates too far apart) or ``unreadable``.
    """
    unit, unit_volts = asked_unit(record)
    size = require_file(record.path)
    with guarded("the EDF header"):
        header = _check_header(record.path, size)
        runs = _runs(record.path, header)
    start, stop = span(record, header.rate_hz, runs[-1].at + (runs[-1].last - runs[-1].first) * header.samples)
    runs = _within(runs, header, start, stop)
    values = np.full((len(header.channels), stop - start), np.nan, dtype=np.float32)
    for samples in {channel.samples for channel in header.channels if runs}:  # no runs: all of the part is a gap
        rows = [i for i, channel in enumerate(header.channels) if channel.samples == samples]
        channels = [header.channels[i] for i in rows]
        first = runs[0].first
        decoded = _decode(record.path, header.layout, channels, first, runs[-1].last, unit_volts)
        for run in runs:  # a filter must not join what is apart in time
            piece = decoded[:, (run.first - first) * samples : (run.last - first) * samples]
            piece = polyphase(piece, header.samples, samples)
            begin, end = max(start, run.at), min(stop, run.at + piece.shape[1])
            values[rows, begin - start : end - start] = piece[:, begin - run.at : end - run.at]
    return Signal(values, header.rate_hz, tuple(channel.name for channel in header.channels), unit)


def check_layout(path: Path, size: int) -> Layout:
    """Compare the header's claims of blocks and channels with the file size; patient fields are skipped over.

    Raises:
        BadRecord: ``no_samples`` or ``unreadable``. Other exceptions are for `guarded`.
    """
    with path.open("rb") as file:
        version = file.read(8)
        file.seek(184)
        fixed = file.read(72)
        sample_bytes = {b"0": 2, b"\xffBIOSEMI": 3}.get(version.strip(b" "))
        if sample_bytes is None or len(fixed) < 72:
            raise BadRecord("unreadable", "the file is neither EDF nor BDF, or its header is cut off")
        data_at, blocks, count = int(fixed[:8]), int(fixed[52:60]), int(fixed[68:72])
        if count <= 0 or blocks == 0:
            raise BadRecord("no_samples", "the file holds no data")
        require_bytes(256 * (count + 1), size)
        if data_at != 256 * (count + 1):
            raise BadRecord("unreadable", "the header's length contradicts its number of channels")
        columns: dict[str, list[str]] = {}
        file.seek(256)
        for name, width in FIELDS:
            text = file.read(width * count).decode("latin-1")
            columns[name] = [text[i * width : (i + 1) * width].split("\0")[0].strip() for i in range(count)]
    samples = tuple(int(n) for n in columns["samples"])
    if min(samples) < 0:
        raise BadRecord("unreadable", "the header claims a negative number of samples")
    block_bytes = sum(samples) * sample_bytes
    # -1 blocks means "unknown" while recording; then what is there counts.
    require_bytes(data_at + max(blocks, 1) * block_bytes, size)
    if blocks < 0:
        blocks = (size - data_at) // max(block_bytes, 1)
    block_s, has_gaps = positive(fixed[60:68].decode("ascii")), fixed[8:13] in (b"EDF+D", b"BDF+D")
    return Layout(data_at, sample_bytes, blocks, block_s, has_gaps, columns, samples, block_bytes)


def annotation_blocks(path: Path, layout: Layout) -> Iterator[list[bytes]]:
    """Yield what each block holds in its annotation channels, in file order; nothing where there is no such channel."""
    sizes = [samples * layout.sample_bytes for samples in layout.samples_of]
    places = [
        (end - size, size)
        for end, size, label in zip(accumulate(sizes), sizes, layout.columns["label"], strict=True)
        if size and label.endswith(ANNOTATIONS)
    ]
    if not places:
        return
    with path.open("rb") as file:
        for block_at in range(layout.data_at, layout.data_at + layout.blocks * layout.block_bytes, layout.block_bytes):
            texts = []
            for offset, size in places:
                file.seek(block_at + offset)
                texts.append(file.read(size))
            yield texts


def onset_of(texts: list[bytes]) -> float | None:
    """Return when a block starts by its annotation channels, in seconds; None where the first of them does not say."""
    match = TIME_KEEPING.match(texts[0])
    return float(match[1]) if match else None


def _check_header(path: Path, size: int) -> _Header:
    """Return the layout of the file and the channels to read."""
    layout = check_layout(path, size)
    if layout.block_s is None:
        raise BadRecord("no_rate", "the header gives data blocks without a duration, so no sampling rate")
    voltages = _voltages(layout)
    scalp = [channel.samples for channel in voltages if channel.name in SCALP]
    common = Counter(scalp).most_common(1)[0][0] if scalp else max(channel.samples for channel in voltages)
    rate_hz = check_rate(common / layout.block_s)
    kept = [c for c in voltages if max(c.samples, common) // math.gcd(c.samples, common) <= MAX_RATIO]
    if len(kept) * common > MAX_GROWTH * sum(channel.samples for channel in kept):
        raise BadRecord("unsupported", "nearly all channels are far slower than the one that sets the rate")
    return _Header(layout, rate_hz, common, tuple(kept))


def _runs(path: Path, header: _Header) -> list[_Run]:
    """Return the stretches without a gap, of which a recording that claims no gaps has one."""
    blocks = header.layout.blocks
    if not header.layout.has_gaps:
        return [_Run(0, blocks, 0)]
    onsets = np.array([onset_of(texts) for texts in annotation_blocks(path, header.layout)], dtype=np.float64)
    if len(onsets) != blocks or np.isnan(onsets).any():
        raise BadRecord("unreadable", "the recording has gaps in time, and a block does not say when it starts")
    at = (onsets - onsets[0]) * header.rate_hz
    # Compared with the block before, not with the first: a duration that the header rounds adds up over a night.
    gaps = np.rint(np.diff(at) - header.samples)
    if (gaps < 0).any():
        raise BadRecord("unreadable", "a block starts before the one in front of it ends")
    if at[-1] > MAX_GAP_RATIO * blocks * header.samples:
        raise BadRecord("unreadable", "the blocks claim far more time in gaps than they hold")
    edges = [0, *(int(i) + 1 for i in np.flatnonzero(gaps)), blocks]
    runs, end = [], 0
    for first, last in pairwise(edges):
        runs.append(_Run(first, last, max(end, round(at[first]))))
        end = runs[-1].at + (last - first) * header.samples
    return runs


def _within(runs: list[_Run], header: _Header, start: int, stop: int) -> list[_Run]:
    """Return what to decode of ``runs`` for samples ``start`` to ``stop``.

    A filter needs neighbours on either side (and one sample to round), and whole blocks keep the channels in step.
    """
    samples = header.samples
    others = [channel.samples for channel in header.channels if channel.samples != samples]
    margin = max((REACH / min(own, samples) + 1 / own for own in others), default=0.0)
    found = []
    for run in runs:
        if run.at < stop and run.at + (run.last - run.first) * samples > start:
            skipped = max(0, math.floor((start - run.at) / samples - margin))
            last = min(run.last, run.first + math.ceil((stop - run.at) / samples + margin))
            found.append(_Run(run.first + skipped, last, run.at + skipped * samples))
    return found


def _voltages(layout: Layout) -> list[_Channel]:
    """Return the channels that are voltages and have a range of values, in file order."""
    columns, samples = layout.columns, layout.samples_of
    found: list[_Channel] = []
    names = channel_names(columns["label"])
    ranged = False
    for i, label in enumerate(columns["label"]):
        limits = tuple(columns[name][i] for name in RANGE)
        low, high, digital_min, digital_max = (_number(text) for text in limits)
        # Comparisons with NaN, a field that is no number, are false.
        has_range = 0 < digital_max - digital_min < math.inf and abs(high - low) > 0
        if label.endswith(ANNOTATIONS) or not samples[i] or not has_range:
            continue
        ranged = True
        volts = volts_of(label, columns["unit"][i])
        if volts is not None and max(abs(low), abs(high)) * volts <= MAX_VOLTS:
            found.append(_Channel(i, names[i], samples[i], volts, limits))
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
    path: Path, layout: Layout, channels: list[_Channel], first: int, last: int, unit_volts: float
) -> np.ndarray:
    """Return ``channels``, which share a rate, of blocks ``first`` to ``last``: float32 (C, T)."""
    import mne

    read_raw = mne.io.read_raw_edf if layout.sample_bytes == 2 else mne.io.read_raw_bdf
    names = [str(channel.index) for channel in channels]
    scales = np.array([[channel.volts / unit_volts] for channel in channels])
    samples, block_bytes = channels[0].samples, layout.block_bytes
    values = np.empty((len(channels), (last - first) * samples), dtype=np.float32)
    step = max(1, PIECE_BYTES // block_bytes)
    with guarded("mne"), path.open("rb") as file, np.errstate(over="ignore", invalid="ignore"):
        file.seek(layout.data_at + first * block_bytes)
        for at in range(first, last, step):
            count = min(step, last - at)
            piece = BytesIO(_plain_header(layout, channels, count) + file.read(count * block_bytes))
            raw = read_raw(piece, include=names, preload=True, verbose="error")
            decoded = raw._data  # get_data() makes a copy, which nobody else needs
            decoded *= scales
            values[:, (at - first) * samples : (at - first + count) * samples] = decoded
    return as_float32(values)


def _plain_header(layout: Layout, channels: list[_Channel], blocks: int) -> bytes:
    """Return a header of ``blocks`` blocks with the sizes and ranges alone: numbers for labels, all else blank."""
    columns = {"label": [str(i) for i in range(len(layout.samples_of))], "samples": list(map(str, layout.samples_of))}
    columns |= {name: ["0"] * len(layout.samples_of) for name in RANGE}
    for channel in channels:
        for name, text in zip(RANGE, channel.limits, strict=True):
            columns[name][channel.index] = text
    count = len(layout.samples_of)
    # Blocks of 1 s: the rate is not taken from mne.
    fixed = f"{0:<8}{'':160}01.01.8500.00.00{layout.data_at:<8}{'':44}{blocks:<8}{1:<8}{count:<4}"
    fields = (f"{text:<{width}}" for name, width in FIELDS for text in columns.get(name, [""] * count))
    return (fixed + "".join(fields)).encode("latin-1")
