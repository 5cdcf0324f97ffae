"""DICOM as it lies in folders: which files are one series, and which series are of one person.

The identifier of a person is compared and never written anywhere: patients get numbers in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.sources import dicom_files
from medssl.sources.record import BadRecord, Record

PROBED = 4  # files of a folder that are compared before all of them are


def apart(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return records in which a folder of single slices, each a series of its own, is one record a file.

    A folder that mixes series of several files stays one record, which its reader refuses; a note says what to do.
    """
    out: list[Record] = []
    mixed = 0
    for record in records:
        files = _files(record)
        if len(files) < 2 or len(_series(files[:: max(1, len(files) // PROBED)])) < 2:
            out.append(record)
            continue
        if len(_series(files)) == len(files):
            out += [replace(record, path=file, trial=f"{record.trial}/{file.name}") for file in files]
        else:
            out.append(record)
            mixed += 1
    fix = "move each series to a folder of its own, as the reader needs it"
    return out, [f"{mixed} folders mix several DICOM series; {fix}"] if mixed else []


def patients(records: Sequence[Record]) -> list[str] | None:
    """Return a number for the person of each record (``P0001``), or None where the headers do not tell all apart."""
    if not records or any(record.format != "dicom" for record in records):
        return None
    codes: dict[str, str] = {}
    out = []
    for record in records:
        identifier = _value(_files(record)[:1], "PatientID")
        if not identifier:
            return None
        out.append(codes.setdefault(identifier, f"P{len(codes) + 1:04d}"))
    return out if len(codes) > 1 else None


def _files(record: Record) -> list[Path]:
    if record.format != "dicom":
        return []
    try:
        return [path for _, path in dicom_files.listed(record.path)[0]]
    except (BadRecord, OSError):
        return []


def _series(files: Sequence[Path]) -> set[str]:
    return {_value([file], "SeriesInstanceUID") for file in files}


def _value(files: Sequence[Path], name: str) -> str:
    """Return an element of the first file, empty where it is absent or the file cannot be read."""
    for file in files:
        try:
            header: Any = dicom_files.parse(file, dicom_files.transfer_syntax(file), [name])
            return str(header.get(name) or "").strip()
        except (BadRecord, OSError):
            return ""
    return ""
