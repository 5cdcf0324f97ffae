"""Pulses of known form."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.handcrafted import ppg

RATE = 125.0
RISE, PERIOD = 0.2, 0.8


def pulses(seconds: float = 8.0, *, notch: float = 0.0, period: float = PERIOD) -> np.ndarray:
    """Return (1, T): a raised cosine up for `RISE` seconds and down for the rest, and a second wave."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = (time + 0.3) % period
    up = 0.5 - 0.5 * np.cos(np.pi * phase / RISE)
    down = 0.5 + 0.5 * np.cos(np.pi * (phase - RISE) / (period - RISE))
    second = notch * np.exp(-((phase - 0.5) ** 2) / 2 / 0.04**2)
    return (np.where(phase < RISE, up, down) + second)[None]


def pulse(values: np.ndarray) -> np.ndarray:
    return ppg.median_pulse(values[0], ppg.beats.find(values, RATE, modality="ppg"), RATE)


def test_form_of_a_pulse() -> None:
    rise, *rest = ppg.shape(pulse(pulses()))
    assert rise == pytest.approx(RISE, abs=0.02)
    # A raised cosine is above a share h for 1 - arccos(1 - 2 h) / pi of its time, on either side.
    for share, width, ratio in zip(ppg.WIDTHS, rest[0:6:2], rest[1:6:2], strict=True):
        above = 1 - np.arccos(1 - 2 * share) / np.pi
        assert width == pytest.approx(above * PERIOD, abs=0.03)
        assert ratio == pytest.approx((PERIOD - RISE) / RISE, rel=0.15)
    assert rest[6] == pytest.approx((PERIOD - RISE) / RISE, rel=0.15)


def test_rhythm() -> None:
    peaks = ppg.beats.find(pulses(), RATE, modality="ppg") / RATE
    rate, spread, steps = ppg.rhythm(peaks)
    assert rate == pytest.approx(60 / PERIOD, rel=0.01)
    assert max(spread, steps) < 0.01
    assert ppg.rhythm(np.array([1.0, 3.0]))[0] == 30
    assert np.isnan(ppg.rhythm(np.array([1.0]))).all()


@pytest.mark.parametrize("change", [lambda x: 5 * x, lambda x: x + 3, lambda x: -x], ids=["gain", "offset", "sign"])
def test_gain_offset_and_sign_do_not_matter(change: object) -> None:
    values = pulses(notch=0.3)
    assert pulse(change(values)) == pytest.approx(pulse(values), abs=1e-6, nan_ok=True)  # type: ignore[operator]


def test_drift_is_taken_out() -> None:
    values = pulses()
    drifting = values + 0.2 * np.arange(values.shape[1]) / RATE
    assert np.nanmax(np.abs(pulse(drifting) - pulse(values))) < 0.1


def test_notch() -> None:
    """The second wave's height and place."""
    got = ppg.shape(pulse(pulses(notch=0.3)))
    height, delay, second, second_at = got[8:12]
    assert height < second
    assert 0.1 < delay < 0.3
    assert second_at == pytest.approx(0.5 - RISE, abs=0.03)


def test_derivatives() -> None:
    """First: pi / 2 a rise time at most; second: the curvature at the foot, pi^2 / 2 a squared rise time."""
    got = ppg.derivatives(pulse(pulses(notch=0.3)))
    assert got[0] == pytest.approx(np.pi / 2 / RISE, rel=0.1)
    assert got[2] == pytest.approx(RISE / 2, abs=0.03)
    assert 0.5 < got[4] / (np.pi**2 / 2 / RISE**2) < 1.2
    assert got[5] < 0  # b is a minimum, and c the maximum after it
    assert got[6] > got[5]
    assert (np.diff(got[9:14]) > 0).all()
    assert got[14] == pytest.approx(got[5] - got[6] - got[7] - got[8])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("what", ["flat", "short", "noise", "good"])
def test_always_as_many_features(channels: int, what: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "flat": np.zeros((1, 1000)), "short": np.zeros((1, 20)), "noise": rng.standard_normal((1, 1000)),
        "good": pulses(notch=0.2),
    }[what].repeat(channels, axis=0)  # fmt: skip
    got = ppg.features(values, RATE)
    assert got.shape == (3 + channels * (13 + 19 + ppg.POINTS),)
    assert not np.isinf(got).any()
    assert np.isnan(got).all() == (what in ("flat", "short"))
