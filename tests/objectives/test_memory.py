"""InfoNCE against a memory: a score of one's own, gradients by differences, and nothing to be told apart from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medssl.objectives.memory import memory_contrast
from tests.objectives.circle import at
from tests.objectives.test_latent import rows, turn

MEMORY = at(30, -50, 120, 200)


def test_the_score_of_the_key_is_what_it_takes_by_itself() -> None:
    q, k = rows(4), rows(4, seed=1)
    plain = memory_contrast(q, k, rows(6, seed=2), temperature=0.2)
    given = memory_contrast(q, k, rows(6, seed=2), temperature=0.2, positive=(q * k).sum(1))
    assert plain.item() == given.item()
    lower = memory_contrast(q, k, rows(6, seed=2), temperature=0.2, positive=(q * k).sum(1) - 0.3)
    assert lower > plain


def test_gradients_by_differences_and_what_does_not_matter() -> None:
    q, k, memory = rows(4).requires_grad_(), rows(4, seed=1), rows(6, seed=2)

    def loss(q: Tensor) -> Tensor:
        return memory_contrast(q, k, memory, temperature=0.5, positive=(q * k).sum(1) * 0.7)

    assert torch.autograd.gradcheck(loss, (q,))
    order = torch.tensor([2, 0, 3, 1])
    whole = memory_contrast(q, k, memory, temperature=0.5)
    assert memory_contrast(q[order], k[order], memory.flip(0), temperature=0.5).item() == pytest.approx(whole.item())
    turned = memory_contrast(q @ turn(), k @ turn(), memory @ turn(), temperature=0.5)
    assert turned.item() == pytest.approx(whole.item())


def test_an_empty_memory_and_half_precision() -> None:
    q = at(0, 180).requires_grad_()
    loss = memory_contrast(q, at(1, 2), MEMORY[:0], temperature=0.2, ignore=torch.ones(2, 0, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert q.grad is not None
    assert not q.grad.any()
    halves = memory_contrast(at(0, 0).half(), at(180, 0).half(), MEMORY.half(), temperature=0.05)
    exact = memory_contrast(at(0, 0), at(180, 0), MEMORY, temperature=0.05)
    assert halves.item() == pytest.approx(exact.item(), abs=1e-2)
