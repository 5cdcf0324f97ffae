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
        (f"{HEADER},path\na.csv,P,T,100,mV,b.csv\n", r"two columns are named 'path' \(1 and 6\)"),
        (f"{HEADER},,Smith Jane,Smith Jane\na.csv,P,T,100,mV,,1,2\n", "columns 7 and 8 have one name; keep one"),
        (f"{HEADER},label_dx,label_dx_multi\na.csv,P,T,100,mV,x,y;z\n", "columns 6 and 7 are one label"),
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
        ("1e5", "1e5"), ("P7", "P7"), ("p7", "p7"), ("", ""), ("v1.0", "v1.0"),
        ("100.", "100"), ("100,0", "100"), ("100,", "100"), ("-1.0", "-1"), ("1.10", "1.10"), ("1,000", "1,000"),
        ("1.000", "1.000"), ("P\x011", "P1"), ("P1\x7f", "P1"), ("P1\ufe0f", "P1"), ("P1\u3164", "P1"), ("P\t1", "P 1"),
        ("e\u034f\u0301", "\u00e9"), ("soft\u00adhyphen", "softhyphen"),
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("100", "+100"), ("1000", "1,000"), ("1", "1.000"), ("P1", "P 1"), ("P001", "P-001"), ("P1", "P1."),
        ("12", "#12"), ("12", "'12"), ("P1", "\u04201"), ("A5", "\u03915"), ("ca", "\u0441\u0430"),
        ("100", "\u0661\u0660\u0660"), ("100", "1\u20e300"), ("J.D.", "jd"), ("007", "7"), ("P 1_2", "p1.2"),
    ],
)  # fmt: skip
def test_forms_of_one_identifier_are_remarked(one: str, other: str) -> None:
    records = [Record(Path("x"), "edf", name, "t", row=row) for row, name in ((4, one), (9, other), (5, one))]
    (line,) = manifest.remarks(records)
    assert line.startswith("1 patients may be written in several forms") and line.endswith("row 4 and 9")


@pytest.mark.parametrize(
    ("one", "other"),
    [("1-12", "11-2"), ("1.10", "1.1"), ("1.1", "11"), ("P1-1", "P11"), ("12a", "1-2a"),
     ("\u0915\u093f", "\u0915\u093e"),
     ("10", "1"), ("1,001", "1"), ("P\u00c4", "PA"), ("*", "+")],
)  # fmt: skip
def test_identifiers_that_are_not_alike_are_not_remarked(one: str, other: str) -> None:
    assert manifest.remarks([Record(Path("x"), "edf", name, "t") for name in (one, other)]) == []


def parquet(root: Path, **columns: object) -> list[Record]:
    table = {"path": "a.npy", "patient": ["P1", "P2"], "trial": "1"} | columns
    pd.DataFrame(table).to_parquet(root / "manifest.parquet")
    return manifest.list_records(root)


