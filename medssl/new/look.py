"""What lies in a folder of recordings: the records to take, of which modality, and what is noted of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medssl import config, sources
from medssl.check import folder
from medssl.new import series
from medssl.sources import manifest
from medssl.sources.electrodes import LEAD, SCALP, clean_name
from medssl.sources.record import Record, SourceError

LOOKED_AT = 200  # records read, evenly out of all; `medssl check` reads all of them
# Formats that say what they hold; beside them tables, arrays and pictures are notes, exports and previews.
OF_SIGNALS = ("wfdb", "edf", "bdf", "brainvision", "eeglab", "fif", "aecg")
OF_VOLUMES = ("dicom", "nifti", "metaimage")
PLAIN = ("tabular", "array", "matlab")
PULSE = re.compile(r"(?i)ppg|pleth|^(red|green|blue|ir|infrared|[rgb])$")
HEART = re.compile(r"(?i)\b(ecg|ekg)")
MASK = re.compile(r"(?i)[-_.]?(seg(mentation)?|masks?|labels?|gt)$")
OF_MASKS = re.compile(r"(?i)(labels?(tr|ts)?|masks?|seg(mentation)?s?)$")


@dataclass(frozen=True)
class Looked:
    """Records to work with.

    ``paths`` are as the manifest has them, ``masks`` the label map of each or empty; both empty where a table or a
    published layout lists the records.
    """

    records: list[Record]
    found: folder.Findings
    notes: list[str]
    paths: tuple[PurePosixPath, ...] = ()
    masks: tuple[str, ...] = ()


def at(root: Path, source: str, *, modality: str | None, rate_hz: float | None, unit: str | None) -> Looked:
    """Return the records of a folder after a look at some of them.

    Args:
        root: the folder.
        source: ``manifest`` (its table, else what lies in it) or the layout of a public set.
        modality: decides between signals and images where a folder has both.
        rate_hz, unit: of tables and arrays, which do not state them.

    Raises:
        SourceError: no such folder, a table that cannot be used, or nothing to read in it.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; --from names the folder of the recordings")
    listing: manifest.Listing | None = None
    paths: tuple[PurePosixPath, ...] = ()
    masks: tuple[str, ...] = ()
    notes: list[str] = []
    if source != "manifest":
        records = sources.list_records(source, root)
    elif manifest.in_folder(root):
        listing = manifest.listing(manifest.table_in(root), root)
        records = listing.records
        notes = [*listing.slips, *listing.notes]
    else:
        pairs, notes = listed(root, modality)
        records = [replace(record, hints=_hints(record, rate_hz, unit)) for record, _ in pairs]
        paths = tuple(PurePosixPath(record.path.relative_to(root).as_posix()) for record in records)
        masks = tuple(mask for _, mask in pairs)
    if not records:
        raise SourceError(f"{root}: no recording that can be read; medssl check {root} says what lies there")
    some = records if len(records) <= LOOKED_AT else [records[len(records) * i // LOOKED_AT] for i in range(LOOKED_AT)]
    found = folder.check(some, source, known=not paths, listing=listing)
    if len(some) < len(records):
        notes.append(f"{len(some)} of {len(records)} recordings were read; medssl check {root} reads all")
    if not found.usable.total():
        why = Counter(reject.detail for reject in found.rejects).most_common(1)[0][0]
        fix = "; medssl new --rate-hz says it for all" if found.rejects[0].reason == "no_rate" else ""
        raise SourceError(f"{root}: none of {len(some)} recordings can be used: {why}{fix}")
    if paths and (root / "dataset_description.json").is_file():
        notes.append("the folder looks like BIDS; with --source bids its tables of participants become labels")
    if found.rejects:
        reasons = ", ".join(f"{n} {why}" for why, n in Counter(r.reason for r in found.rejects).most_common())
        notes.append(
            f"of {len(some)} recordings read {len(found.rejects)} cannot be used ({reasons}), as medssl check says"
        )
    return Looked(records, found, notes, paths, masks)


def listed(root: Path, modality: str | None) -> tuple[list[tuple[Record, str]], list[str]]:
    """Return the recordings of one kind below a folder without a table, each with its mask or "", and notes."""
    below, _ = folder.list_below(root)
    records, notes = chosen(below, modality)
    records, told = series.apart(records)
    pairs = paired(records, root)
    left, masked = len(records) - len(pairs), sum(bool(mask) for _, mask in pairs)
    told += [f"{left} files look like masks and are not listed; the column mask names {masked}"] if left else []
    return pairs, [*notes, *told]


def chosen(records: Sequence[Record], modality: str | None) -> tuple[list[Record], list[str]]:
    """Return the records of one kind, the commonest or that of a modality, and what is left out."""
    kinds = {"signals": OF_SIGNALS, "volumes": OF_VOLUMES, "tables and arrays": PLAIN, "pictures": ("image",)}
    if modality is not None:
        signals = config.modality_of(modality) in config.SIGNALS
        kinds = {k: v for k, v in kinds.items() if (k in ("signals", "tables and arrays")) == signals or "dicom" in v}
    found = {name: [r for r in records if r.format in formats] for name, formats in kinds.items()}
    telling = {name: found[name] for name in ("signals", "volumes") if found.get(name)} or found
    name = max(telling, key=lambda one: len(telling[one]), default="")
    out = telling.get(name, [])
    left = Counter(record.format for record in records) - Counter(record.format for record in out)
    words = ", ".join(f"{n} {kind}" for kind, n in left.most_common())
    return out, [f"files of other kinds are left out: {words}"] if left else []


def modality_of(found: folder.Findings) -> str:
    """Return what was recorded, by channels or units.

    Raises:
        SourceError: neither tells.
    """
    if found.signals >= found.volumes:
        votes: Counter[str] = Counter()
        for name, n in found.channels.items():
            clean = clean_name(name)
            kind = "eeg" if clean in SCALP else "ecg" if LEAD.fullmatch(clean) or HEART.search(name) else ""
            votes[kind or ("ppg" if PULSE.search(name) else "")] += n
        del votes[""]
        # An EEG has many sites and perhaps one lead of ECG; a monitor has both leads and pulse.
        if votes:
            return votes.most_common(1)[0][0]
        raise SourceError("the names of the channels tell no modality; say it by --modality ecg, ppg or eeg")
    if found.units["HU"]:
        return "ct"
    if found.spacings and all(shape[0] > 1 for shape in found.shapes):
        return "mri"
    raise SourceError("pictures without a unit tell no modality; say it by --modality ct or mri")


def paired(records: Sequence[Record], root: Path) -> list[tuple[Record, str]]:
    """Return the recordings that are no masks, each with the path of its mask or an empty text."""
    plain: dict[str, list[str]] = {}
    kept = []
    for record in records:
        relative = PurePosixPath(record.path.relative_to(root).as_posix())
        stem = stem_of(relative)
        in_folder = any(OF_MASKS.match(part) for part in relative.parts[:-1])
        if record.format in ("nifti", "metaimage") and (in_folder or MASK.search(stem.name)):
            plain.setdefault(MASK.sub("", stem.name), []).append(str(relative))
        else:
            kept.append((record, stem))
    if not kept:  # a folder of labels is what it is
        return [(record, "") for record in records]
    names = Counter(stem.name for _, stem in kept)
    out = []
    for record, stem in kept:
        masks = plain.get(stem.name, []) or plain.get(
            re.sub(r"_\d{4}$", "", stem.name), []
        )  # case_0000: its first channel
        out.append((record, masks[0] if len(masks) == 1 and names[stem.name] == 1 else ""))
    return out


def stem_of(path: PurePosixPath) -> PurePosixPath:
    """Return a path without its suffix, of which .nii.gz is one."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    known = plain.suffix.lower() in manifest.FORMATS
    return plain.with_suffix("") if known else plain


def _hints(record: Record, rate_hz: float | None, unit: str | None) -> dict[str, object]:
    hints = dict(record.hints)
    if record.format in PLAIN and rate_hz is not None:
        hints["rate_hz"] = rate_hz
    if unit is not None and record.format in (*PLAIN, "nifti", "metaimage", "image"):
        hints["unit"] = unit
    return hints
