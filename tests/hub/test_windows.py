"""Windows of a store under another contract equal those that a caller would cut from the same samples by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.config import SignalIngest
from medssl.hub import EncoderError
from medssl.hub.stores import differences, embed_store
from medssl.models.embed import embed_samples
from medssl.sources.record import Signal
from medssl.store import Store
from tests.hub.stores import ecg, encoder_of, store_of


def raws(*seconds: float, rate: float = 100, channels: tuple[str, ...] = ("A", "B"), unit: str = "mV") -> list[Signal]:
    draw = np.random.default_rng(0)
    shapes = [(len(channels), round(s * rate)) for s in seconds]
    return [Signal(draw.standard_normal(shape).astype(np.float32), rate, channels, unit) for shape in shapes]


def by_hand(store: Store, want: SignalIngest, have: SignalIngest, **options: Any) -> np.ndarray:
    """Embed each stored sample as if it were a recording."""
    encoder = encoder_of(want, "ecg")
    about: dict[str, Any] = {"rate_hz": have.rate_hz, "channels": have.channels, "unit": have.unit, **options}
    return np.concatenate([encoder.embed(store[i], **about) for i in range(len(store))])


def test_a_store_that_meets_the_contract_is_embedded_as_it_is(tmp_path: Path) -> None:
    how: dict[str, Any] = {"normalise": "sample", "band_hz": (1, 40)}
    store = store_of(tmp_path / "s", raws(3, 2), ecg(**how), "ecg")
    encoder = encoder_of(ecg(**how, max_flat=0.2), "ecg")
    assert differences(encoder, store) == []
    whole = embed_samples(encoder.module, store, batch_size=2)
    assert np.array_equal(embed_store(encoder, store, batch_size=2), whole)
    rows = np.array([4, 0, 0])
    expected = embed_samples(encoder.module, store, rows, batch_size=2)
    assert np.array_equal(embed_store(encoder, store, rows, batch_size=2), expected)


@pytest.mark.parametrize(
    ("want", "have"),
    [
        (ecg(rate_hz=50), ecg()),
        (ecg(channels=("b", "A")), ecg(channels=("A", "X", "B"))),
        (ecg(unit="uV"), ecg()),
        (ecg(normalise="sample"), ecg()),
        (ecg(normalise="channel", unit="uV"), ecg(normalise="sample")),
        (ecg(window_s=0.5), ecg(window_s=2)),
        (ecg(band_hz=(1, 20), notch_hz=50), ecg(rate_hz=200)),
        (ecg(channels=("II", "III"), absent="derive"), ecg(channels=("I", "II"))),
        (ecg(rate_hz=80, window_s=0.5, band_hz=(2, 15), normalise="sample"), ecg(window_s=1.5, channels=("B", "A"))),
    ],
)
def test_one_sample_at_a_time_as_a_recording(tmp_path: Path, want: SignalIngest, have: SignalIngest) -> None:
    recordings = raws(6, 8, 2, rate=have.rate_hz, channels=have.channels)
    store, encoder = store_of(tmp_path / "s", recordings, have, "ecg"), encoder_of(want, "ecg")
    found = embed_store(encoder, store, batch_size=5)
    assert found.dtype == np.float32 and found.shape == (len(store), 5)
    unit = have.unit if have.normalise == "none" else want.unit
    np.testing.assert_allclose(found, by_hand(store, want, have, unit=unit), atol=1e-5)
    rows = np.array([len(store) - 1, 2, 2, 0])
    np.testing.assert_allclose(embed_store(encoder, store, rows), found[rows], atol=1e-6)


def test_scaling_again_does_not_notice_the_unit(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", raws(4, unit="1"), ecg(unit="1"), "ecg")
    found = embed_store(encoder_of(ecg(normalise="sample"), "ecg"), store)
    again = store_of(tmp_path / "t", raws(4), ecg(normalise="sample"), "ecg")
    np.testing.assert_allclose(found, embed_store(encoder_of(ecg(normalise="sample"), "ecg"), again), atol=1e-5)


def test_a_filter_that_the_store_went_through_is_not_applied_twice(tmp_path: Path) -> None:
    band = {"band_hz": (5.0, 20.0), "notch_hz": 50}
    have, want = ecg(**band, rate_hz=200), ecg(**band, rate_hz=200, channels=("B", "A"))
    store = store_of(tmp_path / "s", raws(4, rate=200), have, "ecg")
    unfiltered = ecg(rate_hz=200, channels=("B", "A"))
    found = embed_store(encoder_of(want, "ecg"), store)
    np.testing.assert_allclose(found, by_hand(store, unfiltered, have), atol=1e-6)
    # Nor one that is wider; a narrower one is.
    wide = embed_store(encoder_of(ecg(band_hz=(1, 60), rate_hz=200, channels=("B", "A")), "ecg"), store)
    np.testing.assert_allclose(wide, found, atol=1e-6)
    narrow = ecg(band_hz=(8, 15), rate_hz=200, channels=("B", "A"))
    np.testing.assert_allclose(embed_store(encoder_of(narrow, "ecg"), store), by_hand(store, narrow, have), atol=1e-5)


def test_windows_longer_than_a_sample_are_joined_from_the_trial(tmp_path: Path) -> None:
    recordings = raws(5, 3)
    store, want = store_of(tmp_path / "s", recordings, ecg(), "ecg"), ecg(window_s=2, normalise="channel")
    encoder = encoder_of(want, "ecg")

    def of(recording: int, second: float) -> np.ndarray:
        part = recordings[recording].values[:, round(100 * second) :][:, :200]
        return encoder.embed(part, rate_hz=100, channels=("A", "B"))[0]

    w = [of(0, 0), of(0, 2), of(0, 3)]
    v = [of(1, 0), of(1, 1)]
    expected = [w[0], w[0], w[1], (w[1] + w[2]) / 2, w[2], v[0], (v[0] + v[1]) / 2, v[1]]
    found = embed_store(encoder, store)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for rows in (np.array([3]), np.array([7, 1, 3, 1])):
        np.testing.assert_allclose(embed_store(encoder, store, rows, batch_size=1), found[rows], atol=1e-6)


def test_shares_are_by_the_seconds_that_a_window_shows(tmp_path: Path) -> None:
    recordings = raws(4)
    store, want = store_of(tmp_path / "s", recordings, ecg(), "ecg"), ecg(window_s=1.5)
    encoder = encoder_of(want, "ecg")
    w = [
        encoder.embed(recordings[0].values[:, at : at + 150], rate_hz=100, channels=("A", "B"))[0]
        for at in (0, 150, 250)
    ]
    expected = [w[0], (w[0] + w[1]) / 2, (w[1] + w[2] / 2) / 1.5, w[2]]
    np.testing.assert_allclose(embed_store(encoder, store), expected, atol=1e-5)


def test_samples_that_overlap_join_to_the_recording(tmp_path: Path) -> None:
    recordings = raws(4)
    whole = store_of(tmp_path / "s", recordings, ecg(), "ecg")
    half = store_of(tmp_path / "t", recordings, ecg(overlap=0.5), "ecg")
    encoder = encoder_of(ecg(window_s=2), "ecg")
    found = embed_store(encoder, half)
    assert len(half) == 7
    np.testing.assert_allclose(found[[0, 2, 4, 6]], embed_store(encoder, whole), atol=1e-5)


def test_a_gap_ends_a_stretch_and_too_short_ones_have_no_embedding(tmp_path: Path) -> None:
    recordings = raws(6, 1)
    recordings[0].values[:, 300:400] = 0.5  # a flat window that ingest refuses
    store, encoder = store_of(tmp_path / "s", recordings, ecg(), "ecg"), encoder_of(ecg(window_s=3), "ecg")
    assert store.table["start_s"].tolist() == [0, 1, 2, 4, 5, 0]
    found = embed_store(encoder, store)
    assert np.isfinite(found[:3]).all() and np.isnan(found[3:]).all()
    (said,) = differences(encoder, store)
    assert said == (
        "3 of 6 samples lie in stretches without a gap that are shorter than the encoder's window of 3 s, "
        "and have no embedding"
    )
    with pytest.raises(EncoderError, match=r"all samples lie in stretches .* window of 4 s; ingest longer windows"):
        embed_store(encoder_of(ecg(window_s=4), "ecg"), store)


def test_windows_around_beats_are_found_in_the_stretch(tmp_path: Path) -> None:
    t = np.arange(1000) / 100
    pulse = np.exp(-0.5 * (((t - 0.4) % 0.8 - 0.4) / 0.02) ** 2)
    wave = np.stack([pulse, 0.6 * pulse]) + 0.01 * np.random.default_rng(0).standard_normal((2, 1000))
    recording = Signal(wave.astype(np.float32), 100, ("A", "B"), "mV")
    encoder = encoder_of(ecg(cut="beats", window_s=0.6), "ecg")
    one = store_of(tmp_path / "s", [recording], ecg(window_s=10), "ecg")
    assert len(one) == 1
    expected = encoder.embed(recording.values, rate_hz=100, channels=("A", "B"))
    np.testing.assert_allclose(embed_store(encoder, one), expected, atol=1e-5)
    five = store_of(tmp_path / "t", [recording], ecg(window_s=2), "ecg")
    assert np.abs(embed_store(encoder, five) - expected).max() < 0.1 * np.abs(expected).max()
    around = store_of(tmp_path / "u", [recording], ecg(cut="beats", window_s=0.6), "ecg")
    other = encoder_of(ecg(cut="beats", window_s=0.6, channels=("B", "A")), "ecg")
    swapped = other.encode(around.read(np.arange(len(around)))[:, ::-1].copy())
    np.testing.assert_allclose(embed_store(other, around), swapped, atol=1e-6)


@pytest.mark.parametrize(
    ("want", "have", "said"),
    [
        ({"rate_hz": 200}, {}, "the store holds 0 to 50 Hz, the encoder's samples 0 to 100 Hz"),
        ({}, {"band_hz": (1, 40)}, "the store holds 1 to 40 Hz, the encoder's samples 0 to 50 Hz"),
        ({"rate_hz": 200}, {"rate_hz": 200, "notch_hz": 50}, "the store lacks the mains of 50 Hz, which the encoder's"),
        ({}, {"normalise": "channel"}, "scales each channel of a sample by itself, the encoder's samples are in mV"),
        ({"normalise": "sample"}, {"normalise": "channel"}, "scales each channel by itself, .* keep the ratio"),
        ({"window_s": 2}, {"normalise": "sample"}, "are in mV.*stretches of 1 s, each sample scaled by itself, are jo"),
        ({}, {"cut": "beats"}, "samples of the store lie around beats, the encoder's one after another"),
    ],
)
def test_what_the_store_lost_is_said(tmp_path: Path, want: dict[str, Any], have: dict[str, Any], said: str) -> None:
    params = ecg(**have)
    recordings = raws(4, rate=params.rate_hz)
    store = store_of(tmp_path / "s", recordings, params, "ecg")
    encoder = encoder_of(ecg(**want), "ecg")
    assert re.search(said, "; ".join(differences(encoder, store)))
    assert np.isfinite(embed_store(encoder, store)).any()


@pytest.mark.parametrize(
    ("want", "modality", "sentence"),
    [
        ({}, "ppg", "holds ecg, the encoder takes ppg"),
        ({"channels": ("A", "C")}, "ecg", r"channels \['C'\] are absent"),
        ({"unit": "1"}, "ecg", "cannot express 'mV' in '1'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, want: dict[str, Any], modality: str, sentence: str) -> None:
    store, encoder = store_of(tmp_path / "s", raws(2), ecg(), "ecg"), encoder_of(ecg(**want), modality)
    for ask in (differences, embed_store):
        with pytest.raises(EncoderError, match=sentence) as caught:
            ask(encoder, store)
        assert "\n" not in str(caught.value)


def test_no_more_than_a_batch_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, encoder = store_of(tmp_path / "s", raws(20), ecg(window_s=2), "ecg"), encoder_of(ecg(rate_hz=50), "ecg")
    asked: list[int] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, rows: asked.append(len(rows)) or read(self, rows))
    embed_store(encoder, store, batch_size=4)
    assert asked == [2] * 5  # of two windows each
