"""What a cohort lacks for a level, and where its patients are tested, is told before anything is trained."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from medssl import config
from medssl.ablate import refusals
from medssl.ablate.factors import Cell
from medssl.store import Store
from tests.ablate.test_factors import RUNS


def test_measures_and_labels_that_a_cohort_lacks(signal_store: Store) -> None:
    def reason(labels: list[str], measure: str | None = None) -> str:
        recipe = {"recipe": "anatomy", "pretrain": {"options": {"measures": [measure]}}} if measure else {}
        run = RUNS["one"] | recipe | {"evaluate": {"labels": labels}}
        return refusals.of_cohort(config.Run.model_validate(run), signal_store.table)

    assert reason(["disease"]) == reason(["disease"], "liver_ml") == ""
    assert "no measure 'spleen_ml'; the cohort has: age_years, liver_ml" in reason(["disease"], "spleen_ml")
    assert "no label 'gone'" in reason(["gone"])


def test_patients_of_a_level_are_those_of_its_base_run_in_the_same_folds(signal_store: Store) -> None:
    cell = Cell("toy", "a", "base", "own", "probe", ("disease",))
    run = config.Run.model_validate(RUNS["one"] | {"evaluate": {"labels": ["disease"]}})
    runs = {"base": run, "own": run.model_copy(update={"modality": "ecg--a"})}
    whole, shape = signal_store.table, tuple(signal_store.facts["shape"])
    shapes = {"ecg": shape, "ecg--a": shape}
    codes = whole["patient"].factorize()[0]

    def folded(held: int) -> pd.DataFrame:
        """Return the table with two folds, the first of which tests the patients whose number is even, and ``held``."""
        first = (codes % 2 == 0) | (codes == held)
        parts = {"split@0": first, "split@1": ~first}
        return whole.assign(
            **{name: pd.Series(test).map({True: "test", False: "train"}) for name, test in parts.items()}
        )

    base = folded(0)
    same = {"ecg": base, "ecg--a": base.sample(frac=1, random_state=0)}
    assert refusals.of_cell(cell, runs, same, shapes) == ""
    assert refusals.moved([cell], runs, same) == []
    other = {"ecg": base, "ecg--a": folded(3)}
    assert refusals.of_cell(cell, runs, other, shapes) == ""
    said = f"ecg--a: 1 of {codes.max() + 1} patients are tested in other folds than in ecg"
    assert refusals.moved([cell], runs, other) == [said]
    fewer = {"ecg": base, "ecg--a": base[codes > 1]}
    assert refusals.of_cell(cell, runs, fewer, shapes).startswith(
        "2 patients are in the cohort of the level or of base alone"
    )
    # Without its base run nothing can be compared.
    gone = runs | {"base": run.model_copy(update={"evaluate": config.Evaluate(labels=("gone",))})}
    assert "gone" in refusals.of_cell(cell, gone, same, shapes)


@pytest.mark.parametrize(
    ("changes", "shape", "reason"),
    [
        ({"encoder": {"name": "resnet1d", "crop": 999}}, (2, 200), "encoder.crop 999: samples have 200 steps"),
        ({"encoder": {"name": "resnet1d", "crop": 100}}, (2, 200), ""),
        ({"recipe": "comet"}, (2, 200), "this recipe needs an encoder with a feature map"),
        ({"pretrain": {"predict": {"name": "spectrum"}}, "encoder": {"name": "resnet2d"}}, (1, 32, 32), "for signals"),
        ({"recipe": "anatomy", "pretrain": {"options": {"measures": ["liver_ml"]}}}, (2, 200), ""),
    ],
)
def test_networks_that_cannot_be(
    signal_store: Store, changes: dict[str, Any], shape: tuple[int, ...], reason: str
) -> None:
    run = config.Run.model_validate(RUNS["one"] | changes | {"evaluate": {}})
    said = refusals.of_network(run, signal_store.table, shape)
    assert reason in said
    assert bool(reason) == bool(said)


def test_a_monitor_label_that_the_cohort_lacks(signal_store: Store) -> None:
    run = RUNS["one"] | {"pretrain": {"monitor_label": "gone"}, "evaluate": {"labels": ["disease"]}}
    assert "gone" in refusals.of_cohort(config.Run.model_validate(run), signal_store.table)
