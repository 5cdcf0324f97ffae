"""Kernels of compositions and of several factors, faint weights, positives in effect, default widths."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.objectives import kernels
from tests.objectives.test_kernels import (
    FACTORS,
    NAN,
    PARTS,
    POSITION,
    SHARES,
    compositions,
    loop_squared,
    random,
    same,
)


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_hellinger_equals_the_loop(sharpness: float) -> None:
    h = compositions().tolist()
    expected = [[sum(math.sqrt(p * q) for p, q in zip(x, y, strict=True)) ** sharpness for y in h] for x in h]
    got = kernels.hellinger(torch.tensor(h, dtype=torch.float64), sharpness=sharpness)
    assert same(got, expected)


def test_jensen_shannon_equals_the_loop() -> None:
    h = compositions().tolist()

    def entropy(p: list[float]) -> float:
        return -sum(v * math.log(v) for v in p if v > 0)

    def divergence(x: list[float], y: list[float]) -> float:
        middle = [(u + v) / 2 for u, v in zip(x, y, strict=True)]
        return entropy(middle) - (entropy(x) + entropy(y)) / 2

    got = kernels.jensen_shannon(compositions())
    assert same(got, [[divergence(x, y) for y in h] for x in h])
    assert (got.diagonal() == 0).all()
    apart = kernels.jensen_shannon(torch.eye(2, dtype=torch.float64))
    assert apart[0, 1].item() == pytest.approx(math.log(2), abs=1e-12)


def test_aitchison_equals_the_loop_and_ignores_totals() -> None:
    h = compositions().tolist()

    def centred(x: list[float]) -> list[float]:
        logs = [math.log(max(v, 1e-3)) for v in x]
        return [v - sum(logs) / len(logs) for v in logs]

    expected = [[math.dist(centred(x), centred(y)) for y in h] for x in h]
    assert same(kernels.aitchison(compositions()), expected)
    assert same(kernels.centred_log_ratio(compositions()), [centred(x) for x in h])
    assert kernels.aitchison(PARTS, 7 * PARTS).diagonal().tolist() == pytest.approx([0, 0], abs=1e-6)


def test_rounding_does_not_leave_the_range() -> None:
    h = random(60, 7).softmax(1)
    assert (kernels.hellinger(h, h) <= 1).all()
    near = (h + 1e-9 * random(60, 7, seed=1).abs()).clamp(0, 1)
    assert (kernels.jensen_shannon(h, near / near.sum(1, keepdim=True)) >= 0).all()


def test_unknown_compositions() -> None:
    h = torch.tensor([[0.3, 0.7], [NAN, 0.5], [0.5, 0.5]], dtype=torch.float64)
    assert kernels.hellinger(h)[1].tolist() == [0, 1, 0]
    assert kernels.hellinger(h, missing=NAN)[1].isnan().tolist() == [True, False, True]
    for distance in (kernels.jensen_shannon(h), kernels.aitchison(h)):
        assert distance.isnan().nonzero().tolist() == [[0, 1], [1, 0], [1, 1], [1, 2], [2, 1]]


@pytest.mark.parametrize("name", ["product", "mix"])
@pytest.mark.parametrize("shares", [SHARES, [2.0, 5.0, 3.0], None])
def test_product_and_mix_equal_the_loop(name: str, shares: list[float] | None) -> None:
    expected = []
    for i in range(2):
        expected.append([])
        for j in range(3):
            seen = [
                (float(f[i, j]), s) for f, s in zip(FACTORS, shares or [1, 1, 1], strict=True) if f[i, j] == f[i, j]
            ]
            total = sum(s for _, s in seen)
            if not seen:
                value = 0.0
            elif name == "product":
                value = math.prod(k ** (s / total) for k, s in seen)
            else:
                value = sum(k * s / total for k, s in seen)
            expected[-1].append(value)
    combine = getattr(kernels, name)
    assert same(combine(FACTORS, shares), expected)
    assert same(combine([f.float() for f in FACTORS], shares), expected, 1e-6)
    assert combine(FACTORS, shares, missing=NAN).isnan().nonzero().tolist() == [[0, 2]]


def test_product_of_kernels_leaves_out_what_a_pair_lacks() -> None:
    age = torch.tensor([20.0, NAN, 40.0], dtype=torch.float64)
    factors = [kernels.rbf(POSITION[:3], sigma=0.05), kernels.rbf(age, sigma=5, missing=NAN)]
    w = kernels.product(factors)
    assert torch.equal(w, w.T)
    assert w.diagonal().tolist() == [1, 1, 1]
    assert w[0, 1].item() == pytest.approx(factors[0][0, 1].item(), abs=1e-12)
    assert w[0, 2].item() == pytest.approx(math.sqrt(factors[0][0, 2].item() * factors[1][0, 2].item()), abs=1e-12)
    nothing = kernels.product([kernels.rbf(torch.full((3,), NAN), sigma=1, missing=NAN)] * 2)
    assert torch.equal(nothing, torch.eye(3))


def test_negative_factors_do_not_pass_as_unknown() -> None:
    factors = [torch.tensor([[-0.5]]), torch.tensor([[0.5]])]
    assert kernels.product(factors).isnan()
    assert kernels.mix(factors).item() == 0


def test_sparsify() -> None:
    w = torch.tensor([[1.0, 0.05, 0.0499, NAN]])
    assert torch.equal(kernels.sparsify(w), torch.tensor([[1.0, 0.05, 0, 0]]))
    assert torch.equal(kernels.sparsify(w, minimum=0.5), torch.tensor([[1.0, 0, 0, 0]]))


def test_effective_positives_equal_the_loop() -> None:
    w = kernels.rbf(random(7, 2), sigma=0.7)
    w[3] = torch.eye(7, dtype=torch.float64)[3]
    expected = []
    for i, row in enumerate(w.tolist()):
        others = [v for j, v in enumerate(row) if j != i and v > 0]
        entropy = -sum(v / sum(others) * math.log(v / sum(others)) for v in others)
        expected.append(math.exp(entropy) if others else 0.0)
    got = kernels.effective_positives(w)
    assert got.tolist() == pytest.approx(expected, abs=1e-9)
    assert got[3] == 0
    assert kernels.effective_positives(w[2:5], first=2).tolist() == pytest.approx(expected[2:5], abs=1e-9)
    assert w.diagonal().tolist() == [1] * 7


def test_effective_positives_of_equal_weights_count_them() -> None:
    assert kernels.effective_positives(torch.full((6, 6), 0.3)).tolist() == pytest.approx([5] * 6, abs=1e-5)
    assert kernels.effective_positives(torch.eye(3).repeat(2, 2)).tolist() == pytest.approx([1] * 6)


def test_median_sigma() -> None:
    assert kernels.median_sigma(torch.tensor([0.0, 1.0, 3.0])) == pytest.approx(2.0)
    assert kernels.median_sigma(torch.tensor([5.0, 5.0, 5.0])) == 1.0
    assert kernels.median_sigma(torch.tensor([[NAN], [1.0]])) == 1.0
    a = random(25, 3)
    squared = loop_squared(a.tolist(), a.tolist())
    distances = sorted(math.sqrt(squared[i][j]) for i in range(25) for j in range(i))
    assert kernels.median_sigma(a) == pytest.approx(distances[(len(distances) - 1) // 2], abs=1e-12)


def test_median_sigma_of_many_is_near_and_always_the_same() -> None:
    a = random(1000, 3)
    state = torch.random.get_rng_state()
    few = kernels.median_sigma(a, most=200)
    assert few == kernels.median_sigma(a, most=200)
    assert few == pytest.approx(kernels.median_sigma(a), rel=0.1)
    assert torch.equal(torch.random.get_rng_state(), state)
