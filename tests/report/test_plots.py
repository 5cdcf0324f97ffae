"""Plots draw what they are given, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from medssl.report import plots
from medssl.store import Store


def value(mean: float) -> dict[str, float]:
    return {"mean": mean, "lo": mean - 0.1, "hi": mean + 0.1, "n_patients": 9, "seeds": 2}


METRICS = {
    "disease": {
        "probe": {"1": {"auroc": value(0.8)}, "0.1": {"auroc": value(0.7)}},
        "knn": {"1": {"auroc": value(0.6)}},
    },
    "age": {"probe": {"1": {"mae": value(4), "r2": value(0.3)}}},
}


def save(figure: Figure, folder: Path) -> None:
    figure.savefig(folder / "x.png", dpi=40)
    assert (folder / "x.png").stat().st_size > 500


def test_flat_metrics_and_one_line() -> None:
    flat = plots.flat_metrics(METRICS)
    assert flat["probe/disease/0.1/auroc"] == 0.7
    assert flat["probe/age/1/r2_lo"] == pytest.approx(0.2)
    assert len(flat) == 5 * 3
    assert plots.one_line(METRICS["disease"]) == "probe 0.800 [0.700, 0.900], knn 0.600 [0.500, 0.700]"
    assert plots.one_line(METRICS["disease"], "0.1") == "probe 0.700 [0.600, 0.800]"


def test_curves(tmp_path: Path) -> None:
    full = {"train/loss": 1.0, "train/rankme": 2.0, "val/rankme": 2.0, "val/knn": 0.5, "lr": 0.1}
    full |= {"val/loss": 1.0, "val/dispersion": 0.3, "val/alignment": 0.2, "val/uniformity": -2.0}
    figure = plots.curves([full, {"train/loss": 0.5, "lr": 0.1}], "run")
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 1, 1, 2, 1]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 0.5]  # type: ignore[union-attr]
    save(figure, tmp_path)
    save(plots.curves([{"train/loss": 1.0, "lr": 0.1}], "run"), tmp_path)


def test_label_efficiency(tmp_path: Path) -> None:
    figure = plots.label_efficiency(METRICS, "run")
    assert figure.axes[0].get_title() == "disease"
    save(figure, tmp_path)
    save(plots.label_efficiency({"age": METRICS["age"]}, "run"), tmp_path)
    save(plots.label_efficiency({}, "run"), tmp_path)


def test_duplicates(signal_store: Store, image_store: Store, tmp_path: Path) -> None:
    for store in (signal_store, image_store):
        ids = store.table["sample_id"]
        receipts = pd.DataFrame({"sample_id": ids, "kept": True, "duplicate_of": None, "distance": 0, "method": ""})
        save(plots.duplicates(store, receipts), tmp_path)
        receipts.loc[[3, 4], ["duplicate_of", "method", "distance"]] = [[ids[0], "exact", 0], [ids[1], "dhash", 5]]
        figure = plots.duplicates(store, receipts)
        titles = [axis.get_title() for axis in figure.axes]
        assert "removed: exact, 0 bits" in titles
        assert "removed: dhash, 5 bits" in titles
        save(figure, tmp_path)


def test_scatter(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((6, 2))
    save(plots.scatter(points, list("aabbcc"), "classes"), tmp_path)
    save(plots.scatter(points, [1.0, 2, 3, 4, 5, 6], "numbers"), tmp_path)
