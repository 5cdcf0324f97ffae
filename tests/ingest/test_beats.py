"""Beats with known places: every one found once, in all leads together, and none shortened in silence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from medssl.ingest import beats, signals
from medssl.sources.record import BadRecord, Signal

# Waves of a beat: place from the R peak in s, height in mV, deviation in s.
WAVES = ((-0.17, 0.12, 0.025), (-0.028, -0.12, 0.01), (0.0, 1.0, 0.011), (0.03, -0.25, 0.011), (0.27, 0.3, 0.05))
GAINS = (1.0, -0.6, 0.3)  # leads, one of them upside down


def rhythm(kind: str, seconds: float, seed: int = 0) -> np.ndarray:
    """Return the times of beats in s."""
    rng = np.random.default_rng(seed)
    mean, spread = {"regular": (0.8, 0.02), "fast": (0.4, 0.01), "slow": (1.6, 0.05), "irregular": (0.75, 0.2)}[kind]
    rr = np.clip(mean + spread * rng.standard_normal(int(3 * seconds / mean)), 0.38, None)
    times = 0.21 + np.cumsum(rr) - rr[0]
    return times[times < seconds - 0.05]


def ecg(times: np.ndarray, rate_hz: float, seconds: float, *, noise: float = 0.03, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    beat = sum(h * np.exp(-((t - (times + at)[:, None]) ** 2) / (2 * w**2)).sum(0) for at, h, w in WAVES)
    rng = np.random.default_rng(seed)
    wander = 0.4 * np.sin(2 * np.pi * 0.25 * t + 1)
    leads = np.array(GAINS)[:, None] * (beat + wander) + noise * rng.standard_normal((len(GAINS), len(t)))
    return leads.astype(np.float32)


def ppg(times: np.ndarray, rate_hz: float, seconds: float, *, noise: float = 0.01) -> np.ndarray:
    """Return pulses: a fast rise to the systolic peak at ``times``, a slow decay with a dicrotic wave."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    from_peak = t - times[:, None]
    rise, decay = np.exp(-(from_peak**2) / (2 * 0.07**2)), np.exp(-(from_peak**2) / (2 * 0.16**2))
    pulse = np.where(from_peak < 0, rise, decay) + 0.15 * np.exp(-((from_peak - 0.35) ** 2) / (2 * 0.06**2))
    drift = 0.3 * np.sin(2 * np.pi * 0.2 * t)
    out = pulse.sum(0) + drift + noise * np.random.default_rng(0).standard_normal(len(t))
    return out[None].astype(np.float32)


def assert_found(found: np.ndarray, times: np.ndarray, rate_hz: float, tolerance_s: float, seconds: float) -> None:
    """Each beat away from the ends once, within the tolerance, and nothing else."""
    inner = times[(times > 0.5) & (times < seconds - 0.5)]
    got = found / rate_hz
    got = got[(got > 0.45) & (got < seconds - 0.45)]
    nearest = np.abs(got[:, None] - inner).min(0)
    assert nearest.max() <= tolerance_s, (inner[nearest.argmax()], nearest.max())
    extra = got[np.abs(got[:, None] - times).min(1) > tolerance_s]
    assert len(extra) == 0, extra


@pytest.mark.parametrize("rate_hz", [100, 250, 500])
@pytest.mark.parametrize("kind", ["regular", "fast", "slow", "irregular"])
def test_r_peaks(kind: str, rate_hz: float) -> None:
    times = rhythm(kind, 60)
    found = beats.find(ecg(times, rate_hz, 60), rate_hz)
    assert (np.diff(found) > 0).all()
    assert_found(found, times, rate_hz, 1.5 / rate_hz, 60)


