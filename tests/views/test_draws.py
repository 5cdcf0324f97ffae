"""Counted random numbers: each row its own, whatever the batch; and random enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from medssl.views.draws import Draws


def draws(*numbers: int, seed: int = 3, stream: int = 0) -> Draws:
    return Draws(torch.tensor(numbers), seed=seed, stream=stream)


def test_a_row_does_not_depend_on_its_batch() -> None:
    together, alone, turned = draws(7, 8, 9), draws(8), draws(9, 8, 7)
    for name, arguments in (
        ("uniform", (4, 5)),
        ("normal", (3,)),
        ("integers", (10, 6)),
        ("permutation", (7,)),
    ):
        whole = getattr(together, name)(*arguments)
        assert torch.equal(whole[1:2], getattr(alone, name)(*arguments)), name
        assert torch.equal(whole.flip(0), getattr(turned, name)(*arguments)), name


def hashed(value: int) -> int:
    """Return splitmix64's output function on Python's own integers."""
    value %= 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def test_bits_equal_unsigned_arithmetic() -> None:
    # Published outputs of splitmix64 from state 1234567; its state moves by the golden ratio before each output.
    golden = 0x9E3779B97F4A7C15
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [hashed(1234567 + (k + 1) * golden) for k in range(3)] == published
    rows = draws(0, 5, 2**63 - 1, -4)
    got = rows.integers(2**40, 3)
    fork, step = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
    base = hashed(hashed(3 + golden) + hashed(0 * fork + step))
    for row, number in zip(got.tolist(), (0, 5, 2**63 - 1, -4), strict=True):
        start = hashed(hashed(number * golden + base) + golden)
        by = hashed(start ^ step) | 1
        assert row == [hashed(start + k * by) % 2**63 % 2**40 for k in range(3)]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 31, 150, 4500])
def test_rows_are_equal_to_the_bit_in_any_batch(count: int) -> None:
    order = torch.randperm(200, generator=torch.Generator().manual_seed(count))
    whole = Draws(torch.arange(200), seed=1).normal(count)
    for size in (1, 2, 5, 63):
        rows = order[:size]
        assert torch.equal(Draws(rows, seed=1).normal(count), whole[rows])


def test_calls_streams_seeds_and_rows_differ() -> None:
    one = draws(1, 2)
    values = [one.uniform(50), one.uniform(50), one.fork(1).uniform(50), one.fork(2).uniform(50)]
    values += [draws(1, 2, seed=4).uniform(50), draws(1, 2, stream=1).uniform(50), draws(3, 4).uniform(50)]
    for a, b in itertools.combinations([row for value in values for row in value], 2):
        assert not torch.isclose(a, b).any() or torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.5
    # A stream does not depend on the calls before it, so that two users of the same numbers agree.
    assert torch.equal(draws(1, 2).fork(1).uniform(50), values[2])


def test_global_state_is_neither_used_nor_changed() -> None:
    before = torch.get_rng_state()
    first = draws(5).normal(10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(draws(5).normal(10), first)


def test_distributions() -> None:
    one = Draws(torch.arange(2000), seed=0)
    uniform = one.uniform(100)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    narrow = one.uniform(100, low=-2, high=-1.5)
    assert narrow.min() >= -2
    assert narrow.max() < -1.5
    # Near 1000 float32 is so coarse that a sum often rounds up to the end.
    coarse = one.uniform(100, low=1000, high=1001)
    assert coarse.min() >= 1000
    assert coarse.max() < 1001
    assert stats.kstest(one.normal(101).flatten().numpy(), "norm").pvalue > 1e-3
    counts = np.bincount(one.integers(7, 100).flatten().numpy(), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3
    first = one.permutation(5)[:, 0]
    assert stats.chisquare(np.bincount(first.numpy(), minlength=5)).pvalue > 1e-3
    assert torch.equal(one.permutation(5).sort(1).values, torch.arange(5).expand(2000, 5))


def test_neighbouring_rows_and_elements_are_uncorrelated() -> None:
    values = Draws(torch.arange(500), seed=1).uniform(400).double()
    values = (values - 0.5) * 12**0.5
    for a, b in ((values[:-1], values[1:]), (values[:, :-1], values[:, 1:])):
        assert (a * b).mean().abs() * a.numel() ** 0.5 < 4
    assert (values.mean(1).abs() * 400**0.5).max() < 4.5


def test_integers_below_a_tensor() -> None:
    high = torch.tensor([[1], [5]])
    got = draws(1, 2).integers(high, 1000)
    assert not got[0].any()
    assert got[1].min() == 0
    assert got[1].max() == 4
    with pytest.raises(ValueError, match="there are none"):
        draws(1).integers(0, 3)


def test_draw_must_be_one_row_of_int64() -> None:
    with pytest.raises(ValueError, match="expected int64"):
        Draws(torch.zeros(3), seed=0)
