"""The table behind the report."""

from __future__ import annotations

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
