"""Measures of quality against slow loops, and on signals whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medssl.ingest import quality, signals
from medssl.sources.record import Signal, Volume

RATE, SECONDS = 250, 20


def noise(channels: int = 2, seed: int = 0) -> np.ndarray:
    """Return noise whose power falls with the frequency, as that of the body does."""
    white = np.random.default_rng(seed).standard_normal((channels, RATE * SECONDS))
    return np.cumsum(white - 0.05 * np.cumsum(white, 1) / 50, 1).astype(np.float32) * 0.01


def measure(
    values: np.ndarray, *, rate_hz: float = RATE, unit: str = "mV", modality: str = "ecg", window_s: float = 4.0
) -> dict[str, np.ndarray]:
    signal = Signal(values.astype(np.float32), rate_hz, tuple("ABCDEFGH"[: len(values)]), unit)
    windows, starts, _ = signals.prepare(signal, rate_hz=100, channels=signal.channels, unit=unit, window_s=window_s)
    found = quality.of_signal(signal, windows, starts, rate_hz=100, window_s=window_s, modality=modality)
    assert all(value.shape == starts.shape and value.dtype == np.float64 for value in found.values())
    return found


def test_names_by_modality() -> None:
    shares = ["flat", "clipped", "missing", "out_of_range", "rms", "line_noise"]
    for modality, index in (("ecg", ["psqi"]), ("eeg", ["high_to_low"]), ("ppg", ["skewness"]), ("", [])):
        assert list(measure(noise(), modality=modality)) == [*shares, *index]


def test_a_clean_recording_has_no_fault() -> None:
    found = measure(noise())
    for name in ("flat", "clipped", "missing", "out_of_range"):
        assert found[name].max() < 0.01, name
    assert found["line_noise"].max() < 0.1


def test_flat_and_missing_by_window() -> None:
    x = noise()
    x[1, 4 * RATE : 6 * RATE] = x[1, 4 * RATE]
    x[0, 8 * RATE : 9 * RATE] = np.nan
    x[1, 17 * RATE] = np.inf
    found = measure(x)
    assert found["flat"] == pytest.approx([0, 0.5, 0, 0, 0], abs=0.01)
    assert found["missing"] == pytest.approx([0, 0, 0.25, 0, 1 / (4 * RATE)])


def test_clipped() -> None:
    x = 2 * noise(seed=3)
    x -= x.mean(1, keepdims=True)
    top, bottom = np.quantile(x[0], 0.9), np.quantile(x[1], 0.15)
    cut = np.stack([np.minimum(x[0], top), np.maximum(x[1], bottom)])
    found = measure(cut)["clipped"]
    slow = np.zeros((2, 5))
    for c in range(2):
        at = [(v == cut[c].max()) or (v == cut[c].min()) for v in cut[c]]
        for i in range(len(at)):
            run = any(all(at[j : j + 3]) for j in (i - 2, i - 1, i) if j >= 0 and j + 3 <= len(at))
            slow[c, i // (4 * RATE)] += run / (4 * RATE)
    assert np.allclose(found, slow.max(0))
    assert found.max() > 0.2
    assert quality.at_the_rails(np.array([[0.0, 1, 1, 0, 1, 0]])).sum() == 0  # two in a row are a wave's top
    assert quality.at_the_rails(np.full((1, 50), 3.0)).sum() == 0  # flat, not clipped
    assert quality.at_the_rails(np.array([[0.0, 1, 1, 1, np.nan, 1, 0]]))[0].tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert quality.at_the_rails(np.array([[0.0, 1]])).sum() == 0


@pytest.mark.parametrize(
    ("modality", "unit", "spike"),
    [("ecg", "mV", 11.0), ("ecg", "uV", 11e3), ("eeg", "uV", 600.0), ("eeg", "mV", 0.6), ("ecg", "V", 0.011)],
)
def test_out_of_range_knows_the_unit(modality: str, unit: str, spike: float) -> None:
    x = noise() * spike / 11 / 10
    x[0] += 5 * spike  # an electrode's offset is no artefact
    x[0, 5 * RATE : 6 * RATE] += spike
    found = measure(x, modality=modality, unit=unit)["out_of_range"]
    assert found == pytest.approx([0, 0.25, 0, 0, 0], abs=1e-6)
    x[0, 5 * RATE : 6 * RATE] -= 0.5 * spike
    assert measure(x, modality=modality, unit=unit)["out_of_range"].max() == 0


def test_out_of_range_is_unknown_without_a_scale() -> None:
    assert np.isnan(measure(noise(), modality="ppg", unit="1")["out_of_range"]).all()
    assert np.isnan(measure(noise(), modality="ecg", unit="1")["out_of_range"]).all()


@pytest.mark.parametrize("line", [50, 60])
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_line_noise_is_the_share_of_power(line: float, share: float) -> None:
    t = np.arange(RATE * SECONDS) / RATE
    rest = np.sin(2 * np.pi * 7 * t) * np.sqrt(1 - share)
    x = np.stack([rest, rest + np.sqrt(share) * np.sin(2 * np.pi * line * t)]) + 40  # an offset has no power
    assert measure(x)["line_noise"] == pytest.approx([share] * 5, abs=0.01)
    assert measure(x[:1])["line_noise"].max() < 1e-4


def test_line_noise_above_nyquist_is_unknown() -> None:
    assert np.isnan(measure(noise(), rate_hz=100)["line_noise"]).all()
    x = np.sin(2 * np.pi * 50 * np.arange(2000) / 110)[None]
    assert measure(x, rate_hz=110)["line_noise"].min() > 0.9  # 60 Hz is beyond, 50 is not


def test_band_powers_against_a_loop() -> None:
    x, first, length = noise(3), np.array([0, 333, 4000]), 701
    bands = [(5.0, 15.0), (1.0, 125.0), (49.0, 51.0), (7.01, 7.02)]
    found = quality.band_powers(x, RATE, first, length, bands)
    hz = np.arange(length // 2 + 1) * RATE / length
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    for n, i in enumerate(first):
        for c in range(3):
            part = x[c, i : i + length].astype(float)
            power = np.abs(np.fft.rfft((part - part.mean()) * taper)) ** 2
            for k, (low, high) in enumerate(bands[:3]):
                assert found[k, n, c] == pytest.approx(power[(hz >= low) & (hz <= high)].sum(), rel=1e-3)
            assert found[3, n, c] == pytest.approx(power[np.abs(hz - 7.015).argmin()], rel=1e-3)


def test_band_powers_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, first = noise(2), np.arange(0, 4000, 100)
    whole = quality.band_powers(x, RATE, first, 500, [(1.0, 20.0)])
    monkeypatch.setattr(quality, "BLOCK", 3000)
    assert np.array_equal(quality.band_powers(x, RATE, first, 500, [(1.0, 20.0)]), whole)


def test_psqi_tells_complexes_from_noise() -> None:
    t = np.arange(RATE * SECONDS) / RATE
    times = np.arange(0.5, SECONDS, 0.8)[:, None]
    clean = np.exp(-((t - times) ** 2) / (2 * 0.02**2)).sum(0)
    white = np.random.default_rng(0).standard_normal(len(t))
    good, bad, dead = clean[None], white[None], np.zeros_like(clean)[None]
    assert measure(good)["psqi"].min() > 0.7
    assert measure(bad)["psqi"] == pytest.approx([2 / 7] * 5, abs=0.08)
    both = measure(np.concatenate([good, bad]))["psqi"]
    assert np.allclose(both, (measure(good)["psqi"] + measure(bad)["psqi"]) / 2, atol=1e-6)
    assert np.allclose(measure(np.concatenate([good, dead + 5]))["psqi"], measure(good)["psqi"], atol=1e-6)
    for still in (dead, dead + 236.3):  # whose mean in float32 is not 236.3
        assert np.isnan(measure(still)["psqi"]).all()
        assert measure(still)["line_noise"].tolist() == [0] * 5
    assert np.isnan(measure(bad, rate_hz=70)["psqi"]).all()  # 40 Hz is above Nyquist


def test_high_to_low_tells_muscle() -> None:
    x = noise(1)
    muscle = x + 0.3 * np.random.default_rng(1).standard_normal(x.shape)
    calm, tense = (measure(v, modality="eeg", unit="uV")["high_to_low"] for v in (x, muscle))
    assert calm.max() < 0.1
    assert tense.min() > 5 * calm.max()


def test_rms_against_a_loop() -> None:
    signal = Signal(noise() + np.float32(3), RATE, ("A", "B"), "mV")
    windows, starts, _ = signals.prepare(signal, rate_hz=50, channels=signal.channels, unit="uV", window_s=1)
    found = quality.of_signal(signal, windows, starts, rate_hz=50, window_s=1, modality="ecg")["rms"]
    for window, value in zip(windows, found, strict=True):
        squares = [(v - channel.mean()) ** 2 for channel in window.astype(float) for v in channel]
        assert value == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=1e-4)  # in uV, without the offset
    assert 10 < np.median(found) < 1000


def test_skewness() -> None:
    x = np.random.default_rng(0).gamma(2, size=(4, 2, 300)).astype(np.float32)
    assert np.allclose(quality.skewness(x), stats.skew(x, axis=2).mean(1), atol=1e-4)
    x[0, 1] = 7
    assert quality.skewness(x)[0] == pytest.approx(stats.skew(x[0, 0]), abs=1e-4)
    assert np.isnan(quality.skewness(np.full((1, 1, 50), 236.3, np.float32))).all()


def test_windows_as_long_as_the_recording_and_rounding() -> None:
    x = noise()[:, : 4 * RATE - 1]
    found = measure(x)
    assert all(len(value) == 1 for value in found.values())


def test_volume() -> None:
    x = np.full((6, 10, 10), -1000.0, np.float32)
    x[2:4, 3:7, 3:7] = 40
    samples = np.zeros((2, 1, 4, 4), np.float32)
    samples[1, 0, 0] = 0.5
    inside = Volume(x, (1, 1, 1), "HU")
    found = quality.of_volume(inside, samples)
    assert found["blank"].tolist() == [1, 0.75]
    assert found["truncated"].tolist() == [0, 0]
    x = x.copy()
    x[5, 0, 0] = 500  # a hundredth of the slice, such as the table
    assert quality.of_volume(Volume(x, (1, 1, 1), "HU"), samples)["truncated"].tolist() == [0, 0]
    x[5, 3:7] = 40
    assert quality.of_volume(Volume(x, (1, 1, 1), "HU"), samples)["truncated"].tolist() == [1, 1]
    mask = np.zeros(x.shape, int)
    mask[2] = 3
    masked = quality.of_volume(Volume(x, (1, 1, 1), "HU", mask), samples)
    assert masked["truncated"].tolist() == [0, 0]
    mask[0, 0, 0] = 1
    assert quality.of_volume(Volume(x, (1, 1, 1), "1", mask), samples)["truncated"].tolist() == [1, 1]
    for unknown in (Volume(x, (1, 1, 1), "1"), Volume(x[:1], (1, 1, 1), "HU")):
        assert np.isnan(quality.of_volume(unknown, samples)["truncated"]).all()


def test_what_a_filter_leaves_of_a_constant_has_no_skewness() -> None:
    rest = np.random.default_rng(0).standard_normal((1, 1, 100)).astype(np.float32) * np.float32(1e-20)
    assert np.isnan(quality.skewness(rest)).all()
