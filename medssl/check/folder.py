"""What a raw folder holds, counted before anything is ingested: formats, channels, labels, refusals.

Entries stand for names, which may identify people; what headers tell of a person is counted by kind.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.sources import identifiers, manifest
from medssl.sources.claims import VOLTS, locate
from medssl.sources.electrodes import clean_name
from medssl.sources.record import BadRecord, Label, Record, Signal, SourceError, Volume

if TYPE_CHECKING:
    from medssl.ingest.cut import Cut

UNITS = (*VOLTS, "1", "HU")  # shown as they are; anything else may be a slip in the table
# Files of these suffixes describe the others of their name (.dat, .atr; .eeg, .vmrk; .fdt; .img).
LEADING = (".hea", ".vhdr", ".set", ".hdr")
CLASSES = 12  # of one label, counted by name at most
FEW_NUMBERS = 10  # a label of at most so many different whole numbers is counted, not cut into quantiles
SHARED = 3  # files that must have a suffix for it to be told
# The extremes of a label, such as the highest age, can tell who is in a set.
QUANTILES = {"5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95}


@dataclass(frozen=True)
class Reject:
    """A record that ingest would refuse: its 1-based ``entry`` in the sorted list, and its row of the user's table."""

    entry: int
    row: int | None
    reason: str
    detail: str


@dataclass(frozen=True)
class Balance:
    """How one label is spread over the usable records."""

    task: str  # label without prefix
    kind: str  # class, multilabel or number
    labelled: int  # usable records that have it, or samples of a label that changes within recordings
    counts: tuple[tuple[str, int], ...] = ()  # class, records; most frequent first; each class of a multi-label record
    quantiles: tuple[tuple[str, float], ...] = ()  # point, value of a number with many values, which has no counts
    unit: str = "records"  # or samples
    why: str = ""  # what makes it of this kind, where a table of the user holds it


@dataclass
class Findings:
    """Counts over the records of a source; usable are those that can be read."""

    source: str
    records: int = 0
    patients: int | None = None  # None where no table says whose a recording is
    formats: Counter[str] = field(default_factory=Counter)  # records
    usable: Counter[str] = field(default_factory=Counter)  # usable records by format
    rates_hz: Counter[float] = field(default_factory=Counter)  # usable records; likewise units, shapes and spacings
    units: Counter[str] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)  # voxels (D, H, W)
    spacings: Counter[tuple[float, ...]] = field(default_factory=Counter)  # mm (D, H, W)
    # Entry and row of usable records in a unit that nothing converts; without parameters alone.
    odd_units: list[tuple[int, int | None]] = field(default_factory=list)
    signals: int = 0  # usable recordings in time
    volumes: int = 0  # usable images
    channels: Counter[str] = field(default_factory=Counter)  # of recordings in time, as spelt where first seen
    durations_s: list[float] = field(default_factory=list)  # of each recording in time
    noted: Counter[str] = field(default_factory=Counter)  # volumes by what their reader noted of them
    labels: list[Balance] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what may be wrong with identifiers and classes, each a line
    slips: list[str] = field(default_factory=list)  # cells of the user's table that are wrong, each a line
    # Samples by class of each task whose label changes within recordings; with parameters alone.
    timed: dict[str, Counter[str]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)  # what ingest would refuse
    carriers: Counter[tuple[str, str]] = field(default_factory=Counter)  # files by format and identifying field
    carrying: int = 0  # files with such a field
    looked: int = 0  # files whose header was looked at
    unread: int = 0  # files whose header could not be
    unseen: Counter[str] = field(default_factory=Counter)  # records of formats whose headers are not looked at
    other: Counter[str] = field(default_factory=Counter)  # files by suffix that no reader is for; without a table alone
    samples: int = 0  # windows, slices or volumes that the records would be cut into, where parameters say how
    refused: Counter[str] = field(default_factory=Counter)  # those of them that would be reject rows, by reason
    # Measures of quality of the others and of those refused by a limit, by name, in step with one another.
    quality: dict[str, list[float]] = field(default_factory=dict)

    @property
    def common(self) -> list[str]:
        """Channels that all recordings in time have."""
        return [name for name, n in self.channels.items() if n == self.signals]


