"""Identifiers planted in every kind of header are found by kind, and never told."""

from __future__ import annotations

import datetime
import gzip
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import h5py
import mne
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
import tifffile
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.sources import identifiers

NAME, CODE = "Doe^Jane", "MRN-77121"
Writer = Callable[[Path, bool], Path]


def write_dicom(folder: Path, planted: bool) -> Path:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, generate_uid()
    file.Modality, file.PatientName, file.PatientID, file.StudyDate = "CT", "", "", ""
    if planted:
        file.PatientName, file.PatientID, file.PatientBirthDate = NAME, CODE, "19500203"
        file.ReferringPhysicianName, file.InstitutionName, file.AccessionNumber = NAME, "St. Jane", CODE
        request = Dataset()
        request.ScheduledPerformingPhysicianName = NAME
        file.RequestAttributesSequence = [request]
        block = file.private_block(0x0009, "JANE", create=True)
        block.add_new(1, "LO", NAME)
    path = folder / "a.dcm"
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def edf_header(patient: str, recording: str, date: str) -> bytes:
    return f"{'0':8}{patient:80}{recording:80}{date:8}12.30.00{'':76}0   ".encode("latin-1").ljust(256)


def write_edf(folder: Path, planted: bool) -> Path:
    patient = f"{CODE} F 02-AUG-1951 Jane_Doe" if planted else "X X X X"
    recording = "Startdate 02-MAR-2002 EMG561 BK/JOP Sony" if planted else "Startdate X X X X"
    path = folder / "a.edf"
    path.write_bytes(edf_header(patient, recording, "02.03.02" if planted else "01.01.85"))
    return path


def write_bdf(folder: Path, planted: bool) -> Path:
    path = folder / "a.bdf"
    fields = (NAME, f"ward of {NAME}", "02.03.02") if planted else ("", "", "00.00.00")
    path.write_bytes(b"\xffBIOSEMI" + edf_header(*fields)[8:])
    return path


def write_nifti(folder: Path, planted: bool, suffix: str = ".nii.gz") -> Path:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.header["descrip"] = NAME.encode() if planted else b"6.0.5:9e026117"
    image.header["aux_file"] = b"jane.txt" if planted else b"none"
    if planted:
        image.header["db_name"], image.header["intent_name"] = CODE.encode(), NAME.encode()
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAME.encode()))
    nibabel.save(image, folder / f"a{suffix}")
    return folder / f"a{suffix}"


def write_nifti2(folder: Path, planted: bool) -> Path:
    image = nibabel.Nifti2Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.header["descrip"] = NAME.encode() if planted else b"FSL5.0"
    nibabel.save(image, folder / "a.nii")
    return folder / "a.nii"


def write_wfdb(folder: Path, planted: bool) -> Path:
    lines = ["a 1 100 5 12:00:00 03/02/1950" if planted else "a 1 100 5", "a.dat 16 200(0)/mV 16 0 0 0 0 I"]
    lines += [f"# name: {NAME}", "# <age>: 71  <sex>: F", f"#Patient ID={CODE}", "#seen by Jane"] if planted else ["#"]
    (folder / "a.hea").write_text("\n".join(lines) + "\n")
    return folder / "a"  # as records may be named


def write_brainvision(folder: Path, planted: bool) -> Path:
    note = f"Subject name: {NAME}\nDate of birth: 03.02.1950" if planted else "Impedance [kOhm] at 12:00:01 :\nCz: 4"
    (folder / "a.vhdr").write_text(f"Header\n[Common Infos]\nMarkerFile=b.vmrk\n[Comment]\n{note}\n")
    date = "20131113161403794232" if planted else "00000000000000000000"
    marks = f"Mk1=New Segment,,1,1,0,{date}\n" + (f"Mk2=Comment,{NAME},5,1,0\n" if planted else "")
    (folder / "b.vmrk").write_text(marks)
    return folder / "a.vhdr"


