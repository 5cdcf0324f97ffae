"""Selfie: the loss against a loop, what is hidden, transformers that read the rest alone, and a toy that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.predict import context, patches
from medssl.pretrain.recipes.selfie import number, which_patch
from tests.pretrain.test_module import batch_of, training_of


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def own(b: int, n: int) -> Tensor:
    return torch.eye(n, dtype=torch.bool).expand(b, n, n).clone()


def test_which_patch_is_the_loop() -> None:
    q, k, alike = rows(2, 4, 3), rows(2, 4, 3, seed=1), own(2, 4)
    alike[0, 1, 2] = alike[0, 2, 1] = True
    terms, right = [], []
    for b in range(2):
        for i in range(4):
            unit = [float(q[b, i] @ k[b, j] / (q[b, i].norm() * k[b, j].norm())) / 0.2 for j in range(4)]
            against = [unit[j] for j in range(4) if j == i or not alike[b, i, j]]
            terms.append(math.log(sum(math.exp(s) for s in against)) - unit[i])
            right.append(unit[i] == max(against))
    loss, told = which_patch(q, k, alike=alike, temperature=0.2)
    assert loss.item() == pytest.approx(np.mean(terms), abs=1e-12)
    assert told.item() == pytest.approx(np.mean(right))


def test_gradients_and_invariances() -> None:
    q, k = rows(4, 3, 3).requires_grad_(), rows(4, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: which_patch(*x, alike=own(4, 3), temperature=0.3)[0], (q, k))
    one = which_patch(q, k, alike=own(4, 3), temperature=0.3)[0]
    order = torch.tensor([2, 0, 1])
    turn = torch.linalg.qr(rows(3, 3, seed=2)).Q
    for a, b in ((q[:, order], k[:, order]), (q[order], k[order]), (q @ turn, k @ turn), (5 * q, 2 * k)):
        n = len(a)
        got = which_patch(a, b, alike=own(n, 3), temperature=0.3)[0]
        expected = one if n == 4 else which_patch(q[:3], k[:3], alike=own(3, 3), temperature=0.3)[0]
        assert got.item() == pytest.approx(expected.item(), abs=1e-12)
    half = which_patch(q.half(), k.half(), alike=own(4, 3), temperature=0.05)[0]
    assert half.item() == pytest.approx(which_patch(q, k, alike=own(4, 3), temperature=0.05)[0].item(), abs=1e-2)


def test_nothing_to_be_told_apart_from() -> None:
    q, k = rows(2, 3, 3).requires_grad_(), rows(2, 3, 3, seed=1)
    loss = which_patch(q, k, alike=torch.ones(2, 3, 3, dtype=torch.bool), temperature=0.1)[0]
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, q)[0].any()
    same = torch.zeros(2, 3, 3).requires_grad_()
    loss = which_patch(same, same, alike=own(2, 3), temperature=0.1)[0]
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)
    assert torch.autograd.grad(loss, same)[0].isfinite().all()


@pytest.mark.parametrize(("share", "total", "expected"), [(0.25, 8, 2), (0.5, 8, 4), (0.01, 100, 2), (0.99, 5, 4)])
def test_how_many_are_hidden(share: float, total: int, expected: int) -> None:
    assert number(share, total) == expected
    with pytest.raises(ValueError, match=r"pretrain\.options\.patch: 2 patches a sample; expected 3 or more"):
        number(share, 2)


@pytest.mark.parametrize("shape", [(2, 30), (1, 9, 12), (2, 5, 4, 8)])
def test_patches_are_the_loop(shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape)
    got, grid = patches(x, 4)
    places = list(np.ndindex(*(-(-n // 4) for n in shape[1:])))
    assert grid == [p + 1 for p in places[-1]]
    assert got.shape == (3, len(places), shape[0] * 4 ** (len(shape) - 1))
    for p, place in enumerate(places):
        box = x[(..., *(slice(4 * k, 4 * k + 4) for k in place))]
        whole = torch.zeros(3, shape[0], *[4] * len(place))
        whole[(slice(None), slice(None), *map(slice, box.shape[2:]))] = box
        assert torch.equal(got[:, p], whole.flatten(1))


def test_a_transformer_reads_what_is_not_hidden_alone() -> None:
    encoder = build("vit1d", in_channels=2, widths=(8,), depth=2, patch=8, seed=0).eval()
    x = torch.randn(2, 2, 32)
    hidden = torch.tensor([[True, False, False, True], [False, True, True, False]])
    changed = x.clone()
    changed[0, :, :8], changed[1, :, 8:24] = 7.0, -5.0
    tokens = context(encoder, x, hidden, 8)
    assert tokens.shape == (2, 2, 8)
    assert torch.equal(tokens, context(encoder, changed, hidden, 8))
    torch.testing.assert_close(context(encoder, x, torch.zeros_like(hidden), 8).mean(1), encoder(x))
    with pytest.raises(ValueError, match=r"pretrain\.options\.patch 4: encoder\.patch is 8; give the same"):
        context(encoder, x, hidden, 4)


def test_other_encoders_see_zeros() -> None:
    encoder = build("resnet2d", in_channels=1, widths=(4, 4, 4, 4), depth=1, seed=0).eval()
    x = torch.randn(2, 1, 6, 8)
    hidden = torch.tensor([[False, True, False, False], [False, False, True, False]])
    seen = x.clone()
    seen[0, :, :4, 4:], seen[1, :, 4:, :4] = 0.0, 0.0
    torch.testing.assert_close(context(encoder, x, hidden, 4)[:, 0], encoder(seen))
    volumes = build("vit3d", in_channels=1, widths=(12,), depth=1, patch=4, seed=0).eval()
    hidden = torch.zeros(2, 8, dtype=torch.bool)
    hidden[:, 3] = True
    assert context(volumes, torch.randn(2, 1, 8, 8, 8), hidden, 4).shape == (2, 7, 12)


def test_statistics_of_whole_samples_are_kept() -> None:
    encoder = build("resnet1d", in_channels=2, widths=(4, 4, 4, 4), depth=1, seed=0).train()
    other = build("resnet1d", in_channels=2, widths=(4, 4, 4, 4), depth=1, seed=0).train()
    x, hidden = torch.randn(4, 2, 32), torch.tensor([[True, True, True, False]] * 4)
    context(encoder, x, hidden, 8)
    other(x)
    for (name, a), b in zip(encoder.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b), name


def trained() -> list[float]:
    """Return the share told right at each step: patches of a ramp whose level differs from sample to sample."""
    params = Pretrain(options=OPTIONS["selfie"].model_validate({"patch": 8, "share": 0.5}), projection_dim=16,
                      lr=1e-2, warmup_epochs=0)  # fmt: skip
    encoder = build("vit1d", in_channels=1, widths=(16,), depth=1, patch=8, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = RECIPES["selfie"].net(encoder, params, Sizes(16, 40, (1, 64)))
    module = Training(net, RECIPES["selfie"], steps=80).train()
    optimizer = module.configure_optimizers()["optimizer"]
    generator = torch.Generator().manual_seed(0)
    right = []
    for k in range(80):
        level = torch.randn(16, 1, 1, generator=generator)
        x = level + (torch.arange(64) // 8) / 2 + 0.1 * torch.randn(16, 1, 64, generator=generator)
        batch = replace(batch_of(16), x=x, draw=torch.arange(16) + 16 * k)
        optimizer.zero_grad()
        ready = module.on_after_batch_transfer(batch, 0)
        module.training_step(replace(ready, views=(x,)), k).backward()
        optimizer.step()
        right.append(module.mean_losses()["train/right"])
    return right


def test_it_learns_where_patches_belong() -> None:
    right = trained()
    assert np.mean(right[:5]) < 0.4
    assert np.mean(right[-10:]) > 0.6


def test_the_first_view_alone_counts() -> None:
    module = training_of("selfie", patch=8).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    losses = [
        module.recipe.step(module.net, replace(batch, views=(batch.views[0], other)))["loss"].item()
        for other in (batch.views[1], 9 * batch.views[1])
    ]
    assert losses[0] == losses[1]
    wide = training_of("selfie", patch=16).eval()
    batch = wide.on_after_batch_transfer(batch_of(), 0)
    with pytest.raises(ValueError, match="2 patches a sample"):
        wide.recipe.step(wide.net, batch)
