"""HPM: the order loss by its numbers and a loop, which patches are hidden, and that the hard ones are found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.models.vit import positions
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.hpm import chosen, expectation, order
from medssl.pretrain.recipes.predict import patches
from tests.pretrain.test_module import batch_of, training_of


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_v28() -> None:
    errors, expected = torch.tensor([[0.1, 0.5, 0.3]]).double(), torch.tensor([[0.0, 0.2, 0.4]]).double()
    # The number's code has 1e-6 inside the logarithm, which a log-sigmoid does not need.
    assert order(expected, errors).item() == pytest.approx(0.636429, abs=1e-5)
    reference = -(torch.tensor([0.2, -0.2, 0.4]).double().sigmoid() + 1e-6).log().mean()
    assert reference.item() == pytest.approx(0.636429, abs=5e-7)


def test_order_is_the_loop() -> None:
    p, error = rows(4, 5), rows(4, 5, seed=1)
    error[1, 2] = error[1, 0]  # a tie is no pair
    means = []
    for b in range(4):
        pairs = [(i, j) for i in range(5) for j in range(5) if error[b, i] > error[b, j]]
        means.append(np.mean([math.log1p(math.exp(-float(p[b, i] - p[b, j]))) for i, j in pairs]))
    assert order(p, error).item() == pytest.approx(np.mean(means), abs=1e-12)


def test_gradients_and_invariances() -> None:
    p, error = rows(4, 3).requires_grad_(), rows(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: order(x, error), p)
    mixed, samples = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    one = order(p, error).item()
    # Places and samples in another order, expectations shifted, errors by any rising function.
    for a, b in ((p[:, mixed], error[:, mixed]), (p[samples], error[samples]), (p + 7, error.exp())):
        assert order(a, b).item() == pytest.approx(one, abs=1e-12)
    assert order(20 * p.half(), error.half()).item() == pytest.approx(order(20 * p, error).item(), abs=1e-2)
    ties = order(p, torch.zeros(4, 3))
    assert ties.item() == 0
    assert not torch.autograd.grad(ties, p)[0].any()
    errors = error.clone().requires_grad_()
    assert torch.autograd.grad(order(p, errors), errors, allow_unused=True)[0] is None


def test_the_hardest_and_some_others_are_hidden() -> None:
    expected, noise = torch.arange(10.0).repeat(300, 1), torch.rand(300, 10, generator=torch.Generator().manual_seed(0))
    found = chosen(expected, noise, hide=6, hard=3)
    assert all(len(set(row)) == 6 for row in found.tolist())
    counts = torch.bincount(found.flatten(), minlength=10)
    assert counts[7:].tolist() == [300] * 3
    assert counts[:7].min() > 80  # 3 of 7 others, 129 each on average
    assert counts[:7].max() < 180
    alone = chosen(None, noise, hide=6, hard=0)
    assert torch.equal(alone.sort(1).values, noise.topk(6, 1).indices.sort(1).values)


def test_the_loss_is_the_sum_and_the_error_that_of_normalised_patches() -> None:
    module = training_of("hpm", patch=4, weight=0.5).eval()
    net = module.net
    batch = module.on_after_batch_transfer(batch_of(), 0)
    with torch.no_grad():
        net.heads["decoder"].out.weight.zero_()  # type: ignore[union-attr]
        net.heads["decoder"].out.bias.zero_()  # type: ignore[union-attr]
    losses = module.recipe.step(net, replace(batch, views=(batch.x, batch.x)))
    # Told by zeros, the error is the variance of each patch over itself.
    assert losses["error"].item() == pytest.approx(7 / 8, abs=1e-3)
    assert losses["loss"].item() == pytest.approx((losses["error"] + 0.5 * losses["order"]).item(), abs=1e-6)
    silent = module.recipe.step(net, replace(batch, views=(0 * batch.x, batch.x)))
    assert silent["error"].item() == 0
    assert silent["order"].item() == 0
    silent["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_the_teacher_slows() -> None:
    recipe, options = RECIPES["hpm"], OPTIONS["hpm"]()
    assert recipe.momentum(options, 0.0) == pytest.approx(0.999)
    assert recipe.momentum(options, 1.0) == pytest.approx(0.9999)


def test_patches_that_cannot_be_told_are_found_and_hidden() -> None:
    """Half of each signal is a tone of its phase, half is noise: the teacher expects the noise to be told worse."""
    options = {"patch": 8, "share": 0.5, "rise": 60, "momentum": 0.9}
    params = Pretrain(
        options=OPTIONS["hpm"].model_validate(options), projection_dim=16, lr=1e-2, warmup_epochs=0, clip=None
    )
    encoder = build("vit1d", in_channels=1, widths=(16,), depth=1, patch=8, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = RECIPES["hpm"].net(encoder, params, Sizes(16, 40, (1, 64)))
    module = Training(net, RECIPES["hpm"], steps=80).train()
    optimizer = module.configure_optimizers()["optimizer"]
    generator = torch.Generator().manual_seed(0)
    orders = []
    for k in range(80):
        x = torch.sin(torch.arange(64) / 2).expand(16, 1, -1).clone()
        x[..., 32:] = torch.randn(16, 1, 32, generator=generator)
        batch = replace(batch_of(16), x=x, draw=torch.arange(16) + 16 * k)
        optimizer.zero_grad()
        ready = module.on_after_batch_transfer(batch, 0)
        module.training_step(replace(ready, views=(x,)), k).backward()
        optimizer.step()
        module.after_step()
        orders.append(module.mean_losses()["train/order"])
    assert np.mean(orders[-5:]) < 0.75 * orders[0]
    expected = expectation(net.eval(), x, positions(patches(x, 8)[1], 16))
    assert expected[:, 4:].mean() > expected[:, :4].mean() + 0.5
    hidden = chosen(expected, torch.rand(16, 8, generator=generator), hide=4, hard=2)
    assert (hidden >= 4).float().mean() > 0.55
