"""The table behind the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medssl.report import html


def value(mean: float) -> dict[str, float]:
    return {"mean": mean, "lo": mean - 0.1, "hi": mean + 0.1, "n_patients": 9, "seeds": 2}


METRICS = {
    "one": {"disease": {"probe": {"1": {"auroc": value(0.8)}, "0.1": {"auroc": value(0.7)}}}},
    "two": {
        "disease": {"probe": {"1": {"auroc": value(0.9)}}, "knn": {"1": {"auroc": value(0.6)}}},
        "age": {"probe": {"1": {"mae": value(3), "r2": value(0.2)}}},
    },
}


def test_comparison() -> None:
    table = html.comparison(METRICS, {"one": "comet", "two": "simclr"})
    assert len(table) == 5
    assert table["recipe"].tolist() == ["comet", "comet", "simclr", "simclr", "simclr"]
    assert table["label_fraction"].tolist() == [1.0, 0.1, 1.0, 1.0, 1.0]
    assert table["metric"].tolist() == ["auroc"] * 4 + ["r2"]
    assert table["mean"].tolist() == [0.8, 0.7, 0.9, 0.6, 0.2]


def test_wide_table_has_a_row_per_run_and_label() -> None:
    header, rows = html._wide(html.comparison(METRICS, {"one": "comet", "two": "simclr"}))
    assert header[4:] == ["probe", "knn"]
    assert [row[:3] for row in rows] == [
        ["one", "comet", "disease (auroc)"],
        ["two", "simclr", "disease (auroc)"],
        ["two", "simclr", "age (r2)"],
    ]
    assert rows[0][4:] == ["0.80 [0.70, 0.90]", ""]
    assert rows[1][5] == "0.60 [0.50, 0.70]"


def test_without_a_fraction_of_one_the_largest_is_shown_and_named() -> None:
    """Runs with `fractions: [0.1, 0.01]` showed the permuted labels alone."""
    probe = {"0.1": {"auroc": value(0.7)}, "0.01": {"auroc": value(0.6)}}
    run = {"disease": {"probe": probe, "permuted_labels": {"1": {"auroc": value(0.5)}}}}
    header, rows = html._wide(html.comparison({"one": run}, {}))
    assert header[4:] == ["probe", "permuted_labels"]
    assert rows[0][4:] == ["0.70 [0.60, 0.80] at 10 %", "0.50 [0.40, 0.60]"]


def test_too_few_and_left_out_and_crossing(tmp_path: Path) -> None:
    for name in ("curves.png", "label_efficiency.png"):
        (tmp_path / name).write_bytes(b"")
    few = {"mean": -2.6, "lo": None, "hi": None, "n_patients": 4, "seeds": 2, "too_few": "n=4"}
    metrics = {
        "age": {"probe": {"1": {"r2": few}}, "knn": {"1": {"r2": {**few, "mean": None}}}},
        "sex": {"left_out": "<why>"},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    flow: dict[str, Any] = {
        **{"cohort": "ct", "source": "covid_ct", "samples": 9, "patients": 3, "rejects": {}, "kept": 9, "costs": []},
        **{"exact": 0, "near": 0, "split": {"train": 1, "val": 1, "test": 1}, "leaks": 2, "crossing_patients": 2},
    }
    page, table = html.render([flow], {}, {"one": tmp_path}, {"one": "comet"}, {"one": []})
    assert "<td>4</td><td>-2.60 too few (n=4)</td><td>too few (n=4)</td>" in page
    assert "<li>one, sex: &lt;why&gt;</li>" in page
    assert "ct: WARNING: 2 patients are in more than one part" in page
    assert table["label"].tolist() == ["age", "age"]
    clean, _ = html.render([{**flow, "crossing_patients": 0}], {}, {"one": tmp_path}, {"one": "comet"}, {"one": []})
    assert "WARNING" not in clean
    (tmp_path / "metrics.json").write_text(json.dumps({"sex": {"left_out": "why"}}))
    page, table = html.render([], {}, {"one": tmp_path}, {"one": "comet"}, {"one": []})
    assert "one, sex: why" in page
    assert not len(table)


@pytest.mark.parametrize("known", [True, False])
def test_page_tells_what_limits_cost(tmp_path: Path, known: bool) -> None:
    for name in ("curves.png", "label_efficiency.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS["one"]))
    costs = [{"limit": "max_flat", "value": 0.5, "refused": 3, "shares": {"0.1": 0.25, "0.9": None}}]
    flow: dict[str, Any] = {
        **{"cohort": "ecg", "source": "ptbxl", "samples": 9, "patients": 3, "rejects": {"flat": 3}, "kept": 9},
        **{"exact": 0, "near": 0, "split": {"train": 1, "val": 1, "test": 1}, "leaks": 0},
        "costs": costs if known else [],
    }
    page, _ = html.render([flow, {**flow, "costs": []}], {}, {"one": tmp_path}, {"one": "comet"}, {"one": []})
    assert ("What limits on quality cost" in page) == known
    if known:
        assert "<th>at 0.1</th><th>at 0.9</th>" in page
        assert "<td>max_flat</td>\n<td>0.5</td><td>3</td>\n<td>25.0 %</td><td>–</td>" in page
