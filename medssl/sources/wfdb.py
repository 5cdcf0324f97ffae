"""Read WFDB records: a text header (``.hea``) beside signal files (``.dat``, ``.flac``, or ``.mat`` of MATLAB v4).

The ``wfdb`` package reads the samples; `medssl.sources.wfdb_header` reads the header first.

A record may be a row of *segments*, each a record of its own with fewer channels, and of gaps named ``~``. Numbers of
*frames* count at the record's rate; a channel has one or more samples per frame, one after the other in its file.

Source: signal(5) of the WFDB Applications Guide, https://physionet.org/physiotools/wag/signal-5.htm
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_bytes, require_file, span
from medssl.sources.record import BadRecord, Record, Signal, inside
from medssl.sources.resampling import polyphase
from medssl.sources.wfdb_header import FLAC, FORMAT_BYTES, GAP, Channel, Header, Key, parse

# A list of segments may claim gaps of any length. Beyond this many frames per recorded one it is a mistake.
MAX_GAP_RATIO = 100
# Filters for larger ratios of two channels' rates take more memory than the channels.
MAX_RATE_RATIO = 10_000


@dataclass(frozen=True)
class _Part:
    """``frames`` frames of a record from frame ``start`` on, held by the files of ``header``."""

    start: int
    frames: int
    header: Header


def read(record: Record) -> Signal:
    """Read one WFDB record; ``record.path`` names it with or without a suffix.

    Values are in ``hints["unit"]``, by default mV, or ``"1"`` where no channel is a voltage (PPG). Channels in a
    unit that cannot be converted (pressure next to an ECG) are left out. Of the channels kept, slower ones are
    brought to the rate of the fastest by an anti-aliasing polyphase filter (`_faster`). Missing values, gaps between
    segments and segments without a channel are NaN. Comments and dates of the header, which may identify the
    patient, are never used.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (unknown format, segments within segments) or ``unreadable``.
    """
    path = record.path
    base = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat", ".flac") else path
    with guarded("the WFDB header"):
        header = parse(base)
        if header.rate_hz is None:
            raise BadRecord("no_rate", "the header states no sampling rate; add it to the record line")
        frames, parts = _parts(header, path.parent)
        start, stop = span(record, header.rate_hz, frames)
        scales, per_frame, target = _choose(parts, record.hints.get("unit"))
        fastest = max(per_frame.values())
        rate_hz = positive(header.rate_hz * fastest)
        if rate_hz is None:
            raise BadRecord("no_rate", "the sampling rate in the header is no usable number")
    with guarded("wfdb"):
        rows = {key: np.full((stop - start) * n, np.nan, dtype=np.float32) for key, n in per_frame.items()}
        for part in parts:
            _fill(rows, part, scales, start=start, stop=stop)
        values = np.stack([_faster(row, fastest, per_frame[key]) for key, row in rows.items()])
    return Signal(values=values, rate_hz=rate_hz, channels=tuple(name for name, _ in rows), unit=target)


def _check_files(header: Header, folder: Path) -> int:
    """Return the length of a record in frames, compared with the sizes of its signal files."""
    frames = header.frames
    for name, group in _by_file(header.channels).items():
        path = inside(folder / name, folder)
        if not path.exists():
            fix = "if it was renamed, give it that name again"
            raise BadRecord("missing_file", f"a signal file that the header names does not exist; {fix}")
        available = require_file(path)
        lead = group[0]
        if any((c.format, c.offset) != (lead.format, lead.offset) for c in group):
            raise BadRecord("unreadable", "the header gives one signal file two formats")
        if frames == 0 or (frames is None and lead.format in FLAC):
            raise BadRecord("unsupported", "the header states no length; add the number of samples to the record line")
        available -= 0 if lead.format in FLAC else lead.offset  # that of FLAC counts samples, not bytes
        frame_bytes = FORMAT_BYTES[lead.format] * sum(c.per_frame for c in group)
        if frames is None:
            frames = int(available / frame_bytes)  # rounded as by wfdb
        needed = math.ceil(frames * frame_bytes)
        # The second sample of a block of format 310 ends in the last of the block's two words.
        require_bytes(needed + needed % 2 if lead.format == "310" else needed, available)
    length = frames or 0
    if any(c.skew > length for c in header.channels):
        raise BadRecord("unreadable", "a channel is later in its file than the recording is long")
    return length


def _by_file(channels: Iterable[Channel]) -> dict[str, list[Channel]]:
    """Return the channels of each signal file, in file order."""
    groups: dict[str, list[Channel]] = {}
    for channel in channels:
        groups.setdefault(channel.file, []).append(channel)
    return groups


def _parts(master: Header, folder: Path) -> tuple[int, list[_Part]]:
    """Return the length of a record in frames, and its segments in order, gaps left out; or itself as its only part.

    In the *fixed* layout all segments have the same channels. In the *variable* layout a first segment of length 0
    lists all channels (in files named ``~``), and each of the others has some of them.
    """
    if not master.segments:
        frames = _check_files(master, folder)
        return frames, [_Part(0, frames, master)]
    segments = list(master.segments)
    names = [name for name, _ in segments if name != GAP]
    if len(set(names)) != len(names):
        raise BadRecord("unsupported", "the record names one segment twice")
    variable = segments[0][0] != GAP and segments[0][1] == 0
    wanted = None
    if variable:
        wanted = {c.key for c in _segment(segments.pop(0)[0], folder, master.rate_hz).channels}
    parts, at, recorded = [], 0, 0
    for name, length in segments:
        if length <= 0:
            raise BadRecord("unreadable", "the header lists a segment without length")
        if name != GAP:
            header = _segment(name, folder, master.rate_hz)
            if header.frames not in (None, length) or _check_files(header, folder) < length:
                raise BadRecord("unreadable", "a segment is not as long as the list of segments says")
            keys = {c.key for c in header.channels}
            if wanted is None:
                wanted = keys
            if not keys <= wanted or not (variable or keys == wanted):
                raise BadRecord("unreadable", "a segment has other channels than the record")
            parts.append(_Part(at, length, header))
            recorded += length
        at += length
    if master.frames not in (None, 0, at) or (wanted is not None and master.count != len(wanted)):
        raise BadRecord("unreadable", "the segments do not add up to what the record line says")
    if not parts:
        raise BadRecord("no_samples", "the record consists of gaps")
    if at > MAX_GAP_RATIO * recorded:
        raise BadRecord("unreadable", "the header claims far more time in gaps than its segments hold")
    return at, parts


def _segment(name: str, folder: Path, rate_hz: float | None) -> Header:
    inside(folder / f"{name}.hea", folder)
    header = parse(folder / name)
    if header.segments:  # the standard has none either; a list that names itself would never end
        raise BadRecord("unsupported", "a segment has segments of its own")
    if header.rate_hz not in (None, rate_hz):
        raise BadRecord("unreadable", "a segment has another rate than the record")
    return header


def _choose(parts: list[_Part], wanted: str | None) -> tuple[dict[str, float], dict[Key, int], str]:
    """Return the scale of each unit, the samples per frame of each channel to keep, and the unit of the result."""
    channels = [channel for part in parts for channel in part.header.channels]
    units = {channel.unit for channel in channels}
    target = str(wanted or ("mV" if VOLTS.keys() & units else "1"))
    alike = {target} | (VOLTS.keys() if target in VOLTS else set())
    scales = {unit: VOLTS.get(unit, 1.0) / VOLTS.get(target, 1.0) for unit in units & alike}
    per_frame: dict[Key, int] = {}
    for channel in channels:
        if channel.unit in scales and per_frame.setdefault(channel.key, channel.per_frame) != channel.per_frame:
            raise BadRecord("unsupported", "a channel changes its sampling rate between segments")
    if per_frame.keys() & {channel.key for channel in channels if channel.unit not in scales}:
        raise BadRecord("bad_unit", "a channel changes its unit between segments to one that does not convert")
    if not per_frame:
        raise BadRecord("bad_unit", f"no channel has a unit that converts to {target}")
    if max(per_frame.values()) > MAX_RATE_RATIO * min(per_frame.values()):
        raise BadRecord("unsupported", f"the channels' sampling rates differ more than {MAX_RATE_RATIO} times")
    return scales, per_frame, target


def _fill(rows: dict[Key, np.ndarray], part: _Part, scales: dict[str, float], *, start: int, stop: int) -> None:
    """Write the values of ``part`` between frames ``start`` and ``stop`` of the record into ``rows``."""
    from wfdb.io import _signal

    first, last = max(start - part.start, 0), min(stop - part.start, part.frames)
    for name, group in _by_file(part.header.channels).items():
        kept = [i for i, c in enumerate(group) if c.key in rows]
        if first >= last or not kept:
            continue
        # Differences (format 8) are added up from the start.
        begin, end = 0 if group[0].format == "8" else first, min(last + max(c.skew for c in group), part.frames)
        # wfdb's decoder without its header: parsing that again takes longer than the samples of a short record do.
        stored = _signal._rd_segment(
            file_name=[name] * len(group), dir_name=str(part.header.base.parent.resolve()), pn_dir=None,
            fmt=[c.format for c in group], n_sig=len(group), sig_len=part.frames,
            byte_offset=[c.offset for c in group], samps_per_frame=[c.per_frame for c in group],
            skew=[0] * len(group), init_value=[c.initial for c in group],
            sampfrom=begin, sampto=end, channels=kept, ignore_skew=True,
        )  # fmt: skip
        for c, numbers in zip((group[i] for i in kept), stored, strict=True):
            n = c.per_frame
            numbers = numbers[(first - begin + c.skew) * n : (last - begin + c.skew) * n]
            # In float64: numbers of 24 and 32 bits may stand far from zero.
            values = (numbers - float(c.baseline)) * (scales[c.unit] / c.gain)
            values[numbers == _signal.INVALID_SAMPLE_VALUE[c.format]] = np.nan
            at = (part.start + first - start) * n
            rows[c.key][at : at + len(values)] = values


def _faster(values: np.ndarray, per_frame: int, own: int) -> np.ndarray:
    """Return ``values`` (T,) of ``own`` samples per frame at ``per_frame`` samples per frame, by `polyphase`.

    Missing values are bridged by straight lines for the filter and are NaN again afterwards, up to their neighbours.
    """
    if own == per_frame:
        return values
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(values) * per_frame // own, np.nan, dtype=np.float32)
    at = np.arange(len(values))
    bridged = np.interp(at, at[known], values[known])
    dense = polyphase(bridged[None], per_frame, own)[0]
    here = np.arange(len(dense)) * own
    before, after = here // per_frame, -(-here // per_frame)
    dense[~(known[before] & known[np.minimum(after, len(values) - 1)])] = np.nan
    return dense
