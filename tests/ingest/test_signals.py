"""From recordings to windows: rates, units, gaps and cuts with known answers."""

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
    return signals.prepare(signal, **base | options)[:2]


RATES = [(500, 100), (1000, 250), (360, 250), (125, 100), (100, 128), (30, 27), (360, 100), (100, 250), (257, 100)]


def fitted(x: np.ndarray, rate: float, hz: float) -> tuple[float, float]:
    """Return amplitude and phase (rad) of a sine by least squares, two seconds from the edges."""
    t = np.arange(len(x)) / rate
    inner = slice(int(2 * rate), int(-2 * rate))
    basis = np.stack([np.sin(2 * np.pi * hz * t), np.cos(2 * np.pi * hz * t), np.ones_like(t)], 1)[inner]
    a, b, _ = np.linalg.lstsq(basis, x[inner], rcond=None)[0]
    return float(np.hypot(a, b)), float(np.arctan2(b, a))


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_resampled_sine_keeps_amplitude_and_phase(rate: float, target: float, share: float) -> None:
    hz = share * min(rate, target) / 2
    out = signals.resample(sine(hz, rate, 20), rate, target)[0]
    amplitude, phase = fitted(out, target, hz)
    assert amplitude == pytest.approx(1, abs=0.005)
    assert abs(phase - 0.3) / (2 * np.pi * hz) < 0.05 / target
    assert abs(len(out) - 20 * target) <= 1
    assert out.dtype == np.float32


@pytest.mark.parametrize(("rate", "target"), [pair for pair in RATES if pair[0] > pair[1]])
@pytest.mark.parametrize("above", [1.01, 1.3])
def test_what_is_above_the_new_nyquist_is_gone(rate: float, target: float, above: float) -> None:
    hz = min(above * target / 2, 0.999 * rate / 2)
    out = signals.resample(sine(hz, rate, 20), rate, target)[0]
    inner = out[int(2 * target) : int(-2 * target)]
    assert 20 * np.log10(np.sqrt(2) * inner.std()) < -60


@pytest.mark.parametrize(("rate", "target"), [(100, 128), (100, 250)])
def test_no_image_of_a_sine_appears_above_the_old_nyquist(rate: float, target: float) -> None:
    out = signals.resample(sine(30, rate, 20), rate, target)[0, int(2 * target) : int(-2 * target)]
    power = np.square(np.abs(np.fft.rfft(out * np.hanning(len(out)))))
    hz = np.fft.rfftfreq(len(out), 1 / target)
    assert 10 * np.log10(power[hz > 1.02 * rate / 2].max() / power.max()) < -60


