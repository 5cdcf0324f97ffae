"""One number for a recording or a cohort: an encoder sees of a recording what the store holds of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.config import SignalIngest
from medssl.hub import recordings
from medssl.hub.stores import differences, embed_store
from medssl.ingest import signals
from medssl.sources.record import Signal
from medssl.store import Store
from tests.hub.stores import ecg, encoder_of, store_of
from tests.hub.test_windows import raws

ABOUT: dict[str, Any] = {"rate_hz": 100, "channels": ("A", "B")}


def louder(seconds: tuple[float, ...] = (5, 3, 4, 6), *, unit: str = "mV") -> list[Signal]:
    """Return recordings each of another amplitude, which grows within them, on an offset."""
    out = raws(*seconds, unit=unit)
    for k, one in enumerate(out):
        one.values[:] = 0.05 * 2**k * np.linspace(1, 3, one.values.shape[1]) * one.values + 0.3
    return out


def trained_on(store: Store) -> Store:
    """Give a store a split whose training patients are all but the last."""
    last = store.table["patient"].iloc[-1]
    store.table = store.table.assign(split=np.where(store.table["patient"] == last, "test", "train"))
    return store


@pytest.fixture
def given() -> list[Signal]:
    made = louder()
    made[1].values[0, 100:200] = 0.3  # a flat window, which ingest refuses
    return made


@pytest.mark.parametrize("normalise", ["record", "cohort"])
def test_a_recording_is_embedded_as_its_stored_windows(
    tmp_path: Path, given: list[Signal], normalise: str, recwarn: pytest.WarningsRecorder
) -> None:
    params = ecg(normalise=normalise, band_hz=(1, 40))
    store = trained_on(store_of(tmp_path / "s", given, params, "ecg", patients="pqrs"))
    encoder = encoder_of(params, "ecg", store.scale)
    assert (store.scale != 1) == (normalise == "cohort")
    assert differences(encoder, store) == []
    of_windows = embed_store(encoder, store)
    assert np.array_equal(of_windows, encoder.encode(store.read(np.arange(len(store)))))
    trials = store.table["trial"].to_numpy()
    for recording, trial in zip(given, pd.unique(trials), strict=True):
        expected = of_windows[trials == trial].mean(axis=0)
        np.testing.assert_allclose(encoder.embed(recording.values, **ABOUT)[0], expected, atol=1e-6)
    assert "1 flat" in str(recwarn.pop(UserWarning).message)
    # A store folder that knows no split, and one of another scale, are read in the encoder's.
    for other in (Store(tmp_path / "s"), store.scaled_by(17.0)):
        assert np.array_equal(embed_store(encoder, other), of_windows)
    table = recordings.embed(encoder, tmp_path / "s")
    np.testing.assert_allclose(np.stack(table["embedding"]), of_windows, atol=1e-6)


def test_what_a_recording_is_divided_by(tmp_path: Path, given: list[Signal]) -> None:
    plain, scaled, centred = (
        store_of(tmp_path / how, given, ecg(normalise=how), "ecg") for how in ("none", "record", "cohort")
    )
    windows = plain.read(np.arange(len(plain))).astype(float)
    windows -= windows.mean(axis=2, keepdims=True)
    trial = plain.table["trial"].to_numpy()
    rows = np.arange(len(plain))
    np.testing.assert_allclose(centred.read(rows), windows, atol=1e-6)
    for k in rows:
        of_recording = [windows[j] for j in rows if trial[j] == trial[k]]
        squares = sum(float(v) ** 2 for window in of_recording for v in window.ravel())
        number = (squares / sum(window.size for window in of_recording)) ** 0.5
        np.testing.assert_allclose(scaled[k], windows[k] / number, atol=1e-5)
        assert plain.table["quality_rms"][k] == pytest.approx(np.sqrt(np.mean(windows[k] ** 2)), rel=1e-4)
    for other in (scaled, centred):  # beside the samples, nothing differs
        pd.testing.assert_frame_equal(
            other.table.drop(columns=["content", "sample_id"]), plain.table.drop(columns=["content", "sample_id"])
        )


UNITS = ("none", "cohort")


@pytest.mark.parametrize("have", UNITS)
@pytest.mark.parametrize("want", ["none", "cohort", "record", "sample", "channel"])
def test_a_store_in_units_reaches_every_encoder(tmp_path: Path, given: list[Signal], have: str, want: str) -> None:
    store = store_of(tmp_path / "s", given, ecg(normalise=have), "ecg", patients="pqrs")
    if have == "cohort":
        trained_on(store)
    encoder = encoder_of(ecg(normalise=want, unit="uV", channels=("B", "A")), "ecg", 250.0)
    windows = 1000 * store.scaled_by(1.0).read(np.arange(len(store)))[:, ::-1]
    if want == "none":
        expected = windows
    elif want == "cohort":
        expected = (windows - windows.mean(axis=2, keepdims=True)) / 250
    else:
        expected = np.empty_like(windows)
        for trial in store.table["trial"].unique():
            of = (store.table["trial"] == trial).to_numpy()
            expected[of] = signals.scale(windows[of], want)
    z = encoder.encode(np.ascontiguousarray(expected, dtype=np.float32))
    np.testing.assert_allclose(embed_store(encoder, store, batch_size=3), z, atol=1e-5)
    rows = np.array([7, 2])
    np.testing.assert_allclose(embed_store(encoder, store, rows), z[rows], atol=1e-5)
    centring = [said for said in differences(encoder, store) if "centres" in said]
    assert len(centring) == (have == "cohort" and want == "none")


def test_joined_windows_of_a_recording_have_one_number(tmp_path: Path) -> None:
    given = louder((6, 4))
    store, want = store_of(tmp_path / "s", given, ecg(), "ecg"), ecg(window_s=2, normalise="record")
    encoder = encoder_of(want, "ecg")
    found = embed_store(encoder, store, batch_size=1)
    direct = store_of(tmp_path / "t", given, want, "ecg")
    whole = embed_store(encoder, direct)
    np.testing.assert_allclose(found, np.repeat(whole, 2, axis=0), atol=1e-5)
    np.testing.assert_allclose(embed_store(encoder, store, np.array([9, 3])), found[[9, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("want", "have", "said"),
    [
        ({}, {"normalise": "record"}, "the store scales each recording by itself, the encoder's samples are in mV"),
        ({"normalise": "cohort"}, {"normalise": "record"}, "scales each recording by itself, .* are in mV"),
        ({"normalise": "cohort"}, {"normalise": "sample"}, "scales each sample by itself, the .* are in mV"),
        ({"normalise": "cohort"}, {"normalise": "channel"}, "scales each channel of a sample by itself, .* are in mV"),
        ({"normalise": "record"}, {"normalise": "sample"}, "each sample by itself, .* the ratio of samples of a rec"),
        ({"normalise": "record"}, {"normalise": "channel"}, "each channel by itself, .* of channels and samples of a"),
        ({}, {"normalise": "cohort"}, "the store centres each channel of a sample, .* samples keep its mean"),
        (
            {"normalise": "cohort", "window_s": 2},
            {"normalise": "cohort"},
            "^stretches of 1 s, each channel of a sample centred by itself, are joined",
        ),
        (
            {"normalise": "sample", "window_s": 2},
            {"normalise": "record"},
            "^stretches of 1 s, each channel of a sample centred by itself, are joined",
        ),
        ({"normalise": "sample"}, {"normalise": "record"}, "^$"),
        ({"normalise": "channel"}, {"normalise": "record"}, "^$"),
        ({"normalise": "record", "rate_hz": 50}, {"normalise": "record"}, "^$"),
    ],
)
def test_what_the_store_lost_is_said(tmp_path: Path, want: dict[str, Any], have: dict[str, Any], said: str) -> None:
    store, encoder = store_of(tmp_path / "s", raws(4), ecg(**have), "ecg"), encoder_of(ecg(**want), "ecg", 0.2)
    assert re.search(said, "; ".join(differences(encoder, store)))
    assert np.isfinite(embed_store(encoder, store)).all()


def test_values_in_no_unit_are_in_the_scale_already(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", louder(), ecg(normalise="sample"), "ecg")
    quiet, loud = (encoder_of(ecg(normalise="cohort", rate_hz=100), "ecg", scale) for scale in (0.01, 100.0))
    assert np.array_equal(embed_store(quiet, store), embed_store(loud, store))


def test_the_unit_of_a_recording_does_not_matter(tmp_path: Path) -> None:
    params: SignalIngest = ecg(normalise="cohort")
    encoder = encoder_of(params, "ecg", 0.2)
    x = louder()[0].values
    z = encoder.embed(x, **ABOUT)
    np.testing.assert_allclose(encoder.embed(1000 * x, unit="uV", **ABOUT), z, atol=1e-5)
    assert np.abs(encoder.embed(2 * x, **ABOUT) - z).max() > 0.01  # its amplitude does
    record = encoder_of(ecg(normalise="record"), "ecg")
    np.testing.assert_allclose(record.embed(2 * x, **ABOUT), record.embed(x, **ABOUT), atol=1e-5)
