"""A project around a folder of recordings: it is looked at first, and what was found is written down.

The recordings stay where they are. Beside them a table ``manifest.csv`` is made where there is none, as that is where
the sources read it; everything else is in the folder of the project.
"""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from medssl import config, workspace
from medssl.new import look, owners, roster, series, values
from medssl.sources import manifest

TEMPLATES = Path(__file__).parent / "templates"
UNCLEAR = "no clear pattern of names tells the patients"
HEADER = ("path", "patient", "trial")
FILES = ("params.yaml", "dvc.yaml", "pipeline", "medssl", ".dvcignore", ".gitignore", "manifest.README.md")


class ProjectError(ValueError):
    """A project that cannot be laid out there."""


@dataclass(frozen=True)
class Project:
    """What was laid out: keys of cohort and run, how many recordings are listed, files, and words for the user."""

    folder: Path
    cohort: str
    run: str
    recordings: int
    written: list[Path]
    lines: list[str]
    notes: list[str]
    next: list[str]


def lay_out(
    folder: Path,
    *,
    recordings: Path | None = None,
    source: str = "manifest",
    modality: str | None = None,
    patients: str | None = None,
    table: Path | None = None,
    labels: Sequence[str] = (),
    rate_hz: float | None = None,
    unit: str | None = None,
) -> Project:
    """Write a project that ``dvc repro`` runs.

    Args:
        folder: of the project; what is there stays.
        recordings: folder to look at; None: an empty one in the project, to be filled.
        source: how the recordings are laid out, see `medssl.sources.SOURCES`.
        modality: of the cohort, with or without a suffix; None: as the recordings look, or ECG.
        patients: whose a file is, see `medssl.new.owners.of`; with ``table`` the column that says so.
        table: a table of your own that names the recordings, see `medssl.new.roster.read`.
        labels: columns of it that become labels.
        rate_hz, unit: of tables and arrays, which do not state them.

    Raises:
        ValueError: the folder holds another project; the recordings cannot be used or listed.
    """
    if taken := [name for name in FILES if (folder / name).exists()]:
        raise ProjectError(f"{folder}: holds {', '.join(taken)}, and nothing is overwritten; name a new folder")
    if recordings is not None and folder.resolve().is_relative_to(recordings.resolve()):
        raise ProjectError(
            f"{folder}: lies in the folder of the recordings, which the stages depend on and would then write to; "
            "name a project outside of it"
        )
    if modality is not None and config.modality_of(modality) not in config.MODALITIES:
        raise ProjectError(f"--modality '{modality}'; allowed: {', '.join(config.MODALITIES)}, or such as ecg-holter")
    if labels and table is None:
        raise ProjectError("--labels names columns of --table, which is not given")
    if table is not None and (patients is None or recordings is None):
        raise ProjectError("--table needs --from FOLDER and --patients COLUMN, the column that says who was recorded")
    looked, columns, notes = None, None, []
    if recordings is None:
        key = modality or "ecg"
        root = folder / "data" / "raw" / key
        columns = None if (root / "manifest.csv").exists() else dict[str, Sequence[Any]](dict.fromkeys(HEADER, ()))
    else:
        root = recordings
        if patients is not None and manifest.in_folder(root):
            raise ProjectError(
                f"{root}: its manifest.csv says whose a recording is; fill it in, or remove it for --patients"
            )
        looked = look.at(root, source, modality=modality, rate_hz=rate_hz, unit=unit)
        key, notes = modality or look.modality_of(looked.found), list(looked.notes)
        signal = config.modality_of(key) in config.SIGNALS
        if not (looked.found.signals if signal else looked.found.volumes):
            raise ProjectError(f"{root}: holds no {'signals' if signal else 'images'}, as --modality {key} has it")
        if key.startswith("ct") and not looked.found.units["HU"]:
            notes.append("the images have no unit; if they are in Hounsfield units, begin anew with --unit HU")
        if looked.paths and table is not None:
            looked, columns, told = _rostered(looked, roster.read(table, looked.paths), str(patients), labels)
            notes = [*told, *notes]
        elif looked.paths:
            columns, told = _columns(looked, root, folder, patients)
            notes = [*told, *notes]
    choice, text = _params(key, root, folder, source, looked, columns or {})
    written = [root / "manifest.csv"] if columns is not None else []
    if columns is not None:
        _write_table(root, columns, instead=folder / "data" / "raw" / key)
    workspace.lay_out(folder, text)
    for name, of in ((".gitignore", "gitignore"), ("manifest.README.md", "manifest.README.md")):
        (folder / name).write_text((TEMPLATES / of).read_text("utf-8"), encoding="utf-8")
    count = len(looked.records) if looked else 0
    unknown = looked is None or (columns is not None and any(note.startswith(UNCLEAR) for note in notes))
    lines = _lines(folder, key, choice, looked)
    then = _next(folder, root, choice.run_name, unknown=unknown, empty=looked is None)
    return Project(folder, key, choice.run_name, count, [*written, *(folder / n for n in FILES)], lines, notes, then)


