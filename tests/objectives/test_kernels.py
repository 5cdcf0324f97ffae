"""Kernels against known numbers, plain loops and the properties that weights of a loss need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medssl.objectives import kernels

NAN = math.nan
AGE = torch.tensor([20.0, 22, 40], dtype=torch.float64)
POSITION = torch.tensor([0.10, 0.12, 0.30, 0.55, 0.90], dtype=torch.float64)
PARTS = torch.tensor([[0.3, 0.5, 0.2], [0.1, 0.6, 0.3]], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measures(n: int = 9, k: int = 5) -> Tensor:
    """Return measures far from 0 with unknown entries and one subject of which nothing is known."""
    a = 50 + random(n, k)
    a[random(n, k, seed=1) > 0.7] = NAN
    a[4] = NAN
    return a


def compositions(n: int = 6, k: int = 4) -> Tensor:
    h = random(n, k).softmax(1)
    h[1, 0], h[1, 1] = 0.0, h[1, 0] + h[1, 1]
    return h


CODES = torch.tensor([0, 1, 0, 2, 1, -1, 0, -1, 2])
# Kernel of items and, where given, of columns.
KERNELS: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "rbf": (lambda a, b=None, **k: kernels.rbf(a, b, sigma=0.8, **k), measures()),
    "rbf, scalar": (lambda a, b=None, **k: kernels.rbf(a, b, sigma=0.8, **k), measures(k=1)[:, 0]),
    "rbf, 3 shared": (lambda a, b=None, **k: kernels.rbf(a, b, sigma=0.8, at_least=3, **k), measures()),
    "cauchy": (lambda a, b=None, **k: kernels.cauchy(a, b, gamma=0.8, **k), measures()),
    "equal": (lambda a, b=None, **k: kernels.equal(a, b, off=0.3, **k), CODES),
    "hellinger": (kernels.hellinger, compositions()),
    "hellinger, sharp": (lambda a, b=None, **k: kernels.hellinger(a, b, sharpness=4, **k), compositions()),
}
DISTANCES: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "mean square": (kernels.mean_square_difference, measures()),
    "jensen-shannon": (kernels.jensen_shannon, compositions()),
    "aitchison": (kernels.aitchison, compositions()),
}


FACTORS = [
    torch.tensor([[1.0, 0.5, NAN], [0.5, 1.0, 0.0]], dtype=torch.float64),
    torch.tensor([[1.0, NAN, NAN], [0.25, 1.0, 0.5]], dtype=torch.float64),
    torch.tensor([[1.0, 0.9, NAN], [0.8, NAN, 0.5]], dtype=torch.float64),
]
SHARES = [0.2, 0.5, 0.3]


def loop_squared(a: list[list[float]], b: list[list[float]], at_least: int = 1) -> list[list[float]]:
    out = []
    for x in a:
        row = []
        for y in b:
            terms = [(u - v) ** 2 for u, v in zip(x, y, strict=True) if not (math.isnan(u) or math.isnan(v))]
            row.append(sum(terms) / len(terms) if len(terms) >= at_least else NAN)
        out.append(row)
    return out


def same(got: Tensor, expected: list[list[float]], tolerance: float = 1e-9) -> bool:
    return torch.allclose(got.double(), torch.tensor(expected, dtype=torch.float64), atol=tolerance, equal_nan=True)


class Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation returns."""

    cells = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.cells = max(
            [self.cells, *(o.numel() for o in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(o))]
        )
        return out


def test_n1_rbf() -> None:
    w = kernels.rbf(AGE, sigma=5)
    assert w.diagonal().tolist() == [1, 1, 1]
    assert [w[0, 1].item(), w[0, 2].item(), w[1, 2].item()] == pytest.approx([0.923116, 0.000335, 0.001534], abs=1e-6)
    assert torch.equal(w, w.T)


