"""What every benchmark needs: processes that measure, rounds in turns, a table, and a last line of ratios.

A claim is a ratio against the obvious alternative of the same run. Absolute seconds are those of one machine and hour.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]


# --- Measuring in this process ---------------------------------------------------------------------------------------


class Measured(NamedTuple, Generic[T]):
    """What came of some work, and what it took.

    ``processor`` are the seconds that all threads of this process computed, ``gigabytes`` the peak of memory above what
    was held before.
    """

    result: T
    seconds: float
    processor: float
    gigabytes: float


def resident_gb(what: str) -> float:
    """Return the resident memory of this process: ``VmRSS`` now, or ``VmHWM`` at its peak.

    Where there is no /proc, both are the peak, and that counts what the process's parent held.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e9


def measured(work: Callable[[], T]) -> Measured[T]:
    """Do some work and measure it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = resident_gb("VmRSS")
    begin, computed = time.perf_counter(), time.process_time()
    result = work()
    seconds, processor = time.perf_counter() - begin, time.process_time() - computed
    return Measured(result, seconds, processor, max(resident_gb("VmHWM") - before, 1e-3))


# --- Measuring in processes of their own -----------------------------------------------------------------------------


class Failed(RuntimeError):
    """A measurement raised, or its process was ended."""


class Process:
    """A Python process that measures: call it with a function of a benchmark and its arguments.

    It lives until the end of its ``with``, so that rounds import once. Functions return a mapping of numbers, to which
    ``peak_gb`` is added, the peak of the process since it began or last used `measured`.

    Args:
        tree: folder whose ``medssl`` is measured, see `revision`.
    """

    def __init__(self, tree: Path = ROOT) -> None:
        path = [str(tree), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-P", "-m", "benchmarks.timing"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin a measurement; `answer` waits for its end."""
        place = Path(function.__code__.co_filename).resolve().relative_to(ROOT).with_suffix("")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([".".join(place.parts), function.__name__, arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return what the function asked for has returned.

        Raises:
            Failed: it raised, or the process was ended, as for want of memory.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the process was ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise Failed(found["error"])
        return found

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Measure."""
        self.ask(function, *arguments)
        return self.answer()


def apart(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Measure in a process that does nothing else."""
    with Process() as process:
        return process(function, *arguments)


@contextlib.contextmanager
def revision(name: str) -> Iterator[Path]:
    """Give a temporary folder with the ``medssl`` of a commit and nothing else of it."""
    packed = subprocess.run(["git", "archive", name, "medssl"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if packed.returncode:
        raise SystemExit(f"{name}: not a commit of this repository")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def serve() -> None:
    """Answer the calls of `Process`; what the functions print goes to standard error."""
    for line in sys.stdin:
        module, name, arguments = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            try:
                found = getattr(importlib.import_module(module), name)(*arguments)
                found = {**found, "peak_gb": resident_gb("VmHWM")}
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


# --- Comparing and printing ------------------------------------------------------------------------------------------


def in_turns(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each side returns in each round; sides take turns, so that what else the machine does falls on all.

    Every other round goes backwards, so that no side is always the first.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            found[name].append(sides[name]())
    return found


def ratio(top: Sequence[float], bottom: Sequence[float]) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(top, bottom, strict=True))


def table(*columns: str) -> Callable[..., None]:
    """Print a heading, and return what prints a row of it: a name, then cells."""
    widths = [18, *(max(11, len(column) + 2) for column in columns[1:])]

    def row(*cells: object) -> None:
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        first, *others = texts
        rest = "".join(f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=False))
        print(f"{first:{widths[0]}}{rest}", flush=True)

    row(*columns)
    return row


def last_line(ratios: Mapping[str, float]) -> None:
    """Print what a benchmark ends with: its ratios as JSON."""
    print(json.dumps({name: float(f"{value:.4g}") for name, value in ratios.items()}))


if __name__ == "__main__":
    serve()