@pytest.mark.parametrize("rate_hz", [50, 125])
@pytest.mark.parametrize("kind", ["regular", "fast", "slow"])
def test_systolic_peaks(kind: str, rate_hz: float) -> None:
    times = rhythm(kind, 60)
    x = ppg(times, rate_hz, 60)
    assert_found(beats.find(x, rate_hz, modality="ppg"), times, rate_hz, 0.04, 60)
    # A camera's intensity falls with the blood: the peaks are then at the bottom.
    assert np.array_equal(beats.find(236 - x, rate_hz, modality="ppg"), beats.find(x, rate_hz, modality="ppg"))


def test_a_beat_that_one_lead_lacks_moves_no_other() -> None:
    times = rhythm("regular", 30)
    x = ecg(times, 250, 30)
    gone = round(times[12] * 250)
    x[0, gone - 60 : gone + 60] = x[0, gone - 60]
    assert_found(beats.find(x, 250), times, 250, 1.5 / 250, 30)


def test_gain_offset_sign_and_a_dead_lead_do_not_matter() -> None:
    times = rhythm("irregular", 30)
    x = ecg(times, 250, 30)
    found = beats.find(x, 250)
    assert np.array_equal(beats.find(-40 * x + 700, 250), found)
    assert np.array_equal(beats.find(np.concatenate([x, np.full((1, x.shape[1]), 5, np.float32)]), 250), found)


def test_one_noisy_lead_does_not_drown_the_others() -> None:
    times = rhythm("regular", 60)
    x = ecg(times, 250, 60)
    noise = 50 * np.random.default_rng(1).standard_normal((1, x.shape[1])).astype(np.float32)
    assert_found(beats.find(np.concatenate([x, noise]), 250), times, 250, 0.03, 60)


def test_a_loud_artefact_hides_beats_near_it_alone() -> None:
    times = rhythm("regular", 120)
    x = ecg(times, 100, 120)
    x[:, 6000:6020] += 30 * np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    found = beats.find(x, 100) / 100
    far = times[(np.abs(times - 60) > 3) & (times > 0.5) & (times < 119.5)]
    assert np.abs(found[:, None] - far).min(0).max() < 0.02


def test_beats_a_quarter_as_high_later_on_are_found() -> None:
    times = rhythm("regular", 240)
    x = ecg(times, 100, 240, noise=0.01)
    x *= np.interp(np.arange(x.shape[1]), [0, 12000, 12500, x.shape[1]], [1, 1, 0.25, 0.25]).astype(np.float32)
    assert_found(beats.find(x, 100), times, 100, 0.02, 240)


def test_bursts_in_a_third_of_a_short_recording_hide_no_beat_elsewhere() -> None:
    times = rhythm("regular", 10)
    x = ecg(times, 250, 10)
    t = np.arange(x.shape[1]) / 250
    burst = ((t > 2.2) & (t < 3.8)) | ((t > 6.2) & (t < 7.8))
    x[:, burst] += 2 * np.random.default_rng(0).standard_normal((3, burst.sum())).astype(np.float32)
    far = times[(np.abs(times - 3) > 1) & (np.abs(times - 7) > 1) & (times > 0.5) & (times < 9.5)]
    assert np.abs(beats.find(x, 250)[:, None] / 250 - far).min(0).max() < 0.02


def test_two_steep_parts_before_one_peak_are_one_beat() -> None:
    t = np.arange(3000) / 100
    times = np.arange(0.6, 29.5, 1.0)[:, None]
    step = expit((t - times + 0.35) / 0.02) + expit((t - times + 0.02) / 0.02)
    pulse = (step * np.where(t < times, 1.0, np.exp(-np.maximum(t - times, 0) / 0.2))).sum(0)
    found = beats.find(pulse[None], 100, modality="ppg")
    assert np.diff(found).min() > 60
    assert len(found) == pytest.approx(29, abs=1)


@pytest.mark.parametrize("x", [np.zeros((2, 1000)), np.full((1, 1000), 236.2), np.zeros((1, 50)), np.zeros((1, 2))])
def test_nothing_to_find(x: np.ndarray) -> None:
    assert beats.find(x, 100).tolist() == []
    with pytest.raises(BadRecord, match="no_beats"):
        beats.whole(x, 100, 20)


