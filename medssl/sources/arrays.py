"""Read NumPy arrays: one in a ``.npy`` file, several in the zip archive of a ``.npz`` file; never a pickle.

An array does not say what it is. The rule: **with a sampling rate (``rate_hz``) it is a signal, without one an image
or a volume.**
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from medssl.sources import grid as grids
from medssl.sources import masks
from medssl.sources.claims import counted, guarded, positive, require_bytes, require_file, span
from medssl.sources.record import BadRecord, Record, Signal, Volume
from medssl.sources.tabular import pick_numbered

# Measurements shrink a few times when zipped, label maps some hundred times; beyond this it is a zip bomb.
MAX_RATIO = 250
MAX_MEMBERS = 10_000
COLOURS = (3, 4)
PICKLE = b"\x80"  # what `ndarray.dump` and `pickle` write begins so
MASKED_FILL = np.float32(1e20)  # what `numpy.ma.filled` puts in place of masked numbers unless told otherwise
FIX_MASKED = "the array is masked; save numpy.ma.filled(x, numpy.nan), so that masked values are missing ones"
# Kind of numbers -> why it is refused, and what to save instead.
FIXES = {
    "c": "the array holds complex numbers; save their magnitude, numpy.abs(x)",
    "b": "the array holds true and false; save x.astype('uint8')",
    "O": "the array holds objects, such as lists of unequal length; save one recording a file, or fill up with NaN",
    **dict.fromkeys("US", "the array holds words; save x.astype(float)"),
    "M": "the array holds dates; save numbers",
    "m": "the array holds durations; save numbers",
    "V": "the array is a table with names; save its columns as plain numbers",
}


@dataclass(frozen=True)
class _Layout:
    """What the header of an array claims, and where its numbers begin (bytes)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any
    start: int

    @property
    def size(self) -> float:
        """Bytes of the numbers; a float, because a header may claim more than any integer type holds."""
        return float(np.prod(self.shape, dtype=np.float64)) * self.dtype.itemsize


def read(record: Record) -> Signal | Volume:
    """Read one array as a signal or a volume, by the rule above.

    Hints:
        variable: name of the array in a ``.npz`` file. Default: the only one that fits, which is the only 2-D array
            of a signal (1-D where there is no 2-D one) and the only 2-D or 3-D array of a volume.
        index: row of the first axis to read, for files that hold one recording or image a row; from 0.
        unit: unit of the values, ``"1"`` by default.
        rate_hz: makes the array a signal, 1-D or 2-D.
        axis: axis of time, 0 or 1; by default the longer one.
        columns: names of the channels (`medssl.sources.tabular.pick_numbered`).
        spacing_mm: ``(D, H, W)`` or, of a slice, ``(H, W)``; one number for all axes. NaN without it.
        axes: where the axes of a volume point to, such as ``RAS``; by default ``SPL`` or, for one slice, ``PL``, which
            is how a `Volume` keeps them.

    Leading axes of length 1 are dropped. ``record.mask`` may be an array too, on the axes of its volume.

    Raises:
        BadRecord: ``missing_file``, ``no_rate`` (1-D without a rate), ``missing_channel``, ``no_samples``,
            ``too_short``, ``bad_mask``, ``unsupported`` (objects, words, colours, axes that cannot be told apart,
            several arrays) or ``unreadable``.
    """
    require_file(record.path)
    rate_hz = positive(record.hints.get("rate_hz"))
    if rate_hz is None and record.hints.get("rate_hz") is not None:
        raise BadRecord("no_rate", "rate_hz is not a positive number")
    with guarded("the array reader"):
        array = _open(record.path, record.hints, signal=rate_hz is not None)
        if 0 in array.shape:
            raise BadRecord("no_samples", "the array is empty")
        return _volume(array, record) if rate_hz is None else _signal(array, record, rate_hz)


