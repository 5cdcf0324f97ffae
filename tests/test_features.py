"""Features of a store are computed once and found again by what they are made of."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medssl import features
from medssl.store import Store


def compute(store: Store, calls: list[int]):  # type: ignore[no-untyped-def]
    def rows(positions: np.ndarray) -> np.ndarray:
        calls.append(len(positions))
        return store.read(positions).reshape(len(positions), -1)[:, :5]

    return rows


def test_cached_features_equal_computed_ones(signal_store: Store, tmp_path: Path) -> None:
    calls: list[int] = []
    first = features.of_samples("a/1", signal_store, compute(signal_store, calls), cache=tmp_path)
    again = features.of_samples("a/1", signal_store, compute(signal_store, calls), cache=tmp_path)
    plain = features.of_samples("a/1", signal_store, compute(signal_store, calls))
    assert sum(calls) == 2 * len(signal_store)
    assert np.array_equal(first, again)
    assert np.array_equal(first, plain)
    assert isinstance(again, np.memmap)
    features.of_samples("a/2", signal_store, compute(signal_store, calls), cache=tmp_path)
    assert sum(calls) == 3 * len(signal_store)


def test_another_scale_has_features_of_its_own(signal_store: Store, tmp_path: Path) -> None:
    calls: list[int] = []
    for scale in (1.0, 0.5, 0.5):
        store = signal_store.scaled_by(scale)
        found = features.of_samples("a/1", store, compute(store, calls), cache=tmp_path)
        np.testing.assert_allclose(found, compute(signal_store, [])(np.arange(len(store))) / scale)
    assert sum(calls) == 2 * len(signal_store)


def test_an_error_leaves_no_file(signal_store: Store, tmp_path: Path) -> None:
    def fail(rows: np.ndarray) -> np.ndarray:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        features.of_samples("a", signal_store, fail, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_oldest_files_go_first(signal_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MOST_BYTES", 2 * (len(signal_store) * 5 * 4 + 128))
    for name in "abc":
        features.of_samples(name, signal_store, compute(signal_store, []), cache=tmp_path)
        for age, path in enumerate(sorted(tmp_path.glob("*.npy"), key=lambda p: -p.stat().st_mtime)):
            os.utime(path, (1000 - age, 1000 - age))
    assert len(list(tmp_path.glob("*.npy"))) == 2
    calls: list[int] = []
    features.of_samples("c", signal_store, compute(signal_store, calls), cache=tmp_path)
    assert not calls
