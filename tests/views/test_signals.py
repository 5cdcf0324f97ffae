"""Views of signals: published frequencies, each operation against a loop or its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from medssl.views import signals
from medssl.views.draws import Draws

X = torch.randn(64, 3, 100, generator=torch.Generator().manual_seed(9))
OPERATIONS = sorted({op for plan in signals.PLANS.values() for _, op in plan}, key=lambda op: op.__name__)


def numbers(n: int = 64, seed: int = 0) -> Draws:
    return Draws(torch.arange(n), seed=seed)


def touched(before: Tensor, after: Tensor) -> Tensor:
    return (before != after).flatten(1).any(1)


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", [name for name, plan in signals.PLANS.items() if plan])
def test_views_belong_to_their_samples(name: str, strength: float) -> None:
    plan = signals.PLANS[name]
    whole = signals.view(X, numbers(), plan, strength)
    assert whole.shape == X.shape
    assert whole.dtype == X.dtype
    assert torch.isfinite(whole).all()
    assert torch.equal(signals.view(X, numbers(), plan, strength), whole)
    # Another batch, another place in it: the same view, bit for bit.
    for rows in ([9], [9, 4], list(range(50, 13, -1))):
        part = signals.view(X[rows], Draws(torch.tensor(rows), seed=0), plan, strength)
        assert torch.equal(part, whole[rows])
    other = signals.view(X, numbers(seed=1), plan, strength)
    assert touched(whole, other).float().mean() > 0.8
    first, second = (signals.view(X, numbers().fork(k), plan, strength) for k in (1, 2))
    assert touched(first, second).float().mean() > 0.7


@pytest.mark.parametrize("plan", ["wearable_ppg", "wearable_ecg"])
def test_w6_application_counts(plan: str) -> None:
    intervals = {0.15: (1384, 1619), 0.25: (2358, 2643), 0.3: (2850, 3151), 0.4: (3839, 4162), 0.5: (4835, 5165)}
    intervals[0.8] = (7867, 8131)
    published = {
        "wearable_ppg": {"cut_out": 0.4, "magnitude_warp": 0.25, "faint_noise": 0.25, "channel_permute": 0.25,
                         "time_warp": 0.15},
        "wearable_ecg": {"cut_out": 0.8, "magnitude_warp": 0.5, "faint_noise": 0.5, "time_warp": 0.3},
    }  # fmt: skip
    assert [op.__name__ for _, op in signals.PLANS[plan]] == list(published[plan])
    # Each operation leaves its own bit, so that one number says which were applied.
    marks = tuple((p, lambda x, _, strength, k=k: x + 2**k) for k, (p, _) in enumerate(signals.PLANS[plan]))
    applied = signals.view(torch.zeros(10_000, 4, 2), numbers(10_000, 7), marks)[:, 0, 0].int()
    for k, (probability, operation) in enumerate(signals.PLANS[plan]):
        assert probability == published[plan][operation.__name__]
        low, high = intervals[probability]
        assert low <= int((applied >> k & 1).sum()) <= high
    none = math.prod(1 - p for p in published[plan].values())
    assert none == pytest.approx({"wearable_ppg": 0.215156, "wearable_ecg": 0.035}[plan], abs=1e-6)
    assert abs((applied == 0).double().mean().item() - none) < 3.3 * math.sqrt(none * (1 - none) / 10_000)


def test_w6_two_views_share_no_number() -> None:
    used: dict[int, list[Tensor]] = {1: [], 2: []}
    for k, record in used.items():
        spy = tuple(
            (0.5, lambda x, d, strength, record=record: (record.append(d.uniform(200)), x)[1]) for _ in range(5)
        )
        signals.view(X, numbers().fork(k), spy)
    first, second = (torch.stack(record, 1).flatten(1) for record in used.values())
    # Of 64 x 1000 pairs at the same place, a grid of 2^-24 lets hardly one agree by chance.
    assert int((first == second).sum()) <= 1
    assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].abs() < 0.02


@pytest.mark.parametrize(
    ("plan", "channels", "expected"),
    [("wearable_ppg", 4, 0.215156), ("wearable_ppg", 1, 0.286875), ("wearable_ecg", 1, 0.035)],
)
def test_w6_untouched(plan: str, channels: int, expected: float) -> None:
    x = torch.randn(10_000, channels, 20, generator=torch.Generator().manual_seed(0))
    out = signals.view(x, numbers(10_000, 5), signals.PLANS[plan])
    share = 1 - touched(x, out).double().mean().item()
    # A permutation of four channels leaves them alone once in 24 times.
    kept = 0.25 / 24 / 0.75 * expected if channels == 4 else 0
    assert abs(share - expected - kept) < 3.3 * math.sqrt(expected * (1 - expected) / 10_000)


def test_w6_shapes() -> None:
    for channels, plan in ((4, "wearable_ppg"), (1, "wearable_ecg")):
        x = torch.randn(3, channels, 3840)
        out = signals.view(x, numbers(3), signals.PLANS[plan])
        assert out.shape == x.shape
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.__name__)
def test_each_operation_differs_between_samples_and_leaves_its_input(operation: signals.Operation) -> None:
    same = X[:1].repeat(8, 1, 1)
    out = operation(same, numbers(8))
    assert out.shape == same.shape
    assert torch.equal(same, X[:1].repeat(8, 1, 1))
    if operation is not signals.rereference:
        assert len({tuple(sample.flatten().tolist()) for sample in out}) > 1


def test_strengths() -> None:
    ratio = (signals.gain(X, numbers()) / X).amax((1, 2))
    assert ratio.min() >= 0.5 - 1e-4
    assert ratio.max() <= 2 + 1e-4
    assert (signals.noise(X, numbers()) - X).std((1, 2)).max() < 0.5
    zero = (signals.cut_out(X, numbers()) == 0).all(1).float().mean(1)
    assert zero.min() >= 0.04
    assert zero.max() <= 0.26
    loud = torch.cat([X, 100 * X], 1)
    added = (signals.faint_noise(loud, numbers()) - loud).std(2) / loud.std(2)
    assert added.max() < 0.13
    assert added.min() > 0.005
    assert torch.allclose(added[:, :3], added[:, 3:], atol=0.05)


def test_operations_equal_loops() -> None:
    cut, gained, lost = (f(X, numbers()) for f in (signals.cut_out, signals.lead_gain, signals.lead_mask))
    for b in range(0, 64, 7):
        one = Draws(torch.tensor([b]), seed=0)
        length, start = one.uniform(low=0.05, high=0.25).item() * 100, one.uniform().item()
        begin = start * (100 - length)
        expected = [[0.0 if begin <= t < begin + length else v for t, v in enumerate(row)] for row in X[b].tolist()]
        assert cut[b].tolist() == expected
        octaves = Draws(torch.tensor([b]), seed=0).uniform(3, low=-0.5, high=0.5)[0].tolist()
        assert torch.allclose(gained[b], torch.stack([X[b, c] * 2 ** octaves[c] for c in range(3)]))
        one = Draws(torch.tensor([b]), seed=0)
        chances, limit = one.uniform(3)[0].tolist(), one.uniform(high=0.5).item()
        for c in range(3):
            gone = chances[c] < limit and chances[c] < max(chances)
            assert torch.equal(lost[b, c], torch.zeros(100) if gone else X[b, c])


def test_shift_rotates_all_channels_together() -> None:
    shifted = signals.shift(X, numbers())
    assert torch.equal(shifted.sort(2).values, X.sort(2).values)
    assert torch.allclose((shifted[:, 0] * shifted[:, 1]).sum(1), (X[:, 0] * X[:, 1]).sum(1), atol=1e-4)


@pytest.mark.parametrize("knots", [3, 4, 6])
def test_spline_equals_the_library(knots: int) -> None:
    values = torch.randn(5, knots, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = signals._spline(values, 41)
    for row, curve in zip(values, got, strict=True):
        spline = CubicSpline(np.arange(knots), row.numpy(), bc_type="natural")
        assert curve.numpy() == pytest.approx(spline(np.linspace(0, knots - 1, 41)), abs=1e-9)


def test_magnitude_warp_is_one_smooth_curve_for_all_channels() -> None:
    curve = signals.magnitude_warp(torch.ones(2000, 2, 50), numbers(2000))
    assert torch.equal(curve[:, 0], curve[:, 1])
    assert curve[:, 0, 0].mean().item() == pytest.approx(1, abs=0.02)
    assert curve[:, 0, 0].std().item() == pytest.approx(0.2, abs=0.02)


def test_time_warp_rises_with_fixed_ends_and_stays_close() -> None:
    path = signals.warped_time(numbers(500), 200)
    assert (path.diff(dim=1) > 0).all()
    assert torch.equal(path[:, 0], torch.zeros(500))
    assert torch.equal(path[:, -1], torch.full((500,), 199.0))
    warped = signals.time_warp(X, numbers())
    assert torch.equal(warped[..., [0, -1]], X[..., [0, -1]])
    assert (warped.amax(2) <= X.amax(2)).all()
    assert (warped.amin(2) >= X.amin(2)).all()
    away = (path - torch.arange(200)).abs().max(1).values
    assert away.max() <= 0.05 * 200 + 1e-3
    assert away.mean() > 2
    # A straight line read along the path is the path: nothing is extrapolated.
    line = torch.arange(200.0).expand(500, 2, 200)
    assert torch.allclose(signals.time_warp(line, numbers(500))[:, 1], path, atol=1e-3)


def test_interpolation_equals_a_loop() -> None:
    position = torch.tensor([[0.0, 0.25, 98.5, 99.0]]).expand(64, -1)
    got = signals._interpolated(X, position)
    for b, c in itertools.product((0, 63), range(3)):
        expected = np.interp(position[b].numpy(), np.arange(100), X[b, c].numpy())
        assert got[b, c].numpy() == pytest.approx(expected, abs=1e-5)


def test_channels_are_only_permuted() -> None:
    out = signals.channel_permute(X, numbers())
    orders = set()
    for before, after in zip(X, out, strict=True):
        order = [next(k for k in range(3) if torch.equal(before[k], row)) for row in after]
        assert sorted(order) == [0, 1, 2]
        orders.add(tuple(order))
    assert len(orders) == 6
    leads = ("wearable_ecg", "leads", "default", "spectral", "mild")
    assert all(op is not signals.channel_permute for plan in leads for _, op in signals.PLANS[plan])


def test_band_stop_zeroes_one_band_and_keeps_the_rest() -> None:
    before, after = torch.fft.rfft(X, dim=2), torch.fft.rfft(signals.band_stop(X, numbers()), dim=2)
    gone = after.abs().amax(1) < 1e-3
    assert (gone.sum(1) >= 2).all()
    assert (gone.sum(1) <= 11).all()
    assert not gone[:, 0].any()
    assert (gone.int().diff(dim=1).eq(1).sum(1) == 1).all()
    assert torch.allclose(torch.where(gone[:, None], 0, before), torch.where(gone[:, None], 0, after), atol=1e-3)


def test_spectral_jitters() -> None:
    before = torch.fft.rfft(X, dim=2)
    louder = torch.fft.rfft(signals.spectral_jitter(X, numbers()), dim=2).abs() / before.abs()
    assert 0.6 < louder.median() < 1.6
    turned = torch.fft.rfft(signals.phase_jitter(X, numbers()), dim=2)
    assert torch.allclose(turned.abs()[..., :-1], before.abs()[..., :-1], atol=1e-2)
    assert (turned / before).angle()[..., 1:-1].abs().max() <= 0.3 + 1e-3
    assert torch.allclose(turned[..., 0], before[..., 0], atol=1e-3)


def test_leads_come_off_but_never_all() -> None:
    out = signals.lead_mask(X.repeat(20, 1, 1), numbers(1280))
    lost = (out == 0).all(2)
    assert lost.sum(1).max() == 2
    assert 0.1 < lost.double().mean() < 0.3
    assert torch.equal(out[~lost], X.repeat(20, 1, 1)[~lost])
    assert signals.rereference(X, numbers()).mean(1).abs().max() < 1e-5
    assert torch.equal(signals.rereference(X[:, :1], numbers()), X[:, :1])


def test_crop_is_a_resampled_part() -> None:
    line = torch.linspace(0, 1, 100).expand(200, 2, 100)
    out = signals.crop(line, numbers(200), share=(0.3, 0.6), length=40)
    assert out.shape == (200, 2, 40)
    span = out[:, 0, -1] - out[:, 0, 0]
    assert span.min() >= 0.3 - 1e-5
    assert span.max() <= 0.6 + 1e-5
    assert torch.allclose(out.diff(dim=2), (span / 39)[:, None, None].expand(-1, 2, 39), atol=1e-4)
    assert out.min() >= 0
    assert out.max() <= 1
    assert out[:, 0, 0].std() > 0.1
    assert torch.equal(signals.crop(X, numbers(), share=(1.0, 1.0), length=100), X)


def test_global_state_is_neither_used_nor_changed() -> None:
    before = torch.get_rng_state()
    for plan in signals.PLANS.values():
        signals.view(X, numbers(), plan)
    assert torch.equal(torch.get_rng_state(), before)
