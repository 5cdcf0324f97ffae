"""Weighted contrast and kernels against known numbers and loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import anatomy, kernels, nt_xent

i, d = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (3, 4)], indexing="ij")
ZA, ZB = normalize(torch.sin(1 + i + 2 * d), dim=1), normalize(torch.cos(0.3 * i + d), dim=1)
Z = torch.cat([ZA, ZB])
AGE = torch.tensor([20.0, 22, 40], dtype=torch.float64)
LOSSES = {"y_aware": anatomy.y_aware, "threshold": anatomy.threshold, "exp_weighted": anatomy.exp_weighted}


def random_case(n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    z = normalize(torch.randn(2 * n, 5, dtype=torch.float64, generator=generator), dim=1)
    w = torch.rand(2 * n, 2 * n, dtype=torch.float64, generator=generator)
    w = (w + w.T) / 2
    w[0, 3] = w[3, 0] = 0.0
    w[1, 2] = w[2, 1] = w[1, 4] = w[4, 1] = 0.5  # a tie
    return z, w


def loop(name: str, z: Tensor, w: Tensor, temperature: float) -> float:
    n = len(z)
    s = (z @ z.T / temperature).tolist()
    anchors = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        top = bottom = 0.0
        for k in others:
            weight = float(w[i, k])
            if name == "y_aware":
                terms = [s[i][j] for j in others]
            elif name == "exp_weighted":
                terms = [s[i][j] * (1 - float(w[i, j])) for j in others]
            else:
                terms = [s[i][j] for j in others if float(w[i, j]) < weight]
            if weight == 0 or not terms:
                continue
            top += weight * (math.log(sum(map(math.exp, terms))) - s[i][k])
            bottom += weight
        if bottom:
            anchors.append(top / bottom)
    return sum(anchors) / len(anchors)


@pytest.mark.parametrize(
    ("name", "sigma", "expected"),
    [
        ("y_aware", 5, 7.465075),
        ("y_aware", 2, 7.708408),
        ("exp_weighted", 5, 6.404456),
        ("exp_weighted", 2, 6.698404),
        ("threshold", 5, 6.769840),
        ("threshold", 2, 7.123442),
    ],
)
def test_n2_losses(name: str, sigma: float, expected: float) -> None:
    w = kernels.rbf(AGE, sigma=sigma)
    got = LOSSES[name](Z, w, temperature=0.1)
    assert got.item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(LOSSES[name](Z, w.repeat(2, 2), temperature=0.1), got)


def test_n3_limits() -> None:
    own = anatomy.y_aware(Z, torch.eye(3, dtype=torch.float64), temperature=0.1)
    assert own.item() == pytest.approx(8.991411, abs=1e-6)
    assert own.item() == pytest.approx(nt_xent(ZA, ZB, temperature=0.1).item(), abs=1e-9)
    assert anatomy.y_aware(Z, torch.ones(3, 3), temperature=0.1).item() == pytest.approx(6.158309, abs=1e-6)
    order = [2, 0, 1]
    shuffled = anatomy.y_aware(torch.cat([ZA[order], ZB[order]]), kernels.rbf(AGE[order], sigma=5), temperature=0.1)
    assert shuffled.item() == pytest.approx(7.465075, abs=1e-6)


def test_n3_class_weights_are_supcon_with_the_mean_outside_the_log() -> None:
    label = torch.tensor([0, 1, 0, 0, 1, 0])
    s = Z @ Z.T / 0.1
    terms = []
    for i in range(6):
        positives = [k for k in range(6) if k != i and label[k] == label[i]]
        lse = s[i, [j for j in range(6) if j != i]].logsumexp(0)
        terms.append(torch.stack([lse - s[i, k] for k in positives]).mean())
    w = (label[:, None] == label).double()
    assert anatomy.y_aware(Z, w, temperature=0.1).item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_equals_the_loop(name: str, temperature: float) -> None:
    z, w = random_case()
    got = LOSSES[name](z, w, temperature=temperature).item()
    assert got == pytest.approx(loop(name, z, w, temperature), abs=1e-9)
    assert LOSSES[name](z.float(), w.float(), temperature=temperature).item() == pytest.approx(got, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_n6_gradcheck_and_no_gradient_to_weights(name: str) -> None:
    z, w = random_case()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, w, temperature=0.5), (z,))
    w.requires_grad_()
    LOSSES[name](z, w, temperature=0.5).backward()
    assert w.grad is None


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_rows_does_not_matter(name: str) -> None:
    z, w = random_case()
    order = torch.tensor([5, 2, 7, 0, 1, 4, 3, 6])
    shuffled = LOSSES[name](z[order], w[order][:, order], temperature=0.1)
    assert torch.allclose(shuffled, LOSSES[name](z, w, temperature=0.1), atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_without_positives_zero_stays_attached(name: str) -> None:
    z, w = random_case()
    z.requires_grad_()
    loss = LOSSES[name](z, torch.zeros_like(w), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_threshold_without_a_less_alike_item_is_zero() -> None:
    z, _ = random_case()
    z.requires_grad_()
    loss = anatomy.threshold(z, torch.ones(8, 8), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(name: str, dtype: torch.dtype) -> None:
    z = torch.cat([ZA, ZA]).to(dtype).requires_grad_()
    loss = LOSSES[name](z, kernels.rbf(AGE, sigma=5), temperature=0.04)
    loss.backward()
    assert torch.isfinite(loss)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (torch.ones(4, 4), r"\(2N, 2N\) or \(N, N\)"),
        (torch.full((3, 3), 1.5), "expected 0 to 1"),
        (torch.full((3, 3), torch.nan), "without NaN"),
    ],
)
def test_wrong_weights(w: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anatomy.y_aware(Z, w, temperature=0.1)


def test_n6_a_subject_without_measures_has_only_its_other_view() -> None:
    w = kernels.rbf(torch.tensor([20.0, math.nan, 40.0], dtype=torch.float64), sigma=5)
    own = torch.eye(3, dtype=torch.float64)
    own[0, 2] = own[2, 0] = w[0, 2]
    assert torch.allclose(w, own)
    assert torch.isfinite(anatomy.y_aware(Z, w, temperature=0.1))
