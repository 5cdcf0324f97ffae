"""Channels that differ in EDF and BDF: other rates are resampled, also around gaps; other units are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.sources.test_edf import RATE_HZ, STARTS_S, patch, place, read, refusal, sine, write


@pytest.mark.parametrize("other_hz", [50, 128, 256, 500])
def test_other_rates_are_resampled(tmp_path: Path, other_hz: int) -> None:
    channels = {"Fp1": (sine(RATE_HZ), RATE_HZ), "Fp2": (sine(RATE_HZ), RATE_HZ)}
    channels["ECG"] = (sine(other_hz, 3.0) + 40, other_hz)
    path = write(tmp_path / "smith.edf", channels)
    signal = read(path)
    assert (signal.channels, signal.rate_hz) == (("Fp1", "Fp2", "ECG"), 200.0)
    inner = slice(RATE_HZ, -RATE_HZ)
    expected = sine(RATE_HZ, 3.0) + 40
    assert np.abs(signal.values[2] - expected)[inner].max() < 0.005 * 100  # 0.5 % of the amplitude
    assert signal.values[2].mean() == pytest.approx(40, abs=0.5)


def test_level_of_a_resampled_channel_holds_to_its_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "smith.edf", {"Fp1": (sine(RATE_HZ), RATE_HZ), "DC": (np.full(500, 400.0), 50)})
    np.testing.assert_allclose(read(path).values[1], 400, rtol=0.005)


def test_faster_channel_does_not_alias(tmp_path: Path) -> None:
    fast = sine(1000, 170.0)  # would fold to 30 Hz
    path = write(tmp_path / "smith.edf", {"Fp1": (sine(RATE_HZ), RATE_HZ), "EMG": (fast, 1000)})
    inner = read(path).values[1, RATE_HZ:-RATE_HZ]
    assert np.abs(inner).max() < 2


def test_part_of_resampled_channels_is_the_part_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channels = {"Fp1": (sine(RATE_HZ), RATE_HZ), "slow": (rng.normal(0, 50, 80), 8), "fast": (sine(512, 7), 512)}
    path = write(tmp_path / "smith.edf", channels)
    whole = read(path).values
    part = read(path, start_s=3.11, end_s=6.5).values
    np.testing.assert_allclose(part, whole[:, 622:1300], atol=0.5)
    np.testing.assert_array_equal(part[0], whole[0, 622:1300])


def test_rate_of_most_scalp_channels(tmp_path: Path) -> None:
    values, slow, fast = sine(RATE_HZ), sine(100), sine(500)
    path = write(tmp_path / "a.edf", {"C3": (slow, 100), "C4": (slow, 100), "Cz": (values, RATE_HZ), "x": (fast, 500)})
    assert (read(path).rate_hz, read(path).values.shape) == (100.0, (4, 1000))
    path = write(tmp_path / "b.edf", {"x": (slow, 100), "y": (fast, 500)})  # no scalp: the fastest
    assert read(path).rate_hz == 500.0


def test_markers_and_other_units_are_left_out(tmp_path: Path) -> None:
    values = sine(RATE_HZ)
    path = write(tmp_path / "smith.bdf", {"Fp1": (values, RATE_HZ), "Status": (values, RATE_HZ)})
    assert read(path).channels == ("Fp1",)
    assert refusal(write(tmp_path / "smith.edf", {"Temp": (values, RATE_HZ)}, unit="degC")) == "bad_unit"


def test_two_channels_of_one_name(tmp_path: Path) -> None:
    values = sine(RATE_HZ)
    path = write(tmp_path / "smith.edf", {"EEG Fp1": (values, RATE_HZ), "Cz": (values / 2, RATE_HZ)})
    patch(path, 256 + 16, b"EEG Fp1 ")
    signal = read(path)
    assert signal.channels == ("Fp1", "Fp1")
    np.testing.assert_allclose(signal.values[1], values / 2, atol=0.02)


def test_rates_too_far_apart(tmp_path: Path) -> None:
    channels = {"x": (sine(2000), 2000.0)} | {f"y{i}": (np.arange(10.0), 1.0) for i in range(80)}
    assert refusal(write(tmp_path / "smith.edf", channels)) == "unsupported"


@pytest.mark.parametrize("other_hz", [50, 128, 500])
def test_a_sine_of_another_rate_keeps_its_phase_after_a_gap(tmp_path: Path, other_hz: int) -> None:
    starts_s = (0, 1, 2, 3, 7, 8, 9, 10, 11, 12)

    def cut(rate_hz: int) -> np.ndarray:
        time_s = np.concatenate([t + np.arange(rate_hz) / rate_hz for t in starts_s])
        return 100 * np.sin(2 * np.pi * 3.3 * time_s)

    channels = {"Fp1": (cut(RATE_HZ), RATE_HZ), "Fp2": (cut(RATE_HZ), RATE_HZ), "ECG": (cut(other_hz) + 40, other_hz)}
    path = place(write(tmp_path / "smith.edf", channels), starts_s)
    values = read(path).values
    expected = 100 * np.sin(2 * np.pi * 3.3 * np.arange(13 * RATE_HZ) / RATE_HZ)
    assert np.isnan(values[:, 800:1400]).all()
    assert np.isfinite(np.delete(values, np.s_[800:1400], axis=1)).all()
    for run in (np.s_[:800], np.s_[1400:]):
        np.testing.assert_allclose(values[0, run], expected[run], atol=0.02)
        inner = np.s_[RATE_HZ // 2 : -RATE_HZ // 2]
        assert np.abs(values[2, run] - 40 - expected[run])[inner].max() < 0.5
    # What lies beyond a gap does not reach over it: both sides are the recordings that they would be alone.
    alone = write(tmp_path / "alone.edf", {k: (v[4 * r :], r) for k, (v, r) in channels.items()})
    np.testing.assert_allclose(values[:, 1400:], read(alone).values, atol=1e-3)


def test_part_across_a_gap_of_resampled_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channels = {"Fp1": (sine(RATE_HZ), RATE_HZ), "slow": (rng.normal(0, 50, 80), 8), "fast": (sine(512, 7), 512)}
    path = place(write(tmp_path / "smith.edf", channels), STARTS_S)
    whole = read(path).values
    for start_s, end_s in ((1.11, 7.5), (6.5, 12.6), (8.99, 20.01), (12.5, 14.5)):
        at = np.s_[:, round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]
        np.testing.assert_allclose(read(path, start_s=start_s, end_s=end_s).values, whole[at], atol=0.5)
