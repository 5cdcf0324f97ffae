"""Near-duplicates in a batch, ignored or positives too: every objective that takes them against a slow loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives import pairs, rows
from medssl.objectives.pairs import Duplicates

N = 6
FIRST = torch.tensor([7, 3, 7, 4, 3, 7])
SECOND = torch.tensor([7, 5, 4, 4, 3, 9])  # of other segments: 2 is like 3, and like 0 in view 1 only
PATIENT = torch.tensor([0, 0, 1, 1, 2, 3])
TAU = 0.3
WEIGHTS = pytest.mark.parametrize("weight", [None, 0.5, 1.0], ids=["mask", "half", "whole"])


def unit(n: int, d: int, seed: int) -> Tensor:
    z = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normalize(z, dim=1)


Z1, Z2, K1, K2 = (unit(N, 5, seed) for seed in range(4))
KERNEL = O.kernels.rbf(torch.tensor([20.0, 22, 40, 41, 22, 20], dtype=torch.float64), sigma=5)
Cell = tuple[float, bool]


def lse(values: list[float]) -> float:
    return math.log(sum(map(math.exp, values)))


def mean(
    a: Tensor, b: Tensor, cell: Callable[[int, int], Cell], like: Callable[[int, int], bool], weight: float | None
) -> float:
    """Return softmax InfoNCE by a loop: ``cell`` is what a pair is by itself, ``like`` who are duplicates."""
    terms = []
    for i in range(len(a)):
        pull: dict[int, float] = {}
        push, others = [], 0
        for j in range(len(b)):
            w, candidate = cell(i, j)
            if like(i, j) and i % N != j % N:
                if weight is None:
                    continue
                w, candidate = max(w, weight), True
            elif i % N != j % N:
                others += candidate
            score = float(a[i] @ b[j]) / TAU
            if w:
                pull[j] = w
            if candidate:
                push.append(score)
        if others and pull:
            pulled = sum(w * float(a[i] @ b[j]) / TAU for j, w in pull.items()) / sum(pull.values())
            terms.append(lse(push) - pulled)
    return sum(terms) / len(terms)


def views(i: int, j: int, patient: list[int] | None) -> Cell:
    """Return what a pair of NT-Xent is: own view, nothing, or a negative."""
    if i % N == j % N:
        return (float(i != j), i != j)
    return 0.0, patient is None or patient[i % N] != patient[j % N]


@WEIGHTS
@pytest.mark.parametrize("patient", [None, PATIENT], ids=["alone", "patients"])
@pytest.mark.parametrize("second", [FIRST, SECOND], ids=["same", "other"])
def test_nt_xent_equals_the_loop(weight: float | None, patient: Tensor | None, second: Tensor) -> None:
    ids = [*FIRST.tolist(), *second.tolist()]
    owner = None if patient is None else patient.tolist()
    z = torch.cat([Z1, Z2])
    expected = mean(z, z, lambda i, j: views(i, j, owner), lambda i, j: ids[i] == ids[j], weight)
    duplicates = Duplicates(FIRST, second, weight)
    got = O.nt_xent(Z1, Z2, temperature=TAU, group=patient, duplicates=duplicates).item()
    assert got == pytest.approx(expected, abs=1e-9)
    assert got != pytest.approx(O.nt_xent(Z1, Z2, temperature=TAU, group=patient).item(), abs=1e-3)


@WEIGHTS
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_dcl_equals_the_loop(weight: float | None, sigma: float | None) -> None:
    z, ids = torch.cat([Z1, Z2]), FIRST.repeat(2).tolist()
    scale = torch.ones(N) if sigma is None else 2 - N * ((Z1 * Z2).sum(1) / sigma).softmax(0)
    terms = []
    for i in range(2 * N):
        s = (z @ z[i] / TAU).tolist()
        alike = [j for j in range(2 * N) if ids[j] == ids[i] and j % N != i % N]
        push = [s[j] for j in range(2 * N) if j not in alike and j % N != i % N]
        share = {(i + N) % (2 * N): 1.0} | {j: weight for j in alike if weight}
        pull = sum(w * s[j] for j, w in share.items()) / sum(share.values())
        terms.append(lse(push) - float(scale[i % N]) * pull)
    got = O.dcl(Z1, Z2, temperature=TAU, sigma=sigma, duplicates=Duplicates(FIRST, FIRST, weight)).item()
    assert got == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@WEIGHTS
def test_info_nce_equals_the_loop(weight: float | None) -> None:
    def own(i: int, j: int) -> Cell:
        return float(i == j), True

    one = mean(Z1, K2, own, lambda i, j: bool(FIRST[i] == SECOND[j]), weight)
    two = mean(Z2, K1, own, lambda i, j: bool(SECOND[i] == FIRST[j]), weight)
    got = O.wearable.info_nce(Z1, Z2, K1, K2, temperature=TAU, duplicates=Duplicates(FIRST, SECOND, weight)).item()
    assert got == pytest.approx((one + two) / 2, abs=1e-9)
    turned = O.wearable.info_nce(Z1, Z2, K1, K2, temperature=TAU, duplicates=Duplicates(SECOND, FIRST, weight)).item()
    assert got != pytest.approx(turned, abs=1e-3)


@WEIGHTS
@pytest.mark.parametrize("name", ["y_aware", "exp_weighted", "threshold"])
def test_anatomy_equals_the_loop(weight: float | None, name: str) -> None:
    z, ids = torch.cat([Z1, Z2]), FIRST.repeat(2).tolist()
    w = KERNEL.repeat(2, 2).tolist()
    for i in range(2 * N):
        for j in range(2 * N):
            if i % N != j % N and ids[i] == ids[j]:
                w[i][j] = math.nan if weight is None else max(w[i][j], weight)
    terms = []
    for i in range(2 * N):
        s, mine = (z @ z[i] / TAU).tolist(), w[i]
        there = [j for j in range(2 * N) if j != i and mine[j] == mine[j]]
        top = bottom = 0.0
        for k in there:
            push = {
                "y_aware": lambda k, there=there, s=s, mine=mine: [s[j] for j in there],
                "exp_weighted": lambda k, there=there, s=s, mine=mine: [s[j] * (1 - mine[j]) for j in there],
                "threshold": lambda k, there=there, s=s, mine=mine: [s[j] for j in there if mine[j] < mine[k]],
            }[name](k)
            if push:
                top, bottom = top + mine[k] * (lse(push) - s[k]), bottom + mine[k]
        terms.append(top / bottom)
    loss = getattr(O.anatomy, name)
    got = loss(z, KERNEL, temperature=TAU, duplicates=Duplicates(FIRST, FIRST, weight)).item()
    assert got == pytest.approx(sum(terms) / len(terms), abs=1e-9)
    assert got != pytest.approx(loss(z, KERNEL, temperature=TAU).item(), abs=1e-3)


BUILT: dict[str, tuple[Callable[[Tensor], pairs.Pairs], rows.Reduction, bool, bool]] = {
    "nt_xent": (lambda z: pairs.instance(z, group=PATIENT), rows.softmax, False, False),
    "dcl": (lambda z: pairs.instance(z, decouple=True), rows.decoupled, False, True),
    "info_nce": (pairs.cross, rows.softmax, True, False),
    "y_aware": (lambda z: pairs.kernel(KERNEL, z), rows.softmax, False, False),
    "exp_weighted": (lambda z: pairs.kernel(KERNEL, z), rows.exp_weighted, False, False),
    "threshold": (lambda z: pairs.kernel(KERNEL, z), rows.threshold, False, False),
}


@pytest.mark.parametrize("name", BUILT)
def test_between_masked_pairs_there_is_no_gradient_at_all(name: str) -> None:
    build, reduction, cross, decouple = BUILT[name]
    z = torch.cat([Z1, Z2])[: N if cross else 2 * N]
    columns = SECOND if cross else torch.cat([FIRST, SECOND])
    made = pairs.cured(build(z), Duplicates(FIRST, SECOND), cross=cross, decouple=decouple)
    scores = (z @ z.T / TAU).requires_grad_()
    top, bottom = reduction(scores, made(slice(0, len(z))))
    (top.sum() / bottom.sum()).backward()
    number = torch.arange(len(z)) % N
    masked = (torch.cat([FIRST, SECOND])[: len(z), None] == columns) & (number[:, None] != number)
    assert scores.grad is not None
    assert masked.sum() >= 4
    assert not scores.grad[masked].any()
    # Without the cure most of them have one.
    top, bottom = reduction(plain := scores.detach().requires_grad_(), build(z)(slice(0, len(z))))
    (top.sum() / bottom.sum()).backward()
    assert plain.grad is not None
    assert plain.grad[masked].count_nonzero() >= 4


@WEIGHTS
@pytest.mark.parametrize("name", BUILT)
def test_blocks_order_and_single_classes(name: str, weight: float | None) -> None:
    build, _, cross, decouple = BUILT[name]
    z = torch.cat([Z1, Z2])[: N if cross else 2 * N]
    made = pairs.cured(build(z), Duplicates(FIRST, SECOND, weight), cross=cross, decouple=decouple)
    whole = made(slice(0, len(z)))
    parts = [made(slice(k, min(k + 5, len(z)))) for k in range(0, len(z), 5)]
    for k in range(2):
        assert torch.equal(torch.cat([p[k] for p in parts]), whole[k])
    alone = torch.arange(N) + 50
    same = pairs.cured(build(z), Duplicates(alone, alone, weight), cross=cross, decouple=decouple)(slice(0, len(z)))
    plain = build(z)(slice(0, len(z)))
    assert torch.equal(same.weight, plain.weight)
    assert torch.equal(same.candidate, plain.candidate)


@WEIGHTS
def test_with_nothing_but_duplicates_zero_stays_attached(weight: float | None) -> None:
    ids = torch.zeros(N, dtype=torch.long)
    duplicates = Duplicates(ids, ids, weight)
    for loss in (
        lambda z: O.nt_xent(z[:N], z[N:], temperature=TAU, duplicates=duplicates),
        lambda z: O.dcl(z[:N], z[N:], temperature=TAU, duplicates=duplicates),
        lambda z: O.dcl(z[:N], z[N:], temperature=TAU, group=ids, duplicates=duplicates),
        lambda z: O.wearable.info_nce(z[:N], z[N:], K1, K2, temperature=TAU, duplicates=duplicates),
        lambda z: O.anatomy.y_aware(z, KERNEL, temperature=TAU, duplicates=duplicates),
    ):
        z = torch.cat([Z1, Z2]).requires_grad_()
        value = loss(z)
        value.backward()
        assert value.item() == 0
        assert z.grad is not None
        assert not z.grad.any()


@WEIGHTS
def test_gradcheck(weight: float | None) -> None:
    z1, z2 = Z1.clone().requires_grad_(), Z2.clone().requires_grad_()
    given = Duplicates(FIRST, SECOND, weight)
    for loss in (O.nt_xent, O.dcl):
        check = torch.autograd.gradcheck
        assert check(lambda a, b, f=loss: f(a, b, temperature=0.5, group=PATIENT, duplicates=given), (z1, z2))


def test_given_takes_soft_targets_across_two_sets() -> None:
    weights = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    cells = pairs.given(weights, torch.zeros(2, 3, dtype=torch.float64))(slice(1, 2))
    assert cells.weight.tolist() == [[1, 0, 0]]
    assert cells.weight.dtype == torch.float64
    assert not cells.weight.requires_grad
    assert cells.candidate.all()


def test_appended_columns_are_negatives_or_ignored() -> None:
    z = unit(6, 3, 0)
    ignore = torch.zeros(6, 2, dtype=torch.bool)
    ignore[4, 1] = True
    plain = pairs.instance(z)(slice(3, 6))
    cells = pairs.appended(pairs.instance(z), 2, ignore=ignore)(slice(3, 6))
    assert torch.equal(cells.weight[:, :6], plain.weight)
    assert torch.equal(cells.candidate[:, :6], plain.candidate)
    assert not cells.weight[:, 6:].any()
    assert cells.candidate[:, 6:].tolist() == [[True, True], [True, False], [True, True]]
    assert pairs.appended(pairs.instance(z), 2)(slice(0, 6)).candidate[:, 6:].all()
    assert cells.push is None
    pushed = pairs.appended(lambda block: plain._replace(push=plain.weight + 2), 2)(slice(3, 6))
    assert pushed.push is not None
    assert pushed.push[:, 6:].tolist() == [[1, 1]] * 3


def test_apart_pairs_nobody() -> None:
    z, group = unit(5, 3, 0), torch.tensor([0, 1, 0, 2, 1])
    cells = pairs.apart(z, group)(slice(1, 3))
    assert not cells.weight.any()
    assert cells.candidate.tolist() == [[True, False, True, True, False], [False, True, False, True, True]]
    assert pairs.apart(z)(slice(0, 5)).candidate.sum() == 20
