"""Readers against files written here, whose every value is known; and files that must be refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import edfio
import nibabel
import numpy as np
import pydicom
import pytest
import wfdb
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl import sources
from medssl.sources import edf
from medssl.sources.electrodes import clean_name
from medssl.sources.record import BadRecord, Record, Signal, Volume

NAME = "Doe^Jane"  # planted where formats keep a name; must never come out


def record(path: Path, kind: str, **more: Any) -> Record:
    return Record(path=path, format=kind, patient="p1", trial="t1", **more)


def read_signal(path: Path, kind: str, **more: Any) -> Signal:
    signal = sources.read(record(path, kind, **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.shape[0] == len(signal.channels)
    return signal


def read_volume(path: Path, kind: str, **more: Any) -> Volume:
    volume = sources.read(record(path, kind, **more))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    return volume


def refusal(path: Path, kind: str, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record(path, kind, **more))
    for private in (NAME, "Jane", f"{path.parent.name}/{path.name}", str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


# --- every format ---------------------------------------------------------------------------------------------------
SUFFIXES = {
    "wfdb": ".hea",
    "edf": ".edf",
    "bdf": ".bdf",
    "brainvision": ".vhdr",
    "eeglab": ".set",
    "fif": ".fif",
    "dicom": ".dcm",
    "nifti": ".nii.gz",
    "image": ".png",
    "tabular": ".csv",
    "array": ".npy",
    "matlab": ".mat",
    "aecg": ".xml",
    "metaimage": ".mhd",
}


@pytest.mark.parametrize(("kind", "suffix"), SUFFIXES.items())
def test_absent_and_empty_files_are_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"Doe^Jane{suffix}"
    assert refusal(path, kind, hints={"rate_hz": 10}) == "missing_file"
    path.touch()
    assert refusal(path, kind, hints={"rate_hz": 10}) == "unreadable"


@pytest.mark.parametrize(("kind", "suffix"), SUFFIXES.items())
def test_noise_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refusal(path, kind, hints={"rate_hz": 10})


def test_every_format_has_a_reader() -> None:
    assert set(sources.READERS) == set(SUFFIXES)


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1")
    assert refusal(tmp_path / "a.xyz", "unknown") == "unsupported"


def test_unexpected_failure_keeps_only_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Record) -> Signal:
        raise KeyError(NAME)

    path = tmp_path / "a.edf"
    path.touch()
    monkeypatch.setattr(edf, "read", fail)
    with pytest.raises(BadRecord, match=r"unreadable: the edf reader raised KeyError$"):
        sources.read(record(path, "edf"))


def test_absent_library_is_no_fault_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Record) -> Signal:
        raise ModuleNotFoundError("No module named 'mne'", name="mne")

    path = tmp_path / "a.edf"
    path.touch()
    monkeypatch.setattr(edf, "read", fail)
    with pytest.raises(sources.SourceError, match="needs the package 'mne'; install it"):
        sources.read(record(path, "edf"))


# --- WFDB -----------------------------------------------------------------------------------------------------------
RATE_HZ = 100
TIME_S = np.arange(500) / RATE_HZ
SINES = np.stack([np.sin(2 * np.pi * 1.5 * TIME_S), 0.4 * np.cos(2 * np.pi * 5 * TIME_S)])


def write_wfdb(folder: Path, units: tuple[str, str] = ("mV", "mV"), values: np.ndarray = SINES, **more: Any) -> Path:
    wfdb.wrsamp(
        "rec",
        fs=RATE_HZ,
        units=list(units),
        sig_name=["I", "II"],
        p_signal=values.T.copy(),
        fmt=["16", "16"],
        comments=[f"name: {NAME}"],
        write_dir=str(folder),
        **more,
    )
    return folder / "rec.hea"


def edit(header: Path, old: str, new: str) -> None:
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["rec", "rec.hea", "rec.dat"])
def test_wfdb_sine(tmp_path: Path, name: str) -> None:
    write_wfdb(tmp_path)
    signal = read_signal(tmp_path / name, "wfdb")
    np.testing.assert_allclose(signal.values, SINES, atol=1e-4)
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II"), "mV")


def test_wfdb_part(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path)
    signal = read_signal(path, "wfdb", start_s=1.0, end_s=2.5)
    np.testing.assert_allclose(signal.values, SINES[:, 100:250], atol=1e-4)
    assert read_signal(path, "wfdb", start_s=4.0, end_s=99.0).values.shape == (2, 100)
    assert refusal(path, "wfdb", start_s=5.0) == "too_short"
    assert refusal(path, "wfdb", start_s=-1.0) == "too_short"


def test_wfdb_units_become_mv(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, units=("uV", "V"), values=SINES)
    np.testing.assert_allclose(read_signal(path, "wfdb").values, SINES * [[1e-3], [1e3]], rtol=1e-3, atol=0.1)
    assert read_signal(path, "wfdb", hints={"unit": "uV"}).unit == "uV"


def test_wfdb_leaves_out_what_is_no_voltage(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, units=("mmHg", "mV"))
    assert read_signal(path, "wfdb").channels == ("II",)
    edit(path, "/mV", "/mmHg")
    assert refusal(path, "wfdb") == "bad_unit"


def test_wfdb_without_voltage_is_dimensionless(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, units=("NU", "NU"))
    signal = read_signal(path, "wfdb")
    np.testing.assert_allclose(signal.values, SINES, atol=1e-4)
    assert signal.unit == "1"
    assert refusal(path, "wfdb", hints={"unit": "mV"}) == "bad_unit"


def test_wfdb_missing_values_are_nan(tmp_path: Path) -> None:
    values = SINES.copy()
    values[0, 10:20] = np.nan
    signal = read_signal(write_wfdb(tmp_path, values=values), "wfdb")
    assert np.isnan(signal.values[0, 10:20]).all()
    assert np.isnan(signal.values).sum() == 10


def test_wfdb_matlab(tmp_path: Path) -> None:
    stored = np.array([0, 1000, -500, 250], dtype="<i2")
    head = np.array([30, 1, stored.size, 0, 4], dtype="<i4").tobytes() + b"val\0"
    (tmp_path / "A1.mat").write_bytes(head + stored.tobytes())
    (tmp_path / "A1.hea").write_text("A1 1 300 4\nA1.mat 16+24 1000/mV 16 0 0 0 0 ECG\n")
    signal = read_signal(tmp_path / "A1.mat", "wfdb")
    np.testing.assert_allclose(signal.values, [[0, 1, -0.5, 0.25]])
    assert signal.rate_hz == 300


@pytest.mark.parametrize("target", ["../rec.dat", "/etc/passwd", "sub/rec.dat", "..\\rec.dat", "C:rec.dat", ".."])
def test_wfdb_header_must_not_lead_outside(tmp_path: Path, target: str) -> None:
    path = write_wfdb(tmp_path)
    edit(path, "rec.dat", target)
    assert refusal(path, "wfdb") == "outside_folder"


def test_wfdb_link_must_not_lead_outside(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = write_wfdb(folder)
    (folder / "rec.dat").rename(tmp_path / "elsewhere.dat")
    (folder / "rec.dat").symlink_to(tmp_path / "elsewhere.dat")
    assert refusal(path, "wfdb") == "outside_folder"


@pytest.mark.parametrize("line", ["rec 2", "rec 2 0 500", "rec 2 nan 500", "rec 2 -100 500"])
def test_wfdb_needs_a_rate(tmp_path: Path, line: str) -> None:
    path = write_wfdb(tmp_path)
    edit(path, "rec 2 100 500", line)
    assert refusal(path, "wfdb") == "no_rate"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("rec 2 100 500", "rec 2 100 999999999999", "unreadable"),  # would be terabytes
        ("rec 2 100 500", "rec 2 100 501", "unreadable"),
        ("rec 2 100 500", "rec 3 100 500", "unreadable"),
        ("rec 2 100 500", "rec/2 2 100 500", "unreadable"),  # no list of segments
        ("rec.dat 16 ", "rec.dat 16x2 ", "unreadable"),
        ("rec.dat 16 ", "rec.dat 99 ", "unsupported"),
        ("rec.dat", "other.dat", "missing_file"),
    ],
)
def test_wfdb_claims_are_checked(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = write_wfdb(tmp_path)
    edit(path, old, new)
    assert refusal(path, "wfdb") == reason


def test_wfdb_length_may_be_left_to_the_file(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path)
    edit(path, "rec 2 100 500", "rec 2 100")
    assert read_signal(path, "wfdb").values.shape == (2, 500)
    part = read_signal(path, "wfdb", start_s=1, end_s=2)
    np.testing.assert_allclose(part.values, SINES[:, 100:200], atol=1e-4)


def test_wfdb_without_gain_has_no_unit(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(np.arange(10, dtype="<i2").tobytes())
    (tmp_path / "a.hea").write_text("a 1 100 10\na.dat 16\n")
    assert refusal(tmp_path / "a.hea", "wfdb") == "bad_unit"


def test_wfdb_truncated(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path)
    data = (tmp_path / "rec.dat").read_bytes()
    (tmp_path / "rec.dat").write_bytes(data[:-100])
    assert refusal(path, "wfdb") == "unreadable"


# --- EDF ------------------------------------------------------------------------------------------------------------
def write_edf(path: Path, *, units: tuple[str, str] = ("uV", "uV"), slow: bool = False) -> Path:
    labels = ("EEG Fp1-REF", "EEG CZ")
    signals = [
        edfio.EdfSignal(100 * row, RATE_HZ, label=label, physical_dimension=unit, physical_range=(-200, 200))
        for row, label, unit in zip(SINES, labels, units, strict=True)
    ]
    if slow:
        temperature = np.linspace(36, 37, 5)
        signals.append(edfio.EdfSignal(temperature, 1, label="Temp rectal", physical_dimension="degC"))
        signals.append(edfio.EdfSignal(temperature, 1, label="EMG chin", physical_dimension="uV"))
    edfio.Edf(signals, patient=edfio.Patient(name="Doe_Jane"), data_record_duration=1).write(path)
    return path


@pytest.mark.parametrize("slow", [False, True])
def test_edf_sine(tmp_path: Path, slow: bool) -> None:
    signal = read_signal(write_edf(tmp_path / "a.edf", slow=slow), "edf")
    np.testing.assert_allclose(signal.values[:2], 100 * SINES, atol=0.01)
    names = ("Fp1", "Cz", "EMG chin") if slow else ("Fp1", "Cz")  # a slow voltage is kept, a temperature is not
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, names, "uV")


def test_edf_units_and_part(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", units=("mV", "uV"))
    signal = read_signal(path, "edf", start_s=0.5, end_s=1.5)
    np.testing.assert_allclose(signal.values, (SINES * [[1e5], [100]])[:, 50:150], atol=10)
    assert refusal(path, "edf", start_s=6) == "too_short"


def test_edf_without_voltage(tmp_path: Path) -> None:
    assert refusal(write_edf(tmp_path / "a.edf", units=("degC", "%")), "edf") == "bad_unit"
    signal = read_signal(write_edf(tmp_path / "b.edf", units=("nV", "uV")), "edf")
    np.testing.assert_allclose(signal.values, SINES * [[0.1], [100]], atol=0.01)


@pytest.mark.parametrize("keep", [100, 256, 700, 1000, -2])
def test_edf_truncated(tmp_path: Path, keep: int) -> None:
    path = write_edf(tmp_path / "a.edf")
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path, "edf") == "unreadable"


@pytest.mark.parametrize(
    ("at", "text", "reason"),
    [
        (236, b"99999999", "unreadable"),
        (236, b"0       ", "no_samples"),
        (244, b"0       ", "no_rate"),
        (192, b"EDF+D", "unreadable"),
        (252, b"0   ", "no_samples"),
        (252, b"9999", "unreadable"),
    ],
)
def test_edf_claims_are_checked(tmp_path: Path, at: int, text: bytes, reason: str) -> None:
    path = write_edf(tmp_path / "a.edf")
    data = bytearray(path.read_bytes())
    data[at : at + len(text)] = text
    path.write_bytes(data)
    assert refusal(path, "edf") == reason


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EEG Fp1", "Fp1"),
        ("EEG FP1-REF", "Fp1"),
        ("EEG T3-LE", "T3"),
        ("C4-A1", "C4"),
        ("Fpz-Cz", "Fpz-Cz"),
        ("EEG A2-A1", "A2-A1"),
        ("Fc5.", "FC5"),
        ("ECG ECG", "ECG"),
        ("EEG A1", "A1"),
        ("SpO2", "SpO2"),
    ],
)
def test_edf_channel_names(label: str, name: str) -> None:
    assert clean_name(label) == name


# --- DICOM ----------------------------------------------------------------------------------------------------------
AXIAL = (1, 0, 0, 0, 1, 0)


def write_dicom(path: Path, stored: np.ndarray, **tags: Any) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID = NAME, "Jane"
    image.Modality, image.SeriesInstanceUID = "CT", "1.2.3"
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.RescaleSlope, image.RescaleIntercept = 2, -1000
    image.PixelSpacing, image.SliceThickness = [0.5, 0.75], 5
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], list(AXIAL)
    image.PixelData = stored.astype("<i2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5)  # superior, posterior, left


def write_series(folder: Path, orientation: tuple[float, ...] = AXIAL, *, step_mm: float = 2.5, **tags: Any) -> Path:
    """Write SCENE in scanner axes ``orientation``, file names running against the position."""
    folder.mkdir(exist_ok=True)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    axes = [np.cross(row, column), column, row]
    world = [2 - int(np.argmax(np.abs(axis))) for axis in axes]  # z, y, x -> axis of SCENE
    values = SCENE.transpose(world)
    for i, axis in enumerate(axes):
        if axis.sum() < 0:
            values = np.flip(values, i)
    for d in np.random.default_rng(0).permutation(len(values)):
        position = [float(v) for v in axes[0] * (step_mm * d - 40)]
        name = f"{len(values) - d:03d}"
        more = {"ImagePositionPatient": position, "ImageOrientationPatient": list(orientation), **tags}
        write_dicom(folder / name, values[d], InstanceNumber=int(7 - d), **more)
    return folder


def test_dicom_single_slice(tmp_path: Path) -> None:
    stored = np.array([[0, 100, -2000], [500, 700, -12]])
    volume = read_volume(write_dicom(tmp_path / "a.dcm", stored), "dicom")
    np.testing.assert_array_equal(volume.values, [[[-1000, -800, -1024], [0, 400, -1024]]])
    assert (volume.spacing_mm, volume.unit, volume.mask) == ((5.0, 0.5, 0.75), "HU", None)


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        (AXIAL, (2.5, 0.5, 0.75)),
        ((-1, 0, 0, 0, -1, 0), (2.5, 0.5, 0.75)),  # prone
        ((-1, 0, 0, 0, 1, 0), (2.5, 0.5, 0.75)),  # normal points down
        ((0, -1, 0, 1, 0, 0), (2.5, 0.75, 0.5)),  # lying on the side
        ((1, 0, 0, 0, 0, -1), (0.5, 2.5, 0.75)),  # coronal
        ((0, 1, 0, 0, 0, -1), (0.5, 0.75, 2.5)),  # sagittal
    ],
)
def test_dicom_series_in_any_order_and_orientation(
    tmp_path: Path, orientation: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    folder = write_series(tmp_path / "series", orientation)
    (folder / "readme.txt").write_text("not an image")
    volume = read_volume(folder, "dicom")
    np.testing.assert_array_equal(volume.values, SCENE * 2 - 1000)
    assert volume.spacing_mm == pytest.approx(spacing)


def test_dicom_with_mask(tmp_path: Path) -> None:
    labels = (SCENE % 3).astype(np.uint8)
    mask = write_nifti(tmp_path / "mask.nii.gz", labels, "LPS", (2.5, 0.5, 0.75), first=(-40, 0, 0))
    volume = read_volume(write_series(tmp_path / "series"), "dicom", mask=mask)
    assert volume.mask is not None
    np.testing.assert_array_equal(volume.mask, labels)
    elsewhere = write_nifti(tmp_path / "other.nii.gz", labels, "LPS", (2.5, 0.5, 0.75), first=(40, 0, 0))
    assert refusal(tmp_path / "series", "dicom", mask=elsewhere) == "bad_mask"


def test_dicom_mr_has_no_hounsfield_units(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm",
        np.array([[-3000, 5]]),
        Modality="MR",
        RescaleSlope=None,
        RescaleIntercept=None,
        SliceThickness=None,
        PixelSpacing=None,
    )
    volume = read_volume(path, "dicom")
    np.testing.assert_array_equal(volume.values, [[[-3000, 5]]])
    assert volume.unit == "1"
    assert np.isnan(volume.spacing_mm).all()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"RescaleSlope": None}, "bad_unit"),
        ({"ImageOrientationPatient": None}, "unsupported"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "unsupported"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "unreadable"),
        ({"NumberOfFrames": 2}, "unsupported"),
        ({"PhotometricInterpretation": "RGB"}, "unsupported"),
        ({"BurnedInAnnotation": "YES"}, "unsupported"),
        ({"Rows": 60000, "Columns": 60000}, "unreadable"),
        ({"PixelSpacing": [0, 1]}, "unreadable"),
    ],
)
def test_dicom_claims_are_checked(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 3)), **tags)
    assert refusal(path, "dicom") == reason


@pytest.mark.parametrize("keep", [100, 140, 400, -2])
def test_dicom_truncated(tmp_path: Path, keep: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((8, 8)))
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path, "dicom") == "unreadable"


def test_dicom_folder_must_be_one_even_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    write_dicom(folder / "other", SCENE[0], SeriesInstanceUID="1.2.4", ImagePositionPatient=[0, 0, 40])
    assert refusal(folder, "dicom") == "unreadable"
    (folder / "other").unlink()
    write_dicom(folder / "far", SCENE[0], ImagePositionPatient=[0, 0, 40])
    assert refusal(folder, "dicom") == "unsupported"
    (folder / "far").unlink()
    write_dicom(folder / "twice", SCENE[0], ImagePositionPatient=[0, 0, -40])
    assert refusal(folder, "dicom") == "unreadable"
    (folder / "twice").unlink()
    write_dicom(folder / "wide", SCENE[0], ImagePositionPatient=[0, 0, -42.5], PixelSpacing=[1, 1])
    assert refusal(folder, "dicom") == "unreadable"
    (tmp_path / "none").mkdir()
    assert refusal(tmp_path / "none", "dicom") == "missing_file"


# --- NIfTI ----------------------------------------------------------------------------------------------------------
def write_nifti(
    path: Path,
    scene: np.ndarray,
    codes: str,
    spacing: tuple[float, ...] = (3.0, 2.0, 1.0),
    first: tuple[float, ...] = (7, -8, 9),
) -> Path:
    """Write ``scene`` (superior, posterior, left) with array axes that point to ``codes``, such as RAS.

    Its first voxel lies ``first`` mm towards superior, posterior, left, whatever the axes.
    """
    towards = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
    world = {0: 2, 1: 1, 2: 0}  # axis of scene -> row of the affine
    values = scene.transpose([towards[c][0] for c in codes])
    values = np.flip(values, [i for i, c in enumerate(codes) if towards[c][1] < 0])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, c in enumerate(codes):
        axis = towards[c][0]
        affine[world[axis], i] = spacing[axis] * (1 if c in "RAS" else -1)
        at = first[axis] + (0 if towards[c][1] > 0 else (scene.shape[axis] - 1) * spacing[axis])
        affine[world[axis], 3] = at if axis == 0 else -at
    image = nibabel.Nifti1Image(np.ascontiguousarray(values), affine)
    image.header["descrip"] = NAME.encode()
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SPL", "PIR", "ASL"])
def test_nifti_orientation(tmp_path: Path, codes: str) -> None:
    scene = SCENE.astype(np.float32)
    labels = (SCENE % 4).astype(np.uint8)
    mask = write_nifti(tmp_path / "mask.nii", labels, "RAS")
    volume = read_volume(write_nifti(tmp_path / "a.nii.gz", scene, codes), "nifti", mask=mask)
    np.testing.assert_array_equal(volume.values, scene)
    np.testing.assert_array_equal(volume.mask, labels)
    assert volume.mask is not None
    assert volume.mask.dtype == np.int32
    assert volume.spacing_mm == pytest.approx((3.0, 2.0, 1.0))
    assert volume.unit == "1"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_nifti_types(tmp_path: Path, dtype: type) -> None:
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(dtype), "RAS")
    np.testing.assert_array_equal(read_volume(path, "nifti", hints={"unit": "HU"}).values, SCENE)


def test_nifti_scaled_labels_are_rounded(tmp_path: Path) -> None:
    image = nibabel.load(write_nifti(tmp_path / "m.nii", (SCENE % 3).astype(np.float64), "RAS"))
    image = nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.99999, image.affine)
    nibabel.save(image, tmp_path / "m.nii.gz")
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(np.float32), "RAS")
    np.testing.assert_array_equal(read_volume(path, "nifti", mask=tmp_path / "m.nii.gz").mask, SCENE % 3)


def test_nifti_bad_masks(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(np.float32), "RAS")
    small = write_nifti(tmp_path / "small.nii", SCENE[1:].astype(np.uint8), "RAS")
    far = write_nifti(tmp_path / "far.nii", SCENE.astype(np.uint8), "RAS", first=(7, 80, 9))
    halves = write_nifti(tmp_path / "halves.nii", (SCENE / 2).astype(np.float32), "RAS")
    resampled = read_volume(path, "nifti", mask=small)  # it begins where the volume does
    np.testing.assert_array_equal(resampled.mask, np.concatenate([SCENE[1:], 0 * SCENE[:1]]))
    assert resampled.notes["mask_resampled"] == 1
    assert refusal(path, "nifti", mask=far) == "bad_mask"
    assert refusal(path, "nifti", mask=halves) == "bad_mask"
    assert refusal(path, "nifti", mask=tmp_path / "none.nii") == "missing_file"


def test_nifti_refuses_time_and_missing_orientation(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4)), tmp_path / "four.nii")
    assert refusal(tmp_path / "four.nii", "nifti") == "unsupported"
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "lost.nii")
    assert refusal(tmp_path / "lost.nii", "nifti") == "unsupported"


def test_nifti_truncated_and_absurd(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    path = write_nifti(tmp_path / "a.nii", noise, "RAS")
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert refusal(path, "nifti") == "unreadable"
    zipped = tmp_path / "b.nii.gz"
    zipped.write_bytes(gzip.compress(data)[:-50])
    assert refusal(zipped, "nifti") == "unreadable"
    absurd = bytearray(data)
    absurd[42:48] = np.array([32000] * 3, "<i2").tobytes()  # 131 TB of float32
    path.write_bytes(absurd)
    assert refusal(path, "nifti") == "unreadable"
    zipped.write_bytes(gzip.compress(absurd))
    assert refusal(zipped, "nifti") == "unreadable"


# --- pictures -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, ".png"), (np.uint16, ".png"), (np.uint16, ".tif")])
def test_image(tmp_path: Path, dtype: type, suffix: str) -> None:
    values = (np.arange(12).reshape(3, 4) * (np.iinfo(dtype).max // 11)).astype(dtype)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    volume = read_volume(path, "image", hints={"spacing_mm": (0.5, 0.7)})
    np.testing.assert_array_equal(volume.values, values[None])
    np.testing.assert_array_equal(volume.spacing_mm, (np.nan, 0.5, 0.7))
    assert volume.unit == "1"
    np.testing.assert_array_equal(read_volume(path, "image").spacing_mm, [np.nan] * 3)


def test_image_refusals(tmp_path: Path) -> None:
    Image.new("LAB", (4, 3)).save(tmp_path / "lab.tif")
    assert refusal(tmp_path / "lab.tif", "image") == "unsupported"
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal(path, "image") == "unreadable"


# --- text -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["2438.0\t2455.0\t-1e1\t", "2438\n2455\n-10\n", "2438,2455,-10"])
def test_tabular_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    signal = read_signal(tmp_path / "a.txt", "tabular", hints={"rate_hz": 1000, "channel": "PPG"})
    np.testing.assert_array_equal(signal.values, [[2438, 2455, -10]])
    assert (signal.rate_hz, signal.channels, signal.unit) == (1000.0, ("PPG",), "1")


def test_tabular_needs_a_rate(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\t2")
    assert refusal(tmp_path / "a.txt", "tabular") == "no_rate"
    assert refusal(tmp_path / "a.txt", "tabular", hints={"rate_hz": 0}) == "no_rate"


@pytest.mark.parametrize("text", ["1\t2\tJane\t3", "1 2\n3\n"])
def test_tabular_refuses_words_and_ragged_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert refusal(tmp_path / "a.txt", "tabular", hints={"rate_hz": 10}) == "unreadable"


UNEVEN = {"time_column": "time", "time_unit": "ms", "columns": ["R", "G"], "rate_hz": 10}


def test_tabular_uneven_steps(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,time,R,G\nJane,0,0,1\nJane,150,1.5,1\nJane,200,2,1\nJane,400,4,1\n")
    signal = read_signal(path, "tabular", hints=UNEVEN)
    np.testing.assert_allclose(signal.values, [[0, 1, 2, 3, 4], [1] * 5], atol=1e-6)
    assert signal.channels == ("R", "G")
    assert read_signal(path, "tabular", hints=UNEVEN, start_s=0.1, end_s=0.3).values.shape == (2, 2)


def test_tabular_long_gaps_are_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,R,G\n0,0,0\n1000,10,1\n2200,22,2\n2300,23,\n2400,24,3\n")
    values = read_signal(path, "tabular", hints=UNEVEN).values
    expected = np.arange(25.0)
    expected[11:22] = np.nan  # the gap of 1.2 s, without its ends; the one of 1 s is filled
    np.testing.assert_allclose(values[0], expected, atol=1e-5)
    assert values[1, 23] == pytest.approx(2.5)


def test_tabular_even_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,x,y\nJane,1,2\nJane,,4\n")
    signal = read_signal(path, "tabular", hints={"rate_hz": 10, "unit": "mV"})
    np.testing.assert_array_equal(signal.values, [[1, np.nan], [2, 4]])
    assert (signal.channels, signal.unit) == (("x", "y"), "mV")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,R\n0,1\n", "missing_channel"),
        ("time,R,G\n", "no_samples"),
        ("time,R,G\n0,1,1\n100,1,Jane\n", "unreadable"),
        ("time,R,G\n100,1,1\n0,1,1\n", "unreadable"),
        ("time,R,G\n0,1,1\n1700000000000000,1,1\n", "unreadable"),  # would be a grid of 10^13 points
        ("0,1,1\n1,1,1\n", "missing_channel"),
    ],
)
def test_tabular_bad_tables(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert refusal(tmp_path / "a.csv", "tabular", hints=UNEVEN) == reason
