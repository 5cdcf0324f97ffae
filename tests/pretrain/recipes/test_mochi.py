"""Mixed hard negatives: the numbers of V-16, which keys are mixed, and a slow loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.pretrain.recipes import mochi
from tests.objectives.circle import at

Q, K, MEMORY = at(0), at(10), at(30, -50, 120, 200)


def angle(z: Tensor) -> float:
    return math.degrees(math.atan2(z[0, 1], z[0, 0]))


def test_v16() -> None:
    pair, _ = mochi.mixtures(at(30), at(-50), torch.tensor([0.5], dtype=torch.float64))
    own, _ = mochi.mixtures(Q, at(30), torch.tensor([0.25], dtype=torch.float64))
    assert (angle(pair), (Q * pair).sum().item()) == (pytest.approx(-10), pytest.approx(0.984808, abs=1e-6))
    assert (angle(own), (Q * own).sum().item()) == (pytest.approx(22.630740), pytest.approx(0.923004, abs=1e-6))
    assert mochi.memory_contrast(Q, K, MEMORY, temperature=0.2).item() == pytest.approx(0.550243, abs=1e-6)
    both = torch.stack([pair, own], 1)
    assert mochi.memory_contrast(Q, K, MEMORY, temperature=0.2, synthetic=both).item() == pytest.approx(
        1.243532, abs=1e-6
    )


def test_an_antipodal_pair_is_no_mixture() -> None:
    _, usable = mochi.mixtures(at(0, 0), at(180, 90), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert usable.tolist() == [False, True]


def drawn(generator: torch.Generator) -> object:
    return lambda number: torch.rand(2, number, generator=generator)


def test_only_the_hardest_allowed_keys_are_mixed() -> None:
    q = at(0, 180)
    ignore = torch.tensor([[True, False, False, False], [False, False, False, True]])
    made, usable = mochi.hard_negatives(
        q,
        MEMORY,
        hardest=1,
        mixed=5,
        mixed_with_query=400,
        uniform=drawn(torch.Generator().manual_seed(0)),  # type: ignore[arg-type]
        ignore=ignore,
    )
    assert made.shape == (2, 405, 2)
    assert usable.all()
    # With one key to mix, a mixture of two is that key: the hardest that is not of the query's patient.
    assert torch.allclose(made[0, :5], at(-50).expand(5, 2))
    assert torch.allclose(made[1, :5], at(120).expand(5, 2))
    # With a share of the query below one half, a mixture stays nearer to the key.
    turned = torch.rad2deg(torch.atan2(made[0, 5:, 1], made[0, 5:, 0]))
    assert turned.min() >= -50
    assert turned.max() < -25
    assert turned.max() > -26


def test_without_a_key_nothing_can_be_used_and_the_loss_is_zero() -> None:
    q, ignore = at(0, 180).requires_grad_(), torch.ones(2, 4, dtype=torch.bool)
    draw = drawn(torch.Generator().manual_seed(0))
    made, usable = mochi.hard_negatives(
        q,
        MEMORY,
        hardest=2,
        mixed=3,
        mixed_with_query=2,
        uniform=draw,
        ignore=ignore,  # type: ignore[arg-type]
    )
    assert not usable.any()
    loss = mochi.memory_contrast(q, q, MEMORY, temperature=0.2, ignore=ignore, synthetic=made, usable=usable)
    loss.backward()
    assert loss.item() == 0
    assert q.grad is not None
    assert not q.grad.any()


def test_equals_the_loop_and_only_queries_have_a_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, memory = (
        normalize(torch.randn(n, 3, dtype=torch.float64, generator=generator), dim=1).requires_grad_()
        for n in (4, 4, 6)
    )
    synthetic = normalize(torch.randn(4, 2, 3, dtype=torch.float64, generator=generator), dim=2).requires_grad_()
    ignore = torch.rand(4, 6, generator=generator) < 0.4
    usable = torch.tensor([[True, True], [True, False], [False, False], [True, True]])
    ignore[2] = True  # nothing is left of the third
    loss = mochi.memory_contrast(q, k, memory, temperature=0.2, ignore=ignore, synthetic=synthetic, usable=usable)
    terms = []
    for i in (0, 1, 3):
        negatives = [memory[j] for j in range(6) if not ignore[i, j]]
        negatives += [synthetic[i, j] for j in range(2) if usable[i, j]]
        scores = [float((q[i] @ n).detach()) / 0.2 for n in negatives]
        own = float((q[i] @ k[i]).detach()) / 0.2
        terms.append(math.log(math.exp(own) + sum(map(math.exp, scores))) - own)
    assert loss.item() == pytest.approx(sum(terms) / 3, abs=1e-9)
    loss.backward()
    assert q.grad is not None
    assert k.grad is None
    assert memory.grad is None
    assert synthetic.grad is None
