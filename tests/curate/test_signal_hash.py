"""Signal hashes: the toy of the specification, what must not change a hash, and a few real recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import signal as dsp

from medssl.curate import dedup, fingerprint, signal_hash
from medssl.sources.record import BadRecord

WAVES = [(0.15, -0.2, 0.025), (-0.1, -0.03, 0.01), (1, 0, 0.012), (-0.2, 0.03, 0.012), (0.3, 0.25, 0.05)]


def ecg(at: np.ndarray, *, last: float = 0.3, rate_hz: float = 100, seconds: float = 3) -> np.ndarray:
    """Return beats at the times ``at``, each a sum of five Gaussians, the last of amplitude ``last``."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [*WAVES[:-1], (last, *WAVES[-1][1:])]
    return sum(a * np.exp(-((t[None] - at[:, None] - c) ** 2) / (2 * w**2)) for a, c, w in waves).sum(axis=0)


EVERY = 0.8 * np.arange(-1, 5)
A, B, C = ecg(0.1 + EVERY), ecg(0.47 + EVERY), ecg(0.1 + EVERY, last=-0.3)
D = ecg(np.array([-0.9, 0.1, 0.7, 1.7, 2.3, 3.3, 3.9]))


def leads(at: np.ndarray, **kw: float) -> np.ndarray:
    """Return six leads that see the waves from six sides."""
    gain = np.array([1, 0.6, -0.8, -0.4, 0.3, 1.5])
    return np.stack([g * ecg(at, last=0.3 if i % 2 else 0.15, **kw) for i, g in enumerate(gain)])


def lagged(a: np.ndarray, b: np.ndarray, lag: int) -> float:
    """Return the correlation of a[t] and b[t + lag] over the overlap."""
    n = len(a) - abs(lag)
    return float(np.corrcoef(a[max(0, -lag) :][:n], b[max(0, lag) :][:n])[0, 1])


def copies(a: np.ndarray, b: np.ndarray, **kw: float) -> bool:
    one, other = (signal_hash.signal_hash(x, rate_hz=100, **kw) for x in (a, b))
    return bool(signal_hash.distance(one, other[None])[0] <= signal_hash.radius(len(one)))


def test_l9_correlations() -> None:
    """Sample by sample the copy looks least alike: why the hash aligns beats first."""
    for other, at_zero, highest in [(B, -0.0978, 1.0), (C, 0.5284, 0.5301), (D, 0.5250, 0.6806), (3 * A + 2, 1, 1)]:
        by_lag = [lagged(A, other, lag) for lag in range(-80, 81)]
        assert by_lag[80] == pytest.approx(at_zero, abs=1e-4)
        assert max(by_lag) == pytest.approx(highest, abs=1e-4)
    assert np.argmax([lagged(A, B, lag) for lag in range(81)]) == 37


@pytest.mark.parametrize("dead_zone", [0, signal_hash.DEAD_ZONE])
def test_l9_verdicts(dead_zone: float) -> None:
    assert copies(A, B, dead_zone=dead_zone)
    assert not copies(A, C, dead_zone=dead_zone)
    assert copies(A, 3 * A + 2, dead_zone=dead_zone)
    assert not copies(A, D, dead_zone=dead_zone)


def test_l9_which_part_differs() -> None:
    a, c, d = (signal_hash.signal_hash(x, rate_hz=100) for x in (A, C, D))
    assert a.shape == (4,) and a.dtype == np.uint8
    assert np.array_equal(a[-2:], c[-2:]) and not np.array_equal(a[:-2], c[:-2])
    assert not np.array_equal(a[-2:], d[-2:])
    assert np.unpackbits(a)[16:].tolist() == [1, 1, 1, 1, 0, 0, 0, 0] + [0] * 8


def test_it_is_among_the_fingerprints() -> None:
    assert np.array_equal(fingerprint.signal_hash(A, rate_hz=100), signal_hash.signal_hash(A, rate_hz=100))


def test_median_beat() -> None:
    shape, rr_s = signal_hash.median_beat(np.stack([A, 2 * A, np.ones(300)]), 100)
    assert shape.shape == (3, 17)
    assert rr_s == pytest.approx([0.8] * 3, abs=1e-3)
    assert shape[1] == pytest.approx(2 * shape[0])
    assert not shape[2].any()
    assert shape[0].mean() == pytest.approx(0)
    assert shape[0, 5:7].max() > shape[0, [3, 4, 7, 8]].max()  # R lies between -31 and +13 ms
    assert signal_hash.median_beat(D, 100).rr_s == pytest.approx([0.6, 1.0, 0.6], abs=1e-3)


