"""Differences of made-up predictions against a slow loop, and how they are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.ablate import page, table
from medssl.ablate.factors import Ablation, Cell
from medssl.evaluate.compare import compare_runs

N, FOLDS, SEEDS = 60, 3, 3


def predictions(
    strength: float, *, seed: int, folds: int = 0, n: int = N, protocols: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return predictions of a binary label at two label fractions; ``folds`` shifts who is tested where."""
    truth = np.random.default_rng(0).integers(2, size=N)[:n]
    rng = np.random.default_rng(seed)
    parts = []
    for protocol in ("probe", *protocols):
        for fraction in (1.0, 0.1):
            for number in range(SEEDS):
                z = strength * fraction * truth + rng.normal(size=n)
                p = 1 / (1 + np.exp(-z))
                same = {"task": "norm", "kind": "class", "protocol": protocol, "fraction": fraction, "repeat": 0}
                same |= {"seed": number, "training": number, "unit": "patient", "classes": "no|yes"}
                who = {"id": np.arange(n).astype(str), "patient": np.arange(n), "fold": (np.arange(n) + folds) % FOLDS}
                said = {"truth": np.array(["no", "yes"])[truth], "scores": list(np.stack([1 - p, p], 1))}
                parts.append(pd.DataFrame(same | who | said))
    return pd.concat(parts, ignore_index=True)


def written(folder: Path, made: pd.DataFrame, seen: dict[str, Any] | None = None) -> None:
    (folder / "crossfit").mkdir(parents=True)
    made.to_parquet(folder / "crossfit" / "predictions.parquet")
    (folder / "crossfit" / "metrics.json").write_text(json.dumps(seen or {"norm": {}}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    runs = tmp_path / "base" / "data" / "runs"
    written(runs / "base", predictions(1.0, seed=1, protocols=("random_init",)))
    written(runs / "good", predictions(6.0, seed=2), {"norm": {"seen": ["a", "b"]}})
    written(runs / "same", predictions(1.0, seed=3, folds=1))
    written(runs / "fewer", predictions(1.0, seed=4, n=N - 1))
    return runs


CELLS = [
    Cell("toy", "good", "base", "good", "probe", ("norm", "gone")),
    Cell("toy", "same", "base", "same", "probe", ("norm",)),
    Cell("toy", "fewer", "base", "fewer", "probe", ("norm",)),
    Cell("toy", "none", "base", "base", "random_init", ("norm",)),
    Cell("toy", "knn", "base", "base", "knn", ("norm",)),
    Cell("toy", "not", "base", "base", "probe", ("norm",), "the recipe does not"),
]


def auroc(made: pd.DataFrame, protocol: str, fraction: float) -> float:
    """Return the mean over seeds of the share of pairs within folds that are ordered rightly, one pair at a time."""
    values = []
    for number in range(SEEDS):
        some = made[(made["protocol"] == protocol) & (made["fraction"] == fraction) & (made["seed"] == number)]
        rows = some.to_dict("records")
        right = [
            float(yes["scores"][1] > no["scores"][1])
            for yes in rows
            for no in rows
            if yes["truth"] == "yes" and no["truth"] == "no" and yes["fold"] == no["fold"]
        ]
        values.append(np.mean(right))
    return float(np.mean(values))


def test_differences_are_those_of_a_slow_loop_with_the_intervals_of_compare(runs: Path) -> None:
    made = table.differences(CELLS, runs.parents[2])
    assert list(made.columns) == list(table.COLUMNS)
    own = pd.read_parquet(runs / "base/crossfit/predictions.parquet")
    for level, run, protocol in (("good", "good", "probe"), ("same", "same", "probe"), ("none", "base", "random_init")):
        other = pd.read_parquet(runs / run / "crossfit/predictions.parquet")
        for fraction in (1.0, 0.1):
            row = made[(made["level"] == level) & (made["label"] == "norm") & (made["fraction"] == fraction)].iloc[0]
            base, value = auroc(own, "probe", fraction), auroc(other, protocol, fraction)
            assert (row["base"], row["value"]) == pytest.approx((base, value), abs=1e-9)
            assert row["mean"] == pytest.approx(value - base, abs=1e-9)
            assert row["lo"] < row["mean"] < row["hi"]
            assert (row["n_patients"], row["trainings"], row["seeds"], row["folds"]) == (N, SEEDS, SEEDS, FOLDS)
    good = made[(made["level"] == "good") & (made["fraction"] == 1.0)].iloc[0]
    by_compare = compare_runs([runs / "base", runs / "good"])
    text = by_compare.query("protocol == 'probe' and fraction == 1")["good - base"].iloc[0]
    assert text.startswith(f"{good['mean']:+.3f} [{good['lo']:+.3f}, {good['hi']:+.3f}], ")
    assert good["note"] == "better"


def test_a_row_says_what_it_stands_on(runs: Path) -> None:
    made = table.differences(CELLS, runs.parents[2]).set_index(["level", "label", "fraction"]).sort_index()
    assert made.loc[("good", "norm", 1.0), "seen"] == "a, b"
    assert np.isnan(made.loc[("good", "norm", 1.0), "untrained"])
    own = pd.read_parquet(runs / "base/crossfit/predictions.parquet")
    assert made.loc[("none", "norm", 1.0), "untrained"] == pytest.approx(auroc(own, "random_init", 1.0))
    assert made.loc[("same", "norm", 1.0), "note"].endswith("; other folds, trainings not paired")
    assert "folds" not in made.loc[("none", "norm", 1.0), "note"]
    assert made.loc[("fewer", "norm", 1.0), "note"] == "other patients or units are tested"
    assert made.loc[("knn", "norm", 1.0), "note"] == "the level has no results of protocol knn"
    notes = made["note"].groupby(level="level").first()
    assert notes["not"] == "the recipe does not"
    assert "the base run has no results of this label" in set(made["note"])
    assert len(made.loc["not"]) == 1


def test_levels_that_are_all_refused_need_no_results(tmp_path: Path) -> None:
    made = table.differences([CELLS[-1]], tmp_path)
    assert made["note"].tolist() == ["the recipe does not"]
    assert table.by_chance(made).startswith("0 of 0 intervals")


def row(**more: Any) -> dict[str, Any]:
    same = {"factor": "f", "level": "a", "run": "r", "label": "l", "fraction": 1.0, "metric": "auroc", "base": 0.7}
    same |= {"value": 0.72, "mean": 0.02, "lo": -0.01, "hi": 0.05, "n_patients": 9, "seen": "", "note": "within noise"}
    return same | more


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "+0.02 [-0.01, +0.05]"),
        ({"lo": 0.011}, "+0.02 [+0.01, +0.05] ▲"),
        ({"mean": -0.04, "lo": -0.06, "hi": -0.011}, "-0.04 [-0.06, -0.01] ▼"),
        ({"seen": "a"}, "+0.02 [-0.01, +0.05] (seen)"),
        ({"note": "better; other folds, trainings not paired"}, "+0.02 [-0.01, +0.05] (other folds)"),
        ({"lo": None, "hi": None, "note": "too few (n=4)"}, "+0.02, too few (n=4)"),
        ({"mean": None, "lo": None, "hi": None, "note": "why"}, "why"),
    ],
)
def test_a_cell(more: dict[str, Any], text: str) -> None:
    assert table.cell(row(**more)) == text


