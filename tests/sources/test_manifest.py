"""Tables of recordings as spreadsheets and other systems write them; one form of identifiers, units and paths."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import sources
from medssl.sources import manifest
from medssl.sources.manifest import format_of
from medssl.sources.record import Record, Signal, SourceError, Volume, one_form, unit_name

HEADER = "path,patient,trial,rate_hz,unit"


def write(root: Path, text: str, encoding: str = "utf-8") -> list[Record]:
    (root / "manifest.csv").write_bytes(text.encode(encoding))
    return sources.list_records("manifest", root)


def signal(root: Path, name: str = "a.csv") -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("I,II\n" + "0.5,1\n" * 300)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\na.csv,P1,T1,100,mV\n",
        f"{HEADER}\na.csv,P1,T1,100,mV,\n",
        f"{HEADER.replace(',', ';')}\na.csv;P1;T1;100,0;mv\n",
        f"{HEADER.replace(',', chr(9))}\na.csv\tP1\tT1\t100\tMV\n",
        "Path,PATIENT,Trial,Rate_Hz,Unit\na.csv,P1,T1,100,millivolt\n",
        f"sep=,\n{HEADER}\n a.csv , P1 ,T1,1e2,mV\n",
        f"{HEADER},,\r\na.csv,P1,T1,100,mV,,\r\n,,,,,,\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_recording_in_many_tables(tmp_path: Path, text: str, encoding: str) -> None:
    signal(tmp_path)
    (record,) = write(tmp_path, text, encoding)
    found = sources.read(record)
    assert isinstance(found, Signal)
    assert (record.patient, record.trial, record.row, found.rate_hz, found.unit) == ("P1", "T1", 1, 100, "mV")


def test_a_table_in_the_encoding_of_windows(tmp_path: Path) -> None:
    signal(tmp_path)
    (record,) = write(tmp_path, f"{HEADER}\na.csv,Müller,T,100,mV\n", "cp1252")
    assert record.patient == "Müller"
    (note,) = sources.remarks("manifest", tmp_path, [record])
    assert note.startswith("the table is not in UTF-8 and is read as Windows-1252")
    assert sources.remarks("manifest", tmp_path, write(tmp_path, f"{HEADER}\na.csv,Müller,T,100,mV\n")) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HEADER}\na.csv,P1,T1,100\n", "manifest.csv: line 2 has 4 cells, the line of names 5"),
        (f"{HEADER}\na.csv,Doe, Jane,T1,100,mV\n", "line 2 has 6 cells"),
        ("path,patient\na.csv,P\n", "column 'trial' is missing; add it to the header line"),
        (f"{HEADER},path\na.csv,P,T,100,mV,b.csv\n", "two columns are named 'path'"),
        (f"{HEADER},Path\na.csv,P,T,100,mV,b.csv\n", None),
        (f"My study\n\n{HEADER}\n" + "a.csv,P,T,100,mV\n" * 3, "delete the first 2"),
        ("", "the table is empty"),
    ],
)
def test_tables_that_are_unsure_are_refused_by_line(tmp_path: Path, text: str, sentence: str | None) -> None:
    if sentence is None:  # the exact name wins
        assert write(tmp_path, text)[0].path.name == "a.csv"
        return
    with pytest.raises(SourceError, match=sentence) as caught:
        write(tmp_path, text)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("100", "100"), ("100.0", "100"), ("100.00", "100"), ("007", "007"), ("007.0", "007"), ("1.5", "1.5"),
        ("Zoe\u0308", "Zo\u00eb"), ("P7\u200b", "P7"), ("\ufeffP7", "P7"), ("P\u00a07", "P 7"), (" P  7\t", "P 7"),
        ("1e5", "1e5"), ("P7", "P7"), ("p7", "p7"), ("", ""), ("v1.0", "v1.0"), ("soft\u00adhyphen", "softhyphen"),
    ],
)  # fmt: skip
def test_one_form_of_identifiers(written: str, form: str) -> None:
    assert one_form(written) == form == one_form(form)
    made = Record(Path("x"), "edf", patient=written, trial=written)
    assert (made.patient, made.trial) == (form, form)


@pytest.mark.parametrize(
    "values", [[100, 101], [100.0, np.nan], np.array([100, 101], "int8"), ["100", "101"], ["100.0", "x"]]
)
def test_numbers_of_parquet_are_those_of_csv(tmp_path: Path, values: list[float]) -> None:
    table = pd.DataFrame({"path": "a.npy", "patient": values, "trial": 1.0, "label_x": values})
    table.to_parquet(tmp_path / "manifest.parquet")
    records = manifest.list_records(tmp_path)
    assert "100" in {r.patient for r in records}
    assert {r.trial for r in records} == {"1"}
    many = pd.DataFrame({"path": "a.npy", "patient": [2.0**52, 1e300], "trial": 1})
    many.to_parquet(tmp_path / "manifest.parquet")
    assert "4503599627370496" in {r.patient for r in manifest.list_records(tmp_path)}


def test_patients_that_differ_in_form_alone_are_remarked_by_row(tmp_path: Path) -> None:
    names = ["P7", "p7", "P 8", "P-8", "P09", "P9", "100", "0100", "1-12", "11-2", "Ä1", "A1", "1.2E+11"]
    records = write(tmp_path, "path,patient,trial\n" + "".join(f"a.npy,{name},1\n" for name in names))
    alike, rounded = sources.remarks("manifest", tmp_path, records)
    assert alike.startswith("4 patients may be written in several forms")
    assert alike.endswith("row 7 and 8; 3 and 4; 5 and 6; 1 and 2") or set(alike.split("row ")[1].split("; ")) == {
        "1 and 2", "3 and 4", "5 and 6", "7 and 8",
    }  # fmt: skip
    assert not any(name in alike for name in ("P7", "P-8", "P09", "0100"))
    assert rounded.startswith("1 patients are numbers rounded by a spreadsheet")
    assert sources.remarks("bids", tmp_path, records[:1]) == []


@pytest.mark.parametrize(
    ("text", "unit"),
    [("mv", "mV"), (" MV", "mV"), ("µV", "uV"), ("μV", "uV"), ("microvolts", "uV"), ("volt", "V"), ("a.u.", "1"),
     ("hu", "HU"), ("mmHg", "mmHg"), ("1", "1")],
)  # fmt: skip
def test_one_form_of_units(text: str, unit: str) -> None:
    assert unit_name(text) == unit
    assert Signal(np.zeros((1, 2), np.float32), 1, ("I",), text).unit == unit
    assert Volume(np.zeros((1, 2, 2), np.float32), (1, 1, 1), text).unit == unit
    assert Record(Path("x"), "tabular", "p", "t", hints={"unit": text}).hints["unit"] == unit


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_paths_of_other_systems(tmp_path: Path, form: str, other: str) -> None:
    name = unicodedata.normalize(form, "Größe")
    signal(tmp_path, f"{name}/é.csv".replace("é", unicodedata.normalize(form, "é")))
    path = unicodedata.normalize(other, "Größe\\é.csv")
    (record,) = write(tmp_path, f"{HEADER}\n{path},P,T,100,mV\n")
    assert isinstance(sources.read(record), Signal)


def test_paths_that_lead_nowhere_say_where_they_count_from(tmp_path: Path) -> None:
    rows = "C:\\data\\a.csv,P,1,100,mV\n..\\b.csv,P,2,100,mV\nc.csv,P,3,100,mV\n"
    reasons = []
    for record in write(tmp_path, f"{HEADER}\n{rows}"):
        with pytest.raises(sources.BadRecord) as caught:
            sources.read(record)
        reasons.append((caught.value.reason, caught.value.detail))
    assert reasons[0] == ("missing_file", "the path begins with a drive; write it from the folder of the table")
    assert reasons[1][0] in ("outside_folder", "missing_file")
    assert reasons[2] == ("missing_file", "the file does not exist; paths count from the folder of the table")
    (tmp_path.parent / "b.csv").write_text("I\n1\n")
    (record,) = write(tmp_path, f"{HEADER}\n..\\b.csv,P,2,100,mV\n")
    with pytest.raises(sources.BadRecord, match="outside_folder"):
        sources.read(record)


def test_formats_in_any_case_and_by_content(tmp_path: Path) -> None:
    for name in ("a.EDF", "a.Jpg", "a.hdr", "a.img", "a.NII.GZ", "a.HEA", "a.xyz", "a"):
        (tmp_path / name).write_bytes(b"text that is nothing")
    assert [format_of(tmp_path / n) for n in ("a.EDF", "a.Jpg", "a.hdr", "a.img", "a.NII.GZ", "a.HEA", "a.xyz")] == [
        "edf", "image", "nifti", "nifti", "nifti", "wfdb", "unknown",
    ]  # fmt: skip
    (tmp_path / "IM1").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\0\0\0\0")
    assert format_of(tmp_path / "IM1") == "dicom"
    with pytest.raises(sources.BadRecord, match="write one into the column format: wfdb"):
        sources.read(Record(tmp_path / "a.xyz", "unknown", "p", "t"))