def test_rhythm_steps() -> None:
    """Each value that is reached sets a bit, so that the bits apart are the steps apart."""
    ones = [int(signal_hash.rhythm(np.full(5, rr)).sum()) for rr in (0.3, 0.41, 0.5, 0.8, 1.7)]
    assert ones == [0, 1, 2, 4, 8]
    assert int(signal_hash.rhythm(np.array([0.8, 0.81, 0.8]))[8:].sum()) == 0
    assert int(signal_hash.rhythm(np.array([0.8, 0.85, 0.8]))[8:].sum()) == 3  # 20, 30 and 45 ms are reached
    assert not signal_hash.rhythm(np.empty(0)).any()
    assert signal_hash.rhythm(np.array([0.8])).tolist() == [True] * 4 + [False] * 12


@pytest.mark.parametrize("seconds", [2, 3, 10, 60])
def test_what_does_not_change_a_hash(seconds: float) -> None:
    rng = np.random.default_rng(0)
    at = np.cumsum(0.8 + 0.03 * rng.standard_normal(90)) - 1
    x = leads(at, seconds=seconds)
    first = signal_hash.signal_hash(x, rate_hz=100)
    assert len(first) == 6 * 2 + 2
    assert np.array_equal(first, signal_hash.signal_hash(-0.0 + 1e-3 * x + 1, rate_hz=100))

    def bits(y: np.ndarray, rate_hz: float = 100) -> int:
        return int(np.bitwise_count(first ^ signal_hash.signal_hash(y, rate_hz=rate_hz)).sum())

    spread = x.std(axis=1, keepdims=True)
    assert bits(x + 0.1 * spread * rng.standard_normal(x.shape)) <= 6  # 20 dB
    assert bits(x + 0.03 * spread * rng.standard_normal(x.shape)) <= 3
    assert bits(np.round(x / np.abs(x).max() * 127)) <= 3
    assert bits(x + 0.5 * np.sin(np.arange(x.shape[1]) / 100)) <= 3  # breathing
    assert bits(leads(at, seconds=seconds, rate_hz=500), 500) <= 1
    assert bits(dsp.resample_poly(dsp.resample_poly(x, 5, 2, axis=1), 2, 5, axis=1)) <= 1
    # Another beginning cuts other beats, so a long window must hardly notice, and a short one may by a step of rhythm.
    assert bits(leads(at - 0.37, seconds=seconds)) <= 3


def test_direction_of_a_lead() -> None:
    """A swapped electrode is no copy, but the beats are found in the same places."""
    upright, inverted = (signal_hash.median_beat(s * A, 100) for s in (1, -1))
    assert upright.rr_s == pytest.approx(inverted.rr_s)
    assert upright.leads == pytest.approx(-inverted.leads)
    assert not copies(A, -A)


def test_a_lone_artefact_hides_no_beats() -> None:
    x = ecg(0.1 + 0.8 * np.arange(13), seconds=10)
    clean = signal_hash.median_beat(x, 100)
    x[480:484] += 30
    found = signal_hash.median_beat(x, 100)
    assert len(found.rr_s) in (11, 12) and np.median(found.rr_s) == pytest.approx(0.8, abs=0.01)
    assert np.corrcoef(found.leads[0], clean.leads[0])[0, 1] > 0.99


def test_one_odd_beat_does_not_count() -> None:
    x = ecg(0.1 + 0.8 * np.arange(13), seconds=10)
    odd = x.copy()
    odd[110:125] *= -1  # the T wave of the first whole beat
    assert np.array_equal(signal_hash.signal_hash(x, rate_hz=100), signal_hash.signal_hash(odd, rate_hz=100))


def test_a_loud_noisy_lead_hides_no_beats() -> None:
    x = leads(0.1 + 0.8 * np.arange(13), seconds=10)
    x[3] = 50 * np.random.default_rng(0).standard_normal(1000)
    assert signal_hash.median_beat(x, 100).rr_s == pytest.approx([0.8] * 12, abs=0.02)


