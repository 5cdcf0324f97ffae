"""2D Matryoshka: the divergence against a loop, what the loss is made of, and prefixes that do by themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.models.embed import embed_at
from medssl.objectives import nt_xent
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.matryoshka import likeness_lost
from medssl.views.draws import Draws
from tests.pretrain.test_module import batch_of, training_of


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_likeness_lost_is_the_loop() -> None:
    z, group, total = rows(5, 4), torch.tensor([0, 1, 1, 2, 0]), 0.0
    for i in range(5):
        others = [j for j in range(5) if group[j] != group[i]]

        def shares(dims: int, i: int = i, others: list[int] = others) -> np.ndarray:
            unit = [z[k, :dims] / z[k, :dims].norm() for k in range(5)]
            e = np.exp([float(unit[i] @ unit[j]) / 0.3 for j in others])
            return np.asarray(e / e.sum())

        p, q = shares(4), shares(2)
        total += float((p * np.log(p / q)).sum()) / 5
    assert likeness_lost(z[:, :2], z, group=group, temperature=0.3).item() == pytest.approx(total, abs=1e-12)


def test_gradients_and_invariances() -> None:
    part, whole, group = rows(4, 3).requires_grad_(), rows(4, 5, seed=1), torch.arange(4)
    given: dict[str, Any] = {"group": group, "temperature": 0.3}
    assert torch.autograd.gradcheck(lambda x: likeness_lost(x, whole, **given), part)
    one = likeness_lost(part, whole, **given).item()
    order, turn = torch.tensor([2, 0, 3, 1]), torch.linalg.qr(rows(3, 3, seed=2)).Q
    for a, b in ((part[order], whole[order]), (part @ turn, 4 * whole), (3 * part, whole)):
        assert likeness_lost(a, b, **given).item() == pytest.approx(one, abs=1e-12)
    # The same vectors lose nothing; neither does one whose group is all there is.
    for a, b, g in ((whole, whole, group), (part, whole, torch.zeros(4))):
        assert likeness_lost(a, b, group=g, temperature=0.3).item() == pytest.approx(0, abs=1e-12)
    alone = likeness_lost(part, whole, group=torch.zeros(4), temperature=0.3)
    assert not torch.autograd.grad(alone, part)[0].any()
    same = torch.ones(4, 3, requires_grad=True)
    assert torch.autograd.grad(likeness_lost(same, whole, **given), same)[0].isfinite().all()
    cold = {"group": group, "temperature": 0.05}
    half = likeness_lost(part.half(), whole.half(), **cold).item()  # type: ignore[arg-type]
    assert half == pytest.approx(likeness_lost(part.half().double(), whole.half().double(), **cold).item(), rel=1e-2)  # type: ignore[arg-type]


def test_the_loss_is_the_sum() -> None:
    module = training_of("matryoshka", prefixes=[2, 3], distil=0.4, temperature=0.5).eval()
    net = module.net
    batch = module.on_after_batch_transfer(batch_of(), 0)
    losses = module.recipe.step(net, batch)
    draw = int(net.draws.fork(11).integers(2)[0])  # of two stages before the last
    name = f"block{draw + 1}"
    z, early = embed_at(net.encoder, name, torch.cat(batch.views))

    def contrast(x: Tensor, k: int) -> float:
        first, second = (normalize(part[:, :k], dim=1) for part in x.chunk(2))
        return nt_xent(first, second, temperature=0.5, group=batch.patient).item()

    group = batch.patient.repeat(2)
    lost = np.mean([likeness_lost(z[:, :k], z, group=group, temperature=0.5).item() for k in (2, 3)])
    parts = {
        "whole": contrast(z, 4),
        "prefix": np.mean([contrast(z, k) for k in (2, 3)]),
        "stage": np.mean([contrast(early, k) for k in (2, 3)]) / (1 + math.log(1 + draw + 1)),
        "likeness": lost,
    }
    for part, value in parts.items():
        assert losses[part].item() == pytest.approx(value, abs=1e-5), part
    total = parts["whole"] + parts["prefix"] + parts["stage"] + 0.4 * parts["likeness"]
    assert losses["loss"].item() == pytest.approx(total, abs=1e-5)


def test_the_stage_is_drawn_anew() -> None:
    module, seen = training_of("matryoshka", prefixes=[2]).eval(), set()
    for k in range(12):
        batch = module.on_after_batch_transfer(replace(batch_of(), draw=torch.arange(8) + 8 * k), 0)
        seen.add(round(module.recipe.step(module.net, batch)["stage"].item() / 3, 1))
    assert len(seen) > 1


def test_what_an_early_stage_says_is_its_mean() -> None:
    x = torch.randn(3, 2, 64)
    for encoder in (
        build("resnet1d", in_channels=2, widths=(4, 5, 6, 7), depth=1, seed=0).eval(),
        build("vit1d", in_channels=2, widths=(8,), depth=3, patch=8, seed=0).eval(),
    ):
        found: list[Tensor] = []
        name, stage = list(encoder.stages.items())[1]  # type: ignore[union-attr, operator]
        hook = stage.register_forward_hook(lambda _, i, o, found=found: found.append(o))
        whole = encoder(x)
        hook.remove()
        z, early = embed_at(encoder, name, x)
        assert torch.equal(z, whole)
        torch.testing.assert_close(early, found[0].mean(1 if name.startswith("block") else 2))
    # Crops of a sample are averaged.
    crops = build("resnet1d", in_channels=2, widths=(4, 5, 6, 7), depth=1, crop=32, seed=0).eval()
    halves = torch.stack([embed_at(crops, "stage2", part)[1] for part in x.chunk(2, 2)])
    torch.testing.assert_close(embed_at(crops, "stage2", x)[1], halves.mean(0))


def test_prefixes_are_shorter_than_the_embedding() -> None:
    with pytest.raises(ValueError, match=r"pretrain\.options\.prefixes \[2, 4\]: the embedding has 4 numbers"):
        training_of("matryoshka", prefixes=[2, 4])


def found_again(recipe: str, **options: Any) -> dict[int, float]:
    """Return how often a noisy copy is nearest to its sample, by so many first numbers of a trained embedding."""
    params = Pretrain(options=OPTIONS[recipe].model_validate(options), projection_dim=16, lr=2e-2, warmup_epochs=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Sequential(nn.Linear(32, 32), nn.GELU()), nn.Sequential(nn.Linear(32, 16))]
        encoder = nn.Sequential(nn.Flatten(), *parts)
        encoder.stages = {"first": parts[0], "last": parts[1]}  # type: ignore[assignment]
        net = RECIPES[recipe].net(encoder, params, Sizes(16, 64, (1, 32)))
    net.heads["projection"] = nn.Identity()
    module = Training(net, RECIPES[recipe], steps=60).train()
    optimizer = module.configure_optimizers()["optimizer"]
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 32, generator=generator)

    def pair(n: int) -> list[Tensor]:
        """Samples have six numbers of their own; the noise of a view has all."""
        x = torch.randn(n, 6, generator=generator) @ mix
        return [(x + 0.7 * torch.randn(n, 32, generator=generator))[:, None] for _ in range(2)]

    for k in range(60):
        first, second = pair(48)
        ids = torch.arange(48)
        batch = replace(batch_of(48), patient=ids, x=first, views=(first, second))
        net.draws = Draws(ids + 48 * k, seed=0)
        optimizer.zero_grad()
        module.training_step(batch, k).backward()
        optimizer.step()
    with torch.no_grad():
        one, two = (encoder(x) for x in pair(256))
    out = {}
    for k in (3, 16):
        scores = normalize(one[:, :k], dim=1) @ normalize(two[:, :k], dim=1).T
        out[k] = float((scores.argmax(1) == torch.arange(256)).float().mean())
    return out


def test_prefixes_do_by_themselves_and_those_of_simclr_do_not() -> None:
    nested, plain = found_again("matryoshka", prefixes=[3, 6]), found_again("simclr")
    assert nested[3] > plain[3] + 0.05
    assert nested[16] > plain[16] - 0.1
    # Nor do those that were not asked for.
    assert nested[3] > found_again("matryoshka", prefixes=[15])[3] + 0.05


def test_prefixes_are_of_the_last_stage() -> None:
    encoder = build("convnet1d", in_channels=1, widths=[4, 4, 4, 8], pool="stages")
    with pytest.raises(ValueError, match=r"encoder\.pool: stages begins with early stages"):
        RECIPES["matryoshka"].begin(encoder, None)
    other = build("convnet1d", in_channels=1, widths=[4, 4, 4, 8])
    assert RECIPES["matryoshka"].begin(other, None) is other
