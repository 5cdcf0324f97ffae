"""The table of what may change, a user's own rows, and how a run takes values."""

from __future__ import annotations

import json
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from medssl.config import OPTIONS, Run
from medssl.config.run import Predict
from medssl.tune import space
from tests.tune.conftest import RUN

SETTING = space.Setting("simclr", "resnet1d", "ecg", 12, 2.0, 3.0)


def run_of(**pretrain: Any) -> Run:
    return Run.model_validate(RUN | {"pretrain": RUN["pretrain"] | pretrain})


@pytest.mark.parametrize("recipe", OPTIONS)
@pytest.mark.parametrize("encoder", ["resnet1d", "dilated1d"])
def test_every_row_is_a_key_of_the_runs_it_stands_for(recipe: str, encoder: str) -> None:
    widths = {"resnet1d": [4, 4, 8, 8], "dilated1d": [8, 8]}[encoder]
    raw = RUN | {"recipe": recipe, "encoder": {"name": encoder, "widths": widths, "depth": 3}}
    raw["pretrain"] = raw["pretrain"] | {"options": OPTIONS[recipe].examples[0]}
    run = Run.model_validate(raw)
    axes, _ = space.axes(space.SPACE, run, SETTING._replace(recipe=recipe, encoder=encoder))
    assert len(axes) >= 8
    assert len({axis.key for axis in axes}) == len(axes)
    for axis in axes:
        own = axis.value(axis.stored())
        assert own == axis.own
        assert axis.draws._contains(axis.draws.to_internal_repr(axis.stored()))
        assert space.applied(run, {axis.key: own}).model_dump(mode="json") == run.model_dump(mode="json")


def test_axes_hold_the_runs_own_value() -> None:
    rows = [
        space.Row("pretrain.lr", "log", (1e-3, 1e-2)),
        space.Row("pretrain.projection_dim", "range", (16, 32)),
        space.Row("pretrain.views", "choice", ("leads", None)),
        space.Row("encoder.widths", "times", (0.5, 1, 2)),
        space.Row("pretrain.epochs", "times", (0.2, 3)),
    ]
    axes, notes = space.axes(rows, run_of(lr=0.05, projection_dim=8), SETTING)
    draws = {axis.key: axis.draws for axis in axes}
    assert draws["pretrain.lr"] == FloatDistribution(1e-3, 0.05, log=True)
    assert draws["pretrain.projection_dim"] == IntDistribution(8, 32)
    assert draws["pretrain.views"] == CategoricalDistribution(["null", '"leads"'])
    assert draws["encoder.widths"] == CategoricalDistribution(["[4, 4, 8, 8]", "[2, 2, 4, 4]", "[8, 8, 16, 16]"])
    assert draws["pretrain.epochs"] == CategoricalDistribution(["1", "3"])  # 0.2 of an epoch is one
    assert notes == []


def test_the_later_row_of_a_key_counts_and_conditions_hold() -> None:
    axes, _ = space.axes(space.SPACE, run_of(), SETTING)
    keys = {axis.key: axis.draws for axis in axes}
    assert '"leads"' in keys["pretrain.views"].choices  # type: ignore[attr-defined]
    assert "pretrain.options.decoupled" in keys and "pretrain.options.koleo" not in keys
    one, _ = space.axes(space.SPACE, run_of(), SETTING._replace(channels=1, trials=1.0, samples=1.0))
    few = {axis.key: axis.draws for axis in one}
    assert '"leads"' not in few["pretrain.views"].choices  # type: ignore[attr-defined]
    assert not {"pretrain.batch.trials", "pretrain.batch.samples"} & set(few)


def values_of(key: str, **setting: Any) -> list[Any]:
    """Return the choices that the last row of a key, which counts, has in a setting."""
    rows = [row for row in space.SPACE if row.key == key and row.when(SETTING._replace(**setting))]
    return list(rows[-1].values) if rows else []


@pytest.mark.parametrize(("steps", "crops"), [(0, []), (499, []), (500, [None, 250]), (1000, [None, 250, 500])])
def test_crops_are_for_long_windows_of_recipes_without_a_map(steps: int, crops: list[int | None]) -> None:
    assert values_of("encoder.crop", steps=steps) == crops
    assert values_of("encoder.crop", steps=steps, recipe="comet") == []


