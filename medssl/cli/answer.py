"""What a command answers: one JSON document for programs, tables and colour on a terminal, plain text in a pipe.

Answers go to stdout; progress, notes and errors go to stderr.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# How the lines of a terminal begin that stand out, and the colour of that word.
MARKS = {"problem:": "bold red", "failed:": "bold red", "warning:": "yellow", "note:": "yellow", "ok": "bold green"}


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        facts: for programs; its keys are stable and stand in ``--help``.
        shown: the same for people, lines and tables.
        code: exit code, 0 or 1.
    """

    facts: Mapping[str, Any]
    shown: Sequence[str | pd.DataFrame]
    code: int = 0


def write(answer: Answer, *, as_json: bool) -> None:
    """Print an answer on stdout: JSON where it is asked for, tables on a terminal, else aligned text."""
    if as_json:
        print(json.dumps(plain(answer.facts), indent=2, ensure_ascii=False, allow_nan=False))
    elif sys.stdout.isatty():
        _draw(answer.shown)
    else:
        for part in answer.shown:
            print(part if isinstance(part, str) else part.to_string(index=False))


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: tables as lists of rows, NaN and infinities as null, paths as text."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = value.to_dict("records")
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, Path):
        return str(value)
    missing = type(value).__name__ in ("NaTType", "NAType")
    return None if missing else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _draw(shown: Sequence[str | pd.DataFrame]) -> None:
    """Print on a terminal; rich leaves colour out where ``NO_COLOR`` is set."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for part in shown:
        if not isinstance(part, str):
            console.print(_table(part))
            continue
        for line in part.split("\n"):
            text = Text(line)
            mark = next((mark for mark in MARKS if line.startswith(mark)), "")
            text.stylize(MARKS.get(mark, ""), 0, len(mark))
            console.print(text, soft_wrap=True)


def _table(frame: pd.DataFrame) -> Any:
    """Return a table for a terminal, numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text  # words in brackets are words

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name, kind in frame.dtypes.items():
        table.add_column(Text(str(name)), justify="right" if kind.kind in "iuf" else "left", overflow="fold")
    cells = (
        [frame[name].to_string(index=False, header=False).split("\n") for name in frame.columns] if len(frame) else []
    )
    for row in zip(*cells, strict=True):
        table.add_row(*(Text(cell.strip()) for cell in row))
    return table
