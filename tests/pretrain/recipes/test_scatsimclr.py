"""ScatSimCLR: orders and turns against a loop, what the loss is made of, and that it trains on scattering."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.objectives import nt_xent
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.scatsimclr import ORDERS, orders, reordered, turned
from tests.pretrain.test_module import batch_of, training_of


@pytest.mark.parametrize("pieces", [8, 9])
def test_orders_are_far_apart(pieces: int) -> None:
    found = orders(pieces)
    assert found.shape == (ORDERS, pieces)
    assert found[0].tolist() == list(range(pieces))
    assert torch.equal(found.sort(1).values, torch.arange(pieces).expand(ORDERS, -1))
    apart = (found[:, None] != found).sum(2) + 99 * torch.eye(ORDERS, dtype=torch.int64)
    assert apart.min() >= pieces - 2


def slow(x: Tensor, order: Tensor) -> Tensor:
    """Return one sample (C, ...) with its pieces, row after row, in an order."""
    per = {2: 9, 3: 3, 4: 2}[x.ndim]
    out = x.clone()
    for axis in range(1, x.ndim):
        x = x.narrow(axis, 0, x.shape[axis] // per * per)
    pieces = [x]
    for axis in range(1, x.ndim):
        pieces = [part for piece in pieces for part in piece.chunk(per, axis)]
    pieces = [pieces[k] for k in order.tolist()]
    for axis in reversed(range(1, x.ndim)):
        pieces = [torch.cat(pieces[i : i + per], axis) for i in range(0, len(pieces), per)]
    for at in itertools.product(*map(range, pieces[0].shape)):
        out[at] = pieces[0][at]
    return out


@pytest.mark.parametrize("shape", [(2, 40), (1, 7, 9), (2, 5, 4, 7)])
def test_reordered_is_the_loop(shape: tuple[int, ...]) -> None:
    x = torch.arange(6.0 * torch.Size(shape).numel()).view(6, *shape)
    which = torch.tensor([0, 1, 5, 34, 20, 5])
    got = reordered(x, which)
    expected = [slow(one, orders(8 if len(shape) == 4 else 9)[k]) for one, k in zip(x, which, strict=True)]
    assert torch.equal(got, torch.stack(expected))
    assert not torch.equal(got[1], got[0] + x[1].min())


def test_turned_is_the_loop() -> None:
    x = torch.arange(50.0).view(2, 1, 5, 5)
    got = turned(x, torch.tensor([1, 3]))
    for i in range(5):
        for j in range(5):
            assert got[0, 0, 4 - j, i] == x[0, 0, i, j]
            assert got[1, 0, j, 4 - i] == x[1, 0, i, j]


def test_the_loss_is_the_sum() -> None:
    module = training_of("scatsimclr", weight=0.7, temperature=0.5).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    losses = module.recipe.step(module.net, batch)
    z1, z2 = (module.net.project(view) for view in batch.views)
    contrast = nt_xent(z1, z2, temperature=0.5, group=batch.patient)
    which = module.net.draws.fork(10).integers(ORDERS)
    logits = module.net.heads["pretext"](module.net.encoder(reordered(batch.views[0], which)))
    told = functional.cross_entropy(logits, which)
    assert len(which.unique()) > 3
    assert losses["contrast"].item() == pytest.approx(contrast.item(), abs=1e-5)
    assert losses["pretext"].item() == pytest.approx(told.item(), abs=1e-5)
    assert losses["loss"].item() == pytest.approx((contrast + 0.7 * told).item(), abs=1e-5)


def test_samples_in_another_order_and_alike() -> None:
    module = training_of("scatsimclr").eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    other = replace(
        batch,
        **{name: getattr(batch, name)[order] for name in ("x", "patient", "trial", "draw", "row", "duplicate")},
        views=tuple(view[order] for view in batch.views),
    )
    one = module.recipe.step(module.net, batch)["loss"]
    module.net.draws = type(module.net.draws)(other.draw, seed=module.seed)
    assert module.recipe.step(module.net, other)["loss"].item() == pytest.approx(one.item(), abs=1e-5)
    # Nobody to be told apart from: the contrast is nothing, the order of the pieces is told all the same.
    alone = replace(batch, patient=torch.zeros(8, dtype=torch.int64), views=(batch.x * 0, batch.x * 0))
    losses = module.recipe.step(module.net, alone)
    assert losses["contrast"].item() == 0
    losses["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_turns_are_for_square_images() -> None:
    params = Pretrain(options=OPTIONS["scatsimclr"].model_validate({"pretext": "rotation"}), projection_dim=4)
    encoder = build("resnet2d", in_channels=1, widths=(4, 4, 4, 4), depth=1, seed=0)
    for shape in ((2, 32), (1, 32, 24)):
        with pytest.raises(ValueError, match="rotation is for square images"):
            RECIPES["scatsimclr"].net(encoder, params, Sizes(4, 40, shape))
    net = RECIPES["scatsimclr"].net(encoder, params, Sizes(4, 40, (1, 32, 32)))
    module = Training(net, RECIPES["scatsimclr"], steps=10, modality="ct")
    batch: Any = replace(batch_of(), x=torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    losses = module.recipe.step(net, module.on_after_batch_transfer(batch, 0))
    assert losses["loss"].isfinite()
    assert net.heads["pretext"].out_features == 4


def test_it_trains_on_scattering() -> None:
    """The order of a signal's pieces is learnt: each piece has a tone of its own."""
    params = Pretrain(options=OPTIONS["scatsimclr"](), projection_dim=4, lr=1e-2, warmup_epochs=0)
    encoder = build("convnet1d", in_channels=1, front="scattering", widths=(4, 4, 8, 8), seed=0)
    steps = torch.arange(9 * 32)
    x = torch.sin(3 / (1 + steps // 32) * steps).expand(8, 1, -1)
    batch = replace(batch_of(8), x=x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = RECIPES["scatsimclr"].net(encoder, params, Sizes(8, 40, (1, 288)))
    module = Training(net, RECIPES["scatsimclr"], steps=30).train()
    optimizer = module.configure_optimizers()["optimizer"]
    told = []
    for k in range(30):
        optimizer.zero_grad()
        ready = module.on_after_batch_transfer(replace(batch, draw=batch.draw + 8 * k), 0)
        module.training_step(replace(ready, views=(batch.x, batch.x)), k).backward()
        optimizer.step()
        told.append(module.mean_losses()["train/pretext"])
    assert sum(told[-5:]) / 5 < 0.92 * told[0]