def _write_table(root: Path, columns: Mapping[str, Sequence[Any]], *, instead: Path) -> None:
    """Write a manifest into the folder of the recordings, where there is none."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        with (root / "manifest.csv").open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    except OSError as error:
        raise ProjectError(
            f"{root}: manifest.csv belongs there and cannot be written ({error.strerror}); copy the recordings to "
            f"{instead} and name that folder"
        ) from None


def _rostered(
    looked: look.Looked, found: roster.Roster, patients: str, labels: Sequence[str]
) -> tuple[look.Looked, dict[str, Sequence[Any]], list[str]]:
    """Return the recordings that a table of the user names, the columns of their manifest, and what to know of them."""
    cells = {"path": [str(path) for path in looked.paths], "patient": found.column(patients, "--patients")}
    cells["trial"] = [str(look.stem_of(path)) for path in looked.paths]
    for name in labels:
        if (label := roster.label_of(name)) in cells:
            raise ProjectError(
                f"--labels {name}: another column becomes {label} too; name one of them anew in the table"
            )
        cells[label] = found.column(name, "--labels")
    cells |= _further(looked)
    kept = [i for i, patient in enumerate(cells["patient"]) if patient]
    if not kept:
        raise ProjectError(f"--patients {patients}: empty for all recordings")
    named = f"{found.file.name}: column {found.key} names {len(kept)} of {len(looked.paths)} recordings"
    left = f"; {len(looked.paths) - len(kept)} without a row or a patient are left out"
    people = len({cells["patient"][i] for i in kept})
    notes = [f"{named}, of {people} patients by column {patients}{left * (len(kept) < len(looked.paths))}"]
    records = [looked.records[i] for i in kept]
    return (
        replace(looked, records=records, paths=tuple(looked.paths[i] for i in kept)),
        {name: [column[i] for i in kept] for name, column in cells.items()},
        notes,
    )


def _further(looked: look.Looked) -> dict[str, list[Any]]:
    """Return the columns of a manifest that tell of masks, rates and units, where there are any."""
    columns: dict[str, list[Any]] = {"mask": list(looked.masks)} if any(looked.masks) else {}
    for name in ("rate_hz", "unit"):
        cells = [record.hints.get(name, "") for record in looked.records]
        if any(cells) or any(record.format in look.PLAIN for record in looked.records):
            columns[name] = cells
    return columns


def _columns(
    looked: look.Looked, root: Path, folder: Path, rule: str | None
) -> tuple[dict[str, Sequence[Any]], list[str]]:
    """Return the columns of a manifest, and what to know of whom it names."""
    # The folder of a DICOM series has its files one level down, as other recordings do.
    stems = [
        path / "1" if record.path.is_dir() else look.stem_of(path)
        for path, record in zip(looked.paths, looked.records, strict=True)
    ]
    classes = owners.classes(stems)
    inner = [PurePosixPath(*stem.parts[1:]) for stem in stems] if classes else stems
    numbers = None if rule else series.patients(looked.records)
    known = _by_header(numbers, inner) if numbers else owners.of(inner, rule)
    notes = []
    if known:
        notes.append(f"{known.how}: {len(set(known.patients))} patients; correct manifest.csv where that is wrong")
    else:
        notes.append(
            f"{UNCLEAR}; fill in the column patient, or remove {folder} and "
            f"{root / 'manifest.csv'} and say whose a file is: --patients file (each file another person), folder, or "
            "an expression"
        )
    columns: dict[str, Sequence[Any]] = {
        "path": looked.paths,
        "patient": known.patients if known else [""] * len(stems),
        "trial": known.trials if known else [str(stem) for stem in stems],
    }
    if classes:
        columns["label_class"] = classes
        notes.append(f"the first folders became the column label_class: {len(set(classes))} classes")
    if note := roster.told(root, looked.paths):
        notes.append(note)
    return columns | _further(looked), notes


def _by_header(numbers: list[str], paths: Sequence[PurePosixPath]) -> owners.Owners:
    how = "patients are told apart by the identifier in the DICOM headers, which is not copied"
    return owners.Owners(numbers, [str(path) for path in paths], how)


def _params(
    key: str, root: Path, folder: Path, source: str, looked: look.Looked | None, columns: Mapping[str, Sequence[Any]]
) -> tuple[values.Choice, str]:
    """Return the values of the project and the text of its params file, which is checked."""
    import jinja2

    found, measures = (looked.found, sorted({m for r in looked.records for m in r.anatomy})) if looked else (None, [])
    if found is not None:
        found = replace(found, labels=[*found.labels, *roster.balances(columns)])
    choice = values.choose(key, found, measures)
    inside = root.resolve().is_relative_to(folder.resolve())
    where = root.resolve().relative_to(folder.resolve()) if inside else root.resolve()
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["flow"] = values.flow
    text = environment.from_string((TEMPLATES / "params.yaml.j2").read_text("utf-8")).render(
        key=key,
        source={"name": source, "root": where.as_posix()},
        found=", as they were found" if found else "",
        ingest=choice.ingest,
        dedup=choice.dedup,
        stratify=choice.stratify,
        run_name=choice.run_name,
        run=choice.run,
        workers=min(4, os.cpu_count() or 1),
        executor="process" if (os.cpu_count() or 1) > 1 else "serial",
    )
    config.parse(text)
    return choice, text


def _lines(folder: Path, key: str, choice: values.Choice, looked: look.Looked | None) -> list[str]:
    """Say what was found and chosen."""
    if looked is None:
        return [f"{folder}: a project for {key}, without recordings yet"]
    ingest, found = choice.ingest, looked.found
    formats = ", ".join(f"{n} {name}" for name, n in found.usable.most_common())
    if "channels" in ingest:
        count = len(ingest["channels"])
        shape = f"{count} channel{'s' * (count > 1)} at {ingest['rate_hz']} Hz, windows of {ingest['window_s']} s"
    else:
        size = " x ".join(map(str, ingest["size"]))
        shape = f"{ingest['samples']} of {size}" + (
            f" at {ingest['spacing_mm'][0]} mm" if "spacing_mm" in ingest else ""
        )
    labels = choice.run["evaluate"]["labels"]
    return [
        f"{folder}: a project for {key}, {len(looked.records)} recordings ({formats} read)",
        f"samples: {shape}, unit {ingest['unit']}",
        f"run {choice.run_name}: recipe {choice.run['recipe']}, encoder {choice.run['encoder']['name']}, "
        f"tested on {', '.join(labels) or 'no label yet'}",
    ]


def _next(folder: Path, root: Path, run: str, *, unknown: bool, empty: bool) -> list[str]:
    """Return what to do, three steps."""
    at, raw = shlex.quote(str(folder)), shlex.quote(str(root))
    table = f"{raw}/manifest.csv"
    first = f"look through {table} and add columns label_<task>; {at}/manifest.README.md explains them"
    if empty:
        first = f"put recordings into {raw} and list them in {table}; {at}/manifest.README.md explains its columns"
    elif unknown:
        first = f"fill in patient in {table}; {at}/manifest.README.md explains its columns"
    return [
        first,
        f"medssl check {raw} && cd {at} && medssl check params.yaml",
        f"dvc repro, then open data/report/report.html; the encoder is data/runs/{run}/encoder",
    ]