def test_bytes_and_lists_of_parquet_are_text_and_classes(tmp_path: Path) -> None:
    several = [["a", "b", None], [b"b"]]
    found = parquet(tmp_path, patient=[b"P1", "Zoë".encode()], label_x_multi=several, label_y=[b"u", b"v"])
    assert [(r.patient, dict(r.labels)) for r in found] == [
        ("P1", {"x": ("a", "b"), "y": "u"}), ("Zoë", {"x": ("b",), "y": "v"}),
    ]  # fmt: skip
    numbers = parquet(tmp_path, label_x_multi=[[1.0, 2.5], []], embedding=[[1, 2], [3]])
    assert [r.labels["x"] for r in numbers] == [("1", "2.5"), ()]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"patient": [b"P\xe9", b"P2"]}, "column 2 holds bytes that are not UTF-8"),
        ({"label_x": [["Doe"], ["b"]]}, "column 4 holds lists; .*label_<task>_multi"),
        ({"label_x_multi": [["Doe;c"], ["b"]]}, "column 4 holds a class with a semicolon"),
        ({"label_x": [{"Doe": 1}, {"Doe": 2}]}, "column 4 holds records of several fields"),
    ],
)
def test_cells_of_parquet_that_are_no_text_are_refused_by_column(
    tmp_path: Path, columns: dict[str, object], sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence) as caught:
        parquet(tmp_path, **columns)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"\x1f\x8b\x08", "unpack it"), (b"PK\x03\x04", "save its sheet as CSV"), (b"PAR1", "name it .parquet"),
     (b"\xd0\xcf\x11\xe0", "save its sheet as CSV")],
)  # fmt: skip
def test_tables_that_are_no_text_say_the_fix(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(data)
    with pytest.raises(SourceError, match=sentence):
        manifest.list_records(tmp_path)


def test_columns_that_are_not_known_are_told_by_number(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "path,,patient,trial,Smith Jane,start,label-x,END S,empty\na.csv,,P1,T,1,2,3,4,\n"
    )
    (note,) = manifest.listing(tmp_path / "manifest.csv").notes
    assert note == (
        "not used, as the name is not known: columns 5, 6, 7, 8 of the table (6 may be meant as start_s; 7 may "
        "be meant as label_<name>; 8 may be meant as end_s)"
    )


def test_folds_are_whole_and_formats_in_any_case(tmp_path: Path) -> None:
    cells = ["9,CSV", "9.0,.csv", "9.5,Tabular", ",n/a", "n/a,TXT"]
    rows = "".join(f"a.csv,P{i},T,{c}\n" for i, c in enumerate(cells))
    records = write(tmp_path, f"path,patient,trial,fold,format\n{rows}")
    assert [r.fold for r in records if "refused" not in r.hints] == [9, 9, None, None]
    assert records[2].hints["refused"] == ("unreadable", "the manifest's fold is not a whole number")
    assert {r.format for r in records} == {"tabular"}
    more = [("dcm", "dicom"), ("NII.GZ", "nifti"), ("png", "image"), ("npy", "array"), ("zzz", "zzz"), ("EDF", "edf")]
    rows = "".join(f"a.csv,P{i},T,{cell}\n" for i, (cell, _) in enumerate(more))
    assert [r.format for r in write(tmp_path, f"path,patient,trial,format\n{rows}")] == [form for _, form in more]


def test_names_of_organs(tmp_path: Path) -> None:
    signal(tmp_path)
    (tmp_path / "mask_labels.csv").write_text("value,name\n1,liver\n,\n2.0,spleen\n")
    (record,) = write(tmp_path, "path,patient,trial,mask\na.csv,P,T,a.csv\n")
    assert record.mask_labels == {1: "liver", 2: "spleen"}
    for rows, sentence in (
        ("1,liver\n,\n1.0,spleen\n", "one value is there twice, in rows 1 and 3"),
        ("1,liver\n2,\n", "row 2 must hold a whole number"),
        ("x,liver\n", "row 1 must hold a whole number"),
        ("1.5,liver\n", "row 1 must hold a whole number"),
    ):
        (tmp_path / "mask_labels.csv").write_text(f"value,name\n{rows}")
        with pytest.raises(SourceError, match=sentence):
            manifest.list_records(tmp_path)


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


def test_rates_that_may_be_thousands_cost_their_row_alone(tmp_path: Path) -> None:
    signal(tmp_path)
    read: dict[str, str | float] = {}
    for rates in (["100,0", "250 Hz", "-5", "100"], ["1.000", "0.250"]):
        rows = "".join(f"a.csv;P{i};T;{rate};mV\n" for i, rate in enumerate(rates))
        for r in write(tmp_path, f"{HEADER.replace(',', ';')}\n{rows}"):
            read[rates[(r.row or 0) - 1]] = r.hints["refused"][0] if "refused" in r.hints else r.hints["rate_hz"]
    assert read == {
        "100,0": 100, "250 Hz": "unreadable", "-5": "no_rate", "100": 100, "1.000": "no_rate", "0.250": 0.25,
    }  # fmt: skip


def test_unknown_patients_and_one_for_all_are_remarked(tmp_path: Path) -> None:
    names = ["n/a", "-", "P1", "n/a", "unknown"]
    records = write(tmp_path, "path,patient,trial\n" + "".join(f"a.npy,{name},{i}\n" for i, name in enumerate(names)))
    (line,) = sources.remarks("manifest", tmp_path, records)
    assert line.startswith("4 records have a word for an unknown patient") and "P1" not in line
    assert set(line.split("row ")[1].split(", ")) == {"1", "2", "4", "5"}
    records = write(tmp_path, "path,patient,trial\n" + "".join(f"a.npy,P,{i}\n" for i in range(8)))
    assert sources.remarks("manifest", tmp_path, records) == [
        "all 8 records are of one patient; is the column patient as it should be?"
    ]


def test_rows_without_a_patient_are_not_one_person(tmp_path: Path) -> None:
    rows = "".join(f"r{i}.csv,,t{i},100,mV\n" for i in range(40))
    assert sources.remarks("manifest", tmp_path, write(tmp_path, f"{HEADER}\n{rows}")) == []
