"""List a folder in the Brain Imaging Data Structure (BIDS): EEG and structural MRI, labels from participants.tsv.

Looked for are ``sub-*/[ses-*/]eeg/*_eeg.{edf,bdf,vhdr,set,fif}`` and ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` (and the
other contrasts of `CONTRASTS`). Raw data alone: ``derivatives/`` and ``sourcedata/`` lie beside ``sub-*`` and are left
out. Sidecar files are not read. A set with both kinds lists both; the reader of each is known by its format.

Source: Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44; Pernet et al. 2019, doi:10.1038/s41597-019-0104-8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from medssl.sources.claims import locate
from medssl.sources.labels import ABSENT, column, number
from medssl.sources.manifest import event_labels, format_of, label_kinds
from medssl.sources.published.tables import SEXES, tab_rows
from medssl.sources.record import Label, Record, SourceError

EEG = (".edf", ".bdf", ".vhdr", ".set", ".fif")
CONTRASTS = ("T1w", "T2w", "PDw", "FLAIR", "T2starw", "UNIT1", "inplaneT1", "inplaneT2", "PDT2")
# Columns that may tell who somebody is, whatever they hold; labels go into the store as they are.
IDENTIFYING = re.compile(r"(^|_)(id|name|initials|birth\w*|dob|born|date\w*|mrn|address|zip|postal|phone|email)(_|$)")
# A text column with more classes than this is notes or names, not a class.
MAX_CLASSES = 20
ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")


def list_records(root: Path) -> list[Record]:
    """Return the recordings of a BIDS folder; a patient is a ``sub-<label>``.

    The trial is the name of the file between subject and suffix, such as ``ses-01_task-rest_run-1_eeg``. Labels are
    the columns of ``participants.tsv`` (`medssl.sources.labels`; ``age`` also from ``89+``) and, of
    the file's own name, ``task``, ``session`` and ``contrast``. Columns that may identify a person and text of more
    than 20 kinds are left out; so is a value on which two rows of a participant differ. With a table
    ``event_labels.csv`` (``text,task,class``) beside it, windows have the class of ``*_events.tsv``, whose texts are
    anybody's.

    Raises:
        SourceError: no ``sub-*`` folder holds a recording, or ``participants.tsv`` lacks its first column.
    """
    participants = _participants(root / "participants.tsv", label_kinds(root / "label_kinds.csv"))
    chosen: dict[tuple[str, str], Path] = {}
    for path in _files(root):
        subject = path.relative_to(root).parts[0].removeprefix("sub-")
        trial = path.name.split(".")[0].removeprefix(f"sub-{subject}_")
        # The same recording in two formats is one trial; the formats are in order of preference.
        chosen.setdefault((subject, trial), path)
    if not chosen:
        looked_for = "sub-*/[ses-*/]eeg/*_eeg.edf or sub-*/[ses-*/]anat/*_T1w.nii.gz"
        raise SourceError(f"{root}: no {looked_for}; point source.root at the top folder of a BIDS set")
    records, classes = [], event_labels(root)
    for (subject, trial), found in chosen.items():
        entities = dict(ENTITY.findall(trial))
        labels: dict[str, Label] = dict(participants.get(subject, {}))
        folder, suffix = found.relative_to(root).parts[1], trial.rpartition("_")[2]
        session = entities.get("ses") or (folder.removeprefix("ses-") if folder.startswith("ses-") else "")
        told = {"task": entities.get("task"), "session": session, "contrast": suffix if suffix in CONTRASTS else ""}
        labels |= {name: value for name, value in told.items() if value}
        path, hints = locate(root, found.relative_to(root))
        events = None
        table = found.with_name(f"{found.name.split('.')[0].rpartition('_')[0]}_events.tsv")
        if classes and table.is_file():
            events, more = locate(root, table.relative_to(root))
            hints = hints or more
        records.append(
            Record(
                path, format_of(found), subject, trial, "bids", labels,
                events=events, event_labels=classes if events else {}, hints=hints,
            )
        )  # fmt: skip
    return records


def _files(root: Path) -> list[Path]:
    """Return recordings of either kind by name alone; links of git-annex whose content is absent are among them."""
    found = []
    for subject in sorted(root.glob("sub-*")):
        for folder in (subject, *sorted(subject.glob("ses-*"))):
            eeg = sorted(folder.glob("eeg/*_eeg.*"))
            found += [path for suffix in EEG for path in eeg if path.suffix.lower() == suffix]
            anat = sorted(folder.glob("anat/*.nii.gz")) + sorted(folder.glob("anat/*.nii"))
            found += [path for path in anat if path.name.split(".")[0].rpartition("_")[2] in CONTRASTS]
    # The reader follows a recording of several FIF files from its first; hidden files are leftovers of a Mac.
    return [p for p in found if not p.name.startswith(".") and not re.search(r"_split-0*([2-9]|[1-9]\d)", p.name)]


def _participants(path: Path, said: Mapping[str, str]) -> dict[str, dict[str, Label]]:
    """Return labels by subject, or none without a table."""
    if not path.is_file():
        return {}
    rows = tab_rows(path)
    columns = [name for name in (rows[0] if rows else {}) if name]
    if rows and "participant_id" not in columns:
        raise SourceError(f"{path}: column 'participant_id' is missing; a BIDS table begins with it")
    labels: dict[str, dict[str, Label]] = {}
    for heading in columns:
        name = re.sub(r"\W+", "_", heading.strip().lower()).strip("_")
        if name == "participant_id" or not name or IDENTIFYING.search(name):
            continue
        values: dict[str, set[str]] = {}
        for row in rows:
            text = (row[heading] or "").strip()
            if text.lower() not in ABSENT:
                values.setdefault(row["participant_id"].strip().removeprefix("sub-"), set()).add(text)
        single = {subject: kinds.pop() for subject, kinds in values.items() if len(kinds) == 1}
        for subject, value in _typed(name, single, said).items():
            labels.setdefault(subject, {})[name] = value
    return labels


def _typed(name: str, texts: dict[str, str], said: Mapping[str, str]) -> dict[str, Label]:
    """Return the values of one column as numbers, as classes, or not at all."""
    if name == "age":  # the oldest are often given as "89+"
        texts = {subject: age for subject, text in texts.items() if number(age := text.rstrip("+ ")) is not None}
    found = column(f"label_{name}", list(texts.values()), said)
    if found.kind != "class" or name in said:
        return {subject: value for subject, value in zip(texts, found.values, strict=True) if value is not None}
    if name in ("sex", "gender"):
        texts = {subject: SEXES.get(text.lower(), text.lower()) for subject, text in texts.items()}
    kinds = set(texts.values())
    # A word of his own for each of many participants names them.
    if len(kinds) > MAX_CLASSES or (len(kinds) == len(texts) and len(kinds) > 5):
        return {}
    return dict(texts)
