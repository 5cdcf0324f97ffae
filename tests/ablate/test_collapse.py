"""Indicators of collapse from what a run stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.ablate import collapse
from medssl.ablate.factors import Cell


def test_deviation_is_that_of_a_slow_loop() -> None:
    z = np.random.default_rng(0).normal(size=(40, 5)) * np.arange(1, 6) + 2
    unit = [row / np.sqrt(sum(v * v for v in row)) for row in z]
    columns = [np.std([row[k] for row in unit]) for k in range(5)]
    assert collapse.deviation(z) == pytest.approx(np.mean(columns) * np.sqrt(5), abs=1e-12)
    assert collapse.deviation(np.tile(z[0], (9, 1))) == pytest.approx(0, abs=1e-7)
    assert collapse.deviation(np.zeros((4, 3))) == 0


def test_deviation_is_one_where_embeddings_spread_evenly() -> None:
    z = np.random.default_rng(0).normal(size=(20_000, 8))
    assert collapse.deviation(z) == pytest.approx(1, abs=0.01)
    assert collapse.deviation(7 * z) == pytest.approx(collapse.deviation(z), abs=1e-12)


def stored(folder: Path, *, kept: int) -> None:
    for name in ("encoder", "probe"):
        (folder / name).mkdir(parents=True)
    (folder / "encoder" / "config.json").write_text(json.dumps({"provenance": {"kept_step": kept}}))
    rows = [{"step": step, "train/rankme": 10.0 * step, "val/uniformity": None} for step in (1.0, 2.0, 3.0)]
    (folder / "curves.json").write_text(json.dumps(rows))
    z = np.random.default_rng(kept).normal(size=(30, 4)).astype(np.float32)
    pd.DataFrame({"sample_id": np.arange(30).astype(str), "embedding": list(z)}).to_parquet(
        folder / "probe" / "embeddings.parquet"
    )


def test_rows_are_of_the_kept_step_and_of_each_training_once(tmp_path: Path) -> None:
    runs = tmp_path / "base" / "data" / "runs"
    for number, name in enumerate(("base", "good"), 2):
        stored(runs / name, kept=number)
    cells = [
        Cell("toy", "good", "base", "good", "probe", ("norm",)),
        Cell("toy", "untrained", "base", "base", "random_init", ("norm",)),
        Cell("toy", "not", "base", "base", "probe", ("norm",), "the recipe does not"),
    ]
    made = collapse.indicators(cells, tmp_path)
    assert list(made.columns) == list(collapse.COLUMNS)
    assert made[["run", "level", "rankme"]].to_numpy().tolist() == [["base", "", 20.0], ["base", "good", 30.0]]
    assert made[["uniformity", "alignment"]].isna().all(axis=None)
    assert made["deviation"].between(0.5, 1).all()
    assert not len(collapse.indicators(cells[2:], tmp_path))