def test_what_may_be_predicted() -> None:
    assert values_of("pretrain.predict", modality="ct") == [None, space.LATENT]
    assert values_of("pretrain.predict") == [None, space.LATENT, space.SPECTRUM]
    assert Predict.model_validate(space.SPECTRUM).model_dump() == space.SPECTRUM


def test_a_setting_knows_how_long_signals_are() -> None:
    table = pd.DataFrame({"patient": [1, 1, 2], "trial": [1, 1, 2]})
    for shape, steps in (([12, 1000], 1000), ([1, 24, 24], 0), ([1, 8, 8, 8], 0)):
        assert space.Setting.of(run_of(), {"modality": "ecg", "shape": shape}, table).steps == steps


def test_what_has_no_place_on_a_scale_stays() -> None:
    rows = [space.Row("pretrain.weight_decay", "log", (1e-6, 1e-1)), space.Row("pretrain.lr", "log", (1e-4, 1e-2))]
    axes, notes = space.axes(rows, run_of(weight_decay=0), SETTING)
    assert [axis.key for axis in axes] == ["pretrain.lr"]
    assert notes == ["pretrain.weight_decay is 0.0, which has no place on a scale; it stays"]
    with pytest.raises(ValueError, match=r"nothing to search; pretrain.weight_decay is 0.0"):
        space.axes(rows[:1], run_of(weight_decay=0), SETTING)
    with pytest.raises(ValueError, match=r"pretrain.options.koleo: a run of recipe simclr has no such key"):
        space.axes([space.Row("pretrain.options.koleo", "range", (0.0, 1.0))], run_of(), SETTING)


def test_rows_that_a_user_names() -> None:
    words = ["pretrain.lr", "pretrain.clip=1..3", "pretrain.temperature=0.01..1", "pretrain.views=[null, leads]"]
    lr, clip, temperature, views = space.named([*words[:3], words[3]])
    assert lr in space.SPACE
    assert clip[:3] == ("pretrain.clip", "range", (1, 3))
    assert temperature[:3] == ("pretrain.temperature", "log", (0.01, 1))
    assert views[:3] == ("pretrain.views", "choice", (None, "leads"))
    (nested,) = space.named(["encoder.widths=[[4, 4, 4, 4], [8, 8, 8, 8]]"])
    assert nested.values == ([4, 4, 4, 4], [8, 8, 8, 8])
    assert space.named([]) == list(space.SPACE)


@pytest.mark.parametrize("word", ["pretrain.speed", "pretrain.lr=fast", "pretrain.lr=2..1", "pretrain.lr=1..2..3"])
def test_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"--space {word.split('=')[0]}"):
        space.named([word])


def test_values_are_applied_and_what_does_not_go_together_is_refused() -> None:
    run = run_of(options={"decoupled": True})
    other = space.applied(run, {"pretrain.batch.samples": 3, "encoder.depth": 2, "pretrain.options.decoupled": False})
    assert other.encoder is not None
    assert (other.pretrain.batch.samples, other.encoder.depth) == (3, 2)
    assert json.loads(other.pretrain.options.model_dump_json()) == {"decoupled": False}
    assert other.pretrain.batch.patients == 4  # what was not changed
    with pytest.raises(ValueError, match=r"trial: encoder.depth = 0"):
        space.applied(run, {"encoder.depth": 0})


def test_numbers_are_drawn_with_few_digits_and_the_own_one_as_it_is() -> None:
    (axis,), _ = space.axes([space.Row("pretrain.lr", "log", (1e-4, 1e-2))], run_of(lr=0.00123456), SETTING)
    assert axis.value(0.00123456) == 0.00123456
    assert axis.value(0.0023456) == 0.00235
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        value = space.drawn(study.ask(), [axis])["pretrain.lr"]
        assert 1e-4 <= value <= 1e-2
        assert value == float(f"{value:.3g}")


@pytest.mark.parametrize(("own", "kind"), [(0.5, FloatDistribution), (1.0, FloatDistribution)])
def test_whole_ends_do_not_round_the_runs_own_value(own: float, kind: type) -> None:
    (axis,), _ = space.axes(space.named(["pretrain.view_strength=0..2"]), run_of(view_strength=own), SETTING)
    assert isinstance(axis.draws, kind)
    assert axis.draws._contains(axis.draws.to_internal_repr(axis.stored()))
    assert axis.value(axis.stored()) == own
