"""Stretches: windows that follow each other in a trial, joined, because a heart rhythm is longer than a window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medssl.store import Store

LONGEST_S = 60.0  # of one stretch, which bounds memory: a day of recording is 1,440 of them


def of(store: Store) -> list[np.ndarray]:
    """Return the stretches of a store: arrays of positions in its table, each in order of time.

    A window goes on where the one before it in its trial ended, within half a step, and a stretch ends after
    `LONGEST_S`. So overlapping windows, and windows cut around beats, are a stretch each.
    """
    table = store.table
    start, length = table["start_s"].to_numpy(float), table["duration_s"].to_numpy(float)
    order = np.lexsort((start, table["trial"]))
    trial, start, length = table["trial"].to_numpy()[order], start[order], length[order]
    step_s = 1 / store.facts["params"]["rate_hz"]
    follows = (np.diff(trial) == 0) & (np.abs(np.diff(start) - length[:-1]) < step_s / 2)
    first = np.r_[0, np.flatnonzero(~follows) + 1] if len(order) else np.empty(0, dtype=int)
    began = np.repeat(start[first], np.diff(np.r_[first, len(order)]))
    # The part of LONGEST_S in which a window ends; the half step forgives rounding.
    part = np.floor((start + length - began - step_s / 2) / LONGEST_S)
    ends = np.flatnonzero(~follows | (np.diff(part) > 0)) + 1
    return np.split(order, ends)


def shared(store: Store, compute: Callable[[np.ndarray, float], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of rows that gives each window the features of its stretch, float64 (rows, d).

    A stretch is read and computed whole, whichever of its windows are asked for.

    Args:
        store: of signals.
        compute: (d,) of a stretch (C, T) and its rate in Hz.
    """
    found = of(store)
    stretch_of = np.empty(len(store), dtype=int)
    for number, members in enumerate(found):
        stretch_of[members] = number
    rate_hz = float(store.facts["params"]["rate_hz"])

    def features(rows: np.ndarray) -> np.ndarray:
        numbers, which = np.unique(stretch_of[rows], return_inverse=True)
        values = [compute(np.concatenate(list(store.read(found[n])), axis=1), rate_hz) for n in numbers]
        return np.stack(values)[which]

    return features
