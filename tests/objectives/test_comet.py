"""COMET's levels against known numbers and loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from medssl.objectives import comet

b, t, c = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (4, 4, 3)], indexing="ij")
Z1 = torch.sin(1 + b + 2 * t + 3 * c)
Z2 = torch.cos(0.5 + b + t * c)
PATIENT = torch.tensor([0, 0, 1, 1])
TRIAL = torch.tensor([0, 0, 1, 2])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loop_observation(z1: Tensor, z2: Tensor) -> float:
    terms = []
    for x, y in zip(z1, z2, strict=True):
        rows = [*x, *y]
        steps = len(x)
        for i in range(2 * steps):
            others = [float(rows[i] @ rows[j]) for j in range(2 * steps) if j != i]
            terms.append(math.log(sum(map(math.exp, others))) - float(rows[i] @ rows[(i + steps) % (2 * steps)]))
    return sum(terms) / len(terms)


def loop_clean(z1: Tensor, z2: Tensor, ids: Tensor, temperature: float, *, keep_self: bool) -> float:
    pooled = [torch.nn.functional.normalize(z.amax(1), dim=1) for z in (z1, z2)]
    n = len(ids)
    s = [[float(pooled[0][i] @ pooled[1][j]) / temperature for j in range(n)] for i in range(n)]
    rows, columns = [], []
    for i in range(n):
        for j in range(n):
            if i == j or ids[i] != ids[j]:
                continue
            seen = [k for k in range(n) if keep_self or k != i]
            rows.append(math.log(sum(math.exp(s[i][k]) for k in seen)) - s[i][j])
            seen = [k for k in range(n) if keep_self or k != j]
            columns.append(math.log(sum(math.exp(s[k][j]) for k in seen)) - s[i][j])
    return (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2


def test_anchor_values() -> None:
    assert Z1[0, 0].tolist() == pytest.approx([0.841471, -0.756802, 0.656987], abs=1e-6)
    assert Z2[3, 3].tolist() == pytest.approx([-0.936457, 0.976588, -0.997172], abs=1e-6)


def test_c1_one_level() -> None:
    assert comet.sample(Z1, Z2).item() == pytest.approx(2.420991, abs=1e-6)
    assert comet.observation(Z1, Z2).item() == pytest.approx(2.374547, abs=1e-6)


def test_c2_pyramid() -> None:
    half = [z.reshape(4, 2, 2, 3).amax(2) for z in (Z1, Z2)]
    assert comet.sample(*half).item() == pytest.approx(2.477271, abs=1e-6)
    assert comet.observation(*half).item() == pytest.approx(1.589713, abs=1e-6)
    assert comet.pyramid(comet.sample, Z1, Z2).item() == pytest.approx(2.449131, abs=1e-6)
    assert comet.pyramid(comet.observation, Z1, Z2).item() == pytest.approx(1.982130, abs=1e-6)


def test_pyramid_levels_drop_the_odd_step_and_end_above_one() -> None:
    lengths = []

    def note(z1: Tensor, z2: Tensor) -> Tensor:
        lengths.append(z1.shape[1])
        return z1.sum() * 0

    comet.pyramid(note, random(1, 300, 2), random(1, 300, 2))
    assert lengths == [300, 150, 75, 37, 18, 9, 4, 2]


@pytest.mark.parametrize(
    ("options", "patient", "trial"),
    [
        ({}, 3.282201, 2.089905),
        ({"pool": "max"}, 3.295317, 2.707354),
        ({"mode": "clean"}, 3.061724, 2.521502),
        ({"mode": "clean", "pool": "max"}, 2.923914, 2.015817),
        ({"mode": "clean", "self_in_denominator": False}, 2.649956, 2.094632),
        ({"mode": "clean", "pool": "max", "self_in_denominator": False}, 2.218004, 0.804294),
    ],
)
def test_c3_identity(options: dict[str, Any], patient: float, trial: float) -> None:
    assert comet.identity(Z1, Z2, PATIENT, **options).item() == pytest.approx(patient, abs=1e-6)
    assert comet.identity(Z1, Z2, TRIAL, **options).item() == pytest.approx(trial, abs=1e-6)


def test_c3_cosine() -> None:
    cosine = comet.flatten(Z1, "time_cosine") @ comet.flatten(Z2, "time_cosine").T
    assert cosine[0].tolist() == pytest.approx([0.064985, -0.228318, -0.358433, -0.104985], abs=1e-6)
    assert cosine.diagonal().tolist() == pytest.approx([0.064985, 0.055189, -0.226859, 0.033673], abs=1e-6)


@pytest.mark.parametrize(
    ("order", "code"), [([0, 1, 2, 3], 3.282201), ([1, 0, 2, 3], 3.713798), ([3, 2, 1, 0], 2.841248)]
)
def test_c4_only_the_published_form_depends_on_order(order: list[int], code: float) -> None:
    arguments = Z1[order], Z2[order], PATIENT[order]
    assert comet.identity(*arguments).item() == pytest.approx(code, abs=1e-6)
    assert comet.identity(*arguments, mode="clean").item() == pytest.approx(3.061724, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "expected"), [((0.25, 0.25, 0.25, 0.25), 2.450842), ((0.1, 0.7, 0.1, 0.1), 2.234279)]
)
def test_c5_total(weights: tuple[float, ...], expected: float) -> None:
    levels = {
        "patient": comet.identity(Z1, Z2, PATIENT),
        "trial": comet.identity(Z1, Z2, TRIAL),
        "sample": comet.pyramid(comet.sample, Z1, Z2),
        "observation": comet.pyramid(comet.observation, Z1, Z2),
    }
    got = comet.total(levels, dict(zip(levels, weights, strict=True)))
    assert got.item() == pytest.approx(expected, abs=1e-6)


def test_total_refuses_weights_that_do_not_fit() -> None:
    one = {"patient": torch.ones(())}
    with pytest.raises(ValueError, match=r"sum to 0\.9; expected 1"):
        comet.total(one, {"patient": 0.9})
    with pytest.raises(ValueError, match="expected exactly"):
        comet.total(one, {"patient": 0.5, "trial": 0.5})


@pytest.mark.parametrize("temperature", [0.04, 0.1, 1.0])
def test_c6_constant_embeddings(temperature: float) -> None:
    ones = torch.ones(4, 4, 3, dtype=torch.float64)
    assert comet.sample(ones, ones).item() == pytest.approx(math.log(7), abs=1e-9)
    assert comet.observation(ones, ones).item() == pytest.approx(math.log(7), abs=1e-9)
    assert comet.identity(ones, ones, PATIENT, temperature=temperature).item() == pytest.approx(math.log(4), abs=1e-9)


@pytest.mark.parametrize("mode", ["code", "clean"])
@pytest.mark.parametrize("pool", ["time_cosine", "max", "mean"])
def test_c6_distinct_ids_give_zero_with_zero_gradient(mode: Any, pool: Any) -> None:
    z1, z2 = Z1.clone().requires_grad_(), Z2.clone().requires_grad_()
    loss = comet.identity(z1, z2, torch.arange(4), mode=mode, pool=pool)
    loss.backward()
    assert loss.item() == 0
    assert z1.grad is not None
    assert z2.grad is not None
    assert not z1.grad.any()
    assert not z2.grad.any()


def test_c6_one_item_or_one_step() -> None:
    z = Z1.clone().requires_grad_()
    for loss in (comet.sample(z[:1], Z2[:1]), comet.observation(z[:, :1], Z2[:, :1])):
        loss.backward()
        assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()
    assert comet.pyramid(comet.observation, z[:, :1], Z2[:, :1]).requires_grad


def test_c6_floors() -> None:
    e = torch.eye(31, dtype=torch.float64)
    orthogonal = e[[0, 0, 1, 1]][:, None]
    assert comet.identity(orthogonal, orthogonal, PATIENT, pool="mean").item() == pytest.approx(0.693193, abs=1e-6)
    opposite = torch.stack([e[0], e[0], -e[0], -e[0]])[:, None]
    assert comet.identity(opposite, opposite, PATIENT, pool="mean").item() == pytest.approx(0.693147, abs=1e-6)
    # 25 trials of 10 and six samples alone fill a batch of 256.
    ids = torch.cat([torch.arange(25).repeat_interleave(10), torch.arange(25, 31)])
    many = e[ids][:, None]
    assert comet.identity(many, many, ids, pool="mean").item() == pytest.approx(2.303701, abs=1e-6)


def test_dense_levels_equal_the_loop() -> None:
    z1, z2 = random(3, 5, 2), random(3, 5, 2, seed=1)
    assert comet.observation(z1, z2).item() == pytest.approx(loop_observation(z1, z2), abs=1e-9)
    swapped = loop_observation(z1.transpose(0, 1), z2.transpose(0, 1))
    assert comet.sample(z1, z2).item() == pytest.approx(swapped, abs=1e-9)
    assert comet.sample(z1.float(), z2.float()).item() == pytest.approx(swapped, abs=1e-4)


@pytest.mark.parametrize("keep_self", [True, False])
@pytest.mark.parametrize("temperature", [0.04, 0.1, 0.5, 1.0])
def test_clean_identity_equals_the_loop(keep_self: bool, temperature: float) -> None:
    z1, z2 = random(6, 4, 3), random(6, 4, 3, seed=1)
    ids = torch.tensor([5, 2, 5, 2, 9, 5])
    got = comet.identity(
        z1, z2, ids, temperature=temperature, mode="clean", pool="max", self_in_denominator=keep_self
    ).item()
    assert got == pytest.approx(loop_clean(z1, z2, ids, temperature, keep_self=keep_self), abs=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        comet.observation,
        comet.sample,
        lambda x, y: comet.pyramid(comet.sample, x, y),
        lambda x, y: comet.identity(x, y, torch.tensor([0, 0, 1]), temperature=0.5),
        lambda x, y: comet.identity(x, y, torch.tensor([0, 0, 1]), temperature=0.5, mode="clean", pool="mean"),
        lambda x, y: comet.identity(
            x, y, torch.tensor([0, 0, 1]), temperature=0.5, mode="clean", self_in_denominator=False
        ),
    ],
)
def test_gradcheck(loss: Any) -> None:
    z1, z2 = random(3, 4, 2).requires_grad_(), random(3, 4, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (z1, z2))


def test_invariances() -> None:
    batch, time = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])
    assert torch.allclose(comet.sample(Z1[batch], Z2[batch]), comet.sample(Z1, Z2), atol=1e-12)
    assert torch.allclose(comet.sample(Z2, Z1), comet.sample(Z1, Z2), atol=1e-12)
    assert torch.allclose(comet.observation(Z1[:, time], Z2[:, time]), comet.observation(Z1, Z2), atol=1e-12)
    renamed = torch.tensor([77, 77, -3, -3])
    assert torch.equal(comet.identity(Z1, Z2, renamed), comet.identity(Z1, Z2, PATIENT))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype: torch.dtype) -> None:
    z = Z1.to(dtype).requires_grad_()
    large = (20 * Z1).to(dtype)
    terms = {
        "identity": comet.identity(z, z.detach(), PATIENT, temperature=0.04, mode="clean"),
        "dense": comet.pyramid(comet.observation, z * 20, large),
    }
    for loss in terms.values():
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        loss.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_unknown_pool() -> None:
    with pytest.raises(ValueError, match="allowed: time_cosine, max, mean"):
        comet.identity(Z1, Z2, PATIENT, pool="median")  # type: ignore[arg-type]


@pytest.mark.parametrize("cells", [1, 20, 100, 10**6])
def test_dense_levels_do_not_depend_on_the_blocks(cells: int) -> None:
    z1, z2 = random(3, 5, 2).requires_grad_(), random(3, 5, 2, seed=1).requires_grad_()
    for level in (comet.observation, comet.sample):
        loss = level(z1, z2, cells=cells)
        whole = level(z1, z2)
        assert loss.item() == pytest.approx(whole.item(), abs=1e-12)
        for got, expected in zip(
            torch.autograd.grad(loss, (z1, z2)), torch.autograd.grad(whole, (z1, z2)), strict=True
        ):
            assert torch.allclose(got, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: comet.observation(a, b, cells=cells), (z1, z2))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mode", ["code", "clean"])
def test_identity_of_two_kinds_of_ids_at_once(wide: bool, mode: Any) -> None:
    # Few channels take the way through blocks of rows, many share one table of scores.
    z1, z2 = (random(7, 2, 9 if wide else 1, seed=k).requires_grad_() for k in (0, 1))
    ids = torch.tensor([[0, 0, 1, 1, 2, 0, 1], [0, 0, 1, 2, 3, 4, 1]])
    both = comet.identity(z1, z2, ids, mode=mode)
    apart = torch.stack([comet.identity(z1, z2, one, mode=mode) for one in ids])
    assert torch.allclose(both, apart, atol=1e-12)
    # Padding the channels with zeros after normalisation changes no similarity but takes the other way.
    u1, u2 = comet.flatten(z1, "time_cosine"), comet.flatten(z2, "time_cosine")
    padded = [torch.nn.functional.pad(u, (0, 10)) for u in (u1, u2)]
    assert torch.allclose(comet.identity(*padded, ids, mode=mode), both, atol=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: comet.identity(a, b, ids, mode=mode).sum(), (z1, z2))


def test_pooling_halves_and_gives_the_gradient_to_the_larger_step() -> None:
    z = torch.tensor([[[1.0], [3.0], [2.0], [2.0], [9.0]]], dtype=torch.float64, requires_grad=True)
    half = comet._Halve.apply(z)
    assert half.flatten().tolist() == [3, 2]
    (gradient,) = torch.autograd.grad((half * torch.tensor([[[5.0], [7.0]]])).sum(), z)
    assert gradient.flatten().tolist() == [0, 5, 7, 0, 0]
    many = random(2, 7, 3).requires_grad_()
    assert torch.autograd.gradcheck(comet._Halve.apply, (many,))


def test_raw_half_precision_scores_keep_single_precision() -> None:
    z1, z2 = (3 * random(4, 12, 64, seed=k) for k in (0, 1))
    half = [z.bfloat16() for z in (z1, z2)]
    exact = comet.observation(*(h.double() for h in half))
    assert comet.observation(*half).item() == pytest.approx(exact.item(), rel=1e-5)


def test_gradients_of_half_precision_are_scaled_in_single() -> None:
    z1, z2 = (3 * random(8, 300, 4, seed=k).half() for k in (0, 1))
    gradients = []
    for dtype in (torch.float64, torch.float16):
        z = z1.to(dtype).detach().requires_grad_()
        # 1 / (64 * 4800) has only a few bits in half precision, the gradients themselves have more.
        (gradient,) = torch.autograd.grad(comet.observation(z, z2.to(dtype)) / 64, z)
        gradients.append(gradient.double())
    exact, half = gradients
    assert ((half - exact).norm() / exact.norm()).item() < 0.003


def test_a_pyramid_of_one_step_keeps_the_shape() -> None:
    z = random(3, 1, 2).requires_grad_()
    both = comet.pyramid(lambda a, b: torch.stack([comet.sample(a, b), comet.observation(a, b)]), z, z.detach())
    assert both.tolist() == [0, 0]
    assert both.requires_grad
