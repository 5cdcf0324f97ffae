"""Raw files to arrays: what a data set holds (`list_records`) and what one of its files says (`read`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.sources import bids, manifest, masks, published
from medssl.sources.record import BadRecord, Record, Signal, SourceError, Volume

__all__ = ["READERS", "SOURCES", "list_records", "read", "remarks"]

# Module of this folder by format; imported on first use, as the libraries behind them take seconds.
READERS = {
    "wfdb": "wfdb", "edf": "edf", "bdf": "edf", "brainvision": "brainvision", "eeglab": "eeglab", "fif": "fif",
    "dicom": "dicom", "nifti": "nifti", "metaimage": "metaimage", "image": "image", "tabular": "tabular",
    "array": "arrays", "matlab": "matlab", "aecg": "aecg",
}  # fmt: skip

SOURCES: dict[str, Callable[[Path], list[Record]]] = {
    "manifest": manifest.list_records,
    "bids": bids.list_records,
    **{
        name: getattr(published, name)
        for name in (
            "ptbxl", "ptbxl_500", "ptbdb", "cinc2017", "cinc2020", "cinc2021", "mitbih", "ppg_bp", "welltory", "bidmc",
            "bidmc_ecg", "ppg_dalia", "eegmat", "eegmmidb", "sleep_edf", "msd", "msd_hippocampus", "openbhb", "ixi",
            "luna16", "luna16_slices", "lidc", "tcga_lung", "covid_ct", "medmnist",
        )
    },
}  # fmt: skip


def list_records(name: str, root: str | Path, limit: int | None = None) -> list[Record]:
    """Return the first ``limit`` records of source ``name`` under ``root``, sorted by patient, trial and path.

    Raises:
        SourceError: the name is unknown, or the folder or its table cannot be listed.
    """
    if name not in SOURCES:
        raise SourceError(f"source.name '{name}' is unknown; allowed: {', '.join(SOURCES)}")
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; set source.root to the folder of the data set")
    return sorted(SOURCES[name](root), key=manifest.order)[:limit]


def remarks(name: str, root: str | Path, records: Sequence[Record]) -> list[str]:
    """Return what may be wrong with the patients and labels that source ``name`` lists, each a line, for people."""
    if name != "manifest":
        return manifest.remarks(records)
    listing = manifest.listing(manifest.table_in(Path(root)))
    return [*listing.slips, *listing.notes]


def read(record: Record) -> Signal | Volume:
    """Read one record with the reader of its format.

    Raises:
        BadRecord: the record cannot be used; neither reason nor detail identifies it.
        SourceError: the library of this format is not installed.
    """
    if "refused" in record.hints:
        raise BadRecord(*record.hints["refused"])
    # A WFDB record may be named without a suffix; its reader looks for the header itself.
    try:
        if record.format != "wfdb" and not record.path.exists():
            raise BadRecord("missing_file", "the file does not exist; paths count from the folder of the table")
    except OSError as error:
        raise BadRecord("unreadable", f"the file cannot be opened ({type(error).__name__})") from None
    if record.format not in READERS:
        raise BadRecord(
            "unsupported",
            "the suffix of the file says no format, or the column format holds none of these; correct the suffix or "
            f"write one into the column format: {', '.join(READERS)}",
        )
    try:
        result: Signal | Volume = importlib.import_module(f"{__name__}.{READERS[record.format]}").read(record)
    except BadRecord:
        raise
    except ImportError as error:  # a fault of the installation, not of the record
        raise SourceError(f"reading {record.format} files needs the package '{error.name}'; install it") from None
    except Exception as error:
        raise BadRecord("unreadable", f"the {record.format} reader raised {type(error).__name__}") from None
    if isinstance(result, Volume) and result.mask is not None:
        result = replace(result, notes={**result.notes, **masks.against_names(result.mask, record.mask_labels)})
    return result