@pytest.mark.parametrize("offset", [0.0, 236.0, -1e4])
@pytest.mark.parametrize("drift", [0.0, 10.0])
def test_a_small_signal_on_a_large_offset_does_not_ring(offset: float, drift: float) -> None:
    t = np.arange(1800) / 30
    pulse = 0.3 * np.sin(2 * np.pi * 1.2 * t) + 0.1 * np.sin(2 * np.pi * 2.4 * t)
    x = np.stack([pulse + offset + drift * t, pulse]).astype(np.float32)
    back = signals.resample(signals.resample(x, 30, 27), 27, 30)[:, :1800]
    rest = back[0] - offset - drift * t
    assert np.corrcoef(rest, pulse)[0, 1] > 0.9999
    assert np.abs(rest - pulse)[60:-60].max() < 2e-3  # float32 tells 1e-3 apart at 1e4
    assert back.mean(axis=1)[0] == pytest.approx(x.mean(axis=1)[0], abs=0.01)


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_a_ramp_keeps_its_times(rate: float, target: float) -> None:
    ramp = 3 + 2 * np.arange(round(20 * rate)) / rate
    out = signals.resample(ramp[None].astype(np.float32), rate, target)[0]
    assert np.allclose(out, 3 + 2 * np.arange(len(out)) / target, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_constant_stays_one_however_short(steps: int) -> None:
    for rate, target in ((500.0, 100.0), (100.0, 500.0), (30.0, 27.0)):
        out = signals.resample(np.full((2, steps), 5.0), rate, target)
        assert np.allclose(out, 5)
        assert out.shape == (2, -(-steps * round(target) // round(rate)))


def test_equal_rates_change_nothing_and_bad_ones_are_refused() -> None:
    x = sine(3, 100, 1)
    assert signals.resample(x, 100, 100) is x
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(BadRecord, match="no_rate"):
            signals.resample(x, rate, 100)
    for rate in (1e-6, 0.05, 1e9):  # a header gone wrong, and memory with it
        with pytest.raises(BadRecord, match="no_rate"):
            signals.resample(x, rate, 100)


@pytest.mark.parametrize(("unit", "target", "factor"), [("uV", "mV", 1e-3), ("V", "uV", 1e6), ("nV", "uV", 1e-3)])
def test_units(unit: str, target: str, factor: float) -> None:
    assert np.allclose(signals.convert(np.full((1, 3), 2.0, np.float32), unit, target), 2 * factor)


@pytest.mark.parametrize(("unit", "target"), [("mV", "1"), ("1", "mV"), ("bar", "mV"), ("HU", "1")])
def test_units_of_other_things_are_refused(unit: str, target: str) -> None:
    with pytest.raises(BadRecord, match="bad_unit"):
        signals.convert(np.zeros((1, 3)), unit, target)


def test_gaps_are_bridged_by_lines_and_a_channel_without_a_value_is_refused() -> None:
    x = np.linspace(0, 1, 200, dtype=np.float32)[None].repeat(2, 0)
    holes = x.copy()
    holes[1, 50:60] = np.nan
    windows, _ = prepare(recording(holes), channels=("A", "B"))
    assert np.allclose(np.concatenate(list(windows), 1), x, atol=1e-6)
    assert np.isnan(holes[1, 50:60]).all()
    holes[1] = np.inf
    with pytest.raises(BadRecord, match="missing_values"):
        prepare(recording(holes), channels=("A", "B"))
    # A channel that is not used does not matter.
    assert len(prepare(recording(holes), channels=("A",))[0]) == 2


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


@pytest.mark.parametrize(("unit", "value", "good"), [("mV", 3e9, True), ("mV", -1e20, False), ("V", 1e10, False)])
def test_values_that_are_none_are_refused(unit: str, value: float, good: bool) -> None:
    x = sine(3, 100, 2)
    x[0, 50] = value
    if good:
        assert np.isfinite(prepare(recording(x, unit=unit))[0]).all()
    else:
        with pytest.raises(BadRecord, match=r"unreadable: holds values of more than 1e\+12 mV"):
            prepare(recording(x, unit=unit))


@pytest.mark.parametrize("steps", [0, 1, 98])
def test_too_short(steps: int) -> None:
    with pytest.raises(BadRecord, match="too_short"):
        prepare(recording(np.zeros((1, steps), np.float32)))


@pytest.mark.parametrize(
    ("steps", "rate", "good"), [(359, 360, True), (995, 1000, True), (994, 1000, False), (49, 50, True)]
)
def test_half_a_percent_short_by_rounding_is_still_a_window(steps: int, rate: int, good: bool) -> None:
    recorded = recording(sine(3, rate, 1)[:, :steps], rate)
    if good:
        assert prepare(recorded)[0].shape == (1, 1, 100)
    else:
        with pytest.raises(BadRecord, match=r"994 samples at 1000 Hz are 0.994 s; one window needs 1 s, 1000 samples"):
            prepare(recorded)


def test_band_pass() -> None:
    def level(hz: float) -> float:
        return float(signals.band_pass(sine(hz, 100, 60), 100, (0.5, 40))[0, 1000:-1000].std() * np.sqrt(2))

    assert level(10) == pytest.approx(1, abs=0.01)
    assert level(0.05) < 0.001
    assert level(49) < 0.05
    delayed = signals.band_pass(sine(10, 100, 60), 100, (0.5, 40))
    assert np.allclose(delayed[0, 1000:-1000], sine(10, 100, 60)[0, 1000:-1000], atol=0.01)  # no delay
    assert abs(signals.band_pass(sine(10, 100, 60) + 100, 100, (0.5, 40)).mean()) < 0.1


@pytest.mark.parametrize(("rate", "line"), [(500, 50), (360, 60), (250, 50), (1000, 60)])
def test_notch(rate: float, line: float) -> None:
    clean = sine(10, rate, 20) + sine(line - 6, rate, 20)
    hum = sum(sine(k * line, rate, 20, k) for k in range(1, int(rate / 2 / line) + 1) if k * line < rate / 2)
    out = signals.notch(clean + hum + 3, rate, line)
    inner = slice(int(2 * rate), int(-2 * rate))
    assert np.abs(out - clean - 3)[0, inner].max() < 0.03  # no delay either
    for k in range(1, int(rate / 2 / line) + 1):
        if k * line < rate / 2:
            assert fitted(out[0], rate, k * line)[0] < 1e-3
    assert out.dtype == np.float32


def test_notch_is_at_the_rate_of_the_recording_and_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signals.notch(sine(3, 100, 4), 100, 50).shape == (1, 400)  # mains at Nyquist: nothing to do
    x = recording(sine(5, 500, 10) + sine(50, 500, 10) + sine(40, 500, 10), 500)
    plain, filtered = (prepare(x, rate_hz=250, notch_hz=n, window_s=8)[0][0, 0] for n in (None, 50))
    assert fitted(plain, 250, 50)[0] == pytest.approx(1, abs=0.005)
    assert fitted(filtered, 250, 50)[0] < 1e-3
    assert fitted(filtered, 250, 40)[0] == pytest.approx(1, abs=0.03)
    rates = []
    monkeypatch.setattr(signals, "notch", lambda values, rate_hz, line_hz: rates.append(rate_hz) or values)
    prepare(x, notch_hz=50)
    assert rates == [500]


def test_scale() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 50)).astype(np.float32) * [[[1.0], [10.0]]] + 7
    assert signals.scale(x, "none") is x
    by_sample, by_channel = signals.scale(x, "sample"), signals.scale(x, "channel")
    for out in (by_sample, by_channel):
        assert np.allclose(out.mean(2), 0, atol=1e-5)
        assert np.allclose(np.square(out).mean((1, 2)), 1, atol=1e-4)
    assert (by_sample[:, 1].std(1) > 5 * by_sample[:, 0].std(1)).all()
    assert np.allclose(by_channel.std(2), 1, atol=1e-4)
    for how in ("sample", "channel", "record", "cohort"):
        assert np.isfinite(signals.scale(np.zeros((1, 2, 5), np.float32), how)).all()
        assert signals.scale(np.zeros((0, 2, 5), np.float32), how).shape == (0, 2, 5)


def test_scale_of_a_recording_and_of_none() -> None:
    draw = np.random.default_rng(0)
    x = (draw.standard_normal((4, 2, 50)) * [[[1.0]], [[2.0]], [[4.0]], [[50.0]]] + 7).astype(np.float32)
    counted = np.array([True, True, True, False])
    squares = [(v - channel.mean()) ** 2 for window in x[:3].astype(float) for channel in window for v in channel]
    number = (sum(squares) / len(squares)) ** 0.5
    centred = x - x.mean(axis=2, keepdims=True)
    found = signals.scale(x, "record", counted)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, centred / number, rtol=1e-5, atol=1e-6)
    assert np.square(signals.scale(x, "record")).mean() == pytest.approx(1, rel=1e-5)
    assert np.array_equal(signals.scale(x, "record", np.zeros(4, bool)), signals.scale(x, "record"))
    in_unit = signals.scale(x, "cohort", counted)
    assert np.array_equal(in_unit, centred) and in_unit.dtype == np.float32
    assert signals.rms_of_recording(signals.rms(x[:3])) == pytest.approx(number, rel=1e-6)


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


def test_worst_share() -> None:
    marked = np.random.default_rng(0).random((3, 500)) < 0.3
    first = np.array([0, 7, 450, 499, 120])
    slow = [max(marked[c, i : i + 40].mean() for c in range(3)) for i in first]
    assert np.allclose(signals.worst_share(marked, first, 40), slow)


def test_flat_share_counts_steps_of_the_target_rate() -> None:
    ramp = np.arange(2000, dtype=np.float32)[None] // 5  # changes every fifth step at 1000 Hz: not flat at 100 Hz
    signal = recording(ramp, 1000)
    assert signals.flat_share(signal, ("A",), np.array([0.0, 1.0]), rate_hz=100, window_s=1).tolist() == [0, 0]
    gap = ramp.copy()
    gap[0, 100:200] = np.nan
    shares = signals.flat_share(recording(gap, 1000), ("A",), np.array([0.0]), rate_hz=100, window_s=1)
    assert shares.tolist() == [0]
