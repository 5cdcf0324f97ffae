"""LeJEPA: the prediction against a loop, what the loss is made of, and that attraction alone collapses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medssl.config import OPTIONS, Pretrain
from medssl.objectives.sigreg import sigreg
from medssl.pretrain.data import Batch
from medssl.pretrain.module import Training
from medssl.pretrain.monitor import rankme
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.lejepa import prediction
from medssl.views.draws import Draws
from tests.pretrain.test_module import batch_of, training_of


def views(v: int = 4, n: int = 3, d: int = 2) -> list[Tensor]:
    return list(torch.randn(v, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("whole", [2, 4])
def test_prediction_is_the_loop(whole: int) -> None:
    z, terms = views(), []
    for i in range(3):
        for k in range(2):
            centre = sum(float(view[i, k]) for view in z[:whole]) / whole
            terms += [(float(view[i, k]) - centre) ** 2 for view in z]
    assert prediction(z, whole=whole).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_gradients() -> None:
    z = [view.requires_grad_() for view in views()]
    assert torch.autograd.gradcheck(lambda *v: prediction(v, whole=2), z)
    # No gradient is stopped: the centre moves too, towards the small crops.
    moved = torch.autograd.grad(prediction(z, whole=2), z)
    assert torch.allclose(sum(moved), torch.zeros(3, 2).double(), atol=1e-12)


def test_the_loss_is_the_mixture() -> None:
    module = training_of("lejepa", lam=0.3, views=2, crops=3, directions=16).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    assert len(batch.views) == 5
    losses = module.recipe.step(module.net, batch)
    z = [module.net.project(view, unit=False) for view in batch.views]
    directions = module.net.directions(16, 4)
    spread = sum(sigreg(one, directions).item() for one in z) / 5
    assert losses["sigreg"].item() == pytest.approx(spread, rel=1e-4)
    assert losses["prediction"].item() == pytest.approx(prediction(z, whole=2).item(), rel=1e-4)
    expected = 0.7 * losses["prediction"].item() + 0.3 * spread
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_directions_are_those_of_the_batch() -> None:
    module, batch = training_of("lejepa"), batch_of()

    def directions(batch: Batch) -> Tensor:
        module.on_after_batch_transfer(batch, 0)
        return module.net.directions(200, 3)

    one = directions(batch)
    assert one.shape == (200, 3)
    assert torch.equal(one, directions(batch))
    assert not torch.allclose(one, directions(replace(batch, draw=batch.draw + 8)), atol=1e-3)
    # Random ones: no axis is preferred.
    assert torch.allclose(one.T @ one / 200, torch.eye(3), atol=0.3)


def rank_after_training(lam: float, **given: Any) -> float:
    """Return the effective rank, of at most 4, of embeddings; two views are a sample and noise of half its size."""
    params = Pretrain(
        options=OPTIONS["lejepa"].model_validate({"views": 2, "lam": lam, "directions": 64}),
        projection_dim=4,
        lr=1e-2,
        warmup_epochs=0,
        **given,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
        net = RECIPES["lejepa"].net(encoder, params, Sizes(4, 64, (2, 32)))
        net.heads["projection"] = nn.Identity()  # what is pulled together is the embedding
    module = Training(net, RECIPES["lejepa"], steps=100).train()
    optimizer = module.configure_optimizers()["optimizer"]
    batch = batch_of(64)
    for step in range(100):
        net.draws = Draws(batch.draw + 64 * step, seed=0)
        views = tuple(batch.x + torch.randn(batch.x.shape, generator=generator) / 2 for _ in range(2))
        optimizer.zero_grad()
        module.training_step(replace(batch, views=views), step).backward()
        optimizer.step()
    with torch.no_grad():
        return rankme(net.eval().encoder(batch.x).numpy())


def test_attraction_alone_collapses_and_the_spread_holds() -> None:
    assert rank_after_training(0.0) < 1.3
    assert rank_after_training(0.05) > 3.8
    assert rank_after_training(0.0, regulariser={"of": "embedding", "weight": 0.05, "directions": 64}) > 3.8
