"""Costs of a step, measured in turns through the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medssl import config
from medssl.ablate import costs, factors
from medssl.ablate.factors import Cell
from medssl.config import Compute, Run
from medssl.pretrain import fit
from medssl.store import Store
from tests.ablate.test_factors import RUNS

CPU = Compute(accelerator="cpu", progress=False)


def a_run(**more: Any) -> Run:
    pretrain = {"epochs": 2, "steps_per_epoch": 4, "batch": {"patients": 6, "trials": 1, "samples": 2}}
    return Run.model_validate(RUNS["one"] | {"pretrain": pretrain | more.pop("pretrain", {}), "evaluate": {}} | more)


def test_a_step_is_timed_and_nothing_is_left_behind(signal_store: Store) -> None:
    found = costs.seconds(signal_store, a_run(), CPU, steps=3)
    assert len(found) == 3
    assert all(0 < one < 10 for one in found)
    # A run that ends before is measured as far as it goes.
    assert len(costs.seconds(signal_store, a_run(pretrain={"epochs": 1}), CPU, steps=9)) == 4 - costs.FIRST


def test_four_views_need_more_than_two(signal_store: Store) -> None:
    two, again = (costs.peak_bytes(signal_store, a_run(), CPU) for _ in range(2))
    four = costs.peak_bytes(signal_store, a_run(recipe="multiview"), CPU)
    assert two == pytest.approx(again, rel=0.05)
    assert four > 1.2 * two
    batch = 12 * signal_store[0].nbytes
    assert 2 * batch < two < 5000 * batch


def test_what_comes_before_the_steps_is_no_memory_of_a_step(
    signal_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, held = costs.peak_bytes(signal_store, a_run(), CPU), 2**28
    whole = fit.drawn

    def large(*args: Any, **more: Any) -> Any:
        torch.ones(held // 4)
        return whole(*args, **more)

    monkeypatch.setattr(fit, "drawn", large)
    assert plain < held / 2
    assert costs.peak_bytes(signal_store, a_run(), CPU) == pytest.approx(plain, rel=0.05)


def test_ratios_are_to_the_base_run_and_turns_alternate(
    signal_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = signal_store.facts["modality"]
    raw = {"base": a_run(), "good": a_run(recipe="multiview")}
    runs = {name: run.model_copy(update={"modality": key}) for name, run in raw.items()}
    params = config.Params.model_construct(runs=runs, compute=CPU)
    monkeypatch.setattr(config, "load", lambda path: params)
    monkeypatch.setattr(factors, "cohort", lambda home, name: signal_store)
    asked: list[str] = []

    def seconds(store: Store, run: Run, compute: Compute, *, steps: int) -> list[float]:
        asked.append(run.recipe)
        return [{"simclr": 2.0, "multiview": 3.0 if len(asked) < 3 else 5.0}[run.recipe]] * steps

    monkeypatch.setattr(costs, "seconds", seconds)
    monkeypatch.setattr(costs, "peak_bytes", lambda store, run, compute: {"simclr": 10, "multiview": 25}[run.recipe])
    cells = [
        Cell("toy", "good", "base", "good", "probe", ("norm",)),
        Cell("toy", "not", "base", "base", "probe", ("norm",), "the recipe does not"),
    ]
    made = costs.measured(cells, tmp_path, steps=4).set_index("level")
    assert asked == ["simclr", "multiview"] * costs.TURNS
    assert list(made.index) == ["", "good"]
    assert made.loc["good", ["time_lo", "time", "time_hi", "memory"]].tolist() == [1.5, 2.0, 2.5, 2.5]
    assert made.loc["", ["time", "memory"]].tolist() == [1.0, 1.0]
    assert not len(costs.measured(cells[1:], tmp_path, steps=4))