def test_the_table_factor_by_run_and_what_chance_brings() -> None:
    rows = [row(), row(run="s", lo=0.01), row(level="b", fraction=0.1), row(level="c", label="m", lo=0.01)]
    rows.append(row(level="d", label="", fraction=None, mean=None, lo=None, hi=None, note="why | not"))
    made = pd.DataFrame(rows).astype({"lo": float, "hi": float})
    header, lines = table.wide(made, 1.0)
    assert header == ["factor", "level", "r", "s"]
    assert lines == [
        ["f", "a", ["l +0.02 [-0.01, +0.05]"], ["l +0.02 [+0.01, +0.05] ▲"]],
        ["f", "c", ["m +0.02 [+0.01, +0.05] ▲"], []],
        ["f", "d", ["why | not"], []],
    ]
    lines[0][2] *= 2
    assert page.markdown(header, lines).count("| l +0.02 [-0.01, +0.05]<br>l +0.02 [-0.01, +0.05] |") == 1
    assert "| f | d | why \\| not |  |" in page.markdown(header, lines).splitlines()
    assert table.by_chance(made).startswith(
        "2 of 4 intervals of 95 % exclude 0; if no level changed anything, about 0.2 "
    )


def test_pages_say_what_counted(runs: Path, tmp_path: Path) -> None:
    made = table.differences(CELLS, runs.parents[2])
    levels = {"x": {"seeds": 1}}
    asked = {"like": "p", "factors": {"toy": {"question": "Is <it> so?", "runs": {"base": ["norm"]}, "levels": levels}}}
    lines = page.write(tmp_path / "out", Ablation.model_validate(asked), made, ["far: its recordings are not there"])
    good = next(line for line in lines if "at 100 % of labels" in line)
    assert good.startswith("toy: good is better than base on norm at 100 % of labels: AUROC ")
    assert "toy: not of base: the recipe does not" in lines
    assert lines[-1] == "far: its recordings are not there."
    html, text = ((tmp_path / "out" / f"ablation.{kind}").read_text("utf-8") for kind in ("html", "md"))
    assert "Is &lt;it&gt; so?" in html
    assert html.count("<img") == 1
    assert '<span class="up">norm +' in html
    for line in lines:
        assert line.removeprefix("toy: ") in text
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out/ablation.parquet"), made, check_dtype=False)
