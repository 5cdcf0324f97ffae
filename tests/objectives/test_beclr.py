"""Memory in partitions: neighbours, prototypes, pull and repulsion by loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import beclr
from tests.objectives.circle import A, B, at
from tests.objectives.test_latent import rows, turn


def test_neighbours_stay_inside_the_partition() -> None:
    memory, partition = at(0, 10, 20, 30, 40, 50), torch.tensor([0, 1, 0, 0, 1, 0])
    near, there = beclr.neighbours(at(12, 12, 12), torch.tensor([0, 1, 2]), memory, partition, number=3)
    assert torch.allclose(near[0], at(20, 0, 30))
    assert torch.allclose(near[1, :2], at(10, 40))
    assert there.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    every, _ = beclr.neighbours(at(12), torch.tensor([0]), memory, partition, number=50)
    assert every.shape == (1, 6, 2)


def test_prototypes_move_to_their_members() -> None:
    prototypes, z = at(0, 90, 200), at(10, 30, 100)
    moved = beclr.recentred(prototypes, z, torch.tensor([0, 0, 1]), inertia=0.5)
    first = normalize(0.5 * prototypes[0] + 0.25 * (z[0] + z[1]), dim=0)
    assert torch.allclose(moved, torch.stack([first, *at(95, 200)]))
    assert torch.allclose(beclr.recentred(prototypes, z, torch.tensor([0, 0, 1]), inertia=0.0)[0], at(20)[0])


def test_attraction_equals_the_loop() -> None:
    p, target, near = 3 * rows(4), rows(4, seed=1), rows(20, seed=2).view(4, 5, 3)
    there = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0] * 5, [1, 0, 0, 0, 0]], dtype=torch.bool)
    terms = []
    for i in range(4):
        targets = [target[i], *(near[i, j] for j in range(5) if there[i, j])]
        terms.append(sum(1 - float(torch.cosine_similarity(p[i], one, dim=0)) for one in targets) / len(targets))
    loss = beclr.attraction(p, target, near, there)
    assert loss.item() == pytest.approx(sum(terms) / 4)
    assert beclr.attraction(p @ turn(), target @ turn(), near @ turn(), there).item() == pytest.approx(loss.item())
    assert beclr.attraction(p.half(), target.half(), near.half(), there).item() == pytest.approx(loss.item(), abs=1e-2)
    nobody = beclr.attraction(p, target, near, torch.zeros_like(there))
    assert nobody.item() == pytest.approx(beclr.attraction(p, target).item())


def test_repulsion_equals_the_loop() -> None:
    for group in (None, torch.tensor([0, 0, 1, 2])):
        z, ids = torch.cat([A, B]), torch.arange(4) if group is None else group
        terms = []
        for i in range(8):
            others = [j for j in range(8) if ids[i % 4] != ids[j % 4]]
            terms.append(sum(math.exp(float(z[i] @ z[j]) / 2) for j in others) / len(others))
        loss = beclr.repulsion(A, B, group=group)
        assert loss.item() == pytest.approx(math.log(sum(terms) / 8))
    assert beclr.repulsion(A.flip(0), B.flip(0)).item() == pytest.approx(beclr.repulsion(A, B).item())
    assert beclr.repulsion(A @ turn(2), B @ turn(2)).item() == pytest.approx(beclr.repulsion(A, B).item())
    assert beclr.repulsion(A.half(), B.half()).item() == pytest.approx(beclr.repulsion(A, B).item(), abs=1e-2)
    assert beclr.repulsion(A[:1].expand(3, 2), A[:1].expand(3, 2)).item() == pytest.approx(0.5)  # collapse


def test_gradients() -> None:
    z1, z2, near = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_(), rows(8, seed=2).view(4, 2, 3)
    there = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 1]], dtype=torch.bool)

    def push(a: Tensor, b: Tensor) -> Tensor:
        return beclr.repulsion(a, b)

    def pull(a: Tensor) -> Tensor:
        return beclr.attraction(a, z2, near, there)

    assert torch.autograd.gradcheck(push, (z1, z2))
    assert torch.autograd.gradcheck(pull, (z1,))
    loss = beclr.repulsion(z1, z2, group=torch.zeros(4))
    loss.backward()
    assert loss.item() == 0  # nobody to be told apart from
    assert z1.grad is not None
    assert not z1.grad.any()