def write_fif(folder: Path, planted: bool) -> Path:
    info = mne.create_info(["Cz"], 100.0, "eeg")
    if planted:
        info["subject_info"] = {"his_id": CODE, "last_name": "Doe", "birthday": datetime.date(1950, 2, 3), "sex": 2}
        info["experimenter"], info["description"] = "Jane", NAME
    raw = mne.io.RawArray(np.zeros((1, 200)), info, verbose="error")
    if planted:
        raw.set_meas_date(datetime.datetime(2013, 11, 13, tzinfo=datetime.UTC))
    raw.save(folder / "a_raw.fif", verbose="error")
    return folder / "a_raw.fif"


def write_eeglab(folder: Path, planted: bool) -> Path:
    said = {"subject": CODE, "comments": NAME, "filepath": f"/home/{NAME}"} if planted else {"subject": ""}
    fields = {"nbchan": 1.0, "data": np.zeros((1, 5)), **said}
    scipy.io.savemat(folder / "a.set", {"EEG": fields}, appendmat=False)
    return folder / "a.set"


def write_eeglab73(folder: Path, planted: bool) -> Path:
    with h5py.File(folder / "a.set", "w") as file:
        field = file.create_dataset("EEG/subject", data=[[ord(c)] for c in CODE if planted] or [[0]], dtype="u2")
        field.attrs["MATLAB_class"] = np.bytes_("char")
    return folder / "a.set"


def write_aecg(folder: Path, planted: bool) -> Path:
    person = (
        f'<trialSubject><id root="1.2" extension="{CODE}"/><subjectDemographicPerson><name>{NAME}</name>'
        '<administrativeGenderCode code="F"/><birthTime value="19500203"/></subjectDemographicPerson></trialSubject>'
        '<effectiveTime><low value="20131113"/></effectiveTime><location><name>St. Jane</name></location>'
    )
    path = folder / "a.xml"
    path.write_text(f"<AnnotatedECG>{person if planted else '<trialSubject><name/></trialSubject>'}</AnnotatedECG>")
    return path


def write_png(folder: Path, planted: bool) -> Path:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "some program")
    exif = Image.Exif()
    if planted:
        text.add_text("Author", NAME)
        exif[0x013B] = NAME
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "a.png", pnginfo=text, exif=exif if planted else None)
    return folder / "a.png"


def write_jpeg(folder: Path, planted: bool) -> Path:
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "some program"
    more: dict[str, object] = {}
    if planted:
        exif[0x010E], exif[0x013B], exif[0x0132] = NAME, NAME, "1950:02:03 00:00:00"
        exif.get_ifd(0x8825)[1] = "N"  # where on earth
        more = {"comment": NAME, "xmp": f"<x>{NAME}</x>".encode()}
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "a.jpg", exif=exif, **more)
    return folder / "a.jpg"


def write_tiff(folder: Path, planted: bool) -> Path:
    more = {"description": NAME, "datetime": "1950:02:03 00:00:00", "extratags": [(315, 2, 0, NAME, True)]}
    tifffile.imwrite(folder / "a.tif", np.zeros((4, 4), np.uint8), **(more if planted else {}))
    return folder / "a.tif"


