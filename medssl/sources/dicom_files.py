"""DICOM files: told by their content, listed in a folder, parsed as far as an image needs.

Files come as the standard's file format (preamble, ``DICM``, meta information) or, out of older archives and networks,
without some of it: elements start at once, with explicit or implicit types.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from medssl.sources.claims import guarded, require_file
from medssl.sources.record import BadRecord, inside

HEAD_BYTES = 4096  # holds the meta information and what names the class of a file
DEFER_BYTES = 4096
SUFFIXES = {".dcm", ".dicom", ".dic", ".ima"}
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
# First element of a file without preamble: group 2 or 8, then a type of two capitals, or a length below 64 kB.
FIRST = re.compile(rb"(?:[\2\10]\0[\0-\x20]\0(?:[A-Z]{2}|..\0\0)|\0[\2\10]\0[\0-\x20][A-Z]{2})", re.DOTALL)


def is_dicom(path: Path) -> bool:
    """Tell DICOM by the first bytes of a file, whatever its name and with or without preamble."""
    try:
        return path.is_file() and start_of(_head(path)) is not None
    except OSError:
        return False


def start_of(head: bytes) -> int | None:
    """Return where the elements of a file start, or None for what is not DICOM."""
    if head[128:132] == b"DICM":
        return 132
    start = 4 if head[:4] == b"DICM" else 0
    return start if _are_elements(head[start:]) else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _are_elements(head: bytes) -> bool:
    """Tell whether bytes are DICOM elements that state the class of an object."""
    if not FIRST.match(head):
        return False
    from pydicom.filereader import read_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            meta, rest = _meta(head)
            if "MediaStorageSOPClassUID" in meta or "TransferSyntaxUID" in meta:
                return True
            implicit, little = _encoding(rest)
            found = read_dataset(BytesIO(rest), implicit, little, stop_when=lambda tag, *_: tag > 0x00080016)
            return str(found.get("SOPClassUID", "")).startswith("1.")
        except Exception:  # bytes that only began like elements
            return False


def _meta(elements: bytes) -> tuple[Any, bytes]:
    """Return the meta information and what follows it; nothing is inflated."""
    from pydicom.filereader import read_dataset

    file = BytesIO(elements)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return meta, elements[file.tell() :]


def _encoding(elements: bytes) -> tuple[bool, bool]:
    """Return whether elements are of implicit type, and little endian, as pydicom guesses it."""
    explicit = re.match(rb"[A-Z]{2}", elements[4:6]) is not None
    return not explicit, not explicit or elements[:1] != b"\0"


def listed(path: Path) -> tuple[list[tuple[int, Path]], int]:
    """Return the DICOM files of a record, each with its number among the visible files of its folder, and their count.

    Other files of a folder (readme, index) are left out, but not one that by its name is a slice like the others.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder``, or ``unreadable`` for what should be DICOM and is not.
    """
    if not path.is_dir():
        require_file(path)
        if not is_dicom(path):
            raise BadRecord("unreadable", "the file is not DICOM")
        return [(1, path)], 1
    visible = (file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith("."))
    files = list(enumerate((file for file in visible if file.name.upper() != "DICOMDIR"), start=1))
    found = [(number, file) for number, file in files if is_dicom(inside(file, path))]
    named = {_pattern(file.name) for _, file in found}
    for number, file in sorted(set(files) - set(found)):
        if file.suffix.lower() in SUFFIXES or _pattern(file.name) in named:
            with naming(number, len(files)):
                raise BadRecord("unreadable", "a file of the series is empty or not DICOM; copy or export it again")
    if not found:
        raise BadRecord("missing_file", "the folder holds no DICOM file")
    return found, len(files)


def _pattern(name: str) -> str:
    """Return a name with its numbers, decimal or hexadecimal, left out: the same for the slices of a series."""
    return re.sub(r"(?:[0-9a-f]*[0-9][0-9a-f]*[._-]?)+", "#", name.lower())


@contextmanager
def naming(number: int, count: int) -> Iterator[None]:
    """Say in a refusal which file of a folder it is about, by number: names may identify."""
    try:
        yield
    except BadRecord as error:
        if count == 1:
            raise
        detail = f"{error.detail} (file {number} of {count} in the folder, sorted by name)"
        raise BadRecord(error.reason, detail) from None


def transfer_syntax(path: Path) -> str:
    """Return the transfer syntax of a file, the plain one that fits where the file does not state it."""
    head = _head(path)
    start = start_of(head) or 0
    with guarded("pydicom"):
        meta, rest = _meta(head[start:])
        if "TransferSyntaxUID" in meta:
            return str(meta.TransferSyntaxUID)
        implicit, little = _encoding(rest)
    return IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN


def parse(path: Path, syntax: str, tags: list[Any]) -> Any:
    """Return the elements ``tags`` of a file of a transfer syntax; what is large stays there until it is asked for."""
    import pydicom

    with guarded("pydicom"):
        header = pydicom.dcmread(opened(path), specific_tags=tags, defer_size=DEFER_BYTES, force=True)
        header.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        return header


def opened(path: Path) -> Path | BytesIO:
    """Return what pydicom reads, told to go on without a preamble: it does not know of ``DICM`` at the start."""
    return BytesIO(path.read_bytes()[4:]) if start_of(_head(path)) == 4 else path
