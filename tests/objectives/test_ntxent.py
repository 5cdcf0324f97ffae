"""NT-Xent against known numbers and a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl import objectives as O


def circle(*degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], 1)


A, B = circle(0, 90, 200, 300), circle(10, 70, 215, 330)


def unit(n: int, d: int, seed: int) -> Tensor:
    z = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(z, dim=1)


def loop(z1: Tensor, z2: Tensor, temperature: float, group: list[int] | None = None) -> float:
    rows = [*z1, *z2]
    n = len(z1)
    owner = list(range(n)) * 2 if group is None else list(group) * 2
    terms = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        negatives = [j for j in range(2 * n) if j not in (i, partner) and (group is None or owner[j] != owner[i])]
        if not negatives:
            continue
        score = {j: float(rows[i] @ rows[j]) / temperature for j in [partner, *negatives]}
        terms.append(math.log(sum(math.exp(s) for s in score.values())) - score[partner])
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.692429), (0.1, 0.162118)])
def test_known_values(temperature: float, expected: float) -> None:
    assert O.nt_xent(A, B, temperature=temperature).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.04, 0.1, 1.0])
def test_equal_rows_give_log_of_the_candidates(temperature: float) -> None:
    z = circle(33, 33, 33, 33)
    assert O.nt_xent(z, z, temperature=temperature).item() == pytest.approx(math.log(7), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.04, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("group", [None, [0, 0, 1, 2, 1, 3], [0, 0, 0, 0, 0, 1]])
def test_equals_the_loop(temperature: float, group: list[int] | None) -> None:
    z1, z2 = unit(6, 5, 0), unit(6, 5, 1)
    ids = None if group is None else torch.tensor(group)
    got = O.nt_xent(z1, z2, temperature=temperature, group=ids).item()
    assert got == pytest.approx(loop(z1, z2, temperature, group), abs=1e-9)
    single = O.nt_xent(z1.float(), z2.float(), temperature=temperature, group=ids).item()
    assert single == pytest.approx(got, abs=1e-4)


def test_groups_of_one_change_nothing_and_others_matter() -> None:
    z1, z2 = unit(6, 5, 0), unit(6, 5, 1)
    plain = O.nt_xent(z1, z2, temperature=0.5)
    assert torch.allclose(O.nt_xent(z1, z2, temperature=0.5, group=torch.arange(6)), plain, atol=1e-12)
    grouped = O.nt_xent(z1, z2, temperature=0.5, group=torch.tensor([0, 0, 1, 1, 2, 2]))
    assert grouped < plain - 1e-3


@pytest.mark.parametrize("n", [1, 4])
def test_without_negatives_zero_stays_attached(n: int) -> None:
    z1 = unit(n, 3, 0).requires_grad_()
    z2 = unit(n, 3, 1).requires_grad_()
    loss = O.nt_xent(z1, z2, temperature=0.1, group=torch.zeros(n, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert z1.grad is not None
    assert z2.grad is not None
    assert not z1.grad.any()
    assert not z2.grad.any()


def test_gradcheck() -> None:
    z1, z2 = unit(5, 4, 0).requires_grad_(), unit(5, 4, 1).requires_grad_()
    group = torch.tensor([0, 0, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda a, b: O.nt_xent(a, b, temperature=0.5, group=group), (z1, z2))


def test_order_of_samples_and_views_does_not_matter() -> None:
    z1, z2 = unit(6, 5, 0), unit(6, 5, 1)
    group = torch.tensor([0, 0, 1, 2, 1, 3])
    loss = O.nt_xent(z1, z2, temperature=0.1, group=group)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = O.nt_xent(z1[order], z2[order], temperature=0.1, group=group[order])
    assert torch.allclose(shuffled, loss, atol=1e-12)
    assert torch.allclose(O.nt_xent(z2, z1, temperature=0.1, group=group), loss, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype: torch.dtype) -> None:
    z = unit(8, 4, 0).to(dtype).requires_grad_()
    loss = O.nt_xent(z, z.detach(), temperature=0.04)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def loop_dcl(z1: Tensor, z2: Tensor, temperature: float) -> float:
    rows = [*z1, *z2]
    n, terms = len(z1), []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        negatives = [float(rows[i] @ rows[j]) / temperature for j in range(2 * n) if j not in (i, partner)]
        terms.append(math.log(sum(map(math.exp, negatives))) - float(rows[i] @ rows[partner]) / temperature)
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, -0.117605), (0.1, -4.762061)])
def test_v2_decoupled(temperature: float, expected: float) -> None:
    assert O.dcl(A, B, temperature=temperature).item() == pytest.approx(expected, abs=1e-6)
    assert loop_dcl(A, B, temperature) == pytest.approx(expected, abs=1e-6)
    # NT-Xent and what it holds back: the identity of the paper.
    z = torch.cat([A, B])
    share = (z @ z.T / temperature).fill_diagonal_(-torch.inf).softmax(1)
    held = torch.log(1 - share.gather(1, torch.arange(8).roll(4)[:, None])).mean()
    nt_xent = O.nt_xent(A, B, temperature=temperature)
    assert (nt_xent + held).item() == pytest.approx(O.dcl(A, B, temperature=temperature).item(), abs=1e-9)


def one_way(temperature: float, sigma: float | None) -> float:
    """DCL of the rows of view 1 alone, by a loop."""
    score = [[float(a @ other) for other in [*A, *B]] for a in A]
    pull = torch.tensor([score[k][k + 4] for k in range(4)], dtype=torch.float64)
    w = torch.ones(4, dtype=torch.float64) if sigma is None else 2 - 4 * (pull / sigma).softmax(0)
    if sigma is not None:
        assert w.tolist() == pytest.approx([0.908656, 1.002817, 0.949101, 1.139426], abs=1e-6)
    terms = []
    for k in range(4):
        negatives = [score[k][j] / temperature for j in range(8) if j % 4 != k]
        terms.append(math.log(sum(map(math.exp, negatives))) - float(w[k] * pull[k]) / temperature)
    return sum(terms) / 4


def test_v2_weighted() -> None:
    assert one_way(0.5, None) == pytest.approx(-0.262258, abs=1e-6)
    assert one_way(0.1, None) == pytest.approx(-5.829255, abs=1e-6)
    assert one_way(0.1, 0.5) == pytest.approx(-5.789937, abs=1e-6)
    # The public function is the mean of both ways; the weights shift either way by the same amount.
    shift = one_way(0.1, 0.5) - one_way(0.1, None)
    weighted = O.dcl(A, B, temperature=0.1, sigma=0.5).item()
    assert weighted == pytest.approx(O.dcl(A, B, temperature=0.1).item() + shift, abs=1e-9)


def test_decoupled_without_negatives_and_gradient() -> None:
    z1, z2 = unit(5, 4, 0).requires_grad_(), unit(5, 4, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: O.dcl(a, b, temperature=0.5), (z1, z2))
    loss = O.dcl(z1, z2, temperature=0.5, group=torch.zeros(5, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert z1.grad is not None
    assert not z1.grad.any()
