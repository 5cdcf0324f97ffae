"""PamC: the number of V-28, a slow loop, nobody to be told apart from, rows that cancel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import rows
from medssl.pretrain.recipes.pamc import meta_contrast
from tests.objectives.circle import at
from tests.pretrain.test_module import batch_of, training_of


def both_ways(*edges: tuple[int, int]) -> Tensor:
    return torch.tensor([*edges, *((j, i) for i, j in edges)]).T


def sample(n: int = 7, d: int = 4) -> Tensor:
    return normalize(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1)


def loop(z: Tensor, edges: Tensor, cluster: list[int], k: float) -> float:
    near = [[float(z[i] @ z[j]) for a, j in edges.T.tolist() if a == i] for i in range(len(z))]
    pull = [math.log(sum(math.exp(k * s) for s in scores)) for scores in near if scores]
    nodes = [sum(z[i] for i in range(len(z)) if cluster[i] == c) for c in sorted(set(cluster))]
    push = []
    for c, m in enumerate(nodes):
        scores = [0.0 if b == c else float(m @ other / (m.norm() * other.norm())) for b, other in enumerate(nodes)]
        push.append(math.log(sum(math.exp(k * s) for s in scores)))
    return sum(push) / len(push) - sum(pull) / len(pull)


EDGES, CLUSTER = both_ways((0, 1), (2, 3), (0, 5)), [4, 4, 1, 1, 2, 2, 9]


def test_v28() -> None:
    z, edges = at(0, 10, 90, 100, 200), both_ways((0, 1), (2, 3))
    got = meta_contrast(z, edges, torch.tensor([0, 0, 1, 1, 2]), scale=0.5)
    assert got.item() == pytest.approx(0.485541, abs=1e-6)


@pytest.mark.parametrize("k", [0.25, 2.0])
def test_equals_the_loop_in_any_order_and_direction(k: float) -> None:
    z, cluster = sample(), torch.tensor(CLUSTER)
    expected = pytest.approx(loop(z, EDGES, CLUSTER, k), abs=1e-9)
    assert meta_contrast(z, EDGES, cluster, scale=k).item() == expected
    order = torch.tensor([3, 0, 6, 4, 1, 5, 2])
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    moved = meta_contrast(z[order] @ turned, order.argsort()[EDGES], cluster[order], scale=k)
    assert moved.item() == expected


def test_blocks_of_meta_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = meta_contrast(sample(), EDGES, torch.tensor(CLUSTER)).item()
    monkeypatch.setattr(rows, "block_cells", lambda z: 4)
    assert meta_contrast(sample(), EDGES, torch.tensor(CLUSTER)).item() == pytest.approx(whole, abs=1e-12)


def test_gradients_cancelling_rows_and_half_precision() -> None:
    z, edges = sample(4, 3).requires_grad_(), both_ways((0, 1), (2, 3))
    cluster = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda z: meta_contrast(z, edges, cluster, scale=1.5), z)
    alone = meta_contrast(z, edges, torch.zeros(4), scale=1.5)
    assert alone.item() == 0
    assert not torch.autograd.grad(alone, z)[0].any()
    for same in (at(0, 0, 0, 0), at(0, 90, 270, 180)):
        leaf = same.clone().requires_grad_()
        assert torch.autograd.grad(meta_contrast(leaf, edges, cluster), leaf)[0].isfinite().all()
    half = meta_contrast(z.half(), edges, cluster, scale=20.0).item()
    assert half == pytest.approx(meta_contrast(z, edges, cluster, scale=20.0).item(), abs=2e-2)


def test_views_are_joined_and_patients_are_nodes() -> None:
    module = training_of("pamc", scale=0.5).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    z = torch.cat([module.net.project(view) for view in batch.views]).detach().double()
    expected = loop(z, both_ways(*((i, i + 8) for i in range(8))), batch.patient.tolist() * 2, 0.5)
    assert module.recipe.step(module.net, batch)["loss"].item() == pytest.approx(expected, abs=1e-5)