def _signal(array: np.ndarray, record: Record, rate_hz: float) -> Signal:
    array = _squeezed(array, 2)
    if array.ndim not in (1, 2):
        raise BadRecord("unsupported", f"a signal has one or two axes; the array has {array.ndim}")
    if array.ndim == 1:
        array = array[np.newaxis]
    else:
        axis = str(record.hints.get("axis", "")).strip()
        if axis not in ("", "0", "1"):
            raise BadRecord("unsupported", "axis must be 0 or 1")
        if not axis and array.shape[0] == array.shape[1]:
            raise BadRecord("unsupported", "both axes are equally long; say with axis (0 or 1) which one is time")
        if axis == "0" or (not axis and array.shape[0] > array.shape[1]):
            array = array.T
    start, stop = span(record, rate_hz, array.shape[1])
    at, channels = pick_numbered(record.hints.get("columns"), len(array), str(record.hints.get("channel", "signal")))
    # From the file comes no more than the part: the array is still on disk here.
    values = _numbers(array[:, start:stop])[at]
    values[~np.isfinite(values)] = np.nan
    return Signal(values, rate_hz, channels, str(record.hints.get("unit", "1")))


def _volume(array: np.ndarray, record: Record) -> Volume:
    values = _oriented(array, record)
    if record.mask is not None and record.mask.suffix.lower() in (".npy", ".npz"):
        with masks.named():
            require_file(record.mask)
            labels = _oriented(_open(record.mask, {}, signal=False, labels=True), record)
        if labels.shape != values.shape:
            raise BadRecord("bad_mask", "the mask and the volume differ in shape")
        mask: np.ndarray | None = masks.whole(labels)
    else:
        mask = masks.load(record.mask, values.shape, None)[0]
    spacing = grids.stated_spacing(record.hints.get("spacing_mm"), len(values))
    return Volume(values, spacing, str(record.hints.get("unit", "1")), mask)


def _oriented(array: np.ndarray, record: Record) -> np.ndarray:
    """Return float32 ``(D, H, W)`` with axes towards superior, posterior, left."""
    array = _squeezed(array, 3)
    if array.ndim == 1:
        raise BadRecord("no_rate", "an array of one axis is a signal, and the record gives no rate_hz")
    if array.ndim > 3 or (array.ndim == 3 and array.shape[2] in COLOURS and array.dtype.kind == "u"):
        raise BadRecord("unsupported", "the array is no grey image or volume: colours, or more than three axes")
    axes = str(record.hints.get("axes", "SPL"[3 - array.ndim :])).upper()
    if array.ndim == 3 and axes != "SPL":
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        if sorted(axes.translate(str.maketrans("LAI", "RPS"))) != ["P", "R", "S"]:
            raise BadRecord("unsupported", "axes must name three directions, one of R/L, A/P and S/I each, as in RAS")
        array = apply_orientation(array, ornt_transform(axcodes2ornt(tuple(axes)), axcodes2ornt(tuple("SPL"))))
    values = _numbers(array)
    return values if values.ndim == 3 else values[np.newaxis]


def _numbers(array: np.ndarray) -> np.ndarray:
    """Return a copy as float32."""
    values = np.array(array, dtype=np.float32, order="C")
    if array.dtype.kind == "f" and (values == MASKED_FILL).any():
        raise BadRecord("unsupported", f"the array holds 1e20, NumPy's filling of masked values: {FIX_MASKED}")
    return values


def _squeezed(array: np.ndarray, axes: int) -> np.ndarray:
    while array.ndim > axes and array.shape[0] == 1:
        array = array[0]
    return array


def _open(path: Path, hints: Any, *, signal: bool, labels: bool = False) -> np.ndarray:
    """Return the array a record means: mapped from a ``.npy`` file, unpacked from a ``.npz`` file."""
    with path.open("rb") as file:
        begin = file.read(4)
        zipped = begin == b"PK\x03\x04"
        if begin[:1] == PICKLE:
            raise BadRecord("unreadable", "the file is a pickle, as masked arrays are dumped, and is not opened; "
                            "save plain numbers with numpy.save")  # fmt: skip
        if not zipped:
            file.seek(0)
            layout = _header(file, labels=labels)
            _require_exact(layout, path.stat().st_size)
    index = hints.get("index")
    variable = str(hints.get("variable", ""))
    array: np.ndarray
    if not zipped:
        if layout.size == 0:
            raise BadRecord("no_samples", "the array is empty")
        array = np.memmap(path, layout.dtype, "r", layout.start, layout.shape, layout.order)
    elif index is not None:
        array = _kept(path, variable, signal, path.stat().st_mtime_ns)
    else:
        return member(path, variable, signal=signal, labels=labels)
    if index is None:
        return array
    row = counted(index, len(array) if array.ndim > 1 else 0)
    if row is None:
        raise BadRecord("no_samples", "the array has no row of this index; rows count from 0")
    return array[row]


