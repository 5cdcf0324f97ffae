"""Objects of mne, braindecode and torchio embed as the files they came from do when our own readers read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import nibabel
import numpy as np
import pytest

from medssl import hub, sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import shaped
from medssl.sources.record import Record, Signal, Volume
from tests.hub.stores import ct, encoder_of

EEG = SignalIngest(rate_hz=100, channels=("Cz", "Fp1"), unit="uV", window_s=2, normalise="none", band_hz=(1, 40))


@pytest.fixture
def raw() -> mne.io.BaseRaw:
    """Ten seconds of two scalp channels in volts at 200 Hz, a marker and a magnetometer."""
    draw = np.random.default_rng(0)
    names, kinds = ["EEG Fp1-REF", "MEG0111", "Cz", "STI 014"], ["eeg", "mag", "eeg", "stim"]
    values = draw.standard_normal((4, 2000)) * [[20e-6], [1e-12], [30e-6], [1]]
    return mne.io.RawArray(values, mne.create_info(names, 200.0, kinds, verbose="error"), verbose="error")


def read(path: Path, format: str, **hints: Any) -> Signal | Volume:
    return sources.read(Record(path=path, format=format, patient="p", trial="t", hints=hints))


def test_a_recording_of_mne(raw: mne.io.BaseRaw, tmp_path: Path) -> None:
    encoder = encoder_of(EEG, "eeg")
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    file = read(tmp_path / "x_raw.fif", "fif")
    assert isinstance(file, Signal) and file.unit == "uV"
    expected = encoder.embed(file.values, rate_hz=file.rate_hz, channels=file.channels, unit=file.unit)
    for given in (raw, mne.io.read_raw_fif(tmp_path / "x_raw.fif", verbose="error")):
        np.testing.assert_allclose(encoder.embed(given), expected, atol=1e-5)
    other = encoder.embed(raw, rate_hz=100)  # what the caller says stands
    assert np.abs(other - expected).max() > 1e-3


def test_epochs_of_mne_are_recordings(raw: mne.io.BaseRaw) -> None:
    encoder = encoder_of(EEG, "eeg")
    epochs = mne.make_fixed_length_epochs(raw, 4.0, verbose="error")
    z = encoder.embed(epochs)
    values = raw.get_data(["EEG Fp1-REF", "Cz"]) * 1e6
    parts = [values[:, i : i + 800] for i in (0, 800)]
    expected = encoder.embed(parts, rate_hz=200, channels=["Fp1", "Cz"], unit="uV")
    assert z.shape == (2, 5)
    np.testing.assert_allclose(z, expected, atol=1e-5)


class Windows:
    """A data set in the shape of braindecode's: (X, y, place) an item, and the recording that they are of."""

    def __init__(self, raw: mne.io.BaseRaw, starts: list[int]) -> None:
        self.raw, self.starts = raw, starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int, list[int]]:
        start = self.starts[i]
        return self.raw.get_data()[:, start : start + 400].astype("float32"), 0, [0, start, start + 400]


class Together:
    def __init__(self, datasets: list[Windows]) -> None:
        self.datasets = datasets


def test_windows_of_braindecode(raw: mne.io.BaseRaw) -> None:
    encoder = encoder_of(EEG, "eeg")
    raw = raw.copy().pick(["EEG Fp1-REF", "Cz"])
    values = raw.get_data() * 1e6
    expected = encoder.embed(
        [values[:, i : i + 400] for i in (0, 400, 1200)], rate_hz=200, channels=["Fp1", "Cz"], unit="uV"
    )
    np.testing.assert_allclose(encoder.embed(Windows(raw, [0, 400, 1200])), expected, atol=1e-5)
    np.testing.assert_allclose(
        encoder.embed(Together([Windows(raw, [0]), Windows(raw, [400, 1200])])), expected, atol=1e-5
    )
    scaled = Windows(mne.io.RawArray(values, raw.info, verbose="error"), [0, 400, 1200])
    np.testing.assert_allclose(encoder.embed(scaled, unit="uV"), expected, atol=1e-5)
    slower = raw.copy().resample(100, verbose="error")
    with pytest.raises(hub.EncoderError, match="the data sets differ in rate or channels; embed them one by one"):
        encoder.embed(Together([Windows(raw, [0]), Windows(slower, [0])]))


def test_a_recording_without_a_voltage_is_refused(raw: mne.io.BaseRaw) -> None:
    with pytest.raises(hub.EncoderError, match="embed: the recording has no channel of EEG, EOG, ECG, EMG or another"):
        encoder_of(EEG, "eeg").embed(raw.copy().pick(["MEG0111", "STI 014"]))
    with pytest.raises(hub.EncoderError, match=r"channels \['Fp1'\] are absent"):
        encoder_of(EEG, "eeg").embed(raw.copy().pick(["Cz"]))


def image(turn: np.ndarray, path: Path) -> Path:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (5, -7, 11)
    values = np.random.default_rng(0).uniform(-900, 900, (14, 18, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


TILTED = np.diag([2.0, 2, 3]) + np.array([[0, 0, 0], [0, 0, 0.9], [0, 0, 0]])
TURNS = {
    "RAS": np.diag([2.0, 1.5, 3]),
    "LPS": np.diag([-2.0, -1.5, 3]),
    "SLA": np.array([[0, -2.0, 0], [0, 0, 1.5], [3, 0, 0]]),
    "tilted": TILTED,
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["volume", "slices"])
def test_an_image_of_torchio(turn: str, kind: str, tmp_path: Path) -> None:
    torchio = pytest.importorskip("torchio")
    path = image(TURNS[turn], tmp_path / "x.nii.gz")
    size: dict[str, Any] = {"samples": "slices"} if kind == "slices" else {
        "samples": "volume", "size": (16, 16, 16), "spacing_mm": (2, 2, 2),
    }  # fmt: skip
    params: VolumeIngest = ct(**size)
    encoder = encoder_of(params, "ct")
    file = read(path, "nifti", unit="HU")
    assert isinstance(file, Volume)
    spacing = file.spacing_mm[3 - len(params.size) :]
    expected = encoder.embed(file.values, spacing_mm=spacing)
    held = nibabel.load(path)
    images = [torchio.ScalarImage(tensor=np.asarray(held.dataobj)[None], affine=held.affine)]
    if turn != "tilted":  # torchio warns when it reads one
        scan, organs = torchio.ScalarImage(path), torchio.LabelMap(path)
        images += [scan, torchio.Subject(scan=scan, organs=organs, age=3)]
    for given in images:
        z = encoder.embed(given)
        assert z.shape == expected.shape
        np.testing.assert_allclose(z, expected, atol=1e-5)


def test_a_subject_with_two_images_and_an_image_with_two_channels(tmp_path: Path) -> None:
    torchio = pytest.importorskip("torchio")
    one = torchio.ScalarImage(image(TURNS["RAS"], tmp_path / "x.nii.gz"))
    encoder = encoder_of(ct(), "ct")
    with pytest.raises(hub.EncoderError, match="the subject has 2 images of intensity; give one"):
        encoder.embed(torchio.Subject(a=one, b=one))
    two = torchio.ScalarImage(tensor=np.zeros((2, 4, 4, 4), np.float32))
    with pytest.raises(hub.EncoderError, match="the image has 2 channels or frames; give one of them"):
        encoder.embed(two)


def test_other_objects_are_as_they_were() -> None:
    for x in (np.zeros((2, 3)), [np.zeros((2, 3))], "text", None):
        assert not shaped.known(x)
        same, told = shaped.opened(x)
        assert same is x and told == {}
