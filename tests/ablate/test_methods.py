"""The document of a comparison: its words follow from the signs of intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.ablate import factors, methods, page, table
from medssl.ablate.factors import Ablation
from medssl.config import Run
from tests.ablate.test_factors import RUNS
from tests.ablate.test_table import CELLS, predictions, row, runs, written

__all__ = ["runs"]  # a fixture
ROOT = Path(__file__).parents[2]


def rows(*of: dict[str, Any]) -> pd.DataFrame:
    made = pd.DataFrame([row(run="ecg", label="sex") | one for one in of])
    return made.astype({"lo": float, "hi": float, "fraction": float})


BETTER, WORSE, SAME = {"lo": 0.01, "hi": 0.1}, {"lo": -0.1, "hi": -0.01}, {"lo": -0.1, "hi": 0.1}


@pytest.mark.parametrize(
    ("of", "note", "said"),
    [
        ([BETTER, SAME], "small data", "small data; here better on ecg sex (100 %)"),
        ([BETTER, BETTER | {"fraction": 0.1}], "", "here better on ecg sex (100 %, 10 %)"),
        ([WORSE, SAME], "small data", "small data, but here worse on ecg sex (100 %)"),
        (
            [BETTER, WORSE | {"label": "age"}],
            "small data",
            "small data; here better on ecg sex (100 %), worse on ecg age (100 %)",
        ),
        ([SAME, SAME], "small data", "small data; here within noise of the base run in all 2 differences"),
        ([BETTER | {"seen": "sex"}, SAME], "", "here within noise of the base run in all 1 differences"),
        ([BETTER | {"seen": "sex", "note": "better"}], "", "here pretraining read what states all labels"),
        ([{"lo": None, "hi": None, "note": "no measure"}], "images", "images; not measured here: no measure"),
    ],
)
def test_advice_follows_from_the_signs_of_intervals(of: list[dict[str, Any]], note: str, said: str) -> None:
    assert methods.advice(rows(*of), note) == said


LEVELS = {name: {"seeds": 2} for name in ("good", "same", "fewer", "none", "knn", "not")}
TOY = {"question": "Which is | better?", "runs": {"base": ["norm"]}, "levels": LEVELS, "notes": {"good": "small data"}}
ASKED = Ablation.model_validate({"like": "p", "factors": {"toy": TOY}})
BASES = {"base": Run.model_validate(RUNS["one"] | {"pretrain": {"epochs": 2, "steps_per_epoch": 5}})}


def test_levels_that_begin_with_the_base_run_are_named(runs: Path) -> None:
    out = runs.parents[2]
    tables = {"ablation": table.differences(CELLS, out)}
    assert "begin with" not in methods.render(ASKED, BASES, tables)
    toy = TOY | {"levels": LEVELS | {"on": {"base": {"start": "base"}}}}
    text = methods.render(Ablation.model_validate({"like": "p", "factors": {"toy": toy}}), BASES, tables)
    assert "its steps come before their own, and are not in their costs. They are `on`." in text


def test_the_document(runs: Path, tmp_path: Path) -> None:
    out = runs.parents[2]
    kinds = ("random_init", "handcrafted", "demographics")
    written_anew(runs / "base", predictions(1.0, seed=1, protocols=kinds))
    written_anew(runs / "good", predictions(6.0, seed=2))
    tables = {"ablation": table.differences(CELLS, out), "baselines": table.against_baselines(CELLS, out)}
    tables["collapse"] = pd.DataFrame(
        [{"run": "base", "level": level, "rankme": 3.21, "deviation": 0.5} for level in ("", "good", "same")]
    ).reindex(columns=["run", "level", *methods.SHOWN])
    cost = {"run": "base", "level": "good", "time": 1.54, "time_lo": 1.5, "time_hi": 1.6, "memory": 2.0}
    tables["costs"] = pd.DataFrame([cost])
    text = methods.render(ASKED, BASES, tables)
    assert text.startswith("# Methods\n")
    assert "Nothing is tuned" in text
    assert "| `good` | small data; here better on base norm (100 %" in text
    assert "| 1.5x | 2.0x |" in text
    assert "- 10 steps of 64 samples" in text
    assert "- test patients: norm 60, in 3 folds" in text
    assert "not measured here: the recipe does not" in text
    assert "| `good` | 3.21 |  | 0.5 |  |  | 1.54 [1.50, 1.60] | 2.00 |" in text
    assert "Gain over the untrained encoder, 100 % of labels:" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")
    assert "nan" not in text.lower()
    assert methods.render(ASKED, BASES, tables) == text
    # A table that was not asked for is left out.
    alone = methods.render(ASKED, BASES, {"ablation": tables["ablation"]})
    assert "RankMe, projection" not in alone
    assert "Gain over `simclr`, 100 % of labels:" in alone


def written_anew(folder: Path, made: pd.DataFrame) -> None:
    for path in sorted((folder / "crossfit").iterdir()):
        path.unlink()
    (folder / "crossfit").rmdir()
    written(folder, made)


def test_the_best_baseline_is_chosen_in_its_favour(runs: Path) -> None:
    own = predictions(1.0, seed=1, protocols=("random_init", "demographics", "handcrafted"))
    # One of them is told by the truth.
    told = (own["protocol"] == "demographics") & (own["fraction"] == 0.1)
    own.loc[told, "scores"] = pd.Series(
        [np.eye(2)[int(truth == "yes")] for truth in own.loc[told, "truth"]], index=own.index[told]
    )
    written_anew(runs / "base", own)
    made = table.against_baselines(CELLS, runs.parents[2]).set_index(["level", "fraction", "against"]).sort_index()
    assert {against for level, fraction, against in made.index if fraction == 0.1} == {"random_init", "demographics"}
    assert {level for level, *_ in made.index} == {"", "good", "same"}
    best = made.loc[("good", 0.1, "demographics")]
    assert best["other"] == pytest.approx(1)
    assert best["mean"] == pytest.approx(best["value"] - best["other"])
    assert best["hi"] < 0
    assert best["note"] == "worse"


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ablation\.parquet: no such file; run medssl ablate FILE --out"):
        methods.read(tmp_path)


def test_the_document_is_made_of_the_stored_results() -> None:
    asked = factors.read(ROOT / "params.methods.yaml")
    tables = methods.read(ROOT / "studies" / "methods")
    made = methods.render(asked, methods.runs_of(asked, ROOT, tables), tables)
    assert made == (ROOT / "docs" / "methods.md").read_text("utf-8")
    # Each recipe has a row, with numbers or the reason why there are none.
    for level in asked.factors["recipe"].levels:
        assert f"| `{level}` |" in made


def test_the_document_of_factors_is_made_of_the_stored_results() -> None:
    asked = factors.read(ROOT / "params.ablation.yaml")
    made = page.text(asked, pd.read_parquet(ROOT / "studies" / "ablation" / "ablation.parquet"))
    assert made == (ROOT / "docs" / "ablation.md").read_text("utf-8")
