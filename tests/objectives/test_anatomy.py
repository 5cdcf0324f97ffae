"""Weighted contrast and kernels against known numbers and loops."""

from __future__ import annotations

import math
from typing import Any

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


def test_n1_rbf() -> None:
    w = kernels.rbf(AGE, sigma=5)
    assert w.diagonal().tolist() == [1, 1, 1]
    assert [w[0, 1].item(), w[0, 2].item(), w[1, 2].item()] == pytest.approx([0.923116, 0.000335, 0.001534], abs=1e-6)
    assert torch.equal(w, w.T)


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


def test_n4_rbf_of_standardised_measures() -> None:
    raw = torch.tensor(
        [
            [2.5, 5.0, 9.0, 2.8, 4.0, 8.0, 2.2, 6.0, 12.0, 3.0, 3.0, 7.0],
            [2.6, 5.1, 9.2, 2.7, 4.1, 8.1, 2.3, 5.8, 11.8, 2.9, 3.2, 7.1],
            [2.0, 4.0, 9.5, 2.3, 3.0, 8.8, 1.9, 4.5, 12.5, 2.4, 2.2, 7.9],
        ],
        dtype=torch.float64,
    )
    measures = (raw - raw.mean(0)) / raw.std(0, correction=0)
    squared = kernels.mean_square_difference(measures)
    pairs = ([0, 0, 1], [1, 2, 2])
    assert squared[pairs].tolist() == pytest.approx([0.232173, 4.400286, 4.367540], abs=1e-6)
    assert kernels.rbf(measures, sigma=1)[pairs].tolist() == pytest.approx([0.890398, 0.110787, 0.112616], abs=1e-6)


def test_n6_unknown_measures_are_ignored_pairwise() -> None:
    nan = math.nan
    a = torch.tensor([[0.0, 1.0], [0.0, nan], [nan, 3.0], [nan, nan]], dtype=torch.float64)
    squared = kernels.mean_square_difference(a)
    assert squared[0, 1] == 0
    assert squared[0, 2] == 4  # not halved: only one measure is shared
    assert squared[1, 2].isnan()
    w = kernels.rbf(a, sigma=2)
    assert w[0, 2].item() == pytest.approx(math.exp(-4 / 8))
    assert w[1, 2] == 0
    assert w[3].tolist() == [0, 0, 0, 1]
    assert kernels.cauchy(a, gamma=0.5)[0, 2].item() == pytest.approx(1 / 3)


def test_n6_a_subject_without_measures_has_only_its_other_view() -> None:
    w = kernels.rbf(torch.tensor([20.0, math.nan, 40.0], dtype=torch.float64), sigma=5)
    own = torch.eye(3, dtype=torch.float64)
    own[0, 2] = own[2, 0] = w[0, 2]
    assert torch.allclose(w, own)
    assert torch.isfinite(anatomy.y_aware(Z, w, temperature=0.1))


def test_n7_kernels_of_slices() -> None:
    w = kernels.rbf(torch.tensor([0.10, 0.12, 0.30, 0.55, 0.90], dtype=torch.float64), sigma=0.05)
    assert w[[0, 0, 1, 2], [1, 2, 2, 3]].tolist() == pytest.approx([0.923116, 0.000335, 0.001534, 3.7e-6], abs=1e-6)
    h = kernels.hellinger(torch.tensor([[0.3, 0.5, 0.2], [0.1, 0.6, 0.3]], dtype=torch.float64))
    assert h[0, 1].item() == pytest.approx(0.965877, abs=1e-6)
    for kernel in (w, h):
        assert torch.equal(kernel, kernel.T)
        assert torch.equal(kernel.diagonal(), torch.ones(len(kernel), dtype=torch.float64))
        assert torch.linalg.eigvalsh(kernel).min() >= -1e-6


def test_median_sigma() -> None:
    assert kernels.median_sigma(torch.tensor([0.0, 1.0, 3.0])) == pytest.approx(2.0)
    assert kernels.median_sigma(torch.tensor([5.0, 5.0, 5.0])) == 1.0
    assert kernels.median_sigma(torch.tensor([[math.nan], [1.0]])) == 1.0


def test_two_sets() -> None:
    cross: Any = kernels.rbf(AGE, AGE[:2], sigma=5)
    assert torch.equal(cross, kernels.rbf(AGE, sigma=5)[:, :2])
