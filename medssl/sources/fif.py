"""Read FIF recordings (``.fif``, ``.fif.gz``) with mne, in parts or whole.

A FIF file is a chain of tags: a kind, a type, a size, the contents. mne follows the chain wherever it leads and takes
memory for whatever it says, so `_walk` goes along it first.

Source: Elekta Neuromag, "Functional Image File Format description" (2011).
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medssl.sources.claims import guarded, require_bytes, require_file, require_plain_name, span
from medssl.sources.electrodes import as_float32, asked_unit, channel_names, check_rate, is_marker
from medssl.sources.record import BadRecord, Record, Signal, inside

FILE_ID, DIR_POINTER, BLOCK_START, BLOCK_END = 100, 101, 104, 105
REF_ROLE, REF_NUM, REF_NAME, NEXT_FILE = 115, 117, 118, 2
CHANNELS, CHANNEL, BUFFER, SKIP = 200, 203, 300, 301
MEASUREMENT, REFERENCE = 101, 118  # blocks
RECORDINGS = {102, 112, 119}  # raw, continuous, raw without the shield of the scanner
ENTRY, POINTS = 32, 36  # types: entry of a directory, points of the head
SMALL = {REF_ROLE, REF_NUM, REF_NAME, CHANNELS, DIR_POINTER, BLOCK_START, SKIP}
MATTERS = {*SMALL, BLOCK_END, CHANNEL, BUFFER}
KINDS = ("eeg", "seeg", "ecog", "dbs", "eog", "ecg", "emg", "bio")
FIFF_UNIT_V = 107
# Deflate shrinks at most 1032 times; what would grow by more is no such stream.
DEFLATE = 1032
# Skips become NaN, so they take memory; a recording with more than this times its length in skips is refused.
MAX_GAPS = 10
MAX_PARTS = 1000


@dataclass
class _Claims:
    """What the tags of one file say. ``values`` counts the stored numbers of the recording."""

    channels: int = 0
    listed: int = 0
    values: int = 0
    recordings: int = 0
    next_parts: list[str] = field(default_factory=list)


def read(record: Record) -> Signal:
    """Read one FIF recording in ``hints["unit"]`` (uV by default), names cleaned by `channel_names`.

    EEG, intracranial EEG, EOG, ECG, EMG and other voltages of the body are kept, bad ones too; MEG and markers are
    left out. Parts of a split recording must lie in its folder. Stretches that the file skips are NaN.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``,
            ``unsupported`` (epochs, averages, skips ten times longer than the recording) or ``unreadable``.
    """
    import mne

    unit, unit_volts = asked_unit(record)
    with guarded("the FIF header"):
        recorded = _check_parts(record.path)
    with guarded("mne"):
        raw = mne.io.read_raw_fif(record.path, allow_maxshield="yes", preload=False, verbose="error")
        rate_hz, length = check_rate(float(raw.info["sfreq"])), int(raw.n_times)
        if length > (1 + MAX_GAPS) * recorded:
            raise BadRecord("unsupported", f"the skips are over {MAX_GAPS} times longer than the recording; cut it")
        kinds = raw.get_channel_types()
        voltages = [int(c["unit"]) == FIFF_UNIT_V and not is_marker(c["ch_name"]) for c in raw.info["chs"]]
        picks = [i for i, voltage in enumerate(voltages) if voltage and kinds[i] in KINDS]
    if not picks:
        raise BadRecord("bad_unit", "the recording has no channel of EEG, EOG, ECG, EMG or another voltage")
    start, stop = span(record, rate_hz, length)
    with guarded("mne"):
        values = raw.get_data(picks, start=start, stop=stop, verbose="error")
        if np.iscomplexobj(values):
            raise BadRecord("unsupported", "the values are complex numbers, so no recording in time")
        values /= unit_volts
        for first, last in _skips(raw):
            values[:, max(first - start, 0) : max(last - start, 0)] = np.nan
        channels = tuple(channel_names([raw.ch_names[i] for i in picks]))
    return Signal(as_float32(values), rate_hz, channels, unit)


def _skips(raw: object) -> list[tuple[int, int]]:
    """Return first and last-plus-one sample of what the file skips; mne gives zeros there."""
    found, at = [], 0
    for part in raw._raw_extras:  # type: ignore[attr-defined]
        bounds = np.asarray(part["bounds"]) - part["bounds"][0] + at
        found += [(int(bounds[i]), int(bounds[i + 1])) for i, entry in enumerate(part["ent"]) if entry is None]
        at = int(bounds[-1])
    return found


def _check_parts(path: Path) -> int:
    """Walk along a file and the parts it names; return how many samples a channel they hold."""
    done: set[Path] = set()
    samples = 0
    part: Path | None = path
    while part is not None:
        part = inside(part, path.parent)
        if part in done or len(done) > MAX_PARTS:
            raise BadRecord("unreadable", "the parts of the recording name one another in a circle")
        done.add(part)
        size = require_file(part)
        zipped = part.name.endswith("gz")  # as mne decides
        with gzip.open(part) if zipped else part.open("rb") as file:
            claims = _walk(file, DEFLATE * size if zipped else size)  # type: ignore[arg-type]
        if not claims.recordings:
            raise BadRecord("unsupported", "the file holds no continuous recording (epochs or averages, perhaps)")
        if claims.channels != claims.listed or not claims.channels:
            raise BadRecord("unreadable", "the number of channels differs from the channels described")
        samples += claims.values // claims.channels
        part = path.parent / claims.next_parts[0] if claims.next_parts else None
    return samples


def _walk(file: BinaryIO, size: int) -> _Claims:
    """Follow the tags of one file of at most ``size`` bytes, forward only, each within the file.

    The directory, which mne trusts instead of the chain, must say the same.
    """
    claims = _Claims()
    tags: list[tuple[int, int, int, int]] = []
    directory: list[tuple[int, int, int, int]] = []
    blocks: list[tuple[int, dict[int, bytes]]] = []  # open ones: what they are, what they refer to
    at = pointer = 0
    while True:
        reached = file.seek(at)  # short of ``at`` in a compressed file that is cut off
        head = file.read(16)
        if len(head) < 16:
            if head or not tags or reached < at:
                raise BadRecord("unreadable", "the file ends within a tag; it may be cut off")
            break
        kind, form, length, following = struct.unpack(">iIii", head)
        if not tags and (kind, length) != (FILE_ID, 20):
            raise BadRecord("unreadable", "the file is no FIF file")
        if length < 0 or (following > 0 and following < at + 16) or following < -1:
            raise BadRecord("unreadable", "the tags of the file lead nowhere")
        require_bytes(at + 16 + length, size)
        tags.append((kind, form, length, at))
        data = file.read(length) if kind in SMALL and length <= 4096 else b""
        if form == ENTRY:
            directory += struct.iter_unpack(">iIii", file.read(length))
        elif form == POINTS:
            (count,) = struct.unpack(">8xi", file.read(12))
            require_bytes(12 * count + 12, length)
        if kind == BLOCK_START:
            blocks.append((_number(data), {}))
            claims.recordings += blocks[-1][0] in RECORDINGS
        elif kind == BLOCK_END and blocks:
            block, reference = blocks.pop()
            if block == REFERENCE:
                claims.next_parts += _next_part(reference)
        elif kind in (REF_ROLE, REF_NUM, REF_NAME) and blocks:
            blocks[-1][1][kind] = data
        elif kind == CHANNELS and blocks and blocks[-1][0] == MEASUREMENT:  # projectors have a number of their own
            claims.channels += _number(data)
            if _number(data) <= 0:
                raise BadRecord("unreadable", "the number of channels differs from the channels described")
        elif kind == CHANNEL and blocks and blocks[-1][0] == MEASUREMENT:
            claims.listed += 1
        elif kind == BUFFER:
            claims.values += length // {2: 2, 3: 4, 4: 4, 5: 8, 16: 2, 20: 8, 21: 16}.get(form, 1)
        elif kind == DIR_POINTER:
            pointer = _number(data)
        if following == -1:
            break
        at = following or at + 16 + length
    if blocks or (pointer > 0 and not directory):
        raise BadRecord("unreadable", "the file ends before all of its parts do; it may be cut off")
    if directory and [tag for tag in directory if tag[0] in MATTERS] != [tag for tag in tags if tag[0] in MATTERS]:
        raise BadRecord("unreadable", "the directory of the file contradicts its tags")
    if len(claims.next_parts) > 1:
        raise BadRecord("unreadable", "the recording names several next parts")
    return claims


def _number(data: bytes) -> int:
    if len(data) != 4:
        raise BadRecord("unreadable", "a tag of the file has the wrong size")
    return int(struct.unpack(">i", data)[0])


def _next_part(reference: dict[int, bytes]) -> list[str]:
    """Return the name of the next part that a reference gives, if it is one to a next part."""
    if REF_ROLE in reference and _number(reference[REF_ROLE]) != NEXT_FILE:
        return []
    if REF_NAME not in reference:
        if REF_NUM in reference:
            raise BadRecord("unsupported", "the recording names its next part by number alone; save it again")
        return []
    name = reference[REF_NAME].decode("latin-1")
    require_plain_name(name)
    if "&" in name:  # mne reads "&#...;" as another character
        raise BadRecord("outside_folder", "the recording names a part whose name may mean another folder")
    return [name]