def test_times_between_steps() -> None:
    """At 100 Hz, rounding to steps would make 0.805 s alternate between 0.80 and 0.81."""
    found = signal_hash.median_beat(ecg(0.2 + 0.805 * np.arange(12), seconds=10), 100).rr_s
    assert found == pytest.approx([0.805] * 11, abs=1e-3)


def test_beats_cut_by_the_window() -> None:
    """They count for the rhythm but not for the shape; unless even the rhythm cannot place them."""
    shape, rr_s = signal_hash.median_beat(ecg(np.array([0.12, 0.92]), seconds=2), 100)
    assert rr_s == pytest.approx([0.8], abs=2e-3)
    middle = signal_hash.median_beat(ecg(np.array([0.92]), seconds=2), 100)
    assert shape == pytest.approx(middle.leads, abs=0.02)
    assert len(signal_hash.median_beat(ecg(np.array([0.02, 0.82, 1.62]), seconds=2), 100).rr_s) == 1


def test_dead_zone() -> None:
    """Plain signs of the flat stretches are those of the noise."""
    rng, apart = np.random.default_rng(0), []
    x = np.array([[1], [-0.6], [0.3]]) * ecg(0.1 + 0.8 * np.arange(13), last=0, seconds=10)
    for dead_zone in (0, signal_hash.DEAD_ZONE):
        noisy = [
            signal_hash.signal_hash(x + 0.2 * x.std(1, keepdims=True) * e, rate_hz=100, dead_zone=dead_zone)
            for e in rng.standard_normal((9, *x.shape))
        ]
        apart.append(signal_hash.distance(noisy[0], np.stack(noisy[1:])).mean())
    assert 2 * apart[1] < apart[0]


def test_few_or_no_beats() -> None:
    assert signal_hash.signal_hash(np.full((12, 1000), 3.3), rate_hz=100).tolist() == [0] * 26
    assert signal_hash.signal_hash(np.full(50, 3.3), rate_hz=100, modality="ppg").tolist() == [0] * 4
    assert signal_hash.signal_hash(np.full((2, 500), 3.3), rate_hz=100, modality="eeg").tolist() == [0] * 42
    assert signal_hash.signal_hash(np.array([1.0, 2.0]), rate_hz=100).tolist() == [0] * 4
    rounding = 5 + 1e-9 * np.random.default_rng(0).standard_normal((1, 500))
    assert not signal_hash.signal_hash(rounding, rate_hz=100).any()
    one, two = (signal_hash.signal_hash(ecg(np.array(at), seconds=2), rate_hz=100) for at in ([0.6], [0.4, 1.4]))
    assert one[:2].any() and not one[2:].any()
    assert two[2] and not two[3]


def test_a_flat_lead_among_others() -> None:
    x = leads(0.1 + EVERY)
    dead = x.copy()
    dead[4] = 7
    full, part = signal_hash.signal_hash(x, rate_hz=100), signal_hash.signal_hash(dead, rate_hz=100)
    assert not part[8:10].any()
    assert np.array_equal(np.delete(full, [8, 9]), np.delete(part, [8, 9]))


def pulse(at: np.ndarray, *, notch: float = 0.4, rate_hz: float = 125, seconds: float = 8) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz - at[:, None]
    return (np.exp(-((t / 0.1) ** 2) / 2) + notch * np.exp(-(((t - 0.32) / 0.09) ** 2) / 2)).sum(axis=0)


def test_ppg() -> None:
    rng = np.random.default_rng(0)
    at = np.cumsum(0.9 + 0.02 * rng.standard_normal(12)) - 1
    x = pulse(at)
    hashes = np.stack(
        [
            signal_hash.signal_hash(y, rate_hz=rate_hz, modality="ppg")
            for y, rate_hz in [
                (x, 125),
                (40 * x - 7, 125),
                (pulse(at, rate_hz=1000), 1000),
                (pulse(at, rate_hz=30), 30),
                (pulse(at - 0.37), 125),
                (x + 0.03 * x.std() * rng.standard_normal(len(x)), 125),
                (-x, 125),
                (pulse(0.6 * at), 125),
            ]
        ]
    )
    apart = signal_hash.distance(hashes[0], hashes)
    assert apart[:6].max() <= signal_hash.radius(4, "ppg")
    assert apart[6:].min() > signal_hash.radius(4, "ppg")


