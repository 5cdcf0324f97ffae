"""Read EEGLAB recordings (``.set``): a MATLAB structure, its data inside or in a file of floats (``.fdt``) beside.

Only six fields of dozens are wanted, so only these are decoded (`medssl.sources.matfile`): nothing of what else a
MATLAB file can hold, objects and functions among it, is ever built. Tests compare the values with mne's.

Source: Delorme & Makeig, J Neurosci Methods 134 (2004); eeglab.org, "EEGLAB data structures".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, require_plain_name, span
from medssl.sources.electrodes import as_float32, asked_unit, channel_names, check_rate, is_marker
from medssl.sources.matfile import Array, open_matlab
from medssl.sources.record import BadRecord, Record, Signal, inside

# Types of channels, as EEGLAB and BIDS write them, that are no voltage of the body.
OTHER = {
    "acc", "accel", "audio", "eda", "eyegaze", "fnirs", "gaze", "grad", "gsr", "gyro", "hbo", "hbr", "mag", "meg",
    "megmag", "meggrad", "misc", "nirs", "ppg", "pupil", "ref_meg", "resp", "stim", "syst", "temp", "temperature",
    "trig", "trigger",
}  # fmt: skip


def read(record: Record) -> Signal:
    """Read one continuous EEGLAB recording, names cleaned by `channel_names`.

    The format states no unit; its convention is uV, and ``hints["unit"]`` says so where a file departs from it.
    Channels whose type says that they are no voltage (markers, breathing, motion) are left out.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (epochs, several recordings, the old ``.dat``) or ``unreadable``.
    """
    unit, _ = asked_unit(record)
    size = require_file(record.path)
    with guarded("the EEGLAB reader"), open_set(record.path, size) as eeg:
        count, points = _whole(eeg, "nbchan"), _whole(eeg, "pnts")
        if eeg.field("trials") and _whole(eeg, "trials") > 1:
            raise BadRecord("unsupported", "the recording is cut into epochs; save it before cutting")
        rate = positive(_number(eeg, "srate"))
        if rate is None:
            raise BadRecord("no_rate", "the file states no sampling rate")
        rate_hz = check_rate(rate)
        channels = _channels(eeg, count)
        start, stop = span(record, rate_hz, points)
        data = _one(eeg, "data")
        name = data.text()
        if name is not None:
            stored = _read_fdt(record.path, name, count, points, start, stop)
        elif data.shape == (count, points):
            stored = data.numbers(slice(None), slice(start, stop))
        else:
            raise BadRecord("unreadable", "the data have another size than the file states")
        values = as_float32(stored[[i for i, _ in channels]])
    return Signal(values, rate_hz, tuple(name for _, name in channels), unit)


@contextmanager
def open_set(path: Path, size: int) -> Iterator[Array]:
    """Open the structure ``EEG`` of a set of ``size`` bytes as `open_matlab`; in newer files its fields stand alone."""
    with open_matlab(path, size) as file:
        eeg = file.field("EEG")
        yield eeg[0] if eeg and eeg[0].kind == "struct" else file


def _one(eeg: Array, name: str) -> Array:
    found = eeg.field(name)
    if not found:
        raise BadRecord("unreadable", "the file lacks a field that every recording has")
    if len(found) > 1:
        raise BadRecord("unsupported", "the file holds several recordings; save them one by one")
    return found[0]


def _number(eeg: Array, name: str) -> float:
    values = _one(eeg, name).numbers()
    if values.size != 1:
        raise BadRecord("unreadable", "a field of one number holds another count of them")
    return float(values.reshape(-1)[0])


def _whole(eeg: Array, name: str) -> int:
    value = _number(eeg, name)
    if value != value // 1:  # NaN and infinity included
        raise BadRecord("unreadable", "a size in the file is no whole number")
    if value <= 0:
        raise BadRecord("no_samples", "the recording has no channel or no samples")
    return int(value)


def _channels(eeg: Array, count: int) -> list[tuple[int, str]]:
    """Return row and clean name of the voltages; channels without names are numbered."""
    located = eeg.field("chanlocs")[0] if eeg.field("chanlocs") else Array()
    labels, types = ([array.text() or "" for array in located.field(name)] for name in ("labels", "type"))
    if not labels and not types:
        return [(i, f"channel {i + 1}") for i in range(count)] if count <= 10_000 else []
    if {len(labels), len(types)} - {0, count}:
        raise BadRecord("unreadable", "the number of channels differs from the number of their names")
    names = channel_names(labels or [""] * count)
    found = [
        (i, names[i])
        for i, (label, kind) in enumerate(zip_longest(labels, types, fillvalue=""))
        if kind.strip().lower() not in OTHER and not is_marker(label)
    ]
    if not found:
        raise BadRecord("bad_unit", "no channel is a voltage")
    return found


def _read_fdt(path: Path, name: str, count: int, points: int, start: int, stop: int) -> np.ndarray:
    """Return (C, T) of the float32 file ``name``, channels of one time step together."""
    require_plain_name(name)
    if not name.lower().endswith(".fdt"):
        raise BadRecord("unsupported", "the data are in a file of the old layout; save the recording again as .set")
    data = path.parent / name
    if not data.exists():  # the pair was renamed, which the structure does not follow
        data = path.with_suffix(".fdt")
    inside(data, path.parent)
    require_bytes(4.0 * count * points, require_file(data))
    flat = np.fromfile(data, "<f4", (stop - start) * count, offset=4 * count * start)
    return flat.reshape(stop - start, count).T