def test_eeg_has_no_beats() -> None:
    with pytest.raises(BadRecord, match="unsupported"):
        beats.find(np.zeros((1, 500)), 100, modality="eeg")


def test_windows_are_whole_and_centred_and_the_others_counted() -> None:
    times = rhythm("regular", 20)
    times = np.append(times[times < 19.0], 19.7)
    x = ecg(times, 100, 20)
    starts, outside = beats.whole(x, 100, 120)
    peaks = beats.find(x, 100)
    assert sorted([*(starts + 60), *outside]) == peaks.tolist()
    assert starts.min() >= 0
    assert starts.max() + 120 <= x.shape[1]
    assert np.allclose(outside / 100, times[(times < 0.6) | (times > 19.4)], atol=0.02)
    assert len(outside) > 0
    windows, start_s, _ = signals.prepare(
        Signal(x, 100, ("I", "II", "V1"), "mV"),
        rate_hz=100,
        channels=("II", "I"),
        unit="mV",
        window_s=1.2,
        cut="beats",
    )
    assert np.allclose(start_s, beats.whole(x[[1, 0]], 100, 120)[0] / 100)
    assert (np.diff(start_s) > 0).all()
    for window, start in zip(windows, start_s, strict=True):
        first = round(start * 100)
        assert np.array_equal(window, x[[1, 0], first : first + 120])
        assert np.abs(window[1] - np.median(window[1])).argmax() == pytest.approx(60, abs=1)
    # Scaled by what is in the window alone: there is no padding that would count.
    assert np.allclose(np.square(signals.scale(windows, "sample")).mean((1, 2)), 1, atol=1e-4)


def test_a_window_is_whole_to_the_step() -> None:
    x = ecg(rhythm("regular", 20), 100, 20)
    peaks = beats.find(x, 100)
    first, last = int(peaks[0]), int(peaks[-1])
    for length, inside in ((2 * first, True), (2 * first + 1, True), (2 * first + 2, False)):
        assert (first in beats.whole(x, 100, length)[0] + length // 2) == inside, length
    after = x.shape[1] - last
    for length, inside in ((2 * after, True), (2 * after + 1, False), (2 * after - 1, True)):
        assert (last in beats.whole(x, 100, length)[0] + length // 2) == inside, length


def test_a_recording_without_one_whole_window_gives_none() -> None:
    x = ecg(np.array([0.5, 1.3]), 100, 2.0)
    windows, _, outside_s = signals.prepare(
        Signal(x, 100, ("I", "II", "V1"), "mV"), rate_hz=100, channels=("I",), unit="mV", window_s=1.9, cut="beats"
    )
    assert len(windows) == 0
    np.testing.assert_allclose(outside_s, [0.5, 1.3], atol=0.02)


def test_steep_places_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    slope = np.stack([3 * rng.gamma(1, size=400) - 3, 9 - 9 * rng.gamma(1, size=400), np.zeros(400)])
    for rising in (False, True):
        steep, energy, up = beats.steepest(slope, 100, smooth_s=0.01, rising=rising)
        assert up.ravel().tolist() == [1, -1, 0]
        square = np.zeros(400)
        for lead, sign in zip(slope[:2], (1, -1), strict=True):
            one = sign * lead / lead.std()
            square += (np.where(one > 0, one, 0) if rising else one) ** 2
        kernel = np.exp(-(np.arange(-4, 5.0) ** 2) / 2)
        expected = np.convolve(np.pad(square, 4, mode="edge"), kernel / kernel.sum(), mode="valid")
        np.testing.assert_allclose(energy, expected)
        tops = [i for i in range(1, 399) if expected[i - 1] < expected[i] > expected[i + 1]]
        left: list[int] = []
        for i in sorted(tops, key=lambda i: -expected[i]):  # the highest first, none within 0.3 s of it
            left += [i] * all(abs(i - j) >= 30 for j in left)
        assert steep.tolist() == sorted(left)
