"""The loss core against a triple loop, in any chunks, and the named losses as cases of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives import pairs, rows
from medssl.objectives.pairs import Cells
from tests.objectives.circle import at


def unit(n: int, d: int, seed: int) -> Tensor:
    z = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normalize(z, dim=1)


def table(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return weights with zeros and a zero diagonal, and a random denominator mask without the diagonal."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(n, n, dtype=torch.float64, generator=generator)
    w = (w * (w > 0.4)).fill_diagonal_(0)
    mask = (torch.rand(n, n, generator=generator) > 0.3).fill_diagonal_(False)
    w[0] = 0  # an anchor without positives
    mask[1] = False  # and one without candidates
    return w, mask


def dense(w: Tensor, mask: Tensor) -> pairs.Pairs:
    return lambda block: Cells(w[block], mask[block])


def loop(z: Tensor, w: Tensor, mask: Tensor, temperature: float) -> float:
    n, terms = len(z), []
    for i in range(n):
        inside = [j for j in range(n) if mask[i, j]]
        if not inside or not float(w[i].sum()):
            continue
        lse = math.log(sum(math.exp(float(z[i] @ z[j]) / temperature) for j in inside))
        terms.append(
            sum(float(w[i, k]) * (lse - float(z[i] @ z[k]) / temperature) for k in range(n)) / float(w[i].sum())
        )
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("n", [3, 7, 12])
@pytest.mark.parametrize("temperature", [0.04, 0.1, 0.5, 1.0])
def test_core_equals_the_triple_loop_in_any_chunks(n: int, temperature: float) -> None:
    z, (w, mask) = unit(n, 5, n), table(n, n)
    expected = loop(z, w, mask, temperature)
    for chunk in (1, 3, n):
        got = rows.contrast(z, None, dense(w, mask), rows.softmax, temperature=temperature, chunk=chunk)
        assert got.item() == pytest.approx(expected, abs=1e-9)
        apart = rows.contrast(z, z.clone(), dense(w, mask), rows.softmax, temperature=temperature, chunk=chunk)
        assert apart.item() == pytest.approx(got.item(), abs=1e-12)
    single = rows.contrast(z.float(), None, dense(w.float(), mask), rows.softmax, temperature=temperature)
    assert single.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("reduction", [rows.softmax, rows.per_pair, rows.decoupled, rows.threshold, rows.exp_weighted])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_gradients(reduction: rows.Reduction, chunk: int) -> None:
    z, other, (w, mask) = unit(8, 4, 0).requires_grad_(), unit(8, 4, 1).requires_grad_(), table(8, 2)

    def loss(a: Tensor, b: Tensor | None = None) -> Tensor:
        return rows.contrast(a, b, dense(w, mask), reduction, temperature=0.5, chunk=chunk)

    assert torch.autograd.gradcheck(loss, (z,))
    assert torch.autograd.gradcheck(loss, (z, other))
    # One side alone, as with keys of a momentum branch.
    (both, _) = torch.autograd.grad(loss(z, other), (z, other))
    (alone,) = torch.autograd.grad(loss(z, other.detach()), z)
    assert torch.allclose(both, alone, atol=1e-12)
    (columns,) = torch.autograd.grad(loss(z.detach(), other), other)
    assert columns.any()


def test_a_constant_on_all_logits_and_the_scale_of_weights_change_nothing() -> None:
    (w, mask), scores = table(9, 4), torch.randn(9, 9, dtype=torch.float64)
    for reduction in (rows.softmax, rows.threshold):
        one = rows.quotient(*reduction(scores, Cells(w, mask)))
        assert torch.allclose(rows.quotient(*reduction(scores + 7, Cells(w, mask))), one, atol=1e-12)
    scale = torch.rand(9, 1, dtype=torch.float64) + 0.5
    scaled = rows.quotient(*rows.softmax(scores, Cells(w * scale, mask)))
    assert torch.allclose(scaled, rows.quotient(*rows.softmax(scores, Cells(w, mask))), atol=1e-12)


def test_without_grad_nothing_is_kept() -> None:
    z = unit(6, 3, 0).requires_grad_()
    with torch.no_grad():
        assert not O.nt_xent(z[:3], z[3:], temperature=0.1).requires_grad


def circle(*degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], 1)


A, B = circle(0, 90, 200, 300), circle(10, 70, 215, 330)
b, t, c = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (4, 4, 3)], indexing="ij")
Z1, Z2 = torch.sin(1 + b + 2 * t + 3 * c), torch.cos(0.5 + b + t * c)
i, d = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (3, 4)], indexing="ij")
N = torch.cat([normalize(torch.sin(1 + i + 2 * d), dim=1), normalize(torch.cos(0.3 * i + d), dim=1)])
AGE = torch.tensor([20.0, 22, 40], dtype=torch.float64).repeat(2)
W = torch.arange(4, dtype=torch.float64)[:, None] * 2
K = torch.arange(3, dtype=torch.float64)[None]
Q1, K2 = normalize(torch.sin(1 + W + K), dim=1), normalize(torch.sin(1.25 + W + 1.1 * K), dim=1)


def _sample_level() -> Tensor:
    """C1 by the core: one time step after the other, raw dot products."""
    steps = [torch.cat([Z1[:, k], Z2[:, k]]) for k in range(4)]
    return torch.stack([rows.contrast(z, None, pairs.instance(z), rows.softmax) for z in steps]).mean()


def _identity_level() -> Tensor:
    u1, u2 = O.comet.flatten(Z1, "time_cosine"), O.comet.flatten(Z2, "time_cosine")
    same = pairs.group(torch.tensor([0, 0, 1, 1]), u1)
    return sum(rows.contrast(x, y, same, rows.per_pair, temperature=0.1) for x, y in ((u1, u2), (u2, u1))) / 2  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (_sample_level, 2.420991),
        (_identity_level, 3.061724),
        (lambda: rows.contrast(Q1, K2, pairs.cross(Q1), rows.softmax, temperature=0.04), 0.495970),
        (lambda: rows.contrast(A, B, pairs.cross(A), rows.softmax, temperature=0.5), 0.397081),
        (lambda: rows.contrast(B, A, pairs.cross(A), rows.softmax, temperature=0.5), 0.424310),
        (
            lambda: rows.contrast(
                N, None, pairs.kernel(lambda s: O.kernels.rbf(AGE[s], AGE, sigma=5), N), rows.softmax, temperature=0.1
            ),
            7.465075,
        ),
        (lambda: rows.contrast(N, None, pairs.instance(N), rows.softmax, temperature=0.1), 8.991411),
        # SupCon with one positive each is NT-Xent: classes of the two views of a subject.
        (
            lambda: rows.contrast(
                N, None, pairs.kernel(lambda s: (AGE[s, None] == AGE).double(), N), rows.softmax, temperature=0.1
            ),
            8.991411,
        ),
    ],
)
def test_named_losses_are_cases_of_the_core(loss: Any, expected: float) -> None:
    assert loss().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("build", ["instance", "decouple", "group", "kernel"])
def test_builders_never_pair_a_row_with_itself_and_do_not_depend_on_blocks(build: str) -> None:
    z = unit(12, 3, 0)
    ids = torch.tensor([0, 0, 1, 1, 2, 3])
    made = {
        "instance": pairs.instance(z, group=ids),
        "decouple": pairs.instance(z, group=ids, decouple=True),
        "group": pairs.group(ids.repeat(2), z, own=False),
        "kernel": pairs.kernel(lambda s: torch.ones(s.stop - s.start, 12), z),
    }[build]
    whole = made(slice(0, 12))
    assert not whole.weight.diagonal().any()
    assert not whole.candidate.diagonal().any()
    parts = [made(slice(k, min(k + 5, 12))) for k in (0, 5, 10)]
    assert torch.equal(torch.cat([p.weight for p in parts]), whole.weight)
    assert torch.equal(torch.cat([p.candidate for p in parts]), whole.candidate)


def test_memory_does_not_hold_the_table() -> None:
    seen: list[tuple[int, ...]] = []

    def note(block: slice) -> Cells:
        cells = pairs.cross(big)(block)
        seen.append(tuple(cells.weight.shape))
        return cells

    big = torch.nn.functional.normalize(torch.randn(3000, 4), dim=1)
    rows.contrast(big, big.flip(0), note, rows.softmax, temperature=0.5)
    assert len(seen) > 1
    assert max(r * m for r, m in seen) <= rows.block_cells(big)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_identical_pairs_under_autocast(dtype: torch.dtype) -> None:
    z = unit(16, 8, 0).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = O.nt_xent(z, z.detach(), temperature=0.04)
    assert loss.dtype == torch.float32
    exact = O.nt_xent(z.double(), z.detach().double(), temperature=0.04)
    assert loss.item() == pytest.approx(exact.item(), abs=1e-2)
    loss.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_products_of_half_precision_are_summed_in_single() -> None:
    a, other = torch.randn(2, 64, 300), torch.randn(2, 300, 64)
    for dtype in (torch.bfloat16, torch.float16):
        x, y = a.to(dtype), other.to(dtype)
        exact = x.double() @ y.double()
        got = rows.product(x, y)
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), exact, atol=1e-3)
    assert torch.equal(rows.product(a, other), a @ other)
    assert torch.backends.mkldnn.matmul.fp32_precision != "bf16"


def test_autocast_is_off_whatever_the_arguments_look_like() -> None:
    z = unit(6, 8, 0).float()
    exact = O.nt_xent(z, z.flip(0), temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(O.nt_xent(z1=z, z2=z.flip(0), temperature=0.1), exact)


def test_v24_focal_and_v21_against_negatives() -> None:
    f, label = at(0, 20, 90, 140, 250), torch.tensor([0, 0, 1, 1, 2])
    got = rows.contrast(f, None, pairs.group(label, f, own=False), rows.focal, temperature=0.5)
    assert got.item() == pytest.approx(0.123924, abs=1e-6)
    one = pairs.given(torch.tensor([[1.0, 0, 0]]), f)
    ways = [(at(0), at(10, 90, 200)), (at(10), at(0, 90, 200))]
    got = torch.stack([rows.contrast(a, b, one, rows.against_negatives, temperature=0.5) for a, b in ways])
    assert got[0].item() == pytest.approx(0.149119, abs=1e-6)
    assert got.mean().item() == pytest.approx(0.172714, abs=1e-6)
    alone = rows.contrast(at(0), at(10), pairs.given(torch.ones(1, 1), f), rows.against_negatives)
    assert alone.item() == 0


def test_each_positive_competes_with_negatives_alone() -> None:
    z, weight = unit(4, 3, 0), torch.tensor([[0.5, 1, 0, 0], [0, 0, 0, 2], [1, 1, 1, 1], [0, 0, 0, 0]])
    got = rows.contrast(z, unit(4, 3, 1), pairs.given(weight, z), rows.against_negatives, temperature=0.3)
    s, terms = z @ unit(4, 3, 1).T / 0.3, []
    for i in (0, 1):  # the third has no negative, the last no positive
        negatives = [float(s[i, j]) for j in range(4) if not weight[i, j]]
        push = sum(map(math.exp, negatives))
        terms.append(
            sum(float(w) * (math.log(math.exp(v) + push) - float(v)) for w, v in zip(weight[i], s[i], strict=True) if w)
            / float(weight[i].sum())
        )
    assert got.item() == pytest.approx(sum(terms) / 2, abs=1e-6)


def test_a_weight_inside_the_denominator_counts_a_candidate_as_often() -> None:
    z, columns = unit(3, 4, 0), unit(3, 4, 1)
    twice = torch.cat([columns, columns[1:2]])
    plain = rows.contrast(z, twice, pairs.given(torch.eye(3, 4), z), rows.softmax, temperature=0.2)

    def pushed(block: slice) -> pairs.Cells:
        cells = pairs.given(torch.eye(3), z)(block)
        return cells._replace(push=torch.tensor([1.0, 2.0, 1.0]).expand_as(cells.weight))

    assert rows.contrast(z, columns, pushed, rows.softmax, temperature=0.2).item() == pytest.approx(plain.item())


@pytest.mark.parametrize("number", [2, 3])
def test_processes_divide_a_table_and_add_up(number: int) -> None:
    """Each part is what one process computes; what it adds up is caught here and added by hand."""
    z, columns = unit(7, 4, 0).requires_grad_(), unit(5, 4, 1).requires_grad_()
    cells = pairs.given(torch.rand(7, 5, generator=torch.Generator().manual_seed(2)), z)
    whole = rows.contrast(z, columns, cells, rows.softmax, temperature=0.2)
    expected = torch.autograd.grad(whole, (z, columns))
    caught: list[list[torch.Tensor]] = []
    for rank in range(number):
        caught.append([])
        with rows.shared(rows.Share(rank, number, lambda t: caught[-1].append(t.clone()))):
            assert rows.processes() == number
            rows.contrast(z, columns, cells, rows.softmax, temperature=0.2)
    assert rows.processes() == 1
    top, bottom, *gradients = (torch.stack(parts).sum(0) for parts in zip(*caught, strict=True))
    assert torch.allclose(top / bottom, whole)
    for got, want in zip(gradients, expected, strict=True):
        assert torch.allclose(got / bottom, want)


def test_a_process_without_a_block_takes_part_in_the_sum() -> None:
    z = unit(5, 4, 0)
    whole = rows.each_row(z, z, pairs.apart(z), lambda s, c: (s.sum(1), c.candidate.sum(1).double()))
    caught: list[list[torch.Tensor]] = []
    for rank in range(4):  # three blocks of two rows
        caught.append([])
        with rows.shared(rows.Share(rank, 4, lambda t: caught[-1].append(t.clone()))):
            rows.each_row(z, z, pairs.apart(z), lambda s, c: (s.sum(1), c.candidate.sum(1).double()))
    assert all(len(parts) == 2 for parts in caught)
    for k, expected in enumerate(whole):
        assert torch.allclose(torch.stack([parts[k] for parts in caught]).sum(0), expected)
