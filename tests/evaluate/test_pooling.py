"""Mean and deviation of the samples of a unit, block by block."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluate.pooling import mean_deviation
from medssl.evaluate.tasks import Task
from medssl.store import Store


def test_mean_and_deviation_by_a_loop(signal_store: Store) -> None:
    tasks = [Task.of(signal_store.table, name) for name in ("disease", "state")]
    z = 100 + np.random.default_rng(0).standard_normal((len(signal_store), 3)).astype(np.float32)
    for size in (5, 96):
        blocks = [np.arange(len(z))[i : i + size] for i in range(0, len(z), size)]
        for task, found in zip(tasks, mean_deviation(tasks, blocks, z.__getitem__), strict=True):
            assert found.shape == (len(task.patient), 6)
            for unit, row in enumerate(found):
                own = z[task.rows[task.member == unit]].astype(float)
                assert row == pytest.approx(np.concatenate([own.mean(0), own.std(0)]))


def test_one_sample_has_no_deviation(signal_store: Store) -> None:
    task = Task.of(signal_store.table.assign(label_beat=["n", "v"] * 48), "beat")
    assert task.unit == "sample_id"
    z = np.random.default_rng(0).standard_normal((96, 3))
    (found,) = mean_deviation([task], [np.arange(96)], z.__getitem__)
    assert found[:, 3:] == pytest.approx(0, abs=1e-6)
