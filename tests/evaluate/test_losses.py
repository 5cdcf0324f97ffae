"""Losses of fine-tuning against published values, torch and slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from medssl.evaluate import losses, terms
from medssl.evaluate.losses import ALDR, LDR

SCORES = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
TRUTH = torch.tensor([0, 1])
IDS = torch.tensor([4, 2])


def test_published_values() -> None:
    """V-27."""
    assert LDR(5)(SCORES, TRUTH, IDS).item() == pytest.approx(1.368597, abs=1e-6)
    adaptive = ALDR(5, margin=1)
    assert adaptive(SCORES, TRUTH, IDS).item() == pytest.approx(0.550547, abs=1e-6)
    assert adaptive.own[IDS].tolist() == pytest.approx([0.905205, 0.917429], abs=1e-6)
    assert adaptive.own[[0, 1, 3]].tolist() == [1, 1, 1]


def slow(f: list[float], y: int, margin: float, strength: float) -> float:
    raised = [math.log1p(math.exp(v)) for v in f]
    g = [v * len(f) / sum(raised) for v in raised]
    terms = [math.exp(((k != y) * margin + g[k] - g[y]) / strength) for k in range(len(f))]
    return strength * math.log(sum(terms) / len(f))


@pytest.mark.parametrize("strength", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_ldr_is_its_formula(margin: float, strength: float) -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = [slow(f, y, margin, strength) for f, y in zip(scores.tolist(), truth.tolist(), strict=True)]
    found = LDR(6, margin=margin, strength=strength)(scores, truth, torch.arange(6))
    assert found.item() == pytest.approx(sum(expected) / 6, rel=1e-12)
    if (margin, strength) == (0, 1):
        entropy = functional.cross_entropy(losses.positive(scores), truth) - math.log(4)
        assert found.item() == pytest.approx(entropy.item(), rel=1e-12)


def test_strengths_are_kept_between_steps_and_follow_confidence() -> None:
    adaptive = ALDR(2)
    scores = torch.tensor([[9.0, -9.0], [0.1, 0.0]])
    for _ in range(3):
        before = adaptive.own.clone()
        assert torch.isfinite(adaptive(scores, torch.tensor([0, 1]), torch.arange(2)))
    sure = (losses.positive(scores) / before[:, None]).softmax(1)
    distance = math.log(2) + (sure * sure.log()).sum(1)
    assert torch.allclose(adaptive.own, 1 - distance / (2 * math.log(2)), atol=1e-4)
    assert adaptive.own[0] < 0.8 < 0.99 < adaptive.own[1] <= 1


@pytest.mark.parametrize("name", ["ldr", "aldr"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """The strengths of ALDR are constants of a step, and so are those of its differences here."""
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    truth, ids = torch.tensor([0, 1, 2, 1]), torch.arange(4)
    loss = terms.build(name, kind="class", samples=4)
    loss(scores, truth, ids).backward()
    strength = loss.own.double() if isinstance(loss, ALDR) else torch.ones(4, dtype=torch.float64)
    for i in range(4):
        for k in range(3):
            moved = [scores.detach().clone() for _ in range(2)]
            moved[0][i, k] += 1e-6
            moved[1][i, k] -= 1e-6
            up, down = (losses.ldr(losses.positive(m), truth, margin=2, strength=strength).mean() for m in moved)
            assert scores.grad is not None
            assert scores.grad[i, k].item() == pytest.approx((up - down).item() / 2e-6, abs=1e-6)


def test_a_wrong_label_pulls_less_than_in_cross_entropy() -> None:
    """What makes it robust: the gradient of a sample that is surely something else is bounded by the normalisation."""
    scores = torch.tensor([[12.0, -12.0]], requires_grad=True)
    pulls = {}
    for name in ("cross_entropy", "ldr"):
        loss = terms.build(name, kind="class", samples=1)(scores, torch.tensor([1]), torch.tensor([0]))
        (gradient,) = torch.autograd.grad(loss, scores)
        pulls[name] = gradient.abs().max().item()
    assert pulls["ldr"] < 0.1 * pulls["cross_entropy"]


def test_each_kind_has_its_usual_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 3, generator=generator)
    ids, several = torch.arange(5), torch.randint(2, (5, 3), generator=generator).float()
    classes, number = torch.tensor([0, 1, 2, 0, 1]), torch.randn(5, 1, generator=generator) * 3

    usual = terms.build(None, kind="class", samples=5)
    assert usual(scores, classes, ids) == functional.cross_entropy(scores, classes)
    assert torch.equal(usual.predict(scores), scores.softmax(1))
    usual = terms.build(None, kind="multilabel", samples=5)
    assert usual(scores, several, ids) == functional.binary_cross_entropy_with_logits(scores, several)
    assert torch.equal(usual.predict(scores), scores.sigmoid())
    usual = terms.build(None, kind="number", samples=5)
    assert usual(scores[:, :1], number, ids) == functional.huber_loss(scores[:, :1], number)
    assert torch.equal(usual.predict(scores[:, :1]), scores[:, :1])

    smoothed = terms.build("label_smoothing", kind="class", samples=5)(scores, classes, ids)
    target = 0.9 * functional.one_hot(classes, 3) + 0.1 / 3
    assert smoothed.item() == pytest.approx(-(target * scores.log_softmax(1)).sum(1).mean().item(), rel=1e-6)
    for name in ("ldr", "aldr"):
        shares = terms.build(name, kind="class", samples=5).predict(scores)
        assert torch.equal(shares.argsort(1), scores.argsort(1))
        assert torch.allclose(shares.sum(1), torch.ones(5))


def test_a_loss_of_another_kind() -> None:
    with pytest.raises(ValueError, match=r"loss 'ldr' is not one for a number task; allowed: huber"):
        terms.build("ldr", kind="number", samples=5)
    with pytest.raises(ValueError, match=r"allowed: cross_entropy, label_smoothing, ldr, aldr"):
        terms.build("hinge", kind="class", samples=5)