def test_n7_position() -> None:
    w = kernels.rbf(POSITION, sigma=0.05)
    assert w[[0, 0, 1, 2], [1, 2, 2, 3]].tolist() == pytest.approx([0.923116, 0.000335, 0.001534, 3.7e-6], abs=1e-6)
    assert w[2, 3].item() == pytest.approx(3.7e-6, abs=5e-8)
    others = [(0, 3), (0, 4), (1, 3), (1, 4), (2, 4), (3, 4)]
    assert all(w[i, j] < 1e-6 for i, j in others)


def test_n7_compositions() -> None:
    assert kernels.hellinger(PARTS)[0, 1].item() == pytest.approx(0.965877, abs=1e-6)
    assert kernels.jensen_shannon(PARTS)[0, 1].item() == pytest.approx(0.033472, abs=1e-6)
    assert kernels.aitchison(PARTS)[0, 1].item() == pytest.approx(1.147872, abs=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_no_items(name: str) -> None:
    kernel, a = KERNELS[name]
    assert kernel(a[:0]).shape == (0, 0)
    assert kernel(a, a[:0]).shape == (len(a), 0)
    assert kernel(a[:0], a).shape == (0, len(a))


@pytest.mark.parametrize("name", KERNELS)
def test_symmetric_with_unit_diagonal_in_0_to_1(name: str) -> None:
    kernel, a = KERNELS[name]
    w = kernel(a)
    assert torch.equal(w, w.T)
    assert w.diagonal().tolist() == [1] * len(a)
    assert ((w >= 0) & (w <= 1)).all()
    # Not all the same, or nothing above would say anything.
    assert len(w.unique()) > 2


@pytest.mark.parametrize(
    "kernel",
    [
        lambda a: kernels.rbf(a, sigma=0.8),
        lambda a: kernels.cauchy(a, gamma=0.8),
        lambda a: kernels.equal(CODES[CODES >= 0], off=0.3),
        lambda a: kernels.hellinger(a.softmax(1)),
        lambda a: kernels.hellinger(a.softmax(1), sharpness=4),
        lambda a: kernels.rbf(kernels.centred_log_ratio(a.softmax(1)), sigma=0.8),
        lambda a: torch.exp(-kernels.jensen_shannon(a.softmax(1)) / 0.1),
        lambda a: kernels.product([kernels.rbf(a, sigma=0.8), kernels.rbf(a[:, 0], sigma=0.2)], [0.3, 0.7]),
        lambda a: kernels.mix([kernels.rbf(a, sigma=0.8), kernels.rbf(a[:, 0], sigma=0.2)], [0.3, 0.7]),
    ],
)
def test_positive_semidefinite_where_everything_is_known(kernel: Callable[[Tensor], Tensor]) -> None:
    assert torch.linalg.eigvalsh(kernel(random(12, 4))).min() >= -1e-6


@pytest.mark.parametrize("name", KERNELS | DISTANCES)
@pytest.mark.parametrize("missing", [0.0, NAN])
def test_blocks_of_rows_are_rows_of_the_whole(name: str, missing: float) -> None:
    kernel, a = (KERNELS | DISTANCES)[name]
    options = {} if name in DISTANCES else {"missing": missing}
    whole = kernel(a, **options)
    block = slice(2, 6)
    got = kernel(a[block], a, **options)
    item = torch.arange(2, min(6, len(a)))
    if name not in DISTANCES:
        got[torch.arange(len(item)), item] = 1.0
    assert torch.allclose(got, whole[block], atol=1e-12, equal_nan=True)


def test_one_measure_is_the_same_to_the_last_bit_in_blocks() -> None:
    assert torch.equal(kernels.rbf(AGE, AGE[:2], sigma=5), kernels.rbf(AGE, sigma=5)[:, :2])


@pytest.mark.parametrize("at_least", [1, 2, 3, 5])
@pytest.mark.parametrize("k", [1, 5])
def test_mean_square_difference_equals_the_loop(at_least: int, k: int) -> None:
    a, b = measures(k=k), measures(n=7, k=k)[:, torch.arange(k - 1, -1, -1)]
    for x, y in ((a, None), (a, b)):
        got = kernels.mean_square_difference(x, y, at_least=at_least)
        expected = loop_squared(x.tolist(), (x if y is None else y).tolist(), at_least)
        assert same(got, expected)
        assert same(
            kernels.mean_square_difference(x.float(), None if y is None else y.float(), at_least=at_least),
            expected,
            1e-4,
        )
    assert torch.isnan(kernels.mean_square_difference(a)).any()


def test_equal_rows_are_exactly_0_apart_and_close_ones_are_not() -> None:
    a = 1e6 + 1e3 * random(40, 13)
    a[20:] = a[:20]
    squared = kernels.mean_square_difference(a)
    assert (squared.diagonal(20) == 0).all()
    assert (squared.diagonal() == 0).all()
    a[20:, 3] += 1e-2  # 1e-5 of the spread
    expected = loop_squared(a.tolist(), a.tolist())
    got = kernels.mean_square_difference(a)
    assert got.diagonal(20).tolist() == pytest.approx([expected[i][i + 20] for i in range(20)], rel=1e-3)
    assert torch.equal(got, got.T)


def test_an_outlier_does_not_blur_the_others() -> None:
    a = measures()
    alone = kernels.rbf(a[:8], sigma=0.8)
    a[8] = 1e7
    assert torch.allclose(kernels.rbf(a, sigma=0.8)[:8, :8], alone, rtol=0, atol=1e-12)


def test_regions_by_measures_are_flattened() -> None:
    a = random(4, 3, 2)
    assert torch.equal(kernels.rbf(a, sigma=1), kernels.rbf(a.flatten(1), sigma=1))


def test_infinite_measures_are_unknown() -> None:
    assert kernels.rbf(torch.tensor([1.0, math.inf]), sigma=1, missing=NAN)[0, 1].isnan()
    a = torch.tensor([[-math.inf, 1.0], [2.0, 1.5], [math.inf, math.inf]])
    assert same(
        kernels.mean_square_difference(a),
        loop_squared([[NAN, 1], [2, 1.5], [NAN] * 2], [[NAN, 1], [2, 1.5], [NAN] * 2]),
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernels.mean_square_difference(random(40, 100)),
        lambda: kernels.rbf(random(40, 100), random(40, 100), sigma=1),
        lambda: kernels.jensen_shannon(random(40, 100).softmax(1)),
        lambda: kernels.aitchison(random(40, 100).softmax(1)),
        lambda: kernels.median_sigma(random(4000, 2), most=63),
    ],
)
def test_memory_is_a_few_tables(call: Callable[[], Any]) -> None:
    with Largest() as largest:
        call()
    assert 0 < largest.cells <= 8000


