"""SwAV and its assignment against known numbers and loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medssl.objectives.swav import multi_crop, sinkhorn, swav

L10 = torch.tensor([[0.10, 0], [0.05, 0], [0, 0], [0, 0.20]], dtype=torch.float64)
V13 = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.2, 0.7], [0.6, 0.5]], dtype=torch.float64)
V13_SECOND = V13 + torch.tensor([[0, 0.1], [0.1, 0], [0, 0.1], [0.1, 0]], dtype=torch.float64)


def scores(crops: int = 8, n: int = 5, k: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.rand(n, k, dtype=torch.float64, generator=generator) - 1 for _ in range(crops)]


def loop_sinkhorn(s: Tensor, eps: float, iterations: int) -> list[list[float]]:
    """Normalise the table itself, prototypes to N/K and items to 1."""
    n, k = s.shape
    q = [[math.exp(v / eps) for v in row] for row in s.tolist()]
    for _ in range(iterations):
        totals = [sum(q[i][j] for i in range(n)) for j in range(k)]
        q = [[q[i][j] / totals[j] * n / k for j in range(k)] for i in range(n)]
        q = [[v / sum(row) for v in row] for row in q]
    return q


def loop_multi_crop(
    crops: list[Tensor], targets: int, temperature: float, eps: float, iterations: int, queue: Tensor | None = None
) -> tuple[float, int]:
    """Return the loss and the number of terms."""
    n, k = crops[0].shape
    terms = []
    for c in range(targets):
        rows = crops[c] if queue is None else torch.cat([queue if queue.ndim == 2 else queue[c], crops[c]])
        q = loop_sinkhorn(rows, eps, iterations)[-n:]
        for v in range(len(crops)):
            if v == c:
                continue
            term = 0.0
            for i in range(n):
                logits = [float(x) / temperature for x in crops[v][i]]
                lse = math.log(sum(map(math.exp, logits)))
                term += sum(q[i][j] * (lse - logits[j]) for j in range(k)) / n
            terms.append(term)
    return sum(terms) / len(terms), len(terms)


def test_l10_sinkhorn() -> None:
    q = sinkhorn(L10, eps=0.05, iterations=3)
    assert q[:, 0].tolist() == pytest.approx([0.900774, 0.769564, 0.551282, 0.022007], abs=1e-6)
    assert q[:, 1].tolist() == pytest.approx([0.099226, 0.230436, 0.448718, 0.977993], abs=1e-6)
    assert q.sum(0).tolist() == pytest.approx([2.243628, 1.756372], abs=1e-6)


def test_l10_many_rounds_balance_the_prototypes() -> None:
    q = sinkhorn(L10, eps=0.05, iterations=100)
    assert q[:, 0].tolist() == pytest.approx([0.855474, 0.685291, 0.444775, 0.014460], abs=1e-6)
    assert q.sum(0).tolist() == pytest.approx([2, 2], abs=1e-6)


def test_v13_sinkhorn() -> None:
    q = sinkhorn(V13, eps=0.5, iterations=3)
    assert q[:, 0].tolist() == pytest.approx([0.754663, 0.627999, 0.185978, 0.431347], abs=1e-6)
    assert q.sum(0).tolist() == pytest.approx([1.999987, 2.000013], abs=1e-6)
    q = sinkhorn(V13, eps=0.05, iterations=3)
    assert q[0].tolist() == pytest.approx([0.999992, 0.000008], abs=1e-6)
    assert q.sum(0).tolist() == pytest.approx([2.086807, 1.913193], abs=1e-6)


def test_v13_swav() -> None:
    assert swav(V13, V13_SECOND, temperature=0.1, eps=0.5).item() == pytest.approx(1.494134, abs=1e-6)
    assert swav(V13.float(), V13_SECOND.float(), temperature=0.1, eps=0.5).item() == pytest.approx(1.494134, abs=1e-4)


@pytest.mark.parametrize("eps", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_equals_the_loop(eps: float, iterations: int) -> None:
    s = scores(n=7, k=4)[0]
    q = sinkhorn(s, eps=eps, iterations=iterations)
    expected = torch.tensor(loop_sinkhorn(s, eps, iterations), dtype=torch.float64)
    assert torch.allclose(q, expected, atol=1e-10)
    assert torch.allclose(q.sum(1), torch.ones(7, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(sinkhorn(s.float(), eps=eps, iterations=iterations).double(), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sharp_scores_stay_finite(dtype: torch.dtype) -> None:
    """A prototype at -1 from everyone underflows in a table of exponentials and then divides by zero."""
    s = torch.ones(6, 3, dtype=dtype)
    s[:, 2] = -1
    s[0, 1] = -1
    for eps in (0.05, 1e-3):
        q = sinkhorn(s, eps=eps, iterations=3)
        assert q.dtype == torch.float32
        assert torch.isfinite(q).all()
        assert q.sum(1).tolist() == pytest.approx([1] * 6, abs=1e-5)
    s.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = swav(s, s.flip(0), temperature=0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(dtype: torch.dtype) -> None:
    half = [s.to(dtype) for s in scores()]
    assert multi_crop(half).item() == pytest.approx(multi_crop([s.double() for s in half]).item(), abs=1e-4)


def test_order_and_shift_do_not_matter() -> None:
    s = scores()[0]
    q = sinkhorn(s, eps=0.05, iterations=3)
    order, turn = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([2, 0, 1])
    assert torch.allclose(sinkhorn(s[order][:, turn], eps=0.05, iterations=3), q[order][:, turn], atol=1e-12)
    assert torch.allclose(sinkhorn(s + 100, eps=0.05, iterations=3), q, atol=1e-9)


def test_swav_is_the_mean_of_two_directions() -> None:
    s1, s2 = scores()[:2]
    expected, terms = loop_multi_crop([s1, s2], 2, 0.1, 0.05, 3)
    assert terms == 2
    assert swav(s1, s2).item() == pytest.approx(expected, abs=1e-9)
    assert swav(s2, s1).item() == pytest.approx(expected, abs=1e-12)
    assert multi_crop([s1, s2]).item() == swav(s1, s2).item()


@pytest.mark.parametrize(("crops", "targets", "count"), [(8, 2, 14), (3, 1, 2), (3, 3, 6), (4, 2, 6)])
def test_l10_multi_crop_equals_the_loop(crops: int, targets: int, count: int) -> None:
    s = scores()[:crops]
    expected, terms = loop_multi_crop(s, targets, 0.2, 0.1, 3)
    assert terms == count
    got = multi_crop(s, targets=targets, temperature=0.2, eps=0.1, iterations=3).item()
    assert got == pytest.approx(expected, abs=1e-9)
    single = multi_crop([x.float() for x in s], targets=targets, temperature=0.2, eps=0.1, iterations=3)
    assert single.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("each", [False, True])
def test_queue_takes_part_in_the_assignment_only(each: bool) -> None:
    s = scores()
    queue = torch.stack(s[5:7]) if each else s[5]
    expected, _ = loop_multi_crop(s[:3], 2, 0.1, 0.05, 3, queue)
    queue = queue.clone().requires_grad_()
    leaves = [x.clone().requires_grad_() for x in s[:3]]
    loss = multi_crop(leaves, queue=queue)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    assert loss.item() != pytest.approx(multi_crop(s[:3]).item(), abs=1e-3)
    assert queue.grad is None
    two, _ = loop_multi_crop(s[:2], 2, 0.1, 0.05, 3, queue.detach())
    assert swav(s[0], s[1], queue=queue).item() == pytest.approx(two, abs=1e-9)


def test_codes_carry_no_gradient() -> None:
    s1, s2 = (x.requires_grad_() for x in scores()[:2])
    assert not sinkhorn(s1, eps=0.05, iterations=3).requires_grad
    # Of cross-entropy with fixed codes it is (softmax - code) / (temperature n), and each view has one of the 2 terms.
    grads = torch.autograd.grad(swav(s1, s2), (s1, s2))
    for grad, mine, other in zip(grads, (s1, s2), (s2, s1), strict=True):
        code = sinkhorn(other, eps=0.05, iterations=3)
        assert torch.allclose(grad, ((mine / 0.1).softmax(1) - code) / 0.1 / len(mine) / 2, atol=1e-12)


def test_gradcheck() -> None:
    """Finite differences would also move the codes, which come from a fixed crop here."""
    fixed, *others = scores()[:4]
    leaves = [x.requires_grad_() for x in others]
    assert torch.autograd.gradcheck(lambda *x: multi_crop([fixed, *x], targets=1, temperature=0.5), leaves)


def test_no_items_give_an_attached_zero() -> None:
    empty = torch.zeros(0, 3, requires_grad=True)
    loss = swav(empty, empty)
    loss.backward()
    assert loss.item() == 0
    assert empty.grad is not None


def test_equal_scores_are_spread_evenly() -> None:
    same = torch.zeros(4, 8, dtype=torch.float64)
    assert torch.allclose(sinkhorn(same, eps=0.05, iterations=3), torch.full_like(same, 1 / 8), atol=1e-12)
    assert swav(same, same).item() == pytest.approx(math.log(8), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sinkhorn(V13, eps=0, iterations=3), "eps is 0"),
        (lambda: sinkhorn(V13, eps=0.05, iterations=0), "iterations 0"),
        (lambda: multi_crop([V13], targets=1), "expected 2 or more"),
        (lambda: multi_crop([V13, V13], targets=3), "3 targets"),
        (lambda: multi_crop([V13, V13], targets=0), "0 targets"),
        (lambda: swav(V13, V13[:3]), "of one shape"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
