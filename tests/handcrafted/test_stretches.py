"""Windows that follow each other are one stretch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.handcrafted import stretches


def fake(trial: list[int], start_s: list[float], *, window_s: float = 2.0, rate_hz: float = 4.0) -> Any:
    """A store of one channel whose samples hold their own position."""
    steps = round(window_s * rate_hz)
    table = pd.DataFrame({"trial": trial, "start_s": start_s, "duration_s": window_s})
    facts = {"params": {"rate_hz": rate_hz, "window_s": window_s}, "shape": [1, steps]}

    class Fake(SimpleNamespace):
        def __len__(self) -> int:
            return len(trial)

        def read(self, rows: np.ndarray) -> np.ndarray:
            return np.repeat(np.asarray(rows, dtype=np.float32)[:, None, None], steps, axis=2)

    return Fake(table=table, facts=facts)


def slow(trial: list[int], start_s: list[float], window_s: float, half_step: float) -> list[list[int]]:
    out: list[list[int]] = []
    before, began = -1, 0.0
    for row in sorted(range(len(trial)), key=lambda i: (trial[i], start_s[i])):
        gap = abs(start_s[row] - start_s[before] - window_s) if before >= 0 else np.inf
        if before < 0 or trial[row] != trial[before] or gap >= half_step:
            began = start_s[row]
            out.append([row])
        elif start_s[row] + window_s - began > stretches.LONGEST_S * (1 + minutes(start_s[before] + window_s - began)):
            out.append([row])
        else:
            out[-1].append(row)
        before = row
    return out


def minutes(seconds: float) -> int:
    """Return how many whole minutes are full before the last of these seconds."""
    return int(np.ceil(seconds / stretches.LONGEST_S - 1e-6)) - 1


def test_like_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    trial, start = [], []
    for t in range(12):
        at = float(rng.integers(0, 5))
        for _ in range(int(rng.integers(1, 80))):
            trial.append(t)
            start.append(at)
            at += rng.choice([2.0] * 7 + [1.0, 3.0]) if t % 2 else 2.0
    order = rng.permutation(len(trial))
    trial, start = [trial[i] for i in order], [start[i] for i in order]
    found = [m.tolist() for m in stretches.of(fake(trial, start))]
    assert found == slow(trial, start, 2.0, 0.125)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(trial)))
    assert max(map(len, found)) == 30  # a minute of windows of two seconds


def test_windows_that_overlap_or_leave_a_gap_are_alone() -> None:
    for gap in (1.0, 2.5):
        assert [m.tolist() for m in stretches.of(fake([0] * 3, [0, gap, 2 * gap]))] == [[0], [1], [2]]


def test_windows_share_what_their_stretch_has() -> None:
    store = fake([5, 7, 5, 7, 5], [0, 0, 2, 2, 10])
    seen = []

    def compute(values: np.ndarray, rate_hz: float) -> np.ndarray:
        seen.append(values.shape)
        return np.array([values.sum(), rate_hz])

    features = stretches.shared(store, compute)
    assert features(np.arange(5))[:, 0].tolist() == [16, 32, 16, 32, 32]
    assert sorted(seen) == [(1, 8), (1, 16), (1, 16)]
    assert features(np.array([2])).tolist() == [[16, 4]]  # whole, whichever window is asked for


@pytest.mark.parametrize("windows", [30, 31, 60, 61])
def test_a_stretch_ends_after_a_minute(windows: int) -> None:
    found = stretches.of(fake([0] * windows, [2.0 * i for i in range(windows)]))
    assert [len(m) for m in found] == [30] * (windows // 30) + ([windows % 30] if windows % 30 else [])
