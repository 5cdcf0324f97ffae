"""Views of signals and COMET's mask."""

from __future__ import annotations

import pytest
import torch

from medssl.views import signals


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(64, 3, 100, generator=seeded(9))


@pytest.mark.parametrize(
    ("steps", "span", "share", "first", "centre"),
    [(300, 30, 0.40434, 0.01831, 0.44379), (256, 25, 0.39699, 0.02137, 0.43453)],
)
def test_c7_mask_fractions(steps: int, span: int, share: float, first: float, centre: float) -> None:
    hidden = ~signals.continuous_mask(20_000, steps, seeded(0))
    assert hidden.double().mean().item() == pytest.approx(share, abs=0.004)
    assert hidden[:, 0].double().mean().item() == pytest.approx(first, abs=0.004)
    assert hidden[:, steps // 2].double().mean().item() == pytest.approx(centre, abs=0.015)
    assert hidden.double().mean(1).std().item() == pytest.approx(0.058, abs=0.004)
    assert hidden.sum(1).min() >= span
    assert hidden.sum(1).max() <= 5 * span


def test_c7_span_length() -> None:
    for steps, span in ((300, 30), (256, 25)):
        hidden = ~signals.continuous_mask(500, steps, seeded(0), spans=1)
        assert (hidden.sum(1) == span).all()
        edges = hidden.int().diff(dim=1, prepend=torch.zeros(500, 1, dtype=torch.int)).eq(1).sum(1)
        assert (edges == 1).all()
        assert hidden[:, -1].any()  # the last start is allowed


def test_views_follow_their_generator() -> None:
    first = signals.view(X, seeded(1))
    assert first.shape == X.shape
    assert first.dtype == X.dtype
    assert torch.isfinite(first).all()
    assert torch.equal(signals.view(X, seeded(1)), first)
    other = signals.view(X, seeded(2))
    assert (first != other).flatten(1).any(1).float().mean() > 0.95


def test_two_views_from_one_generator_share_no_draw() -> None:
    generator = seeded(1)
    first, second = signals.view(X, generator), signals.view(X, generator)
    assert (first != second).flatten(1).any(1).float().mean() > 0.95


def test_global_state_neither_used_nor_changed() -> None:
    before = torch.get_rng_state()
    first = signals.view(X, seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert torch.equal(signals.view(X, seeded(1)), first)


def test_input_is_not_changed() -> None:
    x = X.clone()
    signals.view(x, seeded(1))
    assert torch.equal(x, X)


@pytest.mark.parametrize(("probability", "operation"), signals.OPERATIONS)
def test_each_operation_differs_between_samples(probability: float, operation: signals.Operation) -> None:
    assert 0 < probability <= 1
    same = X[:1].expand(8, -1, -1)
    out = operation(same, seeded(0))
    assert out.shape == same.shape
    assert len({tuple(sample.flatten().tolist()) for sample in out}) > 1


def test_strengths() -> None:
    ratio = (signals.gain(X, seeded(0)) / X).amax((1, 2))
    assert ratio.min() >= 0.5 - 1e-4
    assert ratio.max() <= 2 + 1e-4
    added = (signals.noise(X, seeded(0)) - X).std((1, 2))
    assert added.max() < 0.5
    zero = (signals.cut_out(X, seeded(0)) == 0).all(1).float().mean(1)
    assert zero.min() >= 0.04
    assert zero.max() <= 0.26
    shifted = signals.shift(X, seeded(0))
    assert torch.equal(shifted.sort(2).values, X.sort(2).values)
    # All channels move together.
    assert torch.allclose((shifted[:, 0] * shifted[:, 1]).sum(1), (X[:, 0] * X[:, 1]).sum(1), atol=1e-4)


def test_share_of_samples_each_operation_touches() -> None:
    untouched = (signals.view(X.repeat(40, 1, 1), seeded(0)) == X.repeat(40, 1, 1)).flatten(1).all(1).double().mean()
    expected = 1.0
    for probability, _ in signals.OPERATIONS:
        expected *= 1 - probability
    assert untouched.item() == pytest.approx(expected, abs=0.004)
