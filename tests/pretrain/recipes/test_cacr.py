"""CACR: the numbers of V-10, a slow loop, weights without gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import rows
from medssl.objectives.cacr import attraction, repulsion
from tests.objectives.circle import A, B, C, at
from tests.pretrain.test_module import batch_of, training_of


def views(v: int = 3, n: int = 5, d: int = 4) -> list[Tensor]:
    z = torch.randn(v, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(normalize(z, dim=2))


def mean_of(distances: list[float], sharpness: float) -> float:
    """Return the mean of distances, weighted by the softmax of what they are times a number."""
    weight = [math.exp(sharpness * d) for d in distances]
    return sum(w * d for w, d in zip(weight, distances, strict=True)) / sum(weight)


def loop(z: list[Tensor], far: float, near: float, group: list[int]) -> tuple[float, float]:
    pull, push = [], []
    for i in range(len(z[0])):
        others = [j for j in range(len(z[0])) if group[j] != group[i]]
        for a, view in enumerate(z):
            own = [float((view[i] - other[i]).square().sum()) for b, other in enumerate(z) if b != a]
            pull.append(mean_of(own, far))
            for other in z[a + 1 :] if others else []:
                push.append(-mean_of([float((view[i] - other[j]).square().sum()) for j in others], -near))
    return sum(pull) / len(pull), sum(push) / max(1, len(push))


def test_v10() -> None:
    pull, push = attraction([A, B, C], far=1.0).item(), repulsion([A, B, C], near=0.9).item()
    assert (pull, push, pull + push) == pytest.approx((0.137778, -1.810694, -1.672916), abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [0, 0, 0, 0, 0]])
@pytest.mark.parametrize("v", [2, 4])
def test_equal_the_loop_in_any_order_and_direction(v: int, group: list[int]) -> None:
    z, ids, order = views(v), torch.tensor(group), torch.tensor([3, 0, 4, 1, 2])
    pull, push = loop(z, 1.5, 0.7, group)
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    for given, owner in ((z, ids), ([one[order] @ turned for one in z], ids[order])):
        assert attraction(given, far=1.5).item() == pytest.approx(pull, abs=1e-9)
        assert repulsion(given, near=0.7, group=owner).item() == pytest.approx(push, abs=1e-9)


def test_with_two_views_attraction_is_alignment() -> None:
    assert attraction([A, B], far=3.0).item() == pytest.approx((A - B).square().sum(1).mean().item(), abs=1e-12)


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = repulsion(views(), near=1.0).item()
    monkeypatch.setattr(rows, "block_cells", lambda z: 5)
    assert repulsion(views(), near=1.0).item() == pytest.approx(whole, abs=1e-12)


def test_gradients() -> None:
    z = [one[:4, :3].clone().requires_grad_() for one in views()]
    # Without sharpness no weight depends on the rows, and all of the gradient counts.
    assert torch.autograd.gradcheck(lambda *v: attraction(v, far=0.0) + repulsion(v, near=0.0), z)
    got = torch.autograd.grad(attraction(z, far=2.0) + repulsion(z, near=0.9), z)
    # With sharpness the weights stay what they are here.
    distance = torch.stack([torch.stack([2 - 2 * a @ b.T for b in z]) for a in z])
    own = torch.eye(3, dtype=torch.bool)
    near = (2.0 * distance.diagonal(dim1=2, dim2=3)).masked_fill(own[..., None], -torch.inf).softmax(1).detach()
    far = (-0.9 * distance).masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf).softmax(3).detach()
    first, second = torch.triu_indices(3, 3, 1)
    pull = (near * distance.diagonal(dim1=2, dim2=3)).sum(1).mean()
    push = -(far * distance)[first, second].sum(2).mean()
    expected = torch.autograd.grad(pull + push, z)
    assert all(torch.allclose(g, e, atol=1e-12) for g, e in zip(got, expected, strict=True))


def test_duplicates_and_half_precision() -> None:
    same = [at(0, 0, 180).requires_grad_() for _ in range(3)]
    loss = attraction(same, far=1.0) + repulsion(same, near=50.0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, same))
    half = [one.half() for one in views()]
    assert repulsion(half, near=0.9).item() == pytest.approx(repulsion(views(), near=0.9).item(), abs=1e-2)
    assert attraction(half, far=1.0).item() == pytest.approx(attraction(views(), far=1.0).item(), abs=1e-2)


@pytest.mark.parametrize("alone", [False, True])
def test_the_loss_is_the_sum_and_nobody_to_be_told_apart_from(alone: bool) -> None:
    module = training_of("cacr", views=3, attraction=2.0, repulsion=3.0).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    if alone:
        batch.patient.zero_()
    losses = module.recipe.step(module.net, batch)
    losses["loss"].backward()
    z = [module.net.project(view) for view in batch.views]
    pull, push = attraction(z, far=1.0), repulsion(z, near=0.9, group=batch.patient)
    expected = 0.0 if alone else (2 * pull + 3 * push).item()
    assert losses["loss"].item() == pytest.approx(expected, abs=1e-5)
    assert any(p.grad is not None and p.grad.any() for p in module.net.parameters()) is not alone
