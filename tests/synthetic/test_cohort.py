"""The synthetic cohorts: same bytes from the same seed, real formats, and everything the truth table promises."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import mne
import nibabel as nib
import numpy as np
import pydicom
import pytest
import wfdb

from medssl.config import MODALITIES, SIGNALS, Synthetic
from medssl.synthetic import cohort as cohort_module
from medssl.synthetic import defects, make, planted_identifiers, signals, traits, volumes

SMALL = Synthetic(patients=4, trials=2, exact_duplicates=2, near_duplicates=1, corrupt=4)
GOOD = {name: 8 if name in SIGNALS else 4 for name in MODALITIES}


def table(root: Path) -> list[dict[str, str]]:
    with (root / "manifest.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(modality: str, path: Path) -> np.ndarray:
    """Read with the format's own library: ``(C, T)`` or ``(D, H, W)`` to superior, posterior, left."""
    if modality in ("ecg", "ppg"):
        return wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T
    if modality == "eeg":
        return mne.io.read_raw_edf(path, preload=True, verbose="error").get_data() * 1e6
    if modality == "ct":
        slices = sorted((pydicom.dcmread(f) for f in path.iterdir()), key=lambda d: d.ImagePositionPatient[2])
        return np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])
    return np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("cohorts")
    for modality in MODALITIES:
        make(modality, SMALL, root / modality, seed=3)
    return {modality: root / modality for modality in MODALITIES}


@pytest.mark.parametrize("modality", MODALITIES)
def test_same_seed_gives_the_same_bytes(made: dict[str, Path], modality: str, tmp_path: Path) -> None:
    make(modality, SMALL, tmp_path / "again", seed=3)
    assert digest(tmp_path / "again") == digest(made[modality])


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_patient_does_not_depend_on_the_size_of_the_cohort(
    made: dict[str, Path], modality: str, tmp_path: Path
) -> None:
    make(modality, Synthetic(patients=1, exact_duplicates=0, near_duplicates=0, corrupt=0), tmp_path / "one", seed=3)
    one, all_of_them = digest(tmp_path / "one"), digest(made[modality])
    del one["manifest.csv"]
    assert one.items() <= all_of_them.items()
    make(modality, Synthetic(patients=1, exact_duplicates=0, near_duplicates=0, corrupt=0), tmp_path / "other", seed=4)
    other = digest(tmp_path / "other")
    assert not any(other[name] == one[name] for name in one if "records" in name)


@pytest.mark.parametrize("modality", MODALITIES)
def test_good_recordings_read_as_written(made: dict[str, Path], modality: str) -> None:
    shape = {"ecg": (12, 1000), "ppg": (1, 2500), "eeg": (8, 2560), "ct": (24, 64, 64), "mri": (32, 32, 32)}[modality]
    rows = table(made[modality])[: GOOD[modality]]
    who = traits.draw(3, modality, 0)
    truth = cohort_module.recordings(who, 3, 2)
    assert (rows[0]["label_sex"], float(rows[0]["label_age"])) == (who.sex, who.age_years)
    for row, want in zip(rows, truth, strict=False):
        values = read(modality, made[modality] / row["path"])
        assert values.shape == shape
        step = {"ecg": 0.002, "ppg": 0.001, "eeg": 0.1, "ct": 0.0, "mri": np.ptp(want.values) / 60000}[modality]
        assert np.abs(values - want.values).max() <= step
        if want.mask is not None:
            np.testing.assert_array_equal(read("mri", made[modality] / row["mask"]), want.mask)


