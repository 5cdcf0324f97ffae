"""A table that a lab has already: which of its columns names the recordings, and what it says of each of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.check import folder as folders
from medssl.new import look
from medssl.sources import labels, tables
from medssl.sources.record import SourceError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".xlsx")
MOST, LARGE = 20, 20_000_000  # tables of a folder that are looked at unasked, and bytes beyond which one is not


@dataclass(frozen=True)
class Roster:
    """Columns as text, the one that names recordings, and the row of each recording, None where it has none."""

    file: Path
    cells: dict[str, list[str]]
    key: str
    rows: list[int | None]

    @property
    def others(self) -> list[str]:
        """Columns that do not name recordings."""
        return [name for name in self.cells if name != self.key]

    def column(self, name: str, option: str) -> list[str]:
        """Return the cells of a column by recording, empty for one without a row.

        Raises:
            SourceError: no such column; ``option`` is what named it.
        """
        found = [own for own in self.others if own.casefold() == name.casefold()]
        if not found:
            raise SourceError(f"{option} {name}: no such column in {self.file.name}; it has {', '.join(self.others)}")
        cells = self.cells[found[0]]
        return ["" if row is None else cells[row].strip() for row in self.rows]


def read(file: Path, paths: Sequence[PurePosixPath]) -> Roster:
    """Return what a table says of recordings, by the column whose cells name most of them.

    A cell names a recording by its path, by the end of it or by the bare name, with or without suffix; two that could
    be meant are none.

    Args:
        file: delimited text with a line of names, Parquet, or the first sheet of a workbook.
        paths: of the recordings, from their folder.

    Raises:
        SourceError: a table that cannot be read, or none of whose columns names a recording.
    """
    excel = file.suffix.lower() == ".xlsx"
    table = tables.read_text_table(file, (), fix="--table names a table with a row for each recording", excel=excel)
    cells = {str(name): [str(text) for text in table[name]] for name in table.columns}
    matched = {name: _rows(texts, paths) for name, texts in cells.items()}
    key = max(matched, key=lambda name: sum(row is not None for row in matched[name]), default="")
    if not key or all(row is None for row in matched[key]):
        raise SourceError(f"{file}: no column names the recordings; add one with the name of each file")
    # Names of columns are shown; a first line of values may hold those of a person.
    if _rows([key], paths).count(0):
        raise SourceError(f"{file}: the first line names a recording; put a line with the names of the columns first")
    return Roster(file, cells, key, matched[key])


def told(root: Path, paths: Sequence[PurePosixPath]) -> str | None:
    """Return a note of a table in the folder that names at least half of the recordings, None where there is none."""
    own = {path.as_posix() for path in paths}  # a recording may be a table itself
    files = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES and path.name not in own]
    for file in [path for path in files if path.is_file() and path.stat().st_size <= LARGE][:MOST]:
        try:
            found = read(file, paths)
        except SourceError:
            continue
        if 2 * sum(row is not None for row in found.rows) >= len(paths):
            return (
                f"{file.name} names the recordings in its column {found.key}; to use it, begin anew with "
                f"--table {file} --patients COLUMN --labels COLUMN ..., of {', '.join(found.others)}"
            )
    return None


def label_of(column: str) -> str:
    """Return the name of the label that a column becomes: ``label_<its words>``."""
    return "label_" + (re.sub(r"\W+", "_", column).strip("_").lower() or "column")


def balances(columns: Mapping[str, Sequence[str]]) -> list[folders.Balance]:
    """Return how the labels among the columns of a manifest are spread."""
    known = [labels.column(name, cells, {}) for name, cells in columns.items() if name.startswith("label_")]
    return [
        folders.balance(column.task, [value for value in column.values if value is not None])
        for column in known
        if any(value is not None for value in column.values)
    ]


def _rows(texts: Sequence[str], paths: Sequence[PurePosixPath]) -> list[int | None]:
    """Return the row that names each recording: the one cell with which it shares the longest end of a path.

    A row is of one recording, or of the files of one name, as only so its patient is sure.
    """
    named: dict[str, set[int]] = defaultdict(set)
    for row, text in enumerate(texts):
        if text.strip():
            for end in _ends(PurePosixPath(text.strip().replace("\\", "/"))):
                named[end].add(row)
    shared: dict[int, str] = {}  # the longest end that a row shares with any recording
    found: list[tuple[int, str] | None] = []
    for path in paths:
        end = next((end for end in _ends(path) if end in named), "")
        only = next(iter(named[end])) if end and len(named[end]) == 1 else None
        found.append(None if only is None else (only, end))
        if only is not None and len(end) > len(shared.get(only, "")):
            shared[only] = end
    stems: dict[int, set[str]] = defaultdict(set)
    for path, match in zip(paths, found, strict=True):
        if match is not None and match[1] == shared[match[0]]:
            stems[match[0]].add(_ends(path)[0])
    return [
        match[0] if match is not None and match[1] == shared[match[0]] and len(stems[match[0]]) == 1 else None
        for match in found
    ]


def _ends(path: PurePosixPath) -> list[str]:
    """Return the ends of a path without its suffix, the longest first."""
    parts = look.stem_of(path).parts
    return ["/".join(parts[i:]).casefold() for i in range(len(parts))]
