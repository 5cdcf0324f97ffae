"""The tables behind the report, and the files DVC reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medssl.report import predicted, stored, tables
from tests.report.made_up import FEW, crossfitted_run, value, write_run

METRICS = {
    "one": {"disease": {"probe": {"1": {"auroc": value(0.8)}, "0.1": {"auroc": value(0.7)}}}},
    "two": {
        "disease": {"probe": {"1": {"auroc": value(0.9)}}, "knn": {"1": {"auroc": value(0.6)}}},
        "age": {"seen": ["age_years"], "probe": {"1": {"mae": value(3), "r2": value(0.2)}}},
    },
}
RECIPES = {"one": "comet", "two": "simclr"}


def read(folder: Path, metrics: dict[str, Any]) -> dict[str, stored.Stored]:
    return {name: stored.read(write_run(folder / name, of_run)) for name, of_run in metrics.items()}


def test_comparison(tmp_path: Path) -> None:
    table = tables.comparison(read(tmp_path, METRICS), RECIPES)
    assert len(table) == 5
    assert table["recipe"].tolist() == ["comet", "comet", "simclr", "simclr", "simclr"]
    assert table["label_fraction"].tolist() == [1.0, 0.1, 1.0, 1.0, 1.0]
    assert table["metric"].tolist() == ["auroc"] * 4 + ["r2"]
    assert table["mean"].tolist() == [0.8, 0.7, 0.9, 0.6, 0.2]
    assert table["seen"].tolist() == ["", "", "", "", "age_years"]
    assert set(table["split"]) == {"fixed split"}
    more = tables.comparison({"three": stored.read(crossfitted_run(tmp_path / "three"))}, {})
    assert set(more["split"]) == {"cross-fitted"}
    assert set(more["folds"]) == {5}


def test_wide_table_has_a_row_per_run_and_label(tmp_path: Path) -> None:
    groups, rows = tables.wide(read(tmp_path, METRICS), RECIPES)
    assert groups == {"encoder": ["probe", "knn"]}
    assert [(row["run"], row["recipe"], row["label"], row["metric"], row["seen"]) for row in rows] == [
        ("one", "comet", "disease", "AUROC", []),
        ("two", "simclr", "disease", "AUROC", []),
        ("two", "simclr", "age", "R²", ["age_years"]),
    ]
    assert rows[0]["cells"] == [("probe", "0.80 [0.70, 0.90]"), ("knn", "")]
    assert rows[1]["cells"][1] == ("knn", "0.60 [0.50, 0.70]")


def test_without_a_fraction_of_one_the_largest_is_shown_and_named(tmp_path: Path) -> None:
    """Runs with `fractions: [0.1, 0.01]` showed the permuted labels alone."""
    probe = {"0.1": {"auroc": value(0.7)}, "0.01": {"auroc": value(0.6)}}
    run = {"disease": {"probe": probe, "permuted_labels": {"1": {"auroc": value(0.5)}}}}
    _, rows = tables.wide(read(tmp_path, {"one": run}), {})
    assert rows[0]["cells"] == [("probe", "0.70 [0.60, 0.80] at 10 %"), ("permuted_labels", "0.50 [0.40, 0.60]")]


def test_all_metrics_and_the_p_value() -> None:
    metrics = {"norm": {"probe": {"1": {"auroc": value(0.8), "p_value": 0.01}}, "knn": {"1": {"auroc": value(0.6)}}}}
    header, rows = tables.by_metric(metrics, {"norm": ["probe", "knn"]})
    assert header == ["label", "metric", "probe", "knn"]
    assert rows == [
        ["norm", "AUROC", "0.800 [0.700, 0.900]", "0.600 [0.500, 0.700]"],
        ["norm", "p against shuffled labels", "0.01", ""],
    ]
    assert tables.p_value({"auroc": value(0.8, p_value=0.02)}) == 0.02
    assert tables.p_value({"auroc": value(0.8)}) is None
    # A label without results has no row, and its protocols no column.
    assert tables.by_metric({"a": {"left_out": "x"}}, predicted.wanted({"a": {"left_out": "x"}}))[1] == []


def test_files_for_dvc(tmp_path: Path) -> None:
    runs = read(tmp_path, {**METRICS, "few": {"a/b": {"probe": {"1": {"auroc": {**FEW, "mean": None}}}}}})
    runs["three"] = stored.read(crossfitted_run(tmp_path / "three"))
    tables.write(tmp_path, tables.comparison(runs, RECIPES))
    nested = json.loads((tmp_path / "headline.json").read_text())
    assert nested["two"] == {"age": {"probe": 0.2}, "disease": {"probe": 0.9}}
    assert nested["one"] == {"disease": {"probe": 0.8}}
    assert "few" not in nested  # a value that is not known is none
    assert nested["three"]["norm"] == {"baseline": 0.75, "probe": 0.8, "random_init": 0.55}
    bars = pd.read_csv(tmp_path / "headline" / "two.csv")
    assert bars.to_dict("list") == {"result": ["age, probe", "disease, probe"], "mean": [0.2, 0.9]}
    curve = pd.read_csv(tmp_path / "efficiency" / "one-disease.csv")
    assert curve["labelled_percent"].tolist() == pytest.approx([10, 100])
    assert curve["probe"].tolist() == [0.7, 0.8]
    # All files of the folder have the same columns, or DVC draws none.
    columns = {tuple(pd.read_csv(path).columns) for path in (tmp_path / "efficiency").iterdir()}
    assert columns == {("labelled_percent", *tables.SWEPT)}


def test_files_for_dvc_without_any_result(tmp_path: Path) -> None:
    tables.write(tmp_path, tables.comparison({}, {}))
    assert json.loads((tmp_path / "headline.json").read_text()) == {}
