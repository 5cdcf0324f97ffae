"""From recordings to windows: rates, units, channels, gaps and cuts with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medssl.ingest import signals
from medssl.sources.record import BadRecord, Signal


def sine(hz: float, rate: float, seconds: float, phase: float = 0.3) -> np.ndarray:
    t = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * np.pi * hz * t + phase)[None].astype(np.float32)


def recording(values: np.ndarray, rate: float = 100, unit: str = "mV", channels: tuple[str, ...] = ()) -> Signal:
    return Signal(values, rate, channels or tuple("ABCDEFGH"[: len(values)]), unit)


def prepare(signal: Signal, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    base: dict[str, Any] = {"rate_hz": 100, "channels": ("A",), "unit": "mV", "window_s": 1.0}
    return signals.prepare(signal, **base | options)


@pytest.mark.parametrize(("rate", "target"), [(500, 100), (1000, 250), (360, 100), (128, 100), (100, 250), (257, 100)])
def test_resampled_sine_keeps_amplitude_and_phase(rate: float, target: float) -> None:
    hz = 7.0
    out = signals.resample(sine(hz, rate, 20), rate, target)[0]
    t = np.arange(len(out)) / target
    inner = slice(int(2 * target), int(-2 * target))
    basis = np.stack([np.sin(2 * np.pi * hz * t), np.cos(2 * np.pi * hz * t)], 1)[inner]
    a, b = np.linalg.lstsq(basis, out[inner], rcond=None)[0]
    assert np.hypot(a, b) == pytest.approx(1, abs=0.005)
    assert abs(np.arctan2(b, a) - 0.3) / (2 * np.pi * hz) < 1 / target
    assert abs(len(out) - 20 * target) <= 1
    assert out.dtype == np.float32


@pytest.mark.parametrize(("rate", "target", "hz"), [(500, 100, 90.0), (1000, 250, 200.0), (360, 100, 100.0)])
def test_what_is_above_the_new_nyquist_is_gone(rate: float, target: float, hz: float) -> None:
    out = signals.resample(sine(hz, rate, 20), rate, target)[0]
    inner = out[int(2 * target) : int(-2 * target)]
    assert 20 * np.log10(np.sqrt(2) * inner.std()) < -60


def test_equal_rates_change_nothing_and_bad_ones_are_refused() -> None:
    x = sine(3, 100, 1)
    assert signals.resample(x, 100, 100) is x
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(BadRecord, match="no_rate"):
            signals.resample(x, rate, 100)


@pytest.mark.parametrize(("unit", "target", "factor"), [("uV", "mV", 1e-3), ("V", "uV", 1e6), ("nV", "uV", 1e-3)])
def test_units(unit: str, target: str, factor: float) -> None:
    assert np.allclose(signals.convert(np.full((1, 3), 2.0, np.float32), unit, target), 2 * factor)


@pytest.mark.parametrize(("unit", "target"), [("mV", "1"), ("1", "mV"), ("bar", "mV"), ("HU", "1")])
def test_units_of_other_things_are_refused(unit: str, target: str) -> None:
    with pytest.raises(BadRecord, match="bad_unit"):
        signals.convert(np.zeros((1, 3)), unit, target)


def test_channels_are_picked_by_name() -> None:
    x = np.arange(3, dtype=np.float32)[:, None] * np.ones((3, 200), np.float32)
    windows, _ = prepare(recording(x, channels=("I", "avr", "V1")), channels=("V1", "AVR"))
    assert windows[0, :, 0].tolist() == [2, 1]


def test_a_missing_channel_is_refused_and_never_zero() -> None:
    with pytest.raises(BadRecord, match="missing_channel") as caught:
        prepare(recording(sine(3, 100, 2)), channels=("A", "B"))
    assert "['B'] are absent" in caught.value.detail


def test_gaps_are_filled_up_to_the_allowed_share() -> None:
    x = np.linspace(0, 1, 200, dtype=np.float32)[None].repeat(2, 0)
    holes = x.copy()
    holes[1, 50:60] = np.nan
    windows, _ = prepare(recording(holes), channels=("A", "B"), max_missing=0.05)
    assert np.allclose(np.concatenate(list(windows), 1), x, atol=1e-6)
    assert np.isnan(holes[1, 50:60]).all()
    holes[1, 60] = np.inf
    with pytest.raises(BadRecord, match="missing_values"):
        prepare(recording(holes), channels=("A", "B"), max_missing=0.05)
    # A gap in a channel that is not used does not matter.
    assert len(prepare(recording(holes), channels=("A",), max_missing=0)[0]) == 2


@pytest.mark.parametrize(
    ("steps", "rate", "window_s", "overlap", "count"),
    [(1280, 256, 1.0, 0.5, 9), (2560, 256, 1.0, 0.5, 19), (3000, 250, 1.2, 0.0, 10), (100, 100, 1.0, 0.0, 1)],
)
def test_c9_window_counts(steps: int, rate: float, window_s: float, overlap: float, count: int) -> None:
    x = np.arange(steps, dtype=np.float32)[None]
    windows, starts = prepare(recording(x, rate), rate_hz=rate, window_s=window_s, overlap=overlap)
    assert windows.shape == (count, 1, round(window_s * rate))
    assert np.allclose(windows[:, 0, 0] / rate, starts)
    if steps == 1280:
        assert windows[:, 0, 0].tolist() == list(range(0, 1025, 128))
    assert windows.dtype == np.float32
    assert windows.flags.c_contiguous


@pytest.mark.parametrize("steps", [0, 1, 98])
def test_too_short(steps: int) -> None:
    with pytest.raises(BadRecord, match="too_short"):
        prepare(recording(np.zeros((1, steps), np.float32)))


def test_one_step_short_by_rounding_is_still_a_window() -> None:
    windows, _ = prepare(recording(sine(3, 360, 1)[:, :359], 360))
    assert windows.shape == (1, 1, 100)


def test_band_pass() -> None:
    def level(hz: float) -> float:
        return float(signals.band_pass(sine(hz, 100, 60), 100, (0.5, 40))[0, 1000:-1000].std() * np.sqrt(2))

    assert level(10) == pytest.approx(1, abs=0.01)
    assert level(0.05) < 0.001
    assert level(49) < 0.05
    delayed = signals.band_pass(sine(10, 100, 60), 100, (0.5, 40))
    assert np.allclose(delayed[0, 1000:-1000], sine(10, 100, 60)[0, 1000:-1000], atol=0.01)  # no delay
    assert abs(signals.band_pass(sine(10, 100, 60) + 100, 100, (0.5, 40)).mean()) < 0.1


def test_scale() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 50)).astype(np.float32) * [[[1.0], [10.0]]] + 7
    assert signals.scale(x, "none") is x
    by_sample, by_channel = signals.scale(x, "sample"), signals.scale(x, "channel")
    for out in (by_sample, by_channel):
        assert np.allclose(out.mean(2), 0, atol=1e-5)
        assert np.allclose(np.square(out).mean((1, 2)), 1, atol=1e-4)
    assert (by_sample[:, 1].std(1) > 5 * by_sample[:, 0].std(1)).all()
    assert np.allclose(by_channel.std(2), 1, atol=1e-4)
    assert np.isfinite(signals.scale(np.zeros((1, 2, 5), np.float32), "sample")).all()


@pytest.mark.parametrize("rate", [100, 360, 500, 1000])
def test_a_dead_lead_is_flat_whatever_follows(rate: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 10 * rate)).astype(np.float32)
    x[1, 5 * rate :] = 5.0
    signal = recording(x, rate, channels=("A", "B", "C"))
    for band in (None, (0.5, 40.0)):
        _, starts = prepare(signal, channels=("C", "B"), window_s=2.5, band_hz=band)
        options = {"rate_hz": 100.0, "window_s": 2.5}
        assert signals.flat_share(signal, ("C", "B"), starts, **options).tolist() == pytest.approx(
            [0, 0, 1, 1], abs=0.01
        )
        assert signals.flat_share(signal, ("A", "C"), starts, **options).max() < 0.01


def test_flat_share_counts_steps_of_the_target_rate() -> None:
    ramp = np.arange(2000, dtype=np.float32)[None] // 5  # changes every fifth step at 1000 Hz: not flat at 100 Hz
    signal = recording(ramp, 1000)
    assert signals.flat_share(signal, ("A",), np.array([0.0, 1.0]), rate_hz=100, window_s=1).tolist() == [0, 0]
    gap = ramp.copy()
    gap[0, 100:200] = np.nan
    shares = signals.flat_share(recording(gap, 1000), ("A",), np.array([0.0]), rate_hz=100, window_s=1)
    assert shares.tolist() == [0]