def check(
    records: Sequence[Record],
    source: str,
    *,
    params: SignalIngest | VolumeIngest | None = None,
    modality: str | None = None,
    known: bool = True,
    listing: manifest.Listing | None = None,
    progress: bool = True,
) -> Findings:
    """Read every record as ingest would and count what is there.

    Args:
        records, source: what the source lists, in its stable order, and its name.
        params, modality: how ingest would cut them, and of what; None: they are only read.
        known: whether patient and trial of the records are; without them none is a repetition.
        listing: the user's table of the records.
        progress: draw a bar.
    """
    found = Findings(source, records=len(records), patients=len({r.patient for r in records}) if known else None)
    usable: list[Record] = []
    seen: set[tuple[str, str, str, str]] = set()
    spelling: dict[str, str] = {}
    bar = tqdm(records, "check", unit=" records", leave=False, disable=None if progress else True)
    for entry, record in enumerate(bar, 1):
        # A table may hold anything in its column "format".
        kind = record.format if record.format in sources.READERS else "unknown"
        found.formats[kind] += 1
        refused: tuple[str, str] | None = None  # reason and detail
        try:
            raw = sources.read(record)
            made = None if params is None else _cut(raw, record, params, modality)
            odd = raw.unit not in UNITS
            # As in ingest, what is refused is no trial that another repeats; of two units it refuses one.
            trial = (record.source, record.patient, record.trial, raw.unit if odd else "")
            if known and trial in seen:
                raise BadRecord("repeated_trial", "a record of the same patient and trial came before")
        except BadRecord as bad:
            refused = bad.reason, bad.detail
        except SourceError as error:
            refused = "no_library", str(error)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:  # as in `cut.cut`
            refused = "unreadable", f"preparing the recording raised {type(error).__name__}"
        else:
            seen.add(trial)
            usable.append(record)
            found.usable[kind] += 1
            if odd and params is None:
                found.odd_units.append((entry, record.row))
            if made is not None and params is not None:
                _measure(found, made, record, params)
            _count(found, raw, spelling)
        if refused is not None:
            found.rejects.append(Reject(entry, record.row, *refused))
        if refused is None or refused[0] not in ("missing_file", "outside_folder"):
            _scan(found, record)
    if listing is not None:
        found.remarks, found.slips = listing.notes, listing.slips
    elif known:
        found.remarks = manifest.remarks(records)
    why = {column.task: column.why for column in (() if listing is None else listing.labels)}
    for task in sorted({task for record in records for task in record.labels}):
        spread = balance(task, [r.labels[task] for r in usable if task in r.labels])
        found.labels.append(replace(spread, why=why.get(task, "")))
    for task, classes in sorted(found.timed.items()):
        found.labels.append(Balance(task, "class", classes.total(), tuple(classes.most_common()), unit="samples"))
    return found


def list_below(root: Path) -> tuple[list[Record], Counter[str]]:
    """Return what lies below a folder without a table, by suffix, and the number of files by suffix without a reader.

    Files that belong to a header (``.dat``, ``.vmrk``) are no records, and the DICOM files of a folder are one.
    Patients are not known; names of trials are the places in the folder.
    """
    paths: dict[Path, str] = {}
    other: Counter[str] = Counter()
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        leading = {p.stem for p in files if p.suffix.lower() in LEADING}
        slices = []
        for path in files:
            suffix = path.suffix.lower()
            if path.stem in leading and suffix not in LEADING:
                continue
            if suffix in (".raw", ".zraw") and path.with_suffix(".mhd") in files:
                continue
            kind = "unknown" if suffix == ".dat" else manifest.format_of(path)
            if kind == "dicom" or (not suffix and identifiers.is_dicom(path)):
                slices.append(path)
            elif kind in sources.READERS:
                paths[path] = kind
            else:
                other[suffix] += 1
        if slices:
            paths[slices[0] if len(slices) == 1 else Path(folder)] = "dicom"
    records = []
    for path, kind in paths.items():
        relative = path.relative_to(root)
        located, hints = locate(root, relative)
        records.append(Record(located, kind, patient="", trial=str(relative), hints=hints))
    # What follows the last dot may be part of a name: only what several files share and looks like a suffix is told.
    told: Counter[str] = Counter()
    for suffix, n in other.items():
        told[suffix if n >= SHARED and re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "other"] += n
    return sorted(records, key=manifest.order), told


def unlisted(root: Path, records: Sequence[Record]) -> int:
    """Return how many recordings below a folder a reader is for and no record names."""
    named = {p.resolve() for r in records for p in (r.path, r.mask, r.events) if p is not None}
    named |= {p.with_suffix("") for p in named}  # of the files of one WFDB record any names it
    folders = {p.parent for p in named}
    tables = {"manifest.csv", "manifest.parquet", "mask_labels.csv", "event_labels.csv", "label_kinds.csv"}
    left = 0
    for record in list_below(root)[0]:
        path = record.path.resolve()
        known = {path, path.with_suffix(""), *path.parents} & named or (path.is_dir() and path in folders)
        left += not known and path.name not in tables
    return left


