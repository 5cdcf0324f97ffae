"""Matching by trying all permutations, reliability by its definition, the weighted loss by a loop."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from medssl import objectives as O
from medssl.objectives.matching import matched, reliable
from tests.objectives.circle import A, B, at
from tests.objectives.test_latent import rows, turn

MEMBERS = torch.tensor([7, 3, 7, 3, 3, 7, 9, 7])


def test_no_other_matching_of_a_group_scores_more() -> None:
    z1, z2 = rows(8), rows(8, seed=1)
    match, reliability = matched(z1, z2, MEMBERS, trust=0.2)
    scores = z1 @ z2.T
    for group in (7, 3, 9):
        members = [i for i in range(8) if MEMBERS[i] == group]
        assert sorted(match[members].tolist()) == members
        best = max(sum(scores[i, j] for i, j in zip(members, p, strict=True)) for p in itertools.permutations(members))
        assert float(scores[members, match[members]].sum()) == pytest.approx(float(best))
        for i in members:
            others = [float(scores[i, j]) for j in members if j != match[i]]
            lead = float(scores[i, match[i]]) - max(others) if others else math.inf
            assert reliability[i].item() == pytest.approx(1 / (1 + math.exp(-lead / 0.2)))
    assert reliability[6] == 1
    turned, same = matched(z1 @ turn(), z2 @ turn(), MEMBERS, trust=0.2)
    assert torch.equal(turned, match)
    assert torch.allclose(same, reliability)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved, also = matched(z1[order], z2[order], MEMBERS[order], trust=0.2)
    assert torch.equal(order[moved], match[order])
    assert torch.allclose(also, reliability[order])


def test_a_clear_pair_is_trusted_and_a_duplicate_is_not() -> None:
    match, reliability = matched(at(0, 90, 180, 180), at(182, 2, 180, 88), torch.zeros(4), trust=0.1)
    assert match[:2].tolist() == [1, 3]
    assert sorted(match[2:].tolist()) == [0, 2]
    assert (reliability[:2] > 0.99).all()
    assert ((reliability[2:] - 0.5).abs() < 0.01).all()


def test_half_precision() -> None:
    z1, z2 = rows(8), rows(8, seed=1)
    match, reliability = matched(z1.half(), z2.half(), MEMBERS, trust=0.2)
    exact, close = matched(z1, z2, MEMBERS, trust=0.2)
    assert torch.equal(match, exact)
    assert torch.allclose(reliability.double(), close, atol=1e-2)


GROUP = torch.tensor([0, 0, 1, 2])
RELIABILITY = torch.tensor([0.9, 0.1, 0.5, 0.7], dtype=torch.float64)


def loop(z1: Tensor, z2: Tensor, r: Tensor, group: Tensor, t: float) -> float:
    z, n = torch.cat([z1, z2]), len(z1)
    top = bottom = 0.0
    for i in range(2 * n):
        mate = (i + n) % (2 * n)
        others = [j for j in range(2 * n) if group[j % n] != group[i % n]]
        if others:
            scores = torch.stack([z[i] @ z[j] for j in (*others, mate)]) / t
            top += float(r[i % n]) * float(scores.logsumexp(0) - scores[-1])
            bottom += float(r[i % n])
    return top / bottom


def test_the_loss_equals_the_loop() -> None:
    loss = reliable(A, B, RELIABILITY, temperature=0.5, group=GROUP)
    assert loss.item() == pytest.approx(loop(A, B, RELIABILITY, GROUP, 0.5))
    ones = torch.ones(4, dtype=torch.float64)
    nt_xent = O.nt_xent(A, B, temperature=0.5, group=GROUP)
    assert reliable(A, B, ones, temperature=0.5, group=GROUP).item() == pytest.approx(nt_xent.item())
    order = torch.tensor([2, 0, 3, 1])
    moved = reliable(A[order], B[order], RELIABILITY[order], temperature=0.5, group=GROUP[order])
    assert moved.item() == pytest.approx(loss.item())
    turned = reliable(A @ turn(2), B @ turn(2), RELIABILITY, temperature=0.5, group=GROUP)
    assert turned.item() == pytest.approx(loss.item())
    halves = reliable(A.half(), B.half(), RELIABILITY, temperature=0.5, group=GROUP)
    assert halves.item() == pytest.approx(loss.item(), abs=1e-2)


def test_gradients() -> None:
    z1, z2 = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_()

    def of(a: Tensor, b: Tensor) -> Tensor:
        return reliable(a, b, RELIABILITY, temperature=0.5)

    assert torch.autograd.gradcheck(of, (z1, z2))
    for r, group in ((RELIABILITY, torch.zeros(4)), (torch.zeros(4), GROUP)):  # nobody to tell apart, or to trust
        z1.grad = None
        loss = reliable(z1, z2, r, temperature=0.5, group=group)
        loss.backward()
        assert loss.item() == 0
        assert z1.grad is not None
        assert not z1.grad.any()
    same = A[:1].expand(4, 2).clone().requires_grad_()
    reliable(same, same, RELIABILITY, temperature=0.1, group=GROUP).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
