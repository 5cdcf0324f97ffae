"""Participant contrast and KoLeo against known numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import koleo
from medssl.objectives.wearable import info_nce

i, d = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (4, 3)], indexing="ij")
Q1, Q2 = normalize(torch.sin(1 + 2 * i + d), dim=1), normalize(torch.sin(1.2 + 2 * i + 1.1 * d), dim=1)
K1, K2 = normalize(torch.sin(1.05 + 2 * i + d), dim=1), normalize(torch.sin(1.25 + 2 * i + 1.1 * d), dim=1)


def one_way(q: Tensor, k: Tensor) -> float:
    """Return InfoNCE of rows ``q`` against keys ``k``, with both directions of the public function the same."""
    return info_nce(q, q, k, k).item()


def total(q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
    return info_nce(q1, q2, k1, k2) + 0.1 * (koleo(q1) + koleo(q2)) / 2


def test_anchor_values() -> None:
    assert Q1[0].tolist() == pytest.approx([0.674839, 0.729235, 0.113175], abs=1e-6)
    assert K2[3].tolist() == pytest.approx([0.683157, 0.729972, -0.020932], abs=1e-6)


def test_w1_terms() -> None:
    assert one_way(Q1, K2) == pytest.approx(0.495970, abs=1e-6)
    assert one_way(Q2, K1) == pytest.approx(0.342980, abs=1e-6)
    assert koleo(Q1).item() == pytest.approx(0.402525, abs=1e-6)
    assert koleo(Q2).item() == pytest.approx(0.364364, abs=1e-6)
    assert info_nce(Q1, Q2, K1, K2).item() == pytest.approx((0.495970 + 0.342980) / 2, abs=1e-6)
    assert total(Q1, Q2, K1, K2).item() == pytest.approx(0.457819, abs=1e-6)


def test_w2_keys_come_from_the_other_view() -> None:
    assert one_way(Q1, K1) == pytest.approx(0.174503, abs=1e-6)
    assert one_way(Q2, K2) == pytest.approx(0.158785, abs=1e-6)
    crossed = total(Q1, Q2, K2, K1).item()
    assert crossed == pytest.approx(0.204988, abs=1e-6)
    assert total(Q1, Q2, K1, K2).item() != pytest.approx(crossed, abs=0.1)
    assert one_way(Q1, Q2) == pytest.approx(0.426012, abs=1e-6)
    assert one_way(Q2, Q1) == pytest.approx(0.399333, abs=1e-6)
    assert one_way(K2, Q1) == pytest.approx(0.465898, abs=1e-6)  # the column direction, which the method never uses


@pytest.mark.parametrize("n", [4, 256])
def test_w3_constant_embeddings(n: int) -> None:
    z = torch.zeros(n, 3, dtype=torch.float64)
    z[:, 0] = 1
    assert info_nce(z, z, z, z).item() == pytest.approx(math.log(n), abs=1e-9)


def test_w3_orthonormal_keys() -> None:
    z = torch.eye(256, dtype=torch.float64)
    assert info_nce(z, z, z, z).item() == pytest.approx(3.5414e-9, rel=1e-4)
    single = info_nce(*[z.float()] * 4).item()
    assert 0 <= single < 1e-6


def test_w3_koleo_limits() -> None:
    square = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    assert koleo(square).item() == pytest.approx(-0.346574, abs=1e-6)
    simplex = normalize(torch.eye(256, dtype=torch.float64) - 1 / 256, dim=1)
    assert koleo(simplex).item() == pytest.approx(-0.348531, abs=1e-6)
    angle = torch.deg2rad(torch.tensor([0, 30, 90, 180], dtype=torch.float64))
    assert koleo(torch.stack([angle.cos(), angle.sin()], 1)).item() == pytest.approx(0.242596, abs=1e-6)
    antipodal = torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64)
    assert koleo(antipodal).item() == pytest.approx(-math.log(2), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_w3_duplicated_rows_stay_finite(dtype: torch.dtype) -> None:
    z = Q1.to(dtype)[[0, 0, 1, 2]].clone().requires_grad_()
    loss = koleo(z)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss > 3
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_w4_gradients() -> None:
    q1, q2 = Q1.clone().requires_grad_(), Q2.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: total(x, y, K1, K2), (q1, q2))


def test_w4_keys_get_no_gradient() -> None:
    parts = [x.clone().requires_grad_() for x in (Q1, Q2, K1, K2)]
    total(*parts).backward()
    assert parts[0].grad is not None
    assert parts[1].grad is not None
    assert parts[2].grad is None
    assert parts[3].grad is None


def test_w4_koleo_pulls_on_both_ends() -> None:
    z = Q1.clone().requires_grad_()
    (both,) = torch.autograd.grad(koleo(z), z)
    nearest = (Q1 @ Q1.T).fill_diagonal_(-torch.inf).argmax(1)
    one_end = -torch.log((z - z.detach()[nearest]).norm(dim=1) + 1e-8).mean()
    (anchor,) = torch.autograd.grad(one_end, z)
    other = -torch.log((z.detach() - z[nearest]).norm(dim=1) + 1e-8).mean()
    (neighbour,) = torch.autograd.grad(other, z)
    assert torch.allclose(both, anchor + neighbour, atol=1e-12)
    assert not torch.allclose(both, anchor, atol=1e-3)


def test_order_of_participants_does_not_matter() -> None:
    order = [2, 0, 3, 1]
    shuffled = total(Q1[order], Q2[order], K1[order], K2[order])
    assert torch.allclose(shuffled, total(Q1, Q2, K1, K2), atol=1e-12)


def test_nothing_to_contrast_gives_attached_zero() -> None:
    empty = torch.zeros(0, 3, requires_grad=True)
    assert info_nce(empty, empty, empty, empty).requires_grad
    one = Q1[:1].clone().requires_grad_()
    loss = koleo(one)
    loss.backward()
    assert loss.item() == 0
    assert one.grad is not None
    assert not one.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype: torch.dtype) -> None:
    q = Q1.to(dtype).requires_grad_()
    loss = info_nce(q, q, q, q, temperature=0.04)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