def _count(found: Findings, raw: Signal | Volume, spelling: dict[str, str]) -> None:
    found.units[raw.unit if raw.unit in UNITS else "another"] += 1
    if isinstance(raw, Signal):
        found.signals += 1
        found.rates_hz[round(raw.rate_hz, 6)] += 1
        found.durations_s.append(raw.values.shape[1] / raw.rate_hz)
        # As ingest compares them.
        names = (spelling.setdefault(clean_name(name).lower(), name) for name in raw.channels)
        found.channels.update(dict.fromkeys(names).keys())
    else:
        found.volumes += 1
        found.noted.update(name for name, value in raw.notes.items() if value)
        found.noted["missing"] += not np.isfinite(raw.values).all()
        found.shapes[raw.values.shape] += 1
        # One NaN, as two are not equal.
        found.spacings[tuple(math.nan if math.isnan(s) else round(s, 3) for s in raw.spacing_mm)] += 1


def _cut(raw: Signal | Volume, record: Record, params: SignalIngest | VolumeIngest, modality: str | None) -> Cut:
    """Cut a record without limits on quality, so that all samples are measured."""
    from medssl.ingest import cut

    limits = [f"max_{reason}" for reason in cut.LIMITED] if isinstance(params, SignalIngest) else ["max_blank"]
    return cut.of(raw, record, params.model_copy(update=dict.fromkeys(limits)), modality)


def _measure(found: Findings, made: Cut, record: Record, params: SignalIngest | VolumeIngest) -> None:
    """Count the samples of a record, and what the limits on quality refuse of them."""
    from medssl.ingest import cut

    if isinstance(params, SignalIngest):
        names = [name for name in made.rows[0] if name.startswith("quality_")] if made.rows else []
        measures = {n.removeprefix("quality_"): np.array([row[n] for row in made.rows]) for n in names}
        if measures:
            found.refused.update({why: int(bad.sum()) for why, bad in cut.refusals(measures, params).items()})
        for name, values in measures.items():
            found.quality.setdefault(name, []).extend(values.tolist())
        for task in {task for task, _ in record.event_labels.values()}:
            classes = (row.get(f"label_{task}") for row in made.rows)
            found.timed.setdefault(task, Counter()).update(name for name in classes if name is not None)
    else:
        blank = np.array([row["quality_blank"] for row in made.rows])
        found.quality.setdefault("blank", []).extend(blank.tolist())
        if params.max_blank is not None:
            found.refused["mostly_blank"] += int((blank > params.max_blank).sum())
    found.samples += len(made.rows) + len(made.refused)
    found.refused.update(reason for reason, _ in made.refused)


def _scan(found: Findings, record: Record) -> None:
    """Count the identifying fields that the headers of a record, its mask and its events carry."""
    beside = [(path, manifest.format_of(path)) for path in (record.mask, record.events) if path is not None]
    for path, form in [(record.path, record.format), *(pair for pair in beside if pair[0] != record.path)]:
        if form not in identifiers.SCANNERS:
            if path == record.path and form in sources.READERS:
                found.unseen[form] += 1
            continue
        for kinds in identifiers.scan(path, form):
            if kinds is None:
                found.unread += 1
                continue
            found.looked += 1
            found.carrying += bool(kinds)
            found.carriers.update((form, kind) for kind in kinds)


def balance(task: str, values: list[Label]) -> Balance:
    """Return how the values of a label are spread: classes by number, or quantiles of what is measured."""
    numbers = [v for v in values if isinstance(v, float)]
    kind = "number" if numbers else "multilabel" if any(isinstance(v, tuple) for v in values) else "class"
    if len(set(numbers)) > FEW_NUMBERS or not all(v.is_integer() for v in numbers):
        points = np.quantile(np.array(numbers), list(QUANTILES.values())).tolist()
        return Balance(task, kind, len(values), quantiles=tuple(zip(QUANTILES, points, strict=True)))
    classes = Counter(name for value in values for name in _classes(value))
    ranked = sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    shown = ranked[:CLASSES]
    if len(ranked) > CLASSES:  # then a class of one record is more likely a remark about it
        shown = [(name, n) for name, n in shown if n > 1]
    rest = ranked[len(shown) :]
    if rest:
        shown.append((f"{len(rest)} others", sum(n for _, n in rest)))
    return Balance(task, kind, len(values), tuple(shown))


def _classes(value: Label) -> list[str]:
    if isinstance(value, tuple):
        return list(dict.fromkeys(value)) or ["none"]
    return [f"{value:g}" if isinstance(value, float) else value]