@lru_cache(maxsize=1)
def _kept(path: Path, variable: str, signal: bool, _changed: int) -> np.ndarray:
    """Unpack an array of many recordings once, not once a recording."""
    return member(path, variable, signal=signal, rows=True)


def member(
    path: Path, variable: str = "", *, signal: bool = False, rows: bool = False, labels: bool = False
) -> np.ndarray:
    """Return one array of a ``.npz`` file, its sizes checked before it is unpacked; nothing is written to disk.

    Args:
        path: the archive.
        variable: name of the array; empty for the only one that fits.
        signal: look for a signal rather than a volume.
        rows: the array has one more axis, the first.
        labels: it may hold true and false.

    Raises:
        BadRecord: ``missing_channel`` (no such array), ``unsupported`` or ``unreadable``.
    """
    size = require_file(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadRecord("unreadable", f"the archive has more than {MAX_MEMBERS} members")
        arrays = {info.filename.removesuffix(".npy"): info for info in members if info.filename.endswith(".npy")}
        if variable and variable not in arrays:
            raise BadRecord("missing_channel", "the archive holds no array of this name")
        layouts: dict[str, _Layout] = {}
        for name, info in ({variable: arrays[variable]} if variable else arrays).items():
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadRecord("unsupported", "the archive is encrypted or not packed by deflate")
            require_bytes(info.compress_size, size)
            require_bytes(info.file_size, MAX_RATIO * info.compress_size + 1024)
            with archive.open(info) as file:
                try:
                    layouts[name] = _header(file, labels=labels)
                except BadRecord as error:  # words and objects may lie beside the numbers
                    if variable or error.reason != "unsupported":
                        raise
        name = variable or _only(layouts, signal=signal, rows=rows)
        layout, info = layouts[name], arrays[name]
        _require_exact(layout, info.file_size)
        with archive.open(info) as file:
            file.read(layout.start)
            data = file.read(int(layout.size))  # to the end, where zipfile compares the checksum
    if len(data) != layout.size:
        raise BadRecord("unreadable", "the array in the archive is cut off")
    return np.frombuffer(data, layout.dtype).reshape(layout.shape, order=layout.order)


def _only(layouts: dict[str, _Layout], *, signal: bool, rows: bool) -> str:
    """Return the name of the only array that can be meant."""
    for axes in ((2,), (1,)) if signal else ((2, 3),):
        fit = [name for name, layout in layouts.items() if len(layout.shape) - rows in axes]
        if len(fit) == 1:
            return fit[0]
        if fit:
            raise BadRecord("unsupported", f"the archive holds {len(fit)} arrays that fit; name one with variable")
    if len(layouts) == 1:
        return next(iter(layouts))
    raise BadRecord("unsupported", "no array of the archive fits; name one with variable")


def _require_exact(layout: _Layout, available: int) -> None:
    """Refuse an array that does not fill its file: the claimed shape would put numbers in the wrong places."""
    require_bytes(layout.size, available - layout.start)
    if layout.size < available - layout.start:
        raise BadRecord("unreadable", "the array's header claims less data than the file holds")


def _header(file: IO[bytes], *, labels: bool = False) -> _Layout:
    """Read the header of one array; refuse anything but real numbers, and truth values where ``labels`` are meant."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for names beyond Latin-1 in tables
        raise BadRecord("unsupported", FIXES["V"])
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if dtype.names == ("_data", "_mask"):
        raise BadRecord("unsupported", FIX_MASKED)
    if dtype.kind not in ("iufb" if labels else "iuf"):
        raise BadRecord("unsupported", FIXES.get(dtype.kind, "the array holds no numbers; store plain numbers"))
    if any(length < 0 for length in shape):
        raise BadRecord("unreadable", "the array claims a negative length")
    return _Layout(tuple(int(length) for length in shape), dtype, "F" if fortran else "C", file.tell())
