"""Whitening: the numbers of V-25, numpy, groups and their order, gradients where eigenvalues are equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.objectives.whitening import group_number, whiten


def rows(n: int = 12, d: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turned = torch.randn(d, d, dtype=torch.float64, generator=generator)
    return torch.randn(n, d, dtype=torch.float64, generator=generator) @ turned + 3


def slowly(z: np.ndarray, groups: list[list[int]], eps: float) -> np.ndarray:
    out = np.zeros_like(z)
    for group in groups:
        part = z[:, group] - z[:, group].mean(0)
        values, vectors = np.linalg.eigh(np.cov(part.T, bias=True).reshape(len(group), -1))
        out[:, group] = part @ vectors @ np.diag((values + eps) ** -0.5) @ vectors.T
    return out


def test_v25() -> None:
    z = torch.tensor([[1.0, 0], [0, 2], [-1, 0], [0, -2]]).double()
    root = math.sqrt(2)
    white = whiten(z, groups=1, eps=0.0)
    assert torch.allclose(white, torch.tensor([[root, 0], [0, root], [-root, 0], [0, -root]]).double(), atol=1e-9)
    assert torch.allclose(white.T @ white / 4, torch.eye(2).double(), atol=1e-9)


@pytest.mark.parametrize("eps", [1e-3, 0.5])
def test_equals_numpy_by_group_and_order(eps: float) -> None:
    z, order = rows(), torch.tensor([2, 0, 3, 1])
    for groups, given, parts in (
        (1, None, [[0, 1, 2, 3]]),
        (2, None, [[0, 1], [2, 3]]),
        (2, order, [[2, 0], [3, 1]]),
        (4, order, [[0], [1], [2], [3]]),
    ):
        expected = slowly(z.numpy(), parts, eps)
        assert np.allclose(whiten(z, groups=groups, eps=eps, order=given).numpy(), expected, atol=1e-9)


def test_a_rotation_before_is_one_after_and_a_scale_is_none() -> None:
    z = rows()
    turned = torch.linalg.qr(rows(4))[0]
    assert torch.allclose(whiten(z @ turned, groups=1), whiten(z, groups=1) @ turned, atol=1e-9)
    assert torch.allclose(whiten(100 * z, groups=1, eps=0.0), whiten(z, groups=1, eps=0.0), atol=1e-9)
    order = torch.tensor([5, 3, 0, 1, 2, 4, *range(6, 12)])
    assert torch.allclose(whiten(z[order]), whiten(z)[order], atol=1e-12)


def test_groups_have_enough_rows() -> None:
    assert [group_number(64, n) for n in (1, 2, 16, 24, 127, 128, 1000)] == [64, 64, 8, 8, 2, 1, 1]
    assert group_number(6, 4) == 3
    assert group_number(7, 13) == 7
    with pytest.raises(ValueError, match="groups 3 of 4 dimensions are not equal; take a divisor of 4"):
        whiten(rows(), groups=3)


def test_gradients() -> None:
    z = rows(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: whiten(z, groups=1, eps=0.1), z)
    assert torch.autograd.gradcheck(lambda z: whiten(z, groups=3, eps=0.1), z)
    # Equal eigenvalues: a square, and rows that are all the same.
    for same in (torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]).double(), torch.ones(4, 2).double()):
        leaf = same.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda z: whiten(z, groups=1, eps=0.1), leaf)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_half_precision_and_dead_dimensions(dtype: torch.dtype) -> None:
    z = rows()
    z[:, 1] = 2.0
    white = whiten(z.to(dtype), groups=2)
    assert white.dtype == torch.float32
    assert torch.allclose(white.double(), whiten(z, groups=2), atol=2e-2)
    assert not white[:, 1].any()
