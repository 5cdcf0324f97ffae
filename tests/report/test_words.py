"""Results in words, with the difference to the strongest simple baseline."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl.report import paired, stored, words
from tests.report.made_up import FEW, crossfitted_run, differences, results, value, write_run


def test_a_line_as_people_read_it(tmp_path: Path) -> None:
    run = stored.read(crossfitted_run(tmp_path))
    before = "one, norm: AUROC 0.80 [0.70, 0.90], n = 40 patients, cross-fitted, 5 folds, 3 trainings; "
    table = paired.complete(differences())
    assert words.sentence("one", run, "norm", table) == (
        before + "+0.01 [-0.01, +0.03] against minirocket: within noise"
    )
    # Without a difference the baseline's own value stands there.
    assert words.sentence("one", run, "norm", None) == before + "minirocket 0.75 [0.65, 0.85]"
    assert words.sentence("one", run, "quality", table) == "one, quality: left out: one class"
    assert "; seen in pretraining (age_years)" in words.sentence("one", run, "seen_age", table)


def test_a_line_of_a_run_of_before(tmp_path: Path) -> None:
    run = stored.read(write_run(tmp_path, {"age": {"knn": {"0.1": {"mae": FEW, "r2": FEW}}}}))
    line = "one, age: R² 0.90 too few (n=4) at 10 %, n = 4 patients, fixed split, 2 seeds"
    assert words.sentence("one", run, "age", None) == line


def test_the_main_label_was_not_seen() -> None:
    assert words.main_label(results()) == "norm"
    assert words.main_label({"a": {"left_out": "x"}, "b": {"seen": ["c"], "probe": {"1": {}}}}) == "b"
    assert words.main_label({"a": {"left_out": "x"}}) is None
    assert words.main_label({}) is None


def test_the_strongest_baseline() -> None:
    of_task = results()["norm"]
    assert words.strongest(of_task) == "minirocket"
    assert words.strongest({**of_task, "handcrafted": {"1": {"auroc": value(0.76)}}}) == "handcrafted"
    # A network from scratch is not simple, and one without a value is not strong.
    assert words.strongest({"supervised": {"1": {"auroc": value(0.9)}}}) is None
    assert words.strongest({"demographics": {"1": {"auroc": {**FEW, "mean": None}}}}) is None


@pytest.mark.parametrize(
    ("lo", "hi", "note", "said"),
    [(0.1, 0.2, "", "better"), (-0.2, -0.1, "", "worse"), (-0.1, 0.1, "", "within noise"),
     (0.0, 0.1, "", "within noise"), (None, None, "too few (n=4)", "too few (n=4)"),
     (float("nan"), float("nan"), None, "no interval")],
)  # fmt: skip
def test_verdicts(lo: float | None, hi: float | None, note: str | None, said: str) -> None:
    assert paired.verdict({"lo": lo, "hi": hi, "note": note}) == said


def test_differences_need_their_columns() -> None:
    assert paired.complete(differences())["protocol"].eq("probe").all()
    with pytest.raises(ValueError, match=r"no column p, note; expected run, task, against"):
        paired.complete(differences().drop(columns=["p", "note"]))


def test_panels_of_the_forest() -> None:
    tuned = differences().assign(protocol="finetune").query("against == 'supervised'")
    gain = differences().assign(protocol="demographics_probe").query("against == 'demographics'")
    both = (
        differences()
        .assign(protocol="handcrafted_probe")
        .query("against == 'minirocket'")
        .assign(against="handcrafted")
    )
    table = pd.concat([paired.complete(differences()), tuned, gain, both], ignore_index=True)
    rows, panels = paired.panels(table, {("one", "norm"): "minirocket"})
    assert rows == ["one, norm"]
    assert {heading: list(panel["against"]) for heading, panel in panels.items()} == {
        "probe - strongest simple baseline": ["minirocket"],
        "probe - untrained encoder": ["random_init"],
        "probe - network from scratch": ["supervised"],
        "fine-tuned - network from scratch": ["supervised"],
        "with demographics - demographics": ["demographics"],
        "with features of the field - features of the field": ["handcrafted"],
    }
    assert paired.panels(table, {})[1].keys() == panels.keys() - {"probe - strongest simple baseline"}
    assert list(paired.between_runs(table)["row"]) == ["one - two, norm"]


def test_what_intervals_cover() -> None:
    assert words.covered(results()) == "patients and training"
    old = {"a": {"probe": {"1": {"auroc": value(0.5)}}}}
    assert words.covered(old) == "patients"
    shuffled = {"1": {"auroc": value(0.5, covers="orders")}}
    assert words.covered({"a": {**old["a"], "permuted_labels": shuffled}}) == "patients"
    assert words.covered({**results(), **old}) == "patients and training, elsewhere patients"
    assert words.covered({"a": {"probe": {"1": {"auroc": FEW}}}, "b": {"left_out": "x"}}) == ""


def test_names_of_metrics() -> None:
    assert [words.named(name) for name in ("auroc", "r2", "auroc/MI", "other")] == [
        "AUROC", "R²", "AUROC of MI", "other"
    ]  # fmt: skip
