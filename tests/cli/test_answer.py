"""Answers on a terminal have tables and colour, unless NO_COLOR is set; in a pipe they are plain."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.cli import answer

SCRIPT = """
import pandas as pd
from medssl.cli.answer import Answer, write
frame = pd.DataFrame({"run": ["a", "longer"], "mean": [0.5, None], "[red]": ["x", "[b]y"]})
write(Answer({}, [frame, "problem: it is [bold]\\nok", frame.iloc[:0]]), as_json=False)
"""


def on_terminal(**more: str) -> str:
    """Run the script on a pseudo-terminal and return what it wrote."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", **more}
    subprocess.run([sys.executable, "-c", SCRIPT], stdout=theirs, check=True, env=environment)
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        out += part
    os.close(ours)
    return out.decode()


def test_a_terminal_has_colour_and_rules() -> None:
    shown = on_terminal()
    assert "\x1b[1;31mproblem:" in shown and "\x1b[1;32mok" in shown
    assert "─" in shown and "longer" in shown
    assert "[bold]" in shown and "[b]y" in shown and "[red]" in shown  # words in brackets are words


def test_no_color_is_honoured() -> None:
    shown = on_terminal(NO_COLOR="1")
    assert "\x1b[1;31m" not in shown and "\x1b[31m" not in shown
    assert "problem: it is [bold]" in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_a_pipe_is_plain() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout and "─" not in done.stdout
    assert done.stdout.splitlines()[0].split() == ["run", "mean", "[red]"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2]]), [[1, 2]]),
        ({1: (Path("a/b"), {"x"})}, {"1": ["a/b", ["x"]]}),
        (pd.DataFrame({"a": [float("inf"), 1.5]}), [{"a": None}, {"a": 1.5}]),
        (True, True),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (pd.NaT, None),
    ],
    ids=str,
)
def test_values_become_json(value: object, expected: object) -> None:
    assert answer.plain(value) == expected
