"""SepCLR: the numbers of V-20, slow loops, and factors of all and of the sick that end up in a code each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives.sepclr import alignment, joint_entropy, sepclr, uniformity
from tests.objectives.circle import A, B, at
from tests.objectives.test_learning import fit, orthonormal


def test_v20() -> None:
    assert joint_entropy(A, 0.5 * B).item() == pytest.approx(-1.159226, abs=1e-6)
    assert alignment(A, B).item() == pytest.approx(0.121774, abs=1e-6)
    assert uniformity(A).item() == pytest.approx(-2.131808, abs=1e-6)


def some(n: int = 7, d: int = 3) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor, Tensor]:
    """Return common and salient codes of two views, who is sick (one unknown), and groups."""
    generator = torch.Generator().manual_seed(0)
    c = normalize(torch.randn(2, n, d, dtype=torch.float64, generator=generator), dim=2)
    s = torch.randn(2, n, d, dtype=torch.float64, generator=generator)
    sick = torch.tensor([1.0, 0, torch.nan, 1, 0, 1, 0])[:n]
    return (c[0], c[1]), (s[0], s[1]), sick, torch.tensor([0, 1, 2, 0, 3, 4, 5])[:n]


def loop(c: tuple[Tensor, Tensor], s: tuple[Tensor, Tensor], sick: list[float], group: list[int]) -> list[float]:
    n = range(len(sick))
    apart = [(i, j) for i in n for j in n if i < j and group[i] != group[j]]

    def squared(a: Tensor, b: Tensor) -> float:
        return float(((a - b) ** 2).sum())

    def spread(x: Tensor, pairs: list[tuple[int, int]]) -> float:
        return math.log(sum(math.exp(-squared(x[i], x[j])) for i, j in pairs) / len(pairs))

    patients, healthy = [i for i in n if sick[i] == 1], [i for i in n if sick[i] == 0]
    masked = [torch.stack([one[i] if i in patients else 0 * one[i] for i in n]) for one in s]
    known = [(i, j) for i, j in apart if not math.isnan(sick[i] + sick[j])]
    joint = []
    for one, other in zip(c, s, strict=True):
        for i in n:
            mine = [i, *(j for j in n if group[j] != group[i])]
            joint.append(
                math.log(
                    sum(math.exp(-squared(one[i], one[j]) - squared(other[i], other[j])) for j in mine) / len(mine)
                )
            )
    return [
        sum(squared(c[0][i], c[1][i]) for i in n) / len(n) + sum(spread(one, apart) for one in c),
        sum(squared(s[0][i], s[1][i]) for i in patients) / len(patients) + sum(spread(one, known) for one in masked),
        sum(squared(one[i], 0 * one[i]) for one in s for i in healthy) / (2 * len(healthy)),
        sum(joint) / len(joint),
    ]


def test_equals_the_loop_in_any_order_and_any_rotation() -> None:
    c, s, sick, group = some()
    expected = loop(c, s, sick.tolist(), group.tolist())
    assert [float(term) for term in sepclr(c, s, sick, group=group)] == pytest.approx(expected, abs=1e-9)
    order = torch.tensor([3, 6, 0, 2, 5, 1, 4])
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    codes = [tuple((x @ turn)[order] for x in code) for code in (c, s)]
    moved = sepclr(*codes, sick[order], group=group[order])  # type: ignore[arg-type]
    assert [float(term) for term in moved] == pytest.approx(expected, abs=1e-9)
    (c2, c1), (s2, s1) = c, s
    swapped = sepclr((c1, c2), (s1, s2), sick, group=group)
    assert [float(term) for term in swapped] == pytest.approx(expected, abs=1e-9)


def test_gradients_half_precision_duplicates_and_nobody_to_be_told_apart_from() -> None:
    c, s, sick, _ = some(4)
    leaves = [x.clone().requires_grad_() for x in (*c, *s)]
    assert torch.autograd.gradcheck(
        lambda c1, c2, s1, s2: sum(sepclr((c1, c2), (s1, s2), sick), torch.zeros(())), leaves
    )
    exact = [float(term) for term in sepclr(c, s, sick)]
    half = [tuple(x.half() for x in code) for code in (c, s)]
    assert [float(term) for term in sepclr(*half, sick)] == pytest.approx(exact, abs=1e-2)  # type: ignore[arg-type]
    for codes in ([at(0, 0, 180, 180)] * 4, [torch.zeros(4, 2)] * 4, leaves):
        same = [x.clone().detach().requires_grad_() for x in codes]
        for labels in (sick, torch.zeros(4), torch.ones(4), torch.full((4,), torch.nan)):
            for group in (None, torch.zeros(4)):
                terms = sepclr((same[0], same[1]), (same[2], same[3]), labels, group=group)
                total = torch.stack(list(terms)).sum()
                gradients = torch.autograd.grad(total, same)
                assert total.isfinite()
                assert all(g.isfinite().all() for g in gradients)
                if group is not None:
                    assert total == 0
                    assert not any(g.any() for g in gradients)


def explained(method: str, seed: int = 2) -> dict[str, float]:
    """Return how much of the factors of patients codes explain: R² on people not trained on.

    Everybody has two large common factors, and patients two faint ones besides.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    sick = rng.random(600) < 0.5
    common, salient = 2 * rng.standard_normal((600, 2)), np.where(sick[:, None], 1 + rng.standard_normal((600, 2)), 0)
    x = np.column_stack([common, salient]) @ orthonormal(rng, 4).T + 0.05 * rng.standard_normal((600, 16))
    data, label = torch.from_numpy(x).float(), torch.from_numpy(sick).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = nn.ModuleList([nn.Linear(16, 3), nn.Linear(16, 2)])

    def loss() -> Tensor:
        who = torch.from_numpy(rng.permutation(400)[:64])
        views = [data[who] + 0.1 * torch.randn(64, 16, generator=generator) for _ in range(2)]
        c, s = ([encoder(view) for view in views] for encoder in encoders)
        if method == "simclr":
            return O.nt_xent(*(normalize(code, dim=1) for code in s), temperature=0.1)
        c1, c2 = (normalize(code, dim=1) for code in c)
        terms, apart = sepclr((c1, c2), (s[0], s[1]), label[who]), 10 * (method == "sepclr")
        return terms.common + terms.salient + apart * (terms.uninformed + terms.joint)

    fit(encoders, loss, 150, 2e-2)
    patients = np.flatnonzero(sick)
    train, test = patients[patients < 400], patients[patients >= 400]
    out = {}
    with torch.no_grad():
        codes = {name: encoder(data).numpy() for name, encoder in zip(("c", "s"), encoders, strict=True)}
    for code, z in codes.items():
        for name, factor in (("common", common), ("salient", salient)):
            probe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(z[train], factor[train])
            out[f"{code} {name}"] = float(r2_score(factor[test], probe.predict(z[test])))
    return out


def test_common_and_salient_factors_end_up_in_a_code_each() -> None:
    """SimCLR in place of the salient code, and SepCLR without what keeps codes apart, find the large factors."""
    found = {method: explained(method) for method in ("sepclr", "ablation", "simclr")}
    assert found["sepclr"]["s salient"] > 0.95
    assert found["sepclr"]["c common"] > 0.9
    assert found["sepclr"]["s common"] < 0.15
    for method in ("ablation", "simclr"):
        assert found[method]["s salient"] < 0.6, method
        assert found[method]["s common"] > 0.4, method
