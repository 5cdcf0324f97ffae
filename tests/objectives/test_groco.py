"""GroCo: the numbers of V-9, a slow loop, anchors with few negatives, and where gradients go."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import rows
from medssl.objectives.groco import disorder, groco, share_in_places
from tests.objectives.circle import A, B, at


def views(v: int = 3, n: int = 5, d: int = 4) -> list[Tensor]:
    z = torch.randn(v, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(normalize(z, dim=2))


def permutation(x: list[float], beta: float) -> tuple[Tensor, list[float]]:
    """Return P (elements, places) and the sorted values, by the network as it is written down."""
    n, x = len(x), list(x)
    p = torch.eye(n, dtype=torch.float64)
    for layer in range(n):
        for i, j in list(pairwise(range(n)))[layer % 2 :: 2]:
            a, b = x[i], x[j]
            keep = math.atan(beta * (b - a)) / math.pi + 0.5
            x[i], x[j] = keep * a + (1 - keep) * b, (1 - keep) * a + keep * b
            p[:, i], p[:, j] = keep * p[:, i] + (1 - keep) * p[:, j], (1 - keep) * p[:, i] + keep * p[:, j]
    return p, x


def loop(z: list[Tensor], k: int, beta: float, group: list[int]) -> float:
    terms = []
    for a, view in enumerate(z):
        for i in range(len(view)):
            negative = sorted(float(view[i] @ view[j]) for j in range(len(view)) if group[j] != group[i])[-k:]
            if not negative:
                continue
            positive = sorted(float(view[i] @ other[i]) for b, other in enumerate(z) if b != a)
            p, _ = permutation(negative + positive, beta)
            own = []
            for e in range(len(p)):
                among_negatives, among_positives = p[e, : len(negative)].sum(), p[e, len(negative) :].sum()
                right, wrong = among_positives, among_negatives
                if e < len(negative):
                    right, wrong = wrong, right
                own.append(-(math.log(right) + math.log(1 - wrong)) / 2)
            terms.append(sum(own) / len(own))
    return sum(terms) / max(1, len(terms))


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_v9_sort() -> None:
    x = row(0.1, 0.4, 0.8)
    p = torch.cat([share_in_places(x, place[None], steepness=1.0) for place in torch.eye(3).double()]).T
    expected = [[0.453565, 0.405200, 0.141235], [0.398690, 0.395724, 0.205587], [0.147745, 0.199076, 0.653178]]
    assert torch.allclose(p, torch.tensor(expected).double(), atol=1e-6)
    assert torch.allclose(p.sum(1), torch.ones(3).double(), atol=1e-12)
    assert (x @ p)[0].tolist() == pytest.approx([0.323029, 0.358070, 0.618901], abs=1e-6)
    by_loop, values = permutation(x[0].tolist(), 1.0)
    assert torch.allclose(p, by_loop, atol=1e-12)
    assert values == pytest.approx((x @ p)[0].tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("negative", "positive", "beta", "expected"),
    [
        ((0.1, 0.4), (0.8,), 1.0, 0.269439),
        ((0.1, 0.4), (0.8,), 10.0, 0.050083),
        ((0.5, 0.9), (0.2,), 1.0, 0.630888),
        ((-0.2, 0.1, 0.3, 0.4), (0.6, 0.7), 1.0, 0.325460),
    ],
)
def test_v9_disorder(negative: tuple[float, ...], positive: tuple[float, ...], beta: float, expected: float) -> None:
    got = disorder(row(*negative), row(*positive), steepness=beta)
    assert got.tolist() == pytest.approx([expected], abs=1e-6)
    # Negatives that there are not change nothing.
    more = disorder(row(-math.inf, -math.inf, *negative), row(*positive), steepness=beta)
    assert more.tolist() == pytest.approx([expected], abs=1e-6)


def test_v9_batch() -> None:
    assert groco([A, B], negatives=2).item() == pytest.approx(0.230903, abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [0, 0, 0, 0, 1]])
@pytest.mark.parametrize(("v", "k", "beta"), [(2, 3, 1.0), (3, 10, 4.0)])
def test_equals_the_loop_in_any_order_and_direction(v: int, k: int, beta: float, group: list[int]) -> None:
    z, ids, order = views(v), torch.tensor(group), torch.tensor([3, 0, 4, 1, 2])
    expected = pytest.approx(loop(z, k, beta, group), abs=1e-9)
    assert groco(z, negatives=k, steepness=beta, group=ids).item() == expected
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    other = [one[order] @ turned for one in reversed(z)]
    assert groco(other, negatives=k, steepness=beta, group=ids[order]).item() == expected


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    z = views(3, 7)
    whole = groco(z, negatives=3).item()
    monkeypatch.setattr(rows, "block_cells", lambda z: 50)
    assert groco(z, negatives=3).item() == pytest.approx(whole, abs=1e-12)


def test_gradients_reach_the_anchor_alone() -> None:
    negative, positive = (torch.rand(4, n, dtype=torch.float64).sort(1).values.requires_grad_() for n in (3, 2))
    assert torch.autograd.gradcheck(lambda n, p: disorder(n, p, steepness=2.0), (negative, positive))
    z = [one[:4, :3].clone().requires_grad_() for one in views(2)]
    still = [one.detach().clone() for one in z]

    def loss(*anchors: Tensor) -> Tensor:
        """The same by autograd, with all but the anchors fixed."""
        terms = []
        for anchor, own, other in zip(anchors, still, reversed(still), strict=True):
            scores = (anchor @ own.T).masked_fill(torch.eye(4, dtype=torch.bool), -math.inf)
            negative = scores.topk(2).values.flip(1)
            terms.append(disorder(negative, (anchor * other).sum(1, keepdim=True), steepness=3.0))
        return torch.stack(terms).mean()

    assert torch.autograd.gradcheck(loss, z)
    got = torch.autograd.grad(groco(z, negatives=2, steepness=3.0), z)
    expected = torch.autograd.grad(loss(*z), z)
    assert all(torch.allclose(g, e, atol=1e-12) for g, e in zip(got, expected, strict=True))


def test_nobody_duplicates_and_half_precision() -> None:
    z = [one.requires_grad_() for one in views(2)]
    alone = groco(z, group=torch.zeros(5))
    assert alone.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(alone, z))
    for same in (at(0, 0, 180), at(0, 0, 0)):
        leaves = [same.clone().requires_grad_() for _ in range(2)]
        assert all(g.isfinite().all() for g in torch.autograd.grad(groco(leaves, steepness=100.0), leaves))
    half = [one.detach().half() for one in z]
    assert groco(half, steepness=10.0).item() == pytest.approx(groco(z, steepness=10.0).item(), abs=1e-2)
