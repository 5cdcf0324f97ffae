"""VICReg: its terms against a loop and numpy, by hand at the ends, and what the loss is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.pretrain.recipes.vicreg import invariance, variance_and_covariance
from tests.pretrain.test_module import batch_of, training_of


def rows(n: int = 6, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_terms_are_the_loop() -> None:
    z, other = 0.8 * rows(), rows(seed=1)
    covariance = np.cov(z.numpy().T)
    lacking = sum(max(0.0, 1 - math.sqrt(covariance[k, k] + 1e-4)) for k in range(3)) / 3
    repeated = sum(covariance[k, j] ** 2 for k in range(3) for j in range(3) if k != j) / 3
    got = variance_and_covariance(z)
    assert [term.item() for term in got] == pytest.approx([lacking, repeated], abs=1e-12)
    assert 0 < lacking < 1
    squares = [(float(z[i, k]) - float(other[i, k])) ** 2 for i in range(6) for k in range(3)]
    assert invariance(z, other).item() == pytest.approx(sum(squares) / 18, abs=1e-12)


def test_by_hand() -> None:
    # All alike: a standard deviation of 0.01 is left of the root; nothing to repeat.
    assert [t.item() for t in variance_and_covariance(torch.ones(4, 2))] == pytest.approx([0.99, 0.0], abs=1e-6)
    # Two equal dimensions of variance 4: both wide enough, each the other's covariance.
    x = torch.tensor([[-2.0], [0.0], [2.0]])
    assert [t.item() for t in variance_and_covariance(x.repeat(1, 2))] == pytest.approx([0.0, 16.0], abs=1e-5)
    assert variance_and_covariance(x)[1].item() == 0


def test_gradients() -> None:
    z = (0.3 * rows()).requires_grad_()
    assert torch.autograd.gradcheck(variance_and_covariance, z)
    same = torch.ones(4, 3, requires_grad=True)
    assert torch.autograd.grad(sum(variance_and_covariance(same)), same)[0].isfinite().all()


def test_the_loss_is_the_weighted_sum() -> None:
    module = training_of("vicreg", invariance=3.0, variance=5.0, covariance=7.0).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    losses = module.recipe.step(module.net, batch)
    z1, z2 = (module.net.project(view, unit=False) for view in batch.views)
    (lacking1, repeated1), (lacking2, repeated2) = variance_and_covariance(z1), variance_and_covariance(z2)
    expected = 3 * invariance(z1, z2) + 5 * (lacking1 + lacking2) / 2 + 7 * (repeated1 + repeated2)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.keys() == {"loss", "invariance", "variance", "covariance"}
