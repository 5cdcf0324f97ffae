"""Strength: 0 leaves samples alone, 1 is what operations do by themselves, more is further away."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medssl.config import Pretrain
from medssl.views import signals, volumes
from medssl.views.augment import Augmentation
from medssl.views.draws import Draws
from tests.views.test_signals import OPERATIONS, X, numbers, touched
from tests.views.test_volumes import samples

STRENGTHS = (0.0, 0.1, 0.3, 1.0, 1.5, 2.0)
WITHOUT = (signals.shift, signals.channel_permute, signals.rereference)
# Smooth, so that what moves a little in time changes a little.
SMOOTH = torch.sin(torch.linspace(0, 12, 100) + torch.arange(256)[:, None, None] + torch.arange(3)[:, None])
SIZES = [(20, 20), (12, 14, 13)]
# Root mean square of what an operation changes in X at strength 1, measured before there were strengths.
CHANGE = {
    "gain": 0.46311, "noise": 0.24309, "drift": 0.49852, "soft_warp": 0.16085, "cut_out": 0.38622, "shift": 1.39398,
    "magnitude_warp": 0.19221, "faint_noise": 0.06171, "channel_permute": 1.20758, "time_warp": 1.10140,
    "band_stop": 0.35356, "spectral_jitter": 0.13630, "phase_jitter": 0.17116, "lead_mask": 0.47184,
    "lead_gain": 0.21344, "rereference": 0.57261,
}  # fmt: skip


def distance(before: Tensor, after: Tensor) -> float:
    return (after - before).pow(2).mean().sqrt().item()


def rises(found: list[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(found))


# --- Signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGE)
def test_strength_one_is_what_operations_did_before(name: str) -> None:
    operation = getattr(signals, name)
    assert distance(X, operation(X, numbers())) == pytest.approx(CHANGE[name], abs=2e-5)
    assert torch.equal(operation(X, numbers(), 1.0), operation(X, numbers()))


@pytest.mark.parametrize("plan", signals.PLANS)
def test_strength_one_equals_the_operations_one_by_one(plan: str) -> None:
    expected, draws = X, numbers()
    for probability, operation in signals.PLANS[plan]:
        chosen = draws.uniform()
        changed = operation(expected, draws)
        expected = torch.stack([changed[b] if chosen[b] < probability else expected[b] for b in range(len(X))])
    assert torch.equal(signals.view(X, numbers(), signals.PLANS[plan], 1.0), expected)
    assert torch.equal(signals.view(X, numbers(), signals.PLANS[plan]), expected)


@pytest.mark.parametrize("plan", signals.PLANS)
def test_strength_zero_is_the_sample(plan: str) -> None:
    assert torch.equal(signals.view(X, numbers(), signals.PLANS[plan], 0.0), X)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op not in WITHOUT], ids=lambda op: op.__name__)
def test_each_operation_goes_further_with_strength_from_nothing(operation: signals.Operation) -> None:
    for x in (X, SMOOTH):
        found = [distance(x, operation(x, numbers(len(x)), strength)) for strength in STRENGTHS]
        assert found[0] < 1e-5
        assert rises(found), found


@pytest.mark.parametrize("name", [name for name, plan in signals.PLANS.items() if plan])
def test_views_go_further_with_strength(name: str) -> None:
    found = [distance(SMOOTH, signals.view(SMOOTH, numbers(256), signals.PLANS[name], s)) for s in STRENGTHS]
    assert rises(found), found


def test_what_has_no_strength_comes_more_or_less_often() -> None:
    x = torch.randn(5000, 4, 16, generator=torch.Generator().manual_seed(0))
    # Of 16 shifts one goes nowhere, and of 24 orders one is that of before.
    for operation, seen, shares in (
        (signals.shift, 15 / 16, (0.1, 0.4, 0.4)),
        (signals.channel_permute, 23 / 24, (0.1, 0.4, 0.8)),
        (signals.rereference, 1, (0.1, 0.4, 0.8)),
    ):
        for strength, share in zip((0.25, 1.0, 2.0), shares, strict=True):
            view = signals.view(x, numbers(5000), ((0.4, operation),), strength)
            assert touched(x, view).double().mean().item() == pytest.approx(seen * share, abs=0.02)
    assert touched(x, signals.view(x, numbers(5000), ((0.9, signals.rereference),), 2.0)).all()


@pytest.mark.parametrize("name", signals.PLANS)
def test_views_of_all_strengths_draw_the_same_numbers(name: str) -> None:
    after = []
    for strength in (*STRENGTHS, 1.0):
        draws = numbers()
        signals.view(X, draws, signals.PLANS[name], strength)
        after.append(draws.uniform())
    assert all(torch.equal(after[0], other) for other in after)
    # Doubled noise is the same noise, twice.
    once, twice = (signals.noise(X, numbers(), strength) - X for strength in (1.0, 2.0))
    assert torch.allclose(2 * once, twice, atol=1e-5)


def test_time_rises_at_the_greatest_strength() -> None:
    path = signals.warped_time(numbers(20_000), 200, most=0.1)
    assert (path.diff(dim=1) >= 0).all()
    assert torch.equal(path[:, -1], torch.full((20_000,), 199.0))


def test_some_lead_stays_at_the_greatest_strength() -> None:
    lost = (signals.lead_mask(X, numbers(), 2.0) == 0).all(2)
    assert lost.sum(1).max() == 2
    assert 0.3 < lost.double().mean() < 0.6


def test_mild_views_are_innocuous() -> None:
    names = {operation.__name__ for _, operation in signals.PLANS["mild"]}
    assert names == {"gain", "drift", "faint_noise", "cut_out"}
    assert signals.still(signals.PLANS["mild"]) == signals.PLANS["mild"]
    x = torch.ones(2000, 2, 100)
    plan = dict((operation.__name__, operation) for _, operation in signals.PLANS["mild"])
    gained = plan["gain"](x, numbers(2000))
    assert 0.8 < gained.min() < gained.max() < 1.25
    missing = (plan["cut_out"](x, numbers(2000)) == 0).float().mean(2)
    assert 0 < missing.max() <= 0.06
    wander = plan["drift"](x, numbers(2000)) - 1
    assert wander.std() < 0.1
    mild, default = (
        distance(SMOOTH, signals.view(SMOOTH, numbers(256), signals.PLANS[p])) for p in ("mild", "default")
    )
    assert 0 < mild < 0.2 * default


# --- Slices and volumes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_strength_one_is_the_usual_view_and_zero_the_sample(size: tuple[int, ...]) -> None:
    x, d = samples(size, n=32), len(size)
    for make in (volumes.view, volumes.crop):
        for got, expected in zip(make(x, numbers(32), strength=1.0), make(x, numbers(32)), strict=True):
            assert torch.equal(got, expected)
    view, where = volumes.view(x, numbers(32), strength=0.0)
    assert torch.equal(view, x)
    assert torch.equal(where, torch.eye(d, d + 1).expand(32, -1, -1))
    # A crop shows a part of the sample, whose appearance alone is a matter of strength.
    part, where = volumes.crop(x, numbers(32), strength=0.0)
    assert torch.equal(part, volumes.read(x, where, part.shape[2:]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", range(len(volumes.APPEARANCE)), ids=[op.__name__ for _, op, _ in volumes.APPEARANCE])
def test_each_appearance_goes_further_with_strength(
    k: int, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, (_, operation, parameters) = samples(size, n=128), volumes.APPEARANCE[k]
    monkeypatch.setattr(volumes, "APPEARANCE", ((1.0, operation, parameters),))
    found = [distance(x, volumes.appearance(x, numbers(128), strength)) for strength in (0.0, 0.3, 1.0, 1.5, 2.0)]
    assert found[0] == 0
    assert rises(found), found


@pytest.mark.parametrize("size", SIZES)
def test_places_and_views_go_further_with_strength(size: tuple[int, ...]) -> None:
    d, x = len(size), samples(size, n=128)
    made = [volumes.view(x, numbers(128), strength=strength) for strength in STRENGTHS]
    assert rises([distance(torch.eye(d, d + 1), where) for _, where in made])
    assert rises([distance(x, view) for view, _ in made])
    assert all(torch.isfinite(view).all() for view, _ in made)


@pytest.mark.parametrize("make", [volumes.view, volumes.crop])
def test_images_of_all_strengths_draw_the_same_numbers(make: Any) -> None:
    after = []
    for strength in STRENGTHS:
        draws = numbers(8)
        make(samples((20, 20)), draws, strength=strength)
        after.append(draws.uniform())
    assert all(torch.equal(after[0], other) for other in after)


# --- Runs -----------------------------------------------------------------------------------------------------------


def drawn(x: Tensor, name: str, strength: float = 1.0) -> tuple[Tensor, ...]:
    return Augmentation(name, modality="ecg", strength=strength).draw([x], Draws(torch.arange(len(x)), seed=0), 2)[0]


@pytest.mark.parametrize("x", [X, samples((20, 20), n=64), samples((12, 14, 13), n=64)], ids=["1d", "2d", "3d"])
def test_plans_of_runs(x: Tensor) -> None:
    for none in (drawn(x, "none"), drawn(x, "default", 0.0), drawn(x, "mild", 0.0)):
        assert len(none) == 2
        assert all(torch.equal(view, x) for view in none)
    found = [distance(x, drawn(x, name)[0]) for name in ("none", "mild", "default")]
    assert rises(found)
    assert distance(x, drawn(x, "default", 0.3)[0]) < found[2]
    first, second = drawn(x, "mild")
    assert not torch.equal(first, second)


def test_none_stays_in_place() -> None:
    place = Augmentation("none", modality="ecg").draw([X], numbers(), 2)[1]
    assert place is not None
    assert place.tolist() == [[[[1.0, 0.0]]] * 2] * 64


def test_config_of_views() -> None:
    assert Pretrain().view_strength == 1
    assert Pretrain(views="mild", view_strength=0).views == "mild"
    assert Pretrain(views="none", view_strength=2).views == "none"
    for wrong in ({"view_strength": -0.1}, {"view_strength": 2.1}, {"views": "gentle"}):
        with pytest.raises(ValidationError):
            Pretrain.model_validate(wrong)