def test_n6_unknown_measures_are_ignored_pairwise() -> None:
    a = torch.tensor([[0.0, 1.0], [0.0, NAN], [NAN, 3.0], [NAN, NAN]], dtype=torch.float64)
    squared = kernels.mean_square_difference(a)
    assert squared[0, 1] == 0
    assert squared[0, 2] == 4  # not halved: only one measure is shared
    assert squared[1, 2].isnan()
    w = kernels.rbf(a, sigma=2)
    assert w[0, 2].item() == pytest.approx(math.exp(-4 / 8))
    assert w[1, 2] == 0
    assert w[3].tolist() == [0, 0, 0, 1]
    assert kernels.cauchy(a, gamma=0.5)[0, 2].item() == pytest.approx(1 / 3)
    unknown = kernels.rbf(a, sigma=2, missing=NAN)
    assert unknown.isnan().nonzero().tolist() == [[0, 3], [1, 2], [1, 3], [2, 1], [2, 3], [3, 0], [3, 1], [3, 2]]


def test_organ_volumes_need_three_organs_in_common() -> None:
    a = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, NAN], [NAN, NAN, 5.0, 5.0]], dtype=torch.float64)
    w = kernels.rbf(a, sigma=1, at_least=3)
    assert w[0, 1].item() == pytest.approx(math.exp(-0.5))
    assert w[0, 2] == w[1, 2] == 0
    assert kernels.rbf(a, sigma=1, at_least=2)[0, 2].item() == pytest.approx(math.exp(-12.5))
    assert kernels.median_sigma(a, at_least=3) == 1
    assert kernels.median_sigma(a) == 4
    assert kernels.rbf(AGE, sigma=5, at_least=2).tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limits_of_the_width(dtype: torch.dtype) -> None:
    a = measures()[[0, 1, 2, 3]].to(dtype)
    for narrow in (1e-6, 1e-200):
        assert torch.equal(kernels.rbf(a, sigma=narrow), torch.eye(4, dtype=dtype))
        assert torch.equal(kernels.rbf(AGE.to(dtype), sigma=narrow), torch.eye(3, dtype=dtype))
    twins = torch.tensor([1.0, 1.0, 2.0], dtype=dtype)
    assert kernels.rbf(twins, sigma=1e-200)[0].tolist() == [1, 1, 0]
    for broad in (1e9, math.inf):
        assert torch.allclose(kernels.rbf(a, sigma=broad), torch.ones(4, 4, dtype=dtype), atol=1e-15)
    assert torch.equal(kernels.cauchy(a, gamma=0), torch.ones(4, 4, dtype=dtype))


