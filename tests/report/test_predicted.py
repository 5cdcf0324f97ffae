"""What is drawn of predictions is what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from medssl.report import predicted
from tests.report.made_up import predictions, results


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("predictions") / "predictions.parquet"
    predictions().to_parquet(path)
    return predicted.read(path, results())


def rows(task: str, protocol: str = "probe") -> pd.DataFrame:
    return predictions().query("task == @task and protocol == @protocol and fraction == 1")


def test_only_what_is_drawn_is_read(table: pd.DataFrame) -> None:
    assert set(zip(table["task"], table["protocol"], strict=True)) == {
        (task, protocol) for task in ("norm", "rhythm", "age") for protocol in ("probe", "minirocket")
    }
    assert set(table["fraction"]) == {1.0}
    assert len(table) == 3 * 2 * 2 * 40


def test_calibration_curves(table: pd.DataFrame) -> None:
    curves = predicted.calibrations(table, results())
    assert {task: list(of) for task, of in curves.items()} == {"norm": ["probe", "minirocket"]}
    curve, error = curves["norm"]["probe"]
    ours = rows("norm")
    scores = np.stack(list(ours["scores"]))[:, 1].astype(float)
    observed, mean = calibration_curve(ours["truth"] == "yes", scores, n_bins=10)
    np.testing.assert_allclose(curve["observed"], observed)
    np.testing.assert_allclose(curve["predicted"], mean)
    assert error == 0.2  # of metrics.json
    other, own = curves["norm"]["minirocket"]  # which has none there
    gaps = [(abs(p - o) * n) for p, o, n in zip(other["predicted"], other["observed"], other["n"], strict=True)]
    assert own == pytest.approx(sum(gaps) / 80)


def test_decision_curves(table: pd.DataFrame) -> None:
    curve = predicted.decided(table)["norm"]["probe"]
    ours = rows("norm")
    scores, truth = np.stack(list(ours["scores"]))[:, 1], (ours["truth"] == "yes").to_numpy()
    for t, model in zip(curve["threshold"], curve["model"], strict=True):
        treated = scores >= t
        benefit = ((treated & truth).sum() - (treated & ~truth).sum() * t / (1 - t)) / len(truth)
        assert model == pytest.approx(benefit)
    assert curve["all"].iloc[0] == pytest.approx(truth.mean(), abs=0.01)


def test_confusion(table: pd.DataFrame) -> None:
    shares = predicted.confused(table, results())
    assert list(shares) == ["norm", "rhythm"]
    ours = rows("rhythm")
    said = np.array(list("abc"))[np.stack(list(ours["scores"])).argmax(1)]
    np.testing.assert_allclose(shares["rhythm"], confusion_matrix(ours["truth"], said, normalize="true"))
    # A class that no test unit has is a row without shares, not a division by zero.
    lacking = predicted.confused(table[(table["task"] != "rhythm") | (table["truth"] != "c")], results())
    assert lacking["rhythm"].loc["c"].isna().all()
    assert lacking["rhythm"].loc["a"].sum() == pytest.approx(1)


def test_numbers(table: pd.DataFrame) -> None:
    drawn = predicted.numbers(table, results())
    assert list(drawn) == ["age"]
    np.testing.assert_allclose(drawn["age"]["truth"], rows("age")["truth"].astype(float))
    np.testing.assert_allclose(drawn["age"]["predicted"], np.stack(list(rows("age")["scores"]))[:, 0])


def test_one_class_or_few_patients_draw_nothing(table: pd.DataFrame) -> None:
    assert predicted.probabilities(table[table["truth"] == "yes"]) == {}
    margins = table.assign(scores=[3 * scores for scores in table["scores"]])
    assert predicted.probabilities(margins) == {}
    few = table[(table["task"] == "norm") & (table["patient"] < predicted.LEAST - 1)]
    assert predicted.probabilities(few) == {}


def test_tables_of_before_draw_nothing(tmp_path: Path) -> None:
    predictions().drop(columns="kind").to_parquet(tmp_path / "predictions.parquet")
    table = predicted.read(tmp_path / "predictions.parquet", results())
    assert predicted.confused(table, results()) == {}
    assert predicted.calibrations(table, results()) == {}
    assert predicted.numbers(table, results()) == {}


def test_labels_that_were_left_out_draw_nothing(tmp_path: Path) -> None:
    predictions().to_parquet(tmp_path / "predictions.parquet")
    assert not len(predicted.read(tmp_path / "predictions.parquet", {"norm": {"left_out": "why"}}))
