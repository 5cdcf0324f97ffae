"""Anatomy descriptors against known numbers and loops, and the audit of what the standardiser may see."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import anatomy, descriptors, kernels
from medssl.objectives.descriptors import (
    Standardiser,
    check_spread,
    global_cosine,
    local_cosine,
    minmax_per_subject,
    neighbours,
)

NAN = math.nan
i, d = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in (3, 4)], indexing="ij")
Z = torch.cat([normalize(torch.sin(1 + i + 2 * d), dim=1), normalize(torch.cos(0.3 * i + d), dim=1)])
AGE = torch.tensor([20.0, 22, 40], dtype=torch.float64)
RAW = torch.tensor(
    [
        [[2.5, 5.0, 9.0], [2.8, 4.0, 8.0], [2.2, 6.0, 12.0], [3.0, 3.0, 7.0]],
        [[2.6, 5.1, 9.2], [2.7, 4.1, 8.1], [2.3, 5.8, 11.8], [2.9, 3.2, 7.1]],
        [[2.0, 4.0, 9.5], [2.3, 3.0, 8.8], [1.9, 4.5, 12.5], [2.4, 2.2, 7.9]],
    ],
    dtype=torch.float64,
)
PAIRS = ([0, 0, 1], [1, 2, 2])
COSINES = {"local": local_cosine, "global": global_cosine}


def standardised(values: Tensor = RAW) -> Tensor:
    return torch.from_numpy(Standardiser.fit(values).apply(values))


def cohort(n: int = 7, regions: int = 5, measures: int = 3) -> Tensor:
    """Return descriptors with unknown entries, a region unknown to one subject and a subject without any."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, regions, measures, dtype=torch.float64, generator=generator)
    a[torch.rand(a.shape, generator=generator) > 0.7] = NAN
    a[1, 2] = NAN
    a[4] = NAN
    return a


def loop_cosine(a: Tensor, b: Tensor, kind: str) -> list[list[float]]:
    out = []
    for x in a.tolist():
        row = []
        for y in b.tolist():
            groups = list(zip(x, y, strict=True))
            if kind == "global":
                groups = [([r[m] for r in x], [r[m] for r in y]) for m in range(len(x[0]))]
            cosines = []
            for u, v in groups:
                both = [(p, q) for p, q in zip(u, v, strict=True) if p == p and q == q]
                if both:
                    top = sum(p * q for p, q in both)
                    cosines.append(top / math.sqrt(sum(p * p for p, _ in both) * sum(q * q for _, q in both)))
            row.append(sum(cosines) / len(cosines) if cosines else NAN)
        out.append(row)
    return out


def test_n4_raw() -> None:
    assert local_cosine(RAW)[PAIRS].tolist() == pytest.approx([0.999868, 0.990994, 0.990893], abs=1e-6)
    assert global_cosine(RAW)[PAIRS].tolist() == pytest.approx([0.999524, 0.999541, 0.999366], abs=1e-6)


def test_n4_minmax_per_subject() -> None:
    scaled = minmax_per_subject(RAW)
    assert local_cosine(scaled)[PAIRS].tolist() == pytest.approx([0.998613, 0.992289, 0.986183], abs=1e-6)


def test_n4_standardised() -> None:
    z = standardised()
    assert local_cosine(z)[PAIRS].tolist() == pytest.approx([0.812954, -0.950248, -0.951743], abs=1e-6)
    assert global_cosine(z)[PAIRS].tolist() == pytest.approx([0.800745, -0.953241, -0.942769], abs=1e-6)
    shifted = global_cosine(z, mapping="shifted")
    assert shifted[PAIRS].tolist() == pytest.approx([0.900373, 0.023379, 0.028616], abs=1e-6)
    assert global_cosine(z, mapping="clipped")[PAIRS].tolist() == pytest.approx([0.800745, 0, 0], abs=1e-6)
    squared = kernels.mean_square_difference(z)
    assert squared[PAIRS].tolist() == pytest.approx([0.232173, 4.400286, 4.367540], abs=1e-6)
    assert kernels.rbf(z, sigma=1)[PAIRS].tolist() == pytest.approx([0.890398, 0.110787, 0.112616], abs=1e-6)


