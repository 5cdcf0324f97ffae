"""Read WFDB records: a text header (``.hea``) beside signal files (``.dat``, or ``.mat`` of MATLAB v4)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_bytes, require_file, span
from medssl.sources.record import BadRecord, Record, Signal, inside

MAX_HEADER_BYTES = 1_000_000
# Smallest number of bytes that one sample can take, by WFDB format. The last three are FLAC; its constant
# blocks shrink several hundred times.
BYTES = {
    "8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0,
    "212": 1.5, "310": 4 / 3, "311": 4 / 3, "508": 1e-3, "516": 1e-3, "524": 1e-3,
}  # fmt: skip
LAYOUT = re.compile(r"(\d+)(?:x(\d+))?(?::\d+)?(?:\+(\d+))?")
GAIN = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?")
DIMENSIONLESS = {"1", "nu", "n.u.", "au", "a.u."}


def read(record: Record) -> Signal:
    """Read one WFDB record; ``record.path`` names it with or without a suffix.

    Values are in ``hints["unit"]``, by default mV, or ``"1"`` where no channel is a voltage (PPG). Channels in a
    unit that cannot be converted (pressure next to an ECG) are left out. Comments of the header, which may
    identify the patient, are never used.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (several segments, channels of different rates) or ``unreadable``.
    """
    import wfdb

    base = record.path.with_suffix("") if record.path.suffix in (".hea", ".dat", ".mat") else record.path
    frame_rate_hz, frames, stated = _check_header(base.with_name(base.name + ".hea"))
    start, stop = span(record, frame_rate_hz, frames)
    with guarded("wfdb"):
        # wfdb refuses an end where the header states no length; then all is read and cut below.
        end = stop if stated else None
        raw = wfdb.rdrecord(str(base), sampfrom=start, sampto=end, smooth_frames=False, return_res=32)
        names, units = list(raw.sig_name), list(raw.units)
        per_frame = {int(n) for n in raw.samps_per_frame}
        length = (stop - start) * max(per_frame)
        columns = [np.asarray(column[:length], dtype=np.float32) for column in raw.e_p_signal]
    if len(per_frame) != 1 or len({len(column) for column in columns}) != 1:
        raise BadRecord("unsupported", "the channels have different sampling rates")
    target = str(record.hints.get("unit", "mV" if VOLTS.keys() & set(units) else "1"))
    scales = [_scale(str(unit), target) for unit in units]
    kept = [i for i, scale in enumerate(scales) if scale is not None]
    if not kept:
        raise BadRecord("bad_unit", f"no channel has a unit that converts to {target}")
    values = np.stack([columns[i] * np.float32(scales[i]) for i in kept])
    if values.shape[1] == 0:
        raise BadRecord("no_samples", "the recording holds no samples")
    channels = tuple(str(names[i] or f"channel {i + 1}") for i in kept)
    return Signal(values=values, rate_hz=frame_rate_hz * per_frame.pop(), channels=channels, unit=target)


def _scale(unit: str, target: str) -> float | None:
    """Return the factor from ``unit`` to ``target``, or None if there is none."""
    if unit in VOLTS and target in VOLTS:
        return VOLTS[unit] / VOLTS[target]
    if unit == target or (unit.lower() in DIMENSIONLESS and target.lower() in DIMENSIONLESS):
        return 1.0
    return None


def _check_header(header: Path) -> tuple[float, int, bool]:
    """Return frame rate in Hz, number of frames and whether the header states it, all compared with the files.

    wfdb itself follows any file name, assumes 250 Hz where the rate is absent and a gain of 200 per mV where
    the gain is absent. All three would pass unnoticed, so they are looked for here.
    """
    if require_file(header) > MAX_HEADER_BYTES:
        raise BadRecord("unreadable", "the header is longer than 1 MB")
    lines = [line.split("#")[0].split() for line in header.read_text("latin-1").splitlines()]
    rows = [line for line in lines if line]
    if not rows or len(rows[0]) < 2:
        raise BadRecord("unreadable", "the header has no record line")
    first, signals = rows[0], rows[1:]
    for row in signals:  # before anything else: whatever is wrong, such a record must not be followed
        if re.search(r"[/\\]|^\w:|^\.*$", row[0]):
            raise BadRecord("outside_folder", "the header names a signal file outside its own folder")
    if "/" in first[0]:
        raise BadRecord("unsupported", "the record has several segments; list the segments instead")
    rate_hz = positive(re.split(r"[/(]", first[2])[0]) if len(first) > 2 else None
    if rate_hz is None:
        raise BadRecord("no_rate", "the header states no sampling rate; add it to the record line")
    if not first[1].isdigit() or int(first[1]) != len(signals):
        raise BadRecord("unreadable", "the header's number of channels differs from its channel lines")
    if not signals:
        raise BadRecord("no_samples", "the header describes no channel")
    if len(first) > 3 and not first[3].isdigit():
        raise BadRecord("unreadable", "the header's number of samples is not a number")
    frames = int(first[3]) if len(first) > 3 else 0
    stated = frames > 0

    frame_bytes: dict[str, float] = {}
    offsets: dict[str, int] = {}
    for row in signals:
        layout = LAYOUT.fullmatch(row[1]) if len(row) > 1 else None
        if layout is None or layout[1] not in BYTES:
            raise BadRecord("unsupported", "a channel line names an unknown signal format")
        gain = GAIN.match(row[2]) if len(row) > 2 else None
        if gain is None or not float(gain[0]):
            raise BadRecord("bad_unit", "the header states no gain for a channel, so its unit is unknown")
        frame_bytes[row[0]] = frame_bytes.get(row[0], 0.0) + BYTES[layout[1]] * int(layout[2] or 1)
        offsets[row[0]] = int(layout[3] or 0)
    for name, size in frame_bytes.items():
        available = require_file(inside(header.parent / name, header.parent)) - offsets[name]
        if not frames and size >= 1:  # the format allows an absent length; FLAC then has none at all
            frames = int(available // size)
        require_bytes(np.floor(frames * size), available)
    return rate_hz, frames, stated
