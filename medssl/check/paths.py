"""What is at a path and what is wrong with it, and what two stores share or what crosses the split of one.

What takes seconds to import is imported where it is needed, so that the check of a folder is a matter of its files.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from medssl import config, sources
from medssl.check import folder, show
from medssl.sources import manifest
from medssl.sources.record import Record, SourceError

if TYPE_CHECKING:
    from medssl.store import Store


def check(
    path: Path,
    source: str = "manifest",
    *,
    page: Path | None = None,
    params: config.SignalIngest | config.VolumeIngest | None = None,
    modality: str | None = None,
) -> tuple[list[str], list[str]]:
    """Return what is at ``path`` (lines) and what is wrong with it (problems).

    Args:
        path: raw folder, store, encoder folder or params file.
        source: how a raw folder is laid out.
        page: file to write the page about a raw folder to.

    Raises:
        ValueError: a page about something else than a raw folder.
    """
    encoder = (path / "checksums.json").exists() or (path / "model.safetensors").exists()
    store = (path / "store.json").exists()
    raw = path.is_dir() and not encoder and not store
    if page is not None and not raw:
        raise ValueError(f"{path}: --html is for a raw folder")
    if raw:
        return _raw(path, source, page, params, modality)
    if encoder:
        return _encoder(path)
    if store:
        return _store(path)
    if not path.exists():
        return [], [f"{path}: no such file or folder"]
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _params(path)
    return [], [f"{path}: expected a raw folder, a store, an encoder folder or a params file"]


def _params(path: Path) -> tuple[list[str], list[str]]:
    try:
        params, problems = config.load(path), config.obstacles(path)
    except config.ConfigError as error:
        return [f"params file {path}"], [str(error)]
    lines = [
        f"params file {path}",
        f"modalities: {', '.join(params.modalities)}",
        f"runs: {', '.join(f'{k} ({r.recipe})' for k, r in params.runs.items()) or 'none'}",
    ]
    problems += [
        f"modalities.{k}.source.name '{m.source.name}' is unknown; allowed: {', '.join(sources.SOURCES)}"
        for k, m in params.modalities.items()
        if m.source.name not in sources.SOURCES
    ]
    problems += _labels(params, path.parent)
    data = path.parent / "data"
    made = ("raw", "encoders", "runs", "flow", "report", "release", "real", "ablation", "methods", "tune", "explore")
    known = {*params.modalities, *made}
    # DVC leaves the outputs of entries that were taken out of params.yaml.
    orphans = [p for p in sorted(data.glob("*")) if p.is_dir() and p.name not in known]
    for section, entries in (("runs", params.runs), ("release", params.release)):
        orphans += [p for p in sorted((data / section).glob("*")) if p.is_dir() and p.name not in entries]
    lines += [f"left over from an entry that is gone: {p}" for p in orphans]
    return lines, problems


def _labels(params: config.Params, home: Path) -> list[str]:
    """Return the labels that are named and that the manifest of their cohort does not have."""
    problems = []
    for key, cohort in params.modalities.items():
        root = home / cohort.source.root
        if cohort.source.name != "manifest" or not manifest.in_folder(root):
            continue
        try:
            have = manifest.tasks_in(root)
        except SourceError:
            continue  # a table that cannot be read is what a check of the folder tells
        named = {f"modalities.{key}.split.stratify": cohort.split.stratify}
        for name, run in params.runs.items():
            if run.modality == key:
                named[f"runs.{name}.evaluate.labels"] = run.evaluate.labels
                named[f"runs.{name}.evaluate.finetune_labels"] = run.evaluate.finetune_labels
                named[f"runs.{name}.pretrain.monitor_label"] = tuple(filter(None, [run.pretrain.monitor_label]))
                named[f"runs.{name}.pretrain.labels"] = run.pretrain.labels
        problems += [
            f"{place}: no column label_{label} in {root}'s manifest; it has {', '.join(have) or 'no label'}"
            for place, names in named.items()
            for label in names
            if label not in have
        ]
    return problems


def _encoder(path: Path) -> tuple[list[str], list[str]]:
    from medssl import hub

    try:
        encoder = hub.load_encoder(path)
    except hub.EncoderError as error:
        return [f"encoder folder {path}"], [str(error)]
    return [f"encoder folder {path}", *(f"{k}: {v}" for k, v in encoder.contract.items())], []


def _store(path: Path) -> tuple[list[str], list[str]]:
    from medssl import store

    lines = [f"store {path}"]
    try:
        opened = store.open_store(path)
        sizes = {int(s): int(n) for s, n in zip(*np.unique(opened.table["shard"], return_counts=True), strict=True)}
        shards = {s: opened.shard(s) for s in sizes}
    except (store.StoreError, ValueError) as error:
        return lines, [str(error)]
    table = opened.table
    lines += [
        f"modality: {opened.facts['modality']}, shape {opened.facts['shape']}, unit {opened.facts['unit']}",
        f"{len(table)} samples, {table['trial'].nunique()} trials, {table['patient'].nunique()} patients",
        f"rejects: {opened.rejects['reason'].value_counts().to_dict() or 'none'}",
    ]
    problems = [f"shard {s}: {len(shards[s])} rows, {n} in the table" for s, n in sizes.items() if len(shards[s]) != n]
    finite = all(np.isfinite(shard).all() for shard in shards.values())
    return lines, problems + ([] if finite else ["samples hold values that are not finite"])


def _raw(
    path: Path,
    source: str,
    page: Path | None,
    params: config.SignalIngest | config.VolumeIngest | None,
    modality: str | None,
) -> tuple[list[str], list[str]]:
    """Read every record of a source, or of what is found by suffix where there is no table."""
    absent = source == "manifest" and not any(manifest.ALMOST.fullmatch(below.name) for below in path.iterdir())
    listing = None
    other: Counter[str] = Counter()
    try:
        if absent:
            records, other = folder.list_below(path)
        elif source == "manifest":
            listing = manifest.listing(manifest.table_in(path), path)
            records = listing.records
            left = folder.unlisted(path, records)
            if left:
                listing.notes.append(f"{left} recordings that can be read lie in the folder and are not in the table")
        else:
            records = sources.list_records(source, path)
    except SourceError as error:
        return [f"raw folder {path}"], [str(error)]
    found = folder.check(records, source, params=params, modality=modality, known=not absent, listing=listing)
    found.other.update(other)
    lines = [f"raw folder {path}", *show.lines(found)]
    if page is not None:
        page.write_text(show.page(found), encoding="utf-8")
        lines.append(f"page: {page}")
    if not absent:
        return lines, show.problems(found)
    # What cannot be read is in the table above; it is no problem before someone asks for it.
    return [*lines, "", *_first_lines(records)], [
        f"no manifest.csv: whose the {len(records)} recordings are is not known; write one, a line for each recording"
        if records
        else "no manifest.csv, and no file of a known suffix"
    ]


def _first_lines(records: list[Record]) -> list[str]:
    """Return the start of a manifest, without the name of any file."""
    suffixes = [
        ("" if r.path.is_dir() else "".join(r.path.suffixes[-2:] if r.path.suffix == ".gz" else [r.path.suffix]))
        for r in records
    ]
    suffix = Counter(suffixes).most_common(1)[0][0] if suffixes else ".edf"
    rated = sorted({r.format for r in records} & {"tabular", "array", "matlab"})
    more, values = (",rate_hz,unit", ",500,mV") if rated else ("", "")
    return [
        "manifest.csv starts like this (paths from the folder; patient and trial as you name them):",
        f"  path,patient,trial{more}",
        f"  FOLDER/FILE{suffix},P001,1{values}",
        *([f"rate_hz and unit are for {', '.join(rated)}; other formats state theirs"] if rated else []),
    ]


class _Watched:
    """A store that moves a bar as it is read; the total depends on what is found, so there is none."""

    def __init__(self, opened: Store, bar: Any) -> None:
        self.facts, self._store, self._bar = opened.facts, opened, bar

    def __len__(self) -> int:
        return len(self._store)

    def read(self, rows: np.ndarray) -> np.ndarray:
        self._bar.update(len(rows))
        return self._store.read(rows)


def leaks(path: Path, other: Path | None = None) -> tuple[list[str], list[str]]:
    """Return what is compared (lines) and what two stores share, or what crosses the split of one (problems).

    Of one store ``split.parquet``, and ``dedup.parquet`` if it is there, lie beside it, as the pipeline leaves them.

    Raises:
        StoreError: no store, or one without a split.
    """
    from medssl import store
    from medssl.curate import copies, leakage

    if other is None:
        beside = [path.parent / "split.parquet", path.parent / "dedup.parquet"]
        if not beside[0].is_file():
            raise store.StoreError(f"{beside[0]}: not there; one store needs its split, else name two stores")
        stores = [store.open_store(path, *(p for p in beside if p.is_file()))]
        counts = stores[0].table["split"].value_counts()
        lines = [f"store {path}: {', '.join(f'{n} {part}' for part, n in counts.items())} samples"]
    else:
        stores = [store.open_store(path), store.open_store(other)]
        lines = [
            f"{side}: store {s.folder}: {len(s)} samples of {s.table['patient'].nunique()} patients"
            for side, s in zip("AB", stores, strict=True)
        ]
        lines.append("patients and intervals: by code, which agrees only under one key and one name of the source")
    problems, alike = [], None
    try:
        with tqdm(desc="compare", unit=" samples", disable=None, leave=False) as bar:
            alike = copies.pairs(*(_Watched(s, bar) for s in stores))
    except ValueError as error:
        problems.append(f"content not compared: {str(error).removeprefix('copies: ')}")
    first = stores[0].table
    found = leakage.find(first, alike) if other is None else leakage.between(first, stores[1].table, alike)
    reasons = leakage.REASONS if alike is not None else leakage.REASONS[:-1]
    number = Counter(leak.reason for leak in found)
    lines += [f"{reason}: {number[reason] or 'none'}" for reason in reasons]
    return lines, [*map(leakage.describe, leakage.firsts(found)), *problems]