def test_headers_state_rate_channels_unit_and_place(made: dict[str, Path]) -> None:
    ecg = wfdb.rdheader(str(made["ecg"] / table(made["ecg"])[0]["path"]).removesuffix(".hea"))
    assert (ecg.fs, tuple(ecg.sig_name), set(ecg.units)) == (100, signals.ECG_LEADS, {"mV"})
    ppg = wfdb.rdheader(str(made["ppg"] / table(made["ppg"])[0]["path"]).removesuffix(".hea"))
    assert (ppg.fs, ppg.sig_name) == (125, ["PPG"])
    eeg = mne.io.read_raw_edf(made["eeg"] / table(made["eeg"])[0]["path"], preload=False, verbose="error")
    assert (eeg.info["sfreq"], tuple(eeg.ch_names)) == (128, signals.EEG_CHANNELS)
    row = table(made["ct"])[0]
    files = sorted((made["ct"] / row["path"]).iterdir())
    first, last = pydicom.dcmread(files[0]), pydicom.dcmread(files[-1])
    assert first.ImagePositionPatient[2] > last.ImagePositionPatient[2]
    # The mask's first voxel (left-most array corner at the feet) is the first pixel of the lowest slice.
    place = nib.load(made["ct"] / row["mask"]).affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(place[:3] * [-1, -1, 1], np.array(last.ImagePositionPatient, float), atol=1e-3)
    assert nib.aff2axcodes(nib.load(made["mri"] / table(made["mri"])[0]["path"]).affine) == ("L", "P", "S")


@pytest.mark.parametrize("modality", MODALITIES)
def test_duplicates_are_planted(made: dict[str, Path], modality: str) -> None:
    rows = table(made[modality])
    assert len(rows) == GOOD[modality] + 7
    assert len({(r["patient"], r["trial"]) for r in rows}) == len(rows)
    same, crossed, near = rows[GOOD[modality] : GOOD[modality] + 3]
    first = {r["path"]: r for r in reversed(rows[: GOOD[modality]])}
    assert first[same["path"]]["patient"] == same["patient"]
    assert first[crossed["path"]]["patient"] != crossed["patient"]
    original = next(r for r in rows if r["patient"] == near["patient"])
    a, b = (read(modality, made[modality] / r["path"]) for r in (original, near))
    assert a.shape == b.shape and not np.array_equal(a, b)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("modality", MODALITIES)
def test_corrupt_recordings_cannot_be_used(made: dict[str, Path], modality: str) -> None:
    root = made[modality]
    rows = table(root)[-4:]
    kinds = [defects.kind_of(modality, k) for k in range(4)]
    assert kinds[0] == "truncated" and kinds[3] == "missing" and not (root / rows[3]["path"]).exists()
    for row, kind in zip(rows[:3], kinds[:3], strict=True):
        path = root / row["path"]
        if kind == "no_rate" and path.suffix == ".hea":
            assert len(path.read_text().splitlines()[0].split()) == 2
        elif kind == "too_short":
            values = read(modality, path)
            assert values.shape[1] == int(0.5 * defects.RATE_HZ[modality])
        else:
            with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own error
                read(modality, path)


@pytest.mark.parametrize("modality", MODALITIES)
def test_identifiers_stand_in_headers_and_paths(made: dict[str, Path], modality: str) -> None:
    root = made[modality]
    row = table(root)[0]
    path = root / row["path"]
    blob = next(path.iterdir()).read_bytes() if modality == "ct" else path.read_bytes()
    blob += row["path"].encode()
    birth, study = ("1947", "2019")
    found = [text for text in planted_identifiers(modality) if text.encode() in blob]
    assert all(text in found for text in planted_identifiers(modality) if "PLANTED" in text)
    assert any(birth in text for text in found) and any(study in text for text in found)


def test_dicom_hides_identifiers_in_nested_and_private_elements(made: dict[str, Path]) -> None:
    dataset = pydicom.dcmread(made["ct"] / table(made["ct"])[0]["path"] / "IM0001.dcm")
    assert dataset.OtherPatientIDsSequence[0].PatientID.startswith("PLANTED")
    assert dataset.private_block(0x0011, "PLANTEDVENDOR")[0x01].value.startswith("PLANTED")


