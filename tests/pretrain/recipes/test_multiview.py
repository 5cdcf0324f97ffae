"""More than two views: the numbers of V-3, a slow loop, groups, and blocks of rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import rows
from medssl.pretrain.recipes.multiview import mv_dhel, mv_info_nce
from tests.objectives.circle import A, B, C, at


def views(v: int = 3, n: int = 5, d: int = 4) -> list[Tensor]:
    z = torch.randn(v, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return list(normalize(z, dim=2))


def loop(z: list[Tensor], t: float, group: list[int], *, within: bool) -> float:
    """Both losses by their definition."""
    terms = []
    for i in range(len(z[0])):
        pull = sum(math.exp(z[a][i] @ z[b][i] / t) for a, b in itertools.combinations(range(len(z)), 2))
        others = [j for j in range(len(z[0])) if group[j] != group[i]]
        if not others:
            continue
        if within:
            push = sum(math.log(sum(math.exp(v[i] @ v[j] / t) for j in others)) for v in z)
            terms.append(push - math.log(pull))
        else:
            cells = [(a, j, b) for a in range(len(z)) for b in range(len(z)) for j in [i, *others] if (j, b) != (i, a)]
            terms.append(math.log(sum(math.exp(z[a][i] @ z[b][j] / t) for a, j, b in cells)) - math.log(2 * pull))
    return sum(terms) / max(1, len(terms))


@pytest.mark.parametrize(
    ("z", "t", "dhel", "info_nce"),
    [
        ((A, B, C), 0.5, 0.255802, 0.552499),
        ((A, B, C), 0.2, -0.091661, 0.226735),
        ((A, B), 0.5, 0.191626, 0.697308),
        ((A, B), 0.2, -1.362985, 0.306731),
        ((at(0, 0, 0, 0),) * 3, 0.5, 6.197225, 1.704748),
    ],
)
def test_v3(z: tuple[Tensor, ...], t: float, dhel: float, info_nce: float) -> None:
    for order in itertools.permutations(z):
        assert mv_dhel(order, temperature=t).item() == pytest.approx(dhel, abs=1e-6)
        assert mv_info_nce(order, temperature=t).item() == pytest.approx(info_nce, abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 2]])
@pytest.mark.parametrize("v", [2, 4])
def test_equal_the_loop_with_groups_and_in_any_order(v: int, group: list[int]) -> None:
    z, ids = views(v), torch.tensor(group)
    order = torch.tensor([3, 0, 4, 1, 2])
    for loss, within in ((mv_dhel, True), (mv_info_nce, False)):
        expected = pytest.approx(loop(z, 0.3, group, within=within), abs=1e-9)
        assert loss(z, temperature=0.3, group=ids).item() == expected
        assert loss([one[order] for one in z], temperature=0.3, group=ids[order]).item() == expected


def test_blocks_hold_all_views_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    z = views(3, 7)
    whole = [loss(z, temperature=0.3).item() for loss in (mv_dhel, mv_info_nce)]
    monkeypatch.setattr(rows, "block_cells", lambda z: 100)
    assert [loss(z, temperature=0.3).item() for loss in (mv_dhel, mv_info_nce)] == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("loss", [mv_dhel, mv_info_nce])
def test_gradients_and_nobody_to_be_told_apart_from(loss: type[Tensor]) -> None:
    z = [one[:4, :3].clone().requires_grad_() for one in views()]
    assert torch.autograd.gradcheck(lambda *v: loss(v, temperature=0.5), z)
    alone = loss(z, temperature=0.5, group=torch.zeros(4, dtype=torch.int64))
    assert alone.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(alone, z))
    same = [at(0, 0, 180).requires_grad_() for _ in range(2)]
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss(same, temperature=0.05), same))
