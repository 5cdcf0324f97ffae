"""An ECG of known waves."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.handcrafted import ecg

RATE = 250.0
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
# name: (time from the R peak, width, height in lead II)
WAVES = {"p": (-0.16, 0.02, 0.15), "q": (-0.03, 0.008, -0.1), "r": (0.0, 0.01, 1.0), "s": (0.035, 0.01, -0.25),
         "t": (0.25, 0.04, 0.3)}  # fmt: skip
GAIN = dict.fromkeys(LEADS, 1.0) | {"V1": -1.0, "V5": 1.5}


def record(rr_s: list[float], axis: float = 60.0, seconds: float | None = None) -> np.ndarray:
    """Return (12, T): the heart's vector in the frontal plane has this direction in degrees; V leads by `GAIN`."""
    at = 0.6 + np.r_[0, np.cumsum(rr_s)]
    time = np.arange(round((seconds or at[-1] + 0.8) * RATE)) / RATE
    wave = sum(h * np.exp(-((time - (a + d)) ** 2) / 2 / w**2) for a in at for d, w, h in WAVES.values())
    angles = {"I": 0, "II": 60, "III": 120, "AVR": -150, "AVL": -30, "AVF": 90}
    out = []
    for lead in LEADS:
        gain = GAIN[lead]
        if lead in angles:
            gain = np.cos(np.radians(axis - angles[lead])) * (np.sqrt(3) / 2 if lead.startswith("A") else 1)
        out.append(gain * wave)
    noise = 0.003 * np.random.default_rng(0).standard_normal((12, len(time)))
    return (np.stack(out) + noise).astype(np.float32)


def found(values: np.ndarray) -> dict[str, np.ndarray]:
    peaks = ecg.beats.find(values, RATE)
    beat, varies = ecg.median_beat(values, peaks, RATE)
    return {
        "rhythm": ecg.rhythm(peaks / RATE), "waves": ecg.waves(beat), "axes": ecg.axes(beat, LEADS), "varies": varies,
        "intervals": ecg.intervals(values[1], peaks, RATE), "beat": beat,
    }  # fmt: skip


def test_rhythm() -> None:
    rr = [0.8, 0.9, 0.85, 1.0, 0.7, 0.8, 0.9]
    got = found(record(rr))["rhythm"]
    steps = np.diff(rr)
    expected = [np.mean(rr), np.std(rr), np.sqrt(np.mean(steps**2))]
    assert got[:3] == pytest.approx(expected, abs=0.006)
    assert got[3:5] == pytest.approx(np.array(expected[1:]) / np.mean(rr), abs=0.01)
    assert got[5] == pytest.approx(0.7 / np.mean(rr), abs=0.01)
    assert np.isnan(ecg.rhythm(np.array([1.0]))).all()
    assert ecg.rhythm(np.array([1.0, 1.8]))[0] == pytest.approx(0.8)


def test_waves_of_the_median_beat() -> None:
    got = found(record([0.9] * 8))["waves"][LEADS.index("II")]
    p, p_at, q, r, s, t, t_at = got[:7]
    assert [p, q, r, s, t] == pytest.approx([0.15, -0.1, 1.0, -0.25, 0.3], abs=0.04)
    assert [p_at, t_at] == pytest.approx([-0.16, 0.25], abs=0.02)
    turned = found(record([0.9] * 8))["waves"][LEADS.index("V1")]
    assert turned[5] == pytest.approx(-0.3, abs=0.04)  # T of a lead of the other sign


def test_shares_do_not_depend_on_the_scale() -> None:
    values = record([0.9] * 8)
    first, louder = (found(k * values)["waves"] for k in (1.0, 7.0))
    assert louder[:, :1] == pytest.approx(7 * first[:, :1], rel=1e-3)
    assert louder[:, -4:] == pytest.approx(first[:, -4:], abs=1e-4)


@pytest.mark.parametrize("axis", [60.0, 0.0, -45.0, 120.0])
def test_axis(axis: float) -> None:
    got = found(record([0.9] * 8, axis))["axes"]
    assert got[:2] == pytest.approx([np.cos(np.radians(axis)), np.sin(np.radians(axis))], abs=0.03)
    assert got[4] == pytest.approx(1, abs=0.02)  # QRS and T go the same way
    assert got[5] == pytest.approx(1.5 + 1.0, abs=0.15)  # V1 is turned: its S is the R of others
    assert np.isnan(ecg.axes(np.ones((1, 400)), ("ECG",))).all()


def test_intervals() -> None:
    p, pr, qrs, qt, qtc, t, varies, share = found(record([0.9] * 12))["intervals"]
    assert 0.06 < p < 0.14
    assert 0.12 < pr < 0.24
    assert 0.05 < qrs < 0.13
    assert 0.28 < qt < 0.46
    assert qtc == pytest.approx(qt / np.sqrt(0.9), rel=0.02)
    assert 0.08 < t < 0.25
    assert varies < 0.03
    assert share > 0.8


def test_wander_is_taken_out() -> None:
    """Waves stand above the level before QRS, wherever that lies."""
    values = record([0.9] * 8)
    heights = [0, 2, 3, 4, 5]
    steady = found(values)["waves"][:, heights]
    wander = 0.3 + 0.3 * np.sin(2 * np.pi * 0.15 * np.arange(values.shape[1]) / RATE)
    assert found(values + wander.astype(np.float32))["waves"][:, heights] == pytest.approx(steady, abs=0.06)


def test_one_odd_beat_leaves_the_median() -> None:
    rng = np.random.default_rng(1)
    values = record([0.9] * 8)
    calm = found(values)
    odd = values.copy()
    odd[:, 500:620] += 0.3 * rng.standard_normal((12, 120)).astype(np.float32)
    assert np.abs(found(odd)["beat"] - calm["beat"]).max() < 0.1
    assert (found(odd)["varies"] > 2 * calm["varies"]).all()


@pytest.mark.parametrize("leads", [1, 12])
@pytest.mark.parametrize("what", ["flat", "short", "noise", "good"])
def test_always_as_many_features(leads: int, what: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "flat": np.zeros((12, 1000)), "short": np.zeros((12, 40)), "noise": rng.standard_normal((12, 1000)),
        "good": record([0.9] * 8),
    }[what][:leads].astype(np.float32)  # fmt: skip
    got = ecg.features(values, RATE, LEADS[:leads])
    assert got.shape == (6 + 8 + leads + 6 + leads * 15 + leads * ecg.POINTS,)
    assert not np.isinf(got).any()
    if what == "flat":
        assert np.isnan(got).all()
    if what == "good" and leads == 12:
        assert np.isfinite(got).all()


def test_a_window_around_one_beat() -> None:
    """Its beat is in the middle, and it has no rhythm."""
    values = record([0.9] * 8)
    peak = int(ecg.beats.find(values, RATE)[3])
    got = ecg.features(values[:, peak - 100 : peak + 150 - 50], RATE, LEADS, cut="beats")
    whole = ecg.features(values, RATE, LEADS)
    assert np.isnan(got[:14]).all()
    r = 6 + 8 + 12 + 6 + 15 * 1 + 3  # lead II
    assert got[r] == pytest.approx(whole[r], abs=0.05)