def test_ppg_upside_down() -> None:
    """Reflected light falls where the pulse rises: the same beats, and the shape turned over."""
    at = 0.9 * np.arange(12) - 1
    upright, inverted = (signal_hash.median_beat(s * pulse(at, notch=0.6), 125, "ppg") for s in (1, -1))
    assert upright.rr_s == pytest.approx(inverted.rr_s)
    assert upright.leads == pytest.approx(-inverted.leads)


def test_distance_has_two_parts_and_one_threshold() -> None:
    """6 of 192 bits of shape and 1 of rhythm are a copy; 7, or 2, are none."""
    zero = np.zeros(26, np.uint8)
    many = np.zeros((5, 26), np.uint8)
    many[1, 0], many[2, 0], many[3, 24], many[4, 24:] = 0b111111, 0b1111111, 1, 1
    assert signal_hash.radius(26) == 6
    assert signal_hash.distance(zero, many).tolist() == [0, 6, 7, 6, 12]
    assert signal_hash.distance(zero, many).dtype == np.int64
    assert [signal_hash.radius(2 + 2 * n) for n in (1, 2, 6, 12)] == [1, 1, 3, 6]
    assert signal_hash.radius(19 * 20 + 2, "eeg") == 507


def test_greedy_with_two_parts() -> None:
    hashes = np.stack([signal_hash.signal_hash(x, rate_hz=100) for x in (A, B, C, 3 * A + 2, D)])
    picked = dedup.select(
        5,
        lambda row, rows: signal_hash.distance(hashes[row], hashes[rows]),
        threshold=signal_hash.radius(hashes.shape[1]),
    )
    assert picked.representative.tolist() == [0, 0, 2, 0, 4]


def test_same_morphology() -> None:
    a, b, c, d = (signal_hash.median_beat(x, 100) for x in (A, B, C, D))
    slower = signal_hash.median_beat(ecg(0.1 + 0.9 * np.arange(5), seconds=4), 100)
    assert signal_hash.same_morphology(a, b) and signal_hash.same_morphology(a, a)
    assert not signal_hash.same_morphology(a, c)
    assert not signal_hash.same_morphology(a, d)
    assert not signal_hash.same_morphology(a, slower) and signal_hash.same_morphology(a, slower, rr=0.2)
    flat = signal_hash.median_beat(np.zeros(300), 100)
    assert not signal_hash.same_morphology(a, flat) and not signal_hash.same_morphology(flat, flat)


@pytest.mark.parametrize(
    ("x", "modality", "says"),
    [
        (np.zeros((2, 3, 100)), "ecg", r"expected \(C, T\)"),
        (np.zeros((12, 1)), "ecg", "at least 2"),
        (np.array([0, 1, np.nan, 0]), "ecg", "fill_missing"),
        (np.array([0, 1, np.inf, 0]), "eeg", "fill_missing"),
        (np.zeros(100), "emg", "expected one of ecg, ppg"),
    ],
)
def test_refused(x: np.ndarray, modality: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        signal_hash.signal_hash(x, rate_hz=100, modality=modality)


@pytest.mark.parametrize("modality", ["ecg", "ppg", "eeg"])
def test_no_rate(modality: str) -> None:
    with pytest.raises(BadRecord, match="positive"):
        signal_hash.signal_hash(A, rate_hz=0, modality=modality)


def test_real_ecg() -> None:
    folder = os.environ.get("MEDSSL_REAL_DATA")
    if not folder:
        pytest.skip("MEDSSL_REAL_DATA is not set")
    import wfdb

    records = sorted((Path(folder) / "ecg/ptbxl_500/records100").rglob("*.hea"))[:40]
    x = [wfdb.rdrecord(str(r.with_suffix(""))).p_signal.T for r in records]
    early = np.stack([signal_hash.signal_hash(y[:, :-37], rate_hz=100) for y in x])
    late = np.stack([signal_hash.signal_hash(y[:, 37:], rate_hz=100) for y in x])
    apart = np.stack([signal_hash.distance(one, late) for one in early])
    copy = apart <= signal_hash.radius(26)
    assert np.diag(copy).mean() >= 0.9
    assert (copy & ~np.eye(len(x), dtype=bool)).sum() <= 2