def test_cauchy_equals_the_loop() -> None:
    a = measures()
    squared = loop_squared(a.tolist(), a.tolist())
    expected = [
        [1.0 if i == j else 0.0 if math.isnan(d) else 1 / (1 + 0.8 * d) for j, d in enumerate(row)]
        for i, row in enumerate(squared)
    ]
    assert same(kernels.cauchy(a, gamma=0.8), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_equal_equals_the_loop(dtype: torch.dtype) -> None:
    codes = CODES.to(dtype)
    if dtype.is_floating_point:
        codes[7] = NAN
    values = codes.tolist()

    def cell(i: int, j: int) -> float:
        if i == j:
            return 1.0
        known = all(v == v and v != -1 for v in (values[i], values[j]))
        return (1.0 if values[i] == values[j] else 0.3) if known else 0.0

    n = range(len(values))
    got = kernels.equal(codes, off=0.3)
    assert same(got, [[cell(i, j) for j in n] for i in n], 1e-7 if dtype != torch.float64 else 0)
    assert kernels.equal(codes, missing=NAN).isnan().sum() == 2 * 7 + 2 * 7 + 2


def test_large_codes_do_not_collide() -> None:
    codes = torch.tensor([2**60, 2**60 + 1])
    assert kernels.equal(codes, off=0)[0, 1] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", [n for n in KERNELS if n != "equal"])
def test_half_precision_is_computed_in_full(name: str, dtype: torch.dtype) -> None:
    kernel, a = KERNELS[name]
    a = a.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = kernel(a)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), kernel(a.double()), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.rbf(AGE, sigma=0), "sigma is 0; expected a width above 0"),
        (lambda: kernels.rbf(AGE, sigma=NAN), "sigma is nan"),
        (lambda: kernels.cauchy(AGE, gamma=-1), "gamma is -1"),
        (lambda: kernels.rbf(AGE, sigma=1, at_least=0), "at_least is 0"),
        (lambda: kernels.equal(CODES, off=1.5), "off is 1.5; expected 0 to 1"),
        (lambda: kernels.hellinger(PARTS, sharpness=0), "sharpness is 0"),
        (lambda: kernels.aitchison(PARTS, floor=0), "floor is 0"),
        (lambda: kernels.product([]), "0 factors"),
        (lambda: kernels.product(FACTORS, [1, 1]), "3 factors with shares"),
        (lambda: kernels.mix(FACTORS, [1, 1, -1]), "above 0"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