def test_classes_are_balanced_and_age_is_spread() -> None:
    people = [traits.draw(0, "ecg", patient) for patient in range(40)]
    assert sum(p.disease for p in people) == sum(p.male for p in people) == 20
    assert np.ptp([p.age_years for p in people]) > 40


def test_ct_organs_have_their_hu_and_the_disease_lowers_the_liver() -> None:
    liver: dict[bool, list[float]] = {False: [], True: []}
    for patient in range(24):
        who = traits.draw(0, "ct", patient)
        scan = cohort_module.recordings(who, 0, 1)[0]
        assert scan.mask is not None
        hu = {name: scan.values[scan.mask == value].mean() for value, name in volumes.CT_LABELS.items()}
        assert -880 < hu["lung"] < -650 and 500 < hu["spine"] < 700
        bright = scan.labels["contrast"] == "yes"
        assert (hu["aorta"] > 120) == bright
        liver[who.disease].append(hu["liver"] - hu["spleen"] + (15 if bright else 0))
    assert np.mean(liver[True]) < np.mean(liver[False]) - 10


def test_mri_hippocampus_falls_with_age_and_disease_and_shows_in_the_mask() -> None:
    people = [traits.draw(0, "mri", patient) for patient in range(80)]
    scans = [cohort_module.recordings(who, 0, 1)[0] for who in people]
    true_mm3 = np.array([scan.anatomy["hippocampus_mm3"] for scan in scans])
    mask_mm3 = np.array([(scan.mask == 2).sum() * np.prod(volumes.MRI_SPACING_MM) for scan in scans])
    ventricles = np.array([(scan.mask == 1).sum() for scan in scans])
    age, sick = np.array([who.age_years for who in people]), np.array([who.disease for who in people])
    assert np.corrcoef(true_mm3, mask_mm3)[0, 1] > 0.95
    for group in (sick, ~sick):
        assert np.corrcoef(age[group], true_mm3[group])[0, 1] < -0.5
    assert true_mm3[sick].mean() < 0.75 * true_mm3[~sick].mean()
    assert np.corrcoef(age, ventricles)[0, 1] > 0.5


def test_signal_traits_are_stable_over_trials() -> None:
    """The EEG's alpha peak: two trials of a patient agree more than two patients do, and age slows it."""
    peaks, age = [], []
    for patient in range(24):
        who = traits.draw(0, "eeg", patient)
        pair = []
        for trial in cohort_module.recordings(who, 0, 3)[::2]:  # both with eyes closed
            power = (np.abs(np.fft.rfft(trial.values[6:], axis=1)) ** 2).sum(0)
            hz = np.fft.rfftfreq(trial.values.shape[1], 1 / signals.EEG_RATE_HZ)
            band = (hz > 7) & (hz < 13)
            pair.append((power * hz)[band].sum() / power[band].sum())
        peaks.append(pair)
        age.append(who.age_years)
    first, second = np.array(peaks).T
    assert np.corrcoef(first, second)[0, 1] > 0.8
    assert np.corrcoef(first, age)[0, 1] < -0.4


def test_einthoven_holds_in_the_ecg() -> None:
    values = cohort_module.recordings(traits.draw(0, "ecg", 1), 0, 1)[0].values
    np.testing.assert_allclose(values[0] + values[2], values[1], atol=1e-9)
    np.testing.assert_allclose(values[3] + values[4] + values[5], 0, atol=1e-9)


def test_make_replaces_its_own_cohort_and_nothing_else(tmp_path: Path) -> None:
    few = Synthetic(patients=1, trials=1, exact_duplicates=0, near_duplicates=0, corrupt=0)
    make("ppg", few, tmp_path / "out", seed=0)
    make("ppg", few, tmp_path / "out", seed=1)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "scan.dcm").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not a synthetic cohort"):
        make("ppg", few, tmp_path / "real", seed=0)
    with pytest.raises(ValueError, match="allowed: ecg"):
        make("xray", few, tmp_path / "x", seed=0)
    with pytest.raises(ValueError, match="allowed: ecg"):
        planted_identifiers("xray")
