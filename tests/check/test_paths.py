"""What `medssl check` says of raw folders, through the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl import cli
from medssl.check import folder
from medssl.config import SignalIngest
from medssl.ingest.build import build
from medssl.sources import manifest

LEADS = ("I", "II")
NAME, CODE = "Doe^Jane", "MRN77121"  # planted in names of files and folders, in headers and in the manifest


def write_ecg(path: Path, *, rate_hz: int = 100, seconds: float = 8, leads: tuple[str, ...] = ("I", "II")) -> Path:
    """Write a WFDB record with a person in its comments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = int(rate_hz * seconds)
    digital = np.round(200 * np.sin(np.arange(steps) / 9)).astype("<i2")
    path.with_suffix(".dat").write_bytes(np.repeat(digital[:, None], len(leads), axis=1).tobytes())
    rows = [f"{path.stem}.dat 16 200(0)/mV 16 0 0 0 0 {lead}" for lead in leads]
    notes = [f"# name: {NAME}", "# date of birth: 03.02.1950"]
    path.write_text("\n".join([f"{path.stem} {len(leads)} {rate_hz} {steps}", *rows, *notes]) + "\n")
    return path


def write_ct(folder: Path, slices: int = 3) -> Path:
    """Write a CT series with a person in its headers."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    series = generate_uid()
    for i in range(slices):
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID, file.SeriesInstanceUID = CTImageStorage, generate_uid(), series
        file.PatientName, file.PatientID, file.Modality = NAME, CODE, "CT"
        file.Rows = file.Columns = 16
        file.ImageOrientationPatient, file.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.5 * i]
        file.PixelSpacing, file.SliceThickness = [0.5, 0.5], 2.5
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
        file.RescaleSlope, file.RescaleIntercept = 1, -1024
        file.PixelData = np.arange(256, dtype="<i2").tobytes()
        pydicom.dcmwrite(folder / f"{CODE}-{i}.dcm", file, enforce_file_format=True)
    return folder


def write_raw(root: Path) -> Path:
    """Write nine records of four patients: five can be used, one is a repetition, three are refused."""
    rows = []

    def add(path: Path, patient: str, trial: str, **more: Any) -> None:
        rows.append({"path": str(path.relative_to(root)), "patient": patient, "trial": trial, **more})

    home = root / NAME
    add(write_ecg(home / f"{CODE}a.hea"), NAME, "1", label_rhythm="af", label_age="61.5", label_find_multi="x;y")
    add(
        write_ecg(home / "b.hea", rate_hz=250, leads=("II", "V1", "I")),
        NAME,
        "2",
        label_rhythm="normal",
        label_age="50",
    )
    add(write_ecg(home / "c.hea", seconds=20, leads=("i", "II")), "P2", "1", label_rhythm="af", label_find_multi="x")
    add(write_ecg(home / "d.hea"), "P2", "1", label_rhythm="normal")  # the trial of c again
    add(home / f"{CODE}.hea", "P3", "1", label_rhythm="normal")
    add(home / f"{CODE}.hea", "P3", "2")
    broken = write_ecg(home / "e.hea")
    broken.with_suffix(".dat").write_bytes(b"12")
    add(broken, "P3", "3")
    add(write_ct(home / "ct"), "P4", "1", label_age="70")
    add(write_ct(home / "ct2", slices=4), "P4", "2", label_age="71")
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


def check(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    code = cli.main(["check", *map(str, words)])
    return code, capsys.readouterr().out.splitlines()


def row(lines: list[str], first: str) -> list[str]:
    """Return the cells of the only table row that starts with a word."""
    (found,) = [line.split() for line in lines if line.startswith("  ") and line.split()[0] == first]
    return found


def test_a_raw_folder_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = check(capsys, write_raw(tmp_path))
    assert code == 1
    assert lines[1] == "9 records, 4 patients, 5 usable, 4 rejected, 1 repeated trials"
    tables = "\n".join(lines)
    assert "  wfdb          7       3\n  dicom         2       2\n" in tables
    assert "   Hz  records\n  100        2\n  250        1\n" in tables
    assert "common to all 3: I, II\n" in tables
    assert row(lines, "V1") == ["V1", "1"]
    assert row(lines, "8.00") == ["8.00", "8.00", "20.00", "0.01"]
    assert "  3 x 16 x 16" in tables and "  4 x 16 x 16" in tables
    assert row(lines, "2.5") == ["2.5", "x", "0.5", "x", "0.5", "2"]
    assert row(lines, "af") == ["af", "2", "66.7%"]
    assert row(lines, "normal") == ["normal", "1", "33.3%"]
    assert row(lines, "x")[:2] == ["x", "2"] and row(lines, "y")[:2] == ["y", "1"]
    assert "Label age: 4 of 5 usable records have it; number: all its cells are numbers" in lines
    assert row(lines, "51.73") == ["51.73", "58.62", "65.75", "70.25", "70.85"]


def test_refusals_are_told_by_entry_and_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = check(capsys, write_raw(tmp_path))[1]
    # Sorted by patient: Doe^Jane, P2, P3, P4; the rows are those of the table.
    assert [line for line in lines if line.startswith("problem: ")] == [
        "problem: repeated_trial: a record of the same patient and trial came before: 1 record, entry 4 (row 4 of the "
        "table)",
        "problem: missing_file: the file does not exist; paths count from the folder of the table: 2 records, entries "
        "5, 6 (rows 5, 6 of the table)",
        "problem: unreadable: the header claims more data than the file holds; it may be cut off: 1 record, entry 7 "
        "(row 7 of the table)",
    ]
    assert lines[-1] == "3 problem(s)"
    assert not any(line.startswith("Rejected") for line in lines)  # the problems say it


def test_it_counts_what_ingest_then_refuses(tmp_path: Path) -> None:
    records = manifest.list_records(write_raw(tmp_path))
    found = folder.check(records, "manifest", progress=False)
    params = SignalIngest(rate_hz=100, channels=LEADS, unit="mV", window_s=4, max_reject_share=1.0)
    made = build(records, tmp_path / "store", key="ecg", params=params, secret=b"k" * 32, progress=False)
    ours = sorted(r.reason for r in found.rejects)
    theirs = sorted(set(made.rejects["reason"]) & set(ours))
    assert theirs == sorted(set(ours))
    entries = made.rejects["detail"].str.extract(r"entry (\d+) of").astype(int)[0]
    assert {r.entry for r in found.rejects} <= set(entries)


def test_identifying_fields_are_counted_and_never_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, page = write_raw(tmp_path / "raw"), tmp_path / "page.html"
    code, lines = check(capsys, root, "--html", page)
    printed, shown = "\n".join(lines), re.sub('base64,[^"]+', "", page.read_text())
    assert "  dicom   patient name      7" in printed
    assert "  wfdb    birth date        5" in printed
    (note,) = [line for line in lines if "may identify a person" in line]
    assert note.startswith("note: 12 of 12 files carry ") and note.endswith("ingest never copies them")
    assert "12 of 12 files carry" in shown
    assert code == 1 and not [line for line in lines if line.startswith("problem") and "identif" in line]
    for private in (NAME, "Jane", CODE, "1950", "P2"):
        assert private not in printed
        assert private not in shown


def test_a_clean_folder_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ecg(tmp_path / "a.hea")
    path.write_text(path.read_text().partition("#")[0])
    (tmp_path / "manifest.csv").write_text("path,patient,trial\na.hea,1,1\n")
    code, lines = check(capsys, tmp_path)
    assert (code, lines[-1]) == (0, "ok")
    assert "note: none of 1 headers carries a known field that may identify a person" in lines


def test_cells_of_a_shifted_table_are_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("1\n2\n3\n")
    (tmp_path / "b.csv").write_text("1\n2\n3\n")
    rows = f"path,patient,trial,format,rate_hz,unit\na.csv,1,1,{NAME},10,\nb.csv,2,1,,10,{NAME}\n"
    (tmp_path / "manifest.csv").write_text(rows)
    code, lines = check(capsys, tmp_path)
    assert code == 1
    assert NAME not in "\n".join(lines)
    assert row(lines, "another") == ["another", "1"]
    assert row(lines, "unknown") == ["unknown", "1", "0"]


# --- raw folders without a table ------------------------------------------------------------------------------------
def test_a_folder_without_a_manifest_is_listed_by_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, page = write_raw(tmp_path / "raw"), tmp_path / "page.html"
    (root / "manifest.csv").unlink()
    for i in range(3):
        (root / f"{CODE}{i}.doc").write_text(NAME)
    (root / "x.jane").write_text(NAME)
    (root / "slice").write_bytes((root / NAME / "ct" / f"{CODE}-0.dcm").read_bytes())  # DICOM without a suffix
    (root / "table.csv").write_text("1\n2\n3\n")
    code, lines = check(capsys, root, "--html", page)
    assert code == 1
    (problem,) = [line for line in lines if line.startswith("problem: ")]
    assert problem.startswith("problem: no manifest.csv: whose the 9 recordings are is not known")
    assert lines[1] == "9 records, 7 usable, 2 rejected, 0 repeated trials"
    tables = "\n".join(lines)
    assert "  wfdb           5       4\n" in tables  # .dat files are part of their header
    assert "  dicom          3       3\n" in tables  # a series is one
    assert "  tabular        1       0\n" in tables
    assert "  .doc        3\n  other       1\n" in tables
    start = lines.index("  path,patient,trial,rate_hz,unit")
    assert lines[start + 1] == "  FOLDER/FILE.hea,P001,1,500,mV"
    for private in (NAME, "Jane", "jane", CODE, "1950"):
        assert private not in tables
        assert private not in re.sub('base64,[^"]+', "", page.read_text())
    assert "whose they are is not known" in page.read_text()


def test_files_that_belong_together_are_one_record(tmp_path: Path) -> None:
    for name in ("a.hea", "a.dat", "a.atr", "b.vhdr", "b.vmrk", "b.eeg", "c.set", "c.fdt", "d.hea", "d.mat", "e.mat",
                 "f.dat", "g.nii.gz", ".hidden.edf", ".git/x.edf", "s/1.dcm", "s/2.dcm", "t/1.dcm"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    records, other = folder.list_below(tmp_path)
    found = {str(r.path.relative_to(tmp_path)): r.format for r in records}
    assert found == {
        "a.hea": "wfdb", "b.vhdr": "brainvision", "c.set": "eeglab", "d.hea": "wfdb", "e.mat": "matlab",
        "g.nii.gz": "nifti", "s": "dicom", "t/1.dcm": "dicom",
    }  # fmt: skip
    assert other == {"other": 1}  # data without their header


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "a.hea").symlink_to(write_ecg(tmp_path / "a.hea"))
    records, other = folder.list_below(root)
    found = folder.check(records, "manifest", known=False, progress=False)
    assert [r.reason for r in found.rejects] == ["outside_folder"]
    assert found.looked == 0 and not other


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = check(capsys, tmp_path, "--html", tmp_path / "page.html")
    assert code == 1
    assert "problem: no manifest.csv, and no file of a known suffix" in lines


@pytest.mark.parametrize("name", ["manifest.csv.gz", "manifest.xlsx", "Manifest.csv", "manifest.tsv", "manifest.TXT"])
def test_a_table_by_another_name_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    assert f"save {name} as CSV in UTF-8, not packed, and name it manifest.csv" in check(capsys, tmp_path)[1][1]


def test_a_table_of_no_rows_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.csv").write_text("path,patient,trial\n,,\n")
    code, lines = check(capsys, tmp_path)
    assert code == 1 and any(line.startswith("problem: no recording is listed") for line in lines)


def test_a_table_or_source_that_cannot_be_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.csv").write_text("path,patient\n")
    assert "column 'trial' is missing" in check(capsys, tmp_path)[1][1]
    assert "is unknown; allowed: manifest, " in check(capsys, tmp_path, "--source", "x")[1][1]


def test_too_many_paths(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["check", "a", "b"], ["check", "--leakage", "a", "b", "c"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2
        assert "paths; expected" in capsys.readouterr().err
