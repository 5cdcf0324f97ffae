"""What a step of each training costs: time and peak memory, as ratios to the base run, measured in turns.

Steps are the first of a run, through `medssl.pretrain.fit` as it trains: data, views, networks, loss, optimiser. What a
method does rarely or later, such as work between epochs, is not in them. Runs take turns, so that a machine that slows
down does so for all of them. On a CPU time is that of the processor with one thread, which others on the machine do not
change, and memory is what torch has in use; on a GPU both are those of the device.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from medssl import config
from medssl import table as tables
from medssl.ablate import factors
from medssl.ablate.factors import Cell
from medssl.config import Compute, Run
from medssl.models import build
from medssl.pretrain.fit import fit
from medssl.store import Store

FIRST = 1  # step of a turn that is not timed: caches fill
WATCHED = 2  # steps of which the memory of the last is looked at: the optimiser's own is there after the first
TURNS = 2
COLUMNS = ("run", "level", "seconds", "time", "time_lo", "time_hi", "bytes", "memory")


class _Enough(Exception):
    """Ends a training after as many steps as are measured."""


def _trained(store: Store, run: Run, compute: Compute, steps: int, on_step: Callable[[], None]) -> None:
    """Train so many steps, calling ``on_step`` after each."""

    def count(batches: int) -> None:
        on_step()
        if batches >= steps:
            raise _Enough

    # Curves would be measured in between; a run's own length decides its schedules, so it stays.
    silent = run.pretrain.model_copy(update={"monitor_steps": 10**9, "monitor_label": None, "select": "last"})
    # Lightning and MONAI would speak, at each turn, of choices that are made here on purpose.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            asked = run.model_copy(update={"pretrain": silent})
            start = None  # what a run starts from costs the same, trained or not
            if run.start is not None and run.encoder is not None:
                start = build(**run.encoder.model_dump(), in_channels=int(store.facts["shape"][0]), seed=0)
            fit(store, asked, seed=0, compute=compute, checkpoints=Path(folder), start=start, on_step=count)
        except _Enough:
            return


def seconds(store: Store, run: Run, compute: Compute, *, steps: int) -> list[float]:
    """Return how long each of so many steps takes, the `FIRST` ones before them left out."""
    graphics = torch.cuda.is_available() and compute.accelerator not in ("cpu", "mps")
    clock = time.perf_counter if graphics else time.process_time
    at: list[float] = []

    def note() -> None:
        if graphics:
            torch.cuda.synchronize()
        at.append(clock())

    threads = torch.get_num_threads()
    torch.set_num_threads(threads if graphics else 1)
    try:
        _trained(store, run, compute, FIRST + steps, note)
    finally:
        torch.set_num_threads(threads)
    return np.diff(at)[FIRST - 1 :].tolist()


def peak_bytes(store: Store, run: Run, compute: Compute) -> int:
    """Return the most bytes that torch has in use at once in a step, networks and optimiser included.

    What comes before the steps, such as embeddings of all training samples for clusters, is not looked at.
    """
    begin: list[int] = []
    if torch.cuda.is_available() and compute.accelerator not in ("cpu", "mps"):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        firsts = iter([torch.cuda.reset_peak_memory_stats])  # called after the first step alone
        _trained(store, run, compute, WATCHED, lambda: next(firsts, lambda: None)())
        return int(torch.cuda.max_memory_allocated() - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler prints that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        _trained(store, run, compute, WATCHED, lambda: begin.append(time.time_ns()))
    assert watched.profiler is not None
    assert watched.profiler.kineto_results is not None
    events = watched.profiler.kineto_results.events()
    moves = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    in_use = np.cumsum([n for _, n in moves])
    return int(in_use[np.array([at for at, _ in moves], np.int64) >= begin[0]].max(initial=0))


def measured(cells: Sequence[Cell], out: Path, *, steps: int) -> pd.DataFrame:
    """Return one row per base run and level that has a training of its own; of the base run itself ``level`` is empty.

    Args:
        cells: what was run.
        out: folder with a workspace for each base run.
        steps: measured of each run, over all turns.

    Returns:
        `COLUMNS`: median ``seconds`` of a step and peak ``bytes``; ``time`` and ``memory`` are ratios to the base run,
        and ``time_lo`` and ``time_hi`` the smallest and the largest ratio of a turn.
    """
    rows = []
    for base in dict.fromkeys(cell.base for cell in cells if not cell.refused):
        params = config.load(out / base / "params.yaml")
        own = {c.level: c.run for c in cells if c.base == base and not c.refused and c.run != base}
        names = {"": base} | own
        stores = {key: _open(out / base, key) for key in {params.runs[name].modality for name in names.values()}}
        compute = params.compute.model_copy(update={"progress": False, "loader_workers": 0})
        given = {level: (stores[params.runs[name].modality], params.runs[name]) for level, name in names.items()}
        each = -(-steps // TURNS)
        turns = [{level: seconds(*of, compute, steps=each) for level, of in given.items()} for _ in range(TURNS)]
        sizes = {level: peak_bytes(*of, compute) for level, of in given.items()}
        for level in names:
            ratios = [float(np.median(turn[level]) / np.median(turn[""])) for turn in turns]
            took = float(np.median(np.concatenate([turn[level] for turn in turns])))
            row = {"run": base, "level": level, "seconds": took, "time": float(np.median(ratios))}
            row |= {"time_lo": min(ratios), "time_hi": max(ratios)}
            rows.append(row | {"bytes": sizes[level], "memory": sizes[level] / sizes[""]})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _open(home: Path, key: str) -> Store:
    store = factors.cohort(home, key)
    store.table = tables.of_fold(store.table, None)
    return store