CASES: dict[str, tuple[str, Writer, set[str]]] = {
    "dicom": (
        "dicom",
        write_dicom,
        {"patient name", "patient id", "birth date", "person in charge", "institution", "accession number",
         "other name", "private element"},
    ),
    "edf": (
        "edf",
        write_edf,
        {"patient code", "sex", "birth date", "patient name", "date", "recording code", "person in charge"},
    ),
    "bdf": ("bdf", write_bdf, {"patient field", "recording field", "date"}),
    "nifti": (
        "nifti",
        write_nifti,
        {"description", "database name", "auxiliary file", "intent name", "header extension"},
    ),
    "nifti2": ("nifti", write_nifti2, {"description"}),
    "wfdb": ("wfdb", write_wfdb, {"name", "age", "sex", "identifier", "date", "comment"}),
    "brainvision": ("brainvision", write_brainvision, {"name", "birth date", "date", "comment"}),
    "fif": (
        "fif",
        write_fif,
        {"patient id", "patient name", "birth date", "sex", "person in charge", "date", "comment"},
    ),
    "aecg": ("aecg", write_aecg, {"name", "patient id", "birth date", "sex", "date"}),
    "eeglab": ("eeglab", write_eeglab, {"patient code", "comment", "place on a disk"}),
    "eeglab73": ("eeglab", write_eeglab73, {"patient code"}),
    "png": ("image", write_png, {"text", "EXIF"}),
    "jpeg": ("image", write_jpeg, {"text", "author", "date", "place", "comment"}),
    "tiff": ("image", write_tiff, {"text", "author", "date"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_planted_fields_are_found_by_kind(tmp_path: Path, case: str) -> None:
    kind, write, expected = CASES[case]
    assert identifiers.scan(write(tmp_path, True), kind) == [frozenset(expected)]


@pytest.mark.parametrize("case", CASES)
def test_a_clean_header_carries_none(tmp_path: Path, case: str) -> None:
    kind, write, _ = CASES[case]
    assert identifiers.scan(write(tmp_path, False), kind) == [frozenset()]


@pytest.mark.parametrize("case", CASES)
def test_damaged_headers_end_quietly(tmp_path: Path, case: str) -> None:
    kind, write, _ = CASES[case]
    path = write(tmp_path, True)
    path = path if path.is_file() else path.with_suffix(".hea")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(whole[: rng.integers(len(whole))])
        for at in rng.integers(0, max(1, len(broken)), 5):
            broken[at : at + 1] = rng.bytes(1)
        path.write_bytes(broken)
        (found,) = identifiers.scan(path, kind)
        assert found is None or not any(word in " ".join(found) for word in ("Jane", CODE, "1950"))


def test_each_file_of_a_series_counts(tmp_path: Path) -> None:
    first = write_dicom(tmp_path, True)
    first.rename(tmp_path / "b.dcm")
    write_dicom(tmp_path, False)
    (tmp_path / "notes.txt").write_text(NAME)
    found = identifiers.scan(tmp_path, "dicom")
    assert [None if kinds is None else bool(kinds) for kinds in found] == [False, True]
    (tmp_path / "c.dcm").write_text(NAME)
    assert identifiers.scan(tmp_path, "dicom")[-1] is None


@pytest.mark.parametrize("text", ["FSL", "FSL5.0", "SPM12", "6.0.5:9e026117", "dcm2niix v1.0.2", "", "NONE"])
def test_names_of_programs_identify_nobody(tmp_path: Path, text: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.header["descrip"] = text.encode()
    nibabel.save(image, tmp_path / "a.nii")
    assert identifiers.scan(tmp_path / "a.nii", "nifti") == [frozenset()]


@pytest.mark.parametrize("text", ["FSL Jane", "12345678", "03.02.1950", "03.02.50", "71", "Jane"])
def test_more_than_a_program_may(tmp_path: Path, text: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.header["descrip"] = text.encode()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
    assert identifiers.scan(tmp_path / "a.nii.gz", "nifti") == [frozenset({"description"})]


@pytest.mark.parametrize(
    ("patient", "kinds"),
    [("X X X X", set()), ("", set()), ("X F X X", {"sex"}), ("X X X X age=71", {"patient field"}),
     ("0001", {"patient field"})],
)  # fmt: skip
def test_edf_patient_fields(tmp_path: Path, patient: str, kinds: set[str]) -> None:
    (tmp_path / "a.edf").write_bytes(edf_header(patient, "", "01.01.85"))
    assert identifiers.scan(tmp_path / "a.edf", "edf") == [frozenset(kinds)]


def test_segments_of_a_wfdb_record(tmp_path: Path) -> None:
    write_wfdb(tmp_path, True)
    (tmp_path / "m.hea").write_text("m/3 1 100 10\na 5\n~ 5\n../a 5\n")
    assert "name" in (identifiers.scan(tmp_path / "m.hea", "wfdb")[0] or ())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.hea").write_text("m/2 1 100 10\n../a 5\n~ 5\n")
    assert identifiers.scan(tmp_path / "sub" / "m.hea", "wfdb") == [frozenset()]  # nothing of another folder


def test_text_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = write_png(tmp_path, False)
    whole = path.read_bytes()
    at = whole.index(b"IEND") - 4
    chunk = b"\x00\x00\x00\x08tEXtA\x00" + b"planted"[:6] + b"\x00\x00\x00\x00"
    path.write_bytes(whole[:at] + chunk + whole[at:])
    assert identifiers.scan(path, "image") == [frozenset({"text"})]


def test_what_is_not_looked_into_says_so(tmp_path: Path) -> None:
    assert identifiers.scan(tmp_path / "a.csv", "tabular") == []
    assert identifiers.scan(tmp_path / "absent.edf", "edf") == [None]


# --- DICOM by its content -------------------------------------------------------------------------------------------
def test_dicom_is_told_by_content(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path, True).read_bytes()
    image = pydicom.dcmread(tmp_path / "a.dcm")
    image.preamble, image.file_meta = None, FileMetaDataset()
    alone = {}
    for name, implicit, little in (("explicit", False, True), ("implicit", True, True), ("big", False, False)):
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, image, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        alone[name] = buffer.getvalue()
        assert alone[name][128:132] != b"DICM"
    for name, data in {"whole": whole, "prefix": whole[128:], "meta": whole[132:], **alone}.items():
        (tmp_path / name).write_bytes(data)
        assert identifiers.is_dicom(tmp_path / name), name
        assert "patient name" in (identifiers.scan(tmp_path / name, "dicom")[0] or ()), name


@pytest.mark.parametrize("case", [name for name in CASES if name != "dicom"])
def test_other_formats_are_not_dicom(tmp_path: Path, case: str) -> None:
    path = CASES[case][1](tmp_path, True)
    assert not identifiers.is_dicom(path)


def test_what_is_not_dicom(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    contents = {
        "empty": b"", "text": b"DICM is a magic word\n" * 99, "csv": b"path,patient,trial\na,b,c\n",
        "json": b'{"a": 1}',
        "zip": b"PK\3\4" + bytes(500), "zeros": bytes(5000), "groups": b"\2\0\0\0" + bytes(5000),
        "eight": b"\x08\0\x08\0" * 2000, "capitals": b"\x08\0\0\0UL\4\0" + b"A" * 5000,
        "deep": b"\x08\0\6\0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff" * 2000,
        "jpeg": b"\xff\xd8\xff" + bytes(500), "int16": np.arange(8, 4000).astype("<i2").tobytes(),
    }  # fmt: skip
    contents |= {f"noise{i}": b"\x08\0" + rng.bytes(4000) for i in range(200)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        assert not identifiers.is_dicom(tmp_path / name), name
    assert not identifiers.is_dicom(tmp_path) and not identifiers.is_dicom(tmp_path / "absent")


def test_dicom_is_told_without_reading_the_file(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"\2\0\0\0UL\4\0\xff\xff\xff\x7f" + b"\2\0\1\0OB\0\0\xff\xff\xff\x7f")
        file.truncate(1 << 31)
    tracemalloc.start()
    identifiers.is_dicom(tmp_path / "a")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_nifti_by_content_and_in_pairs(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.header["descrip"] = NAME.encode()
    (tmp_path / "a.nii.gz").write_bytes(image.to_bytes())
    (tmp_path / "b.nii").write_bytes(gzip.compress(image.to_bytes()))
    pair = nibabel.Nifti1Pair(np.zeros((2, 2, 2), np.float32), np.eye(4))
    pair.header["descrip"] = NAME.encode()
    nibabel.save(pair, tmp_path / "c.img")
    for name in ("a.nii.gz", "b.nii", "c.img", "c.hdr"):
        assert identifiers.scan(tmp_path / name, "nifti") == [frozenset({"description"})]