def test_n4_in_single_precision() -> None:
    z = standardised().float()
    for kind, cosine in COSINES.items():
        assert cosine(z).dtype == torch.float32
        assert torch.allclose(cosine(z).double(), cosine(z.double()), atol=1e-6), kind
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(local_cosine(z), local_cosine(z))


@pytest.mark.parametrize(
    "w",
    [local_cosine(RAW), global_cosine(RAW), local_cosine(minmax_per_subject(RAW)), torch.ones(2, 2)],
    ids=["local", "global", "minmax", "ones"],
)
def test_n4_flat_weights_are_warned_about(w: Tensor) -> None:
    with pytest.warns(UserWarning, match="weights nearly uniform"):
        check_spread(w)


@pytest.mark.parametrize(
    "w",
    [
        local_cosine(standardised(), mapping="clipped"),
        global_cosine(standardised(), mapping="shifted"),
        kernels.rbf(standardised(), sigma=1),
        torch.eye(3),
        torch.ones(1, 1),
        torch.ones(0, 0),
        torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.9], [1.0, 0.9, 1.0]]),
    ],
)
def test_n4_other_weights_are_not(w: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_spread(w)


def test_n5_losses() -> None:
    def loss(w: Tensor) -> float:
        return anatomy.y_aware(Z, w, temperature=0.1).item()

    assert loss(local_cosine(RAW)) == pytest.approx(6.159237, abs=1e-6)
    assert loss(global_cosine(RAW)) == pytest.approx(6.158618, abs=1e-6)
    assert loss(global_cosine(standardised(), mapping="shifted")) == pytest.approx(7.302696, abs=1e-6)
    # The two losses are mixed (lambda_1 L_AnatCL + lambda_2 L_age); mixing their weights is another objective.
    age = kernels.rbf(AGE, sigma=5)
    assert 0.5 * loss(global_cosine(RAW)) + 0.5 * loss(age) == pytest.approx(6.811846, abs=1e-6)
    assert loss(kernels.mix([global_cosine(RAW), age])) == pytest.approx(loss((global_cosine(RAW) + age) / 2), abs=1e-9)


@pytest.mark.parametrize("kind", COSINES)
def test_cosines_equal_the_loop(kind: str) -> None:
    a, b = cohort(), cohort().flip(1)[:5]
    own = torch.tensor(loop_cosine(a, a, kind), dtype=torch.float64).fill_diagonal_(1)
    cross = torch.tensor(loop_cosine(a, b, kind), dtype=torch.float64)
    assert torch.allclose(COSINES[kind](a, missing=NAN), own, atol=1e-7, equal_nan=True)
    assert torch.allclose(COSINES[kind](a, b, missing=NAN), cross, atol=1e-7, equal_nan=True)
    shifted = COSINES[kind](a, b, mapping="shifted")
    assert torch.allclose(shifted, ((cross + 1) / 2).nan_to_num(0), atol=1e-7)
    assert torch.allclose(COSINES[kind](a, b, mapping="clipped"), cross.nan_to_num(0).clamp_min(0), atol=1e-7)
    assert own.isnan().any() and cross.isnan().any()


@pytest.mark.parametrize("kind", COSINES)
def test_cosines_do_not_depend_on_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a = cohort()
    whole = COSINES[kind](a)
    rows = COSINES[kind](a[2:5], a)
    rows[torch.arange(3), torch.arange(2, 5)] = 1.0
    assert torch.allclose(rows, whole[2:5], atol=1e-12)
    assert torch.equal(whole, whole.T)
    assert whole.diagonal().tolist() == [1] * 7
    for cells in (1, 100):
        monkeypatch.setattr(descriptors, "CELLS", cells)
        assert torch.allclose(COSINES[kind](a), whole, atol=1e-12)


@pytest.mark.parametrize("kind", COSINES)
def test_n6_a_subject_without_measures_is_like_the_identity(kind: str) -> None:
    a = RAW.clone()
    a[1] = NAN
    a[0, 2, 1] = NAN
    for mapping in ("raw", "shifted", "clipped"):
        w = COSINES[kind](a, mapping=mapping)
        assert w[1].tolist() == w[:, 1].tolist() == [0, 1, 0]
        assert torch.isfinite(w).all()
        assert w[0, 2] > 0.9
    nothing = COSINES[kind](torch.full_like(RAW, NAN), mapping="shifted")
    assert torch.equal(nothing, torch.eye(3, dtype=torch.float64))
    own = anatomy.y_aware(Z, nothing, temperature=0.1).item()
    assert own == pytest.approx(8.991411, abs=1e-6)  # NT-Xent


def test_n6_weights_carry_no_gradient() -> None:
    z = Z.clone().requires_grad_()
    w = kernels.mix([local_cosine(RAW), kernels.rbf(AGE, sigma=5)])
    assert torch.autograd.gradcheck(lambda x: anatomy.y_aware(x, w, temperature=0.5), (z,))


@pytest.mark.parametrize("kind", COSINES)
def test_rounding_does_not_leave_the_range(kind: str) -> None:
    a = 1e6 * cohort(40, 11, 7)
    assert torch.equal(COSINES[kind](a), COSINES[kind](a).T)
    twins = 1e6 * torch.rand(50, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (COSINES[kind](twins, 3 * twins) <= 1).all()


def test_short_vectors() -> None:
    a = torch.zeros(2, 1, 2, dtype=torch.float64)
    a[1] = 1e-3
    assert local_cosine(a)[0, 1] == 0
    a[0] = 1e-3
    assert local_cosine(a)[0, 1].item() == pytest.approx(1, abs=0.01)
    assert local_cosine(a, eps=1.0)[0, 1] < 1e-5


def test_minmax_per_subject() -> None:
    a = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [NAN, 5.0], [2.0, 5.0]]])
    scaled = minmax_per_subject(a)
    assert scaled[0, [0, 1, 3], 0].tolist() == [0, 1, 0.5]
    assert scaled[0, 2, 0].isnan()
    assert scaled[0, :, 1].isnan().all()
    assert minmax_per_subject(torch.full((2, 3, 1), NAN)).isnan().all()


