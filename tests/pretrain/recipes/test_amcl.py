"""A temperature for each pair: V-23, a slow loop, groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from medssl.pretrain.recipes.amcl import adaptive
from tests.objectives.circle import A, B


@pytest.mark.parametrize(("penalty", "expected"), [(0, 0.512197), (0.1, 0.650427)])
def test_v23(penalty: float, expected: float) -> None:
    assert adaptive(A, B, A, B, temperatures=(0.05, 1), penalty=penalty).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [0, 0, 0, 0, 0]])
def test_equals_the_loop(group: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    z = [normalize(torch.randn(5, 3, dtype=torch.float64, generator=generator), dim=1) for _ in range(2)]
    key = [torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2)]
    got = adaptive(*z, *key, temperatures=(0.1, 2), penalty=0.2, group=torch.tensor(group))
    terms, regular = [], []
    for i in range(5):
        counted = [j for j in range(5) if j == i or group[j] != group[i]]
        if len(counted) == 1:
            continue
        t = {j: 0.1 + 1.9 / (1 + math.exp(-float(key[0][i] @ key[1][j]))) for j in counted}
        s = {j: float(z[0][i] @ z[1][j]) / t[j] for j in counted}
        terms.append(math.log(sum(math.exp(v) for v in s.values())) - s[i])
        regular += [1.5 * math.log(v) + 1 / v for v in t.values()]
    expected = sum(terms) / len(terms) + 0.2 * sum(regular) / len(regular) if terms else 0
    assert got.item() == pytest.approx(expected, abs=1e-9)


def test_gradients() -> None:
    parts = [x.clone().requires_grad_() for x in (A, B, A / 2, B / 3)]
    assert torch.autograd.gradcheck(lambda *x: adaptive(*x, temperatures=(0.05, 1), penalty=0.1), parts)
