"""Contrast with positives of an earlier encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medssl.objectives.rehearsal import rehearsal
from tests.objectives.circle import at

T = 0.5
Z, OTHER, BEFORE = at(0, 90, 200, 300), at(10, 70, 215, 330), at(350, 100, 180, 310)
GROUP = torch.tensor([0, 0, 1, 2])


def loop(z: Tensor, other: Tensor, before: Tensor, group: Tensor, t: float) -> float:
    rows = []
    for i in range(len(z)):
        negative = [math.exp(float(z[i] @ other[n]) / t) for n in range(len(z)) if group[n] != group[i]]
        positive = [math.exp(float(z[i] @ before[p]) / t) for p in range(len(z)) if group[p] == group[i]]
        if negative:
            rows.append(sum(-math.log(p / (p + sum(negative))) for p in positive) / len(positive))
    return sum(rows) / max(1, len(rows))


def test_equals_a_slow_loop_whatever_the_order_and_rotation() -> None:
    value = rehearsal(Z, OTHER, BEFORE, GROUP, temperature=T)
    assert abs(float(value) - loop(Z, OTHER, BEFORE, GROUP, T)) < 1e-9
    order, turn = torch.tensor([2, 0, 3, 1]), at(40, 130).to(Z.dtype)
    moved = [x[order] @ turn for x in (Z, OTHER, BEFORE)]
    torch.testing.assert_close(rehearsal(*moved, GROUP[order], temperature=T), value)
    half = rehearsal(Z.half(), OTHER.half(), BEFORE.half(), GROUP, temperature=0.05)
    assert abs(float(half) - loop(Z, OTHER, BEFORE, GROUP, 0.05)) < 0.05


def test_gradients() -> None:
    g = torch.Generator().manual_seed(0)
    rows = [torch.randn(4, 3, generator=g, dtype=torch.float64, requires_grad=grad) for grad in (True, True, False)]
    assert torch.autograd.gradcheck(lambda a, b: rehearsal(a, b, rows[2], GROUP, temperature=T), rows[:2])
    same = Z[:1].repeat(4, 1).clone().requires_grad_()
    rehearsal(same, same, same, GROUP, temperature=T).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_nobody_to_be_told_apart_from() -> None:
    for rows in (4, 0):
        z = Z[:rows].clone().requires_grad_()
        value = rehearsal(z, z, z, torch.zeros(rows, dtype=torch.int64), temperature=T)
        value.backward()
        assert float(value.detach()) == 0
        assert z.grad is not None
        assert not z.grad.any()