def test_standardiser_equals_the_loop() -> None:
    a = cohort().numpy()
    got = Standardiser.fit(a).apply(a)
    for r in range(a.shape[1]):
        for m in range(a.shape[2]):
            known = [v for v in a[:, r, m].tolist() if v == v]
            mean = sum(known) / len(known)
            std = math.sqrt(sum((v - mean) ** 2 for v in known) / len(known))
            expected = [(v - mean) / std if std else NAN for v in a[:, r, m].tolist()]
            assert got[:, r, m].tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def headed(n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return measures (n, 2, 3), of which 1 and 2 grow with the head, and head sizes; some of each unknown."""
    rng = np.random.default_rng(0)
    icv = rng.normal(1.5e6, 1e5, n)
    values = rng.normal(0, 1, (n, 2, 3)) + np.array([2.5, 0, 0])
    values[..., 1:] += (icv[:, None, None] - 1.5e6) / 1e5 * 3 + 40
    values[3, 0, 1] = values[4, 1, 0] = np.nan
    icv[5] = np.nan
    return values, icv


def test_head_size_is_regressed_out_of_chosen_measures() -> None:
    values, icv = headed()
    standard = Standardiser.fit(values, icv, corrected=[1, 2])
    z = standard.apply(values, icv)
    plain = Standardiser.fit(values).apply(values)
    assert np.array_equal(z[..., 0], plain[..., 0], equal_nan=True)
    for r in range(2):
        for m in (1, 2):
            known = ~np.isnan(values[:, r, m]) & ~np.isnan(icv)
            slope, intercept = np.polyfit(icv[known], values[known, r, m], 1)
            left = values[:, r, m] - slope * icv - intercept
            assert z[:, r, m] == pytest.approx(left / left[known].std(), abs=1e-8, nan_ok=True)
            assert abs(np.corrcoef(z[known, r, m], icv[known])[0, 1]) < 1e-9
            assert abs(np.corrcoef(plain[known, r, m], icv[known])[0, 1]) > 0.8
    # Head size unknown: so are the measures that need it, and only they.
    assert np.isnan(z[5]).tolist() == [[False, True, True]] * 2


def test_measures_without_spread_are_unknown() -> None:
    values = np.array([[0.1, 1e-15, NAN], [0.1, 2e-15, NAN], [0.1, 3e-15, NAN]])
    assert values[:, 0].std() > 0  # only by rounding
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standard = Standardiser.fit(values)
        z = standard.apply([[0.5, 2e-15, 1.0], [math.inf, math.inf, 1.0]])
    assert np.isnan(z).tolist() == [[True, False, True], [True, True, True]]


def test_state_survives_storage() -> None:
    values, icv = headed()
    standard = Standardiser.fit(values, icv, corrected=[1, 2])
    file = io.BytesIO()
    np.savez(file, **vars(standard))
    file.seek(0)
    with np.load(file) as state:
        again = Standardiser(**state)
    assert np.array_equal(again.apply(values, icv), standard.apply(values, icv), equal_nan=True)


@pytest.mark.parametrize(
    "weights",
    [
        lambda z: kernels.rbf(z, sigma=1),
        lambda z: local_cosine(z, mapping="shifted"),
        lambda z: global_cosine(z, mapping="shifted"),
    ],
    ids=["rbf", "local", "global"],
)
@pytest.mark.parametrize("corrected", [(), (1, 2)])
def test_n10_descriptor_audit(weights: Callable[[Tensor], Tensor], corrected: tuple[int, ...]) -> None:
    values, icv = headed()
    train, test = slice(0, 20), slice(20, 30)

    def training_weights(values: np.ndarray) -> Tensor:
        standard = Standardiser.fit(values[train], icv[train], corrected=corrected)
        return weights(torch.from_numpy(standard.apply(values, icv)))[train, train]

    before = training_weights(values)
    other = values.copy()
    other[test] = 1e3 * other[test] + 7
    assert torch.allclose(training_weights(other), before, rtol=0, atol=1e-12)
    # Another unit of the volumes.
    assert torch.allclose(training_weights(values * np.array([1, 1, 1000])), before, rtol=0, atol=1e-9)
    assert torch.allclose(training_weights(values * 1000), before, rtol=0, atol=1e-9)
    assert before.std() > 0.1


def test_neighbours_equal_the_loop() -> None:
    volume = torch.tensor([0, 0, 0, 1, 1, -1, -1, 0])
    position = torch.tensor([0.0, 5.0, 12.0, 0.0, 4.0, 0.0, 0.0, NAN])
    got = neighbours(volume, position, within=5)
    n = range(len(volume))
    expected = [[bool(volume[i] == volume[j] != -1 and abs(position[i] - position[j]) <= 5) for j in n] for i in n]
    assert got.tolist() == expected
    assert torch.equal(got, got.T)
    assert got.sum() == 9
    assert neighbours(volume, position, within=5, rows=slice(2, 5)).tolist() == expected[2:5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_cosine(RAW, mapping="half"), "mapping is 'half'; expected raw"),  # type: ignore[arg-type]
        (lambda: Standardiser.fit(RAW[:1]), "1 training subjects"),
        (lambda: Standardiser.fit(RAW, corrected=[1]), "give icv"),
        (lambda: Standardiser.fit(RAW, [1.0], corrected=[1]), r"icv of shape \(1,\) for 3 subjects"),
        (lambda: Standardiser.fit(RAW, [1.0, 2.0, 4.0], corrected=[1]).apply(RAW), "give icv"),
        (lambda: Standardiser.fit(RAW).apply(RAW[:, :2]), r"fitted on \(4, 3\)"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
