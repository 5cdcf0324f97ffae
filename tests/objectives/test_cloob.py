"""CLOOB: the numbers of V-15, a slow loop, near-duplicates, nobody to be told apart from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import rows
from medssl.objectives.cloob import cloob, info_loob, retrieved
from medssl.objectives.pairs import Duplicates
from tests.objectives.circle import A, B, at


def views(n: int = 6, d: int = 4) -> list[Tensor]:
    z = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(normalize(z, dim=2))


def found(row: Tensor, memory: Tensor, scale: float) -> Tensor:
    weight = [math.exp(scale * float(row @ other)) for other in memory]
    mixture = sum(w * other for w, other in zip(weight, memory, strict=True)) / sum(weight)
    return mixture / mixture.norm()


def loop(x: Tensor, y: Tensor, t: float, group: list[int]) -> float:
    terms = []
    for i in range(len(x)):
        others = [math.exp(float(x[i] @ y[j]) / t) for j in range(len(y)) if group[j] != group[i]]
        if others:
            terms.append(t * math.log(sum(others)) - float(x[i] @ y[i]))
    return sum(terms) / max(1, len(terms))


def test_v15() -> None:
    assert info_loob(A, B, temperature=0.5).item() == pytest.approx(-0.480291, abs=1e-6)
    assert cloob(A, B, temperature=0.5, retrieval=8.0).item() == pytest.approx(-0.880085, abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 1]])
@pytest.mark.parametrize("scale", [None, 3.0])
def test_equals_the_loop_in_any_order_and_direction(scale: float | None, group: list[int]) -> None:
    x, y = views()
    expected = 0.0
    for own, other in ((x, y), (y, x)):
        pair = (own, other)
        if scale is not None:
            pair = tuple(torch.stack([found(row, own, scale) for row in z]) for z in pair)
        expected += loop(*pair, 0.3, group)
    ids, order = torch.tensor(group), torch.tensor([3, 0, 4, 1, 5, 2])
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    for a, b, owner in ((x, y, ids), (y, x, ids), (x[order] @ turned, y[order] @ turned, ids[order])):
        assert cloob(a, b, temperature=0.3, retrieval=scale, group=owner).item() == pytest.approx(expected, abs=1e-9)


def test_a_sharp_retrieval_finds_the_row_itself() -> None:
    assert torch.allclose(retrieved(A, A, scale=500.0), A, atol=1e-9)
    assert torch.allclose(retrieved(A, B, scale=0.0), normalize(B.sum(0), dim=0).expand(4, 2), atol=1e-9)


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = views()
    whole = info_loob(x, y, temperature=0.3).item()
    monkeypatch.setattr(rows, "block_cells", lambda z: 12)
    assert info_loob(x, y, temperature=0.3).item() == pytest.approx(whole, abs=1e-12)


def test_near_duplicates_are_left_out_or_pulled_both_ways() -> None:
    x, y = views()
    first, second = torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([0, 1, 2, 0, 4, 5])

    def loss(weight: float | None) -> float:
        return cloob(x, y, temperature=0.3, retrieval=None, duplicates=Duplicates(first, second, weight)).item()

    expected, pulled = 0.0, 0.0
    for rows_, columns, pair in ((x, y, (0, 3)), (y, x, (3, 0))):
        for i in range(6):
            own = float(rows_[i] @ columns[i])
            scores = [float(rows_[i] @ columns[j]) / 0.3 for j in range(6) if j != i and (i, j) != pair]
            push = 0.3 * math.log(sum(math.exp(s) for s in scores))
            expected += (push - own) / 6
            pulled += (push - ((own + 0.5 * float(rows_[i] @ columns[pair[1]])) / 1.5 if i == pair[0] else own)) / 6
    assert loss(None) == pytest.approx(expected, abs=1e-9)
    assert loss(0.5) == pytest.approx(pulled, abs=1e-9)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_gradients_and_nobody_to_be_told_apart_from(scale: float | None) -> None:
    z = [one[:4, :3].clone().requires_grad_() for one in views()]
    assert torch.autograd.gradcheck(lambda x, y: cloob(x, y, temperature=0.5, retrieval=scale), z)
    alone = cloob(*z, temperature=0.5, retrieval=scale, group=torch.zeros(4))
    assert alone.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(alone, z))
    for same in (at(0, 0, 180), at(0, 180, 0)):
        leaves = [same.clone().requires_grad_() for _ in range(2)]
        loss = cloob(*leaves, temperature=0.05, retrieval=scale)
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, leaves))
    half = cloob(*(one.half() for one in z), temperature=0.05, retrieval=scale)
    assert half.item() == pytest.approx(cloob(*z, temperature=0.05, retrieval=scale).item(), abs=2e-2)
