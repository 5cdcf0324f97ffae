"""Prediction without negatives: V-14 and the distance by a loop."""

from __future__ import annotations

import pytest
import torch

from medssl.pretrain.recipes import byol
from tests.objectives.circle import A, B

F = torch.tensor([[2, 0.5], [0.5, 1]], dtype=torch.float64)


def test_v14_direct() -> None:
    w = byol.direct(F, eps=0.01)
    assert w.flatten().tolist() == pytest.approx([0.951329, 0.141644, 0.141644, 0.668042], abs=1e-6)
    assert torch.linalg.eigvalsh(w).tolist() == pytest.approx([0.609371, 1.01], abs=1e-6)
    assert torch.allclose(w @ F, F @ w)


def test_a_correlation_of_nothing_and_of_one_direction() -> None:
    assert torch.allclose(byol.direct(torch.zeros(3, 3), eps=0.1), 0.1 * torch.eye(3))
    one = torch.zeros(3, 3)
    one[0, 0] = 4.0
    for made in (byol.direct(one, eps=0.1), byol.direct_copy(one, eps=0.1)):
        assert torch.allclose(made, torch.diag(torch.tensor([1.1, 0.1, 0.1])), atol=1e-6)


def test_copy_is_the_correlation_of_norm_one() -> None:
    top = torch.linalg.eigvalsh(F).max()
    assert torch.allclose(byol.direct_copy(F, eps=0.2), F / top + 0.2 * torch.eye(2))


def test_distance_of_directions() -> None:
    p, target = (3 * A).requires_grad_(), (0.1 * B).requires_grad_()
    loss = byol.cosine_distance(p, target)
    assert loss.item() == pytest.approx(sum(2 - 2 * float(a @ b) for a, b in zip(A, B, strict=True)) / 4)
    loss.backward()
    assert p.grad is not None
    assert target.grad is None
