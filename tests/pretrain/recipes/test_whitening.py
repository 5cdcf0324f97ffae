"""Whitening as a recipe: a slow loop, which pairs of views count, and that collapse does not pay."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives.whitening import whiten
from medssl.pretrain.recipes.whitening import distance, unit
from tests.objectives.circle import A, B, C
from tests.pretrain.test_module import batch_of, training_of


def test_distance_is_the_loop() -> None:
    terms = [2 - 2 * float(a[i] @ b[i]) for a, b in combinations((A, B, C), 2) for i in range(4)]
    assert distance([A, B, C]).item() == pytest.approx(sum(terms) / 12, abs=1e-12)
    z = [x.clone().requires_grad_() for x in (A, B)]
    assert torch.autograd.gradcheck(lambda *z: distance(z), z)


def test_short_rows_stay_short() -> None:
    white = torch.tensor([[0.5, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 3.0, 4.0]]).double()
    expected = torch.tensor([[0.5, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0.6, 0.8]]).double()
    assert torch.allclose(unit(white), expected, atol=1e-12)
    long = 3 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(unit, long.requires_grad_())


@pytest.mark.parametrize("loss", ["distance", "contrast"])
def test_each_view_is_whitened_by_a_grouping_of_its_own(loss: str) -> None:
    module = training_of("whitening", loss=loss, views=3, groups=2, eps=0.1, temperature=0.5).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    got = module.recipe.step(module.net, batch)["loss"]
    z = [module.net.project(view, unit=False) for view in batch.views]
    orders = module.net.directions(3, 4).argsort(1)
    white = [unit(whiten(one, groups=2, eps=0.1, order=o)) for one, o in zip(z, orders, strict=True)]
    if loss == "distance":
        expected = distance(white)
    else:
        pairs = combinations(white, 2)
        expected = torch.stack([O.nt_xent(a, b, temperature=0.5, group=batch.patient) for a, b in pairs]).mean()
    assert got.item() == pytest.approx(expected.item(), abs=1e-5)
    batch.patient.zero_()
    alone = module.recipe.step(module.net, batch)["loss"]
    assert (alone.item() == 0) is (loss == "contrast")


@pytest.mark.parametrize("loss", ["distance", "contrast"])
def test_rows_that_are_all_alike_have_a_finite_gradient(loss: str) -> None:
    module = training_of("whitening", loss=loss, projection_norm="layer")
    batch = batch_of()
    batch.x.copy_(batch.x[:1].clone().expand_as(batch.x))
    batch.draw.zero_()
    module.training_step(module.on_after_batch_transfer(batch, 0), 0).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.net.parameters())


def test_whitened_views_cannot_collapse() -> None:
    """Views near one point agree by their cosine; whitened, only views that tell samples apart do."""
    generator = torch.Generator().manual_seed(0)
    signal, *noise = torch.randn(3, 64, 8, generator=generator).double()
    point = torch.ones(8).double()

    def loss(share: float) -> tuple[float, float]:
        z = [point + 0.01 * (share * signal + (1 - share) * one) for one in noise]
        white = [unit(whiten(one, groups=1, eps=1e-9)) for one in z]
        return distance([normalize(one, dim=1) for one in z]).item(), distance(white).item()

    (plain, bad), (_, good) = loss(0.0), loss(0.9)
    assert plain < 1e-3
    assert bad > 1.5
    assert good < 0.1
