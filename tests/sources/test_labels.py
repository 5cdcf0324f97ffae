"""What labels of a table are, why, and which cells are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl import sources
from medssl.sources import labels, manifest
from medssl.sources.record import Label, SourceError


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["0", "1", "", "1"], "class", ["0", "1", None, "1"]),
        (["1.0", "2.0"], "class", ["1", "2"]),  # as a column of floats writes codes
        (["-1", "1"], "class", ["-1", "1"]),
        (["1", "2", "3", "4"], "class", ["1", "2", "3", "4"]),
        (["0", "10"], "number", [0, 10]),
        (["0.5", "1"], "number", [0.5, 1]),
        (["60", "61", "n/a"], "number", [60, 61, None]),
        (["60,5", "61", "NaN"], "number", [60.5, 61, None]),
        (["1,234", "0,5"], "number", [1.234, 0.5]),
        (["60", "61", "62", "63", "x"], "number", [60, 61, 62, 63, None]),
        (["1,234", "2,345"], "number", [None, None]),  # thousands?
        (["1", "2", "3a", "3b"], "class", ["1", "2", "3a", "3b"]),
        (["yes", "no"], "class", ["yes", "no"]),
        (["True", "False"], "class", ["True", "False"]),
        (["1_000", "20"], "class", ["1_000", "20"]),
        (["", ""], "class", [None, None]),
        (["0", "1", "1", "0", "?"], "class", ["0", "1", "1", "0", None]),  # one slip among codes
        (["none", "mild", "None", ""], "class", ["none", "mild", "None", None]),  # a class of this name
        (["1.5", "none", "2"], "number", [1.5, None, 2]),
        (["1E50", "2E83", "5A10", "6A20", "AB"], "class", ["1E50", "2E83", "5A10", "6A20", "AB"]),
        (["AF", "AF\u200b"], "class", ["AF", "AF"]),
    ],
)
def test_kinds(cells: list[str], kind: str, values: list[Label | None]) -> None:
    found = labels.column("label_x", cells, {})
    assert (found.task, found.kind, found.values) == ("x", kind, values)
    assert [type(v) for v in found.values] == [float if isinstance(v, int) else type(v) for v in values]


def test_wrong_cells_are_named_by_row_and_never_shown() -> None:
    found = labels.column("label_bmi", ["20", "21", ".", "22", "Doe", "23", "24", "25", "26", "27"], {})
    assert found.wrong == [3, 5]
    assert "not in rows 3, 5 of the table" in found.problem and "Doe" not in found.problem
    assert labels.column("label_bmi", ["20", "30", "40"], {}).problem == ""
    many = labels.column("label_x", ["1,5"] * 100 + ["x"] * 20, {})
    assert many.problem.count(",") < 15 and "and 12 more" in many.problem


def test_what_is_said_wins() -> None:
    assert labels.column("label_x", ["0", "1"], {"x": "number"}).values == [0.0, 1.0]
    assert labels.column("label_x", ["60", "70"], {"x": "class"}).values == ["60", "70"]
    snomed = ["426783006", "426783007", "426783006.0"]
    assert labels.column("label_x", snomed, {"x": "class"}).values == ["426783006", "426783007", "426783006"]
    assert labels.column("label_x", ["none", "2"], {"x": "class"}).values == [None, "2"]
    assert labels.column("label_x", ["0", "1", "?"], {"x": "class"}).values == ["0", "1", "?"]
    assert labels.column("label_x", ["a;b", "b", ""], {"x": "multilabel"}).values == [("a", "b"), ("b",), None]
    assert labels.column("label_x_multi", ["a; b"], {}).task == "x"
    assert labels.column("label_x", ["yes", "1"], {"x": "number"}).wrong == [1]


def test_classes_that_differ_in_form_alone_are_told() -> None:
    assert labels.column("label_x", ["07", "7", "8"], {"x": "class"}).note.endswith("'07' and '7'")
    assert "codes, but not in row 5" in labels.column("label_x", ["0", "1", "1", "0", "?"], {}).problem
    found = labels.column("label_x", ["Yes", "yes", "no", "a  b", "A b"], {})
    assert found.note.endswith("alone: 'Yes' and 'yes'; 'A b' and 'a b'")
    remarks = labels.column("label_x", [f"Doe {i}" for i in range(20)] + ["doe 1"], {})
    assert remarks.note and "oe" not in remarks.note.removeprefix("label x: ").replace("does", "")


def write(root: Path, text: str, kinds: str = "") -> None:
    (root / "manifest.csv").write_text(text)
    if kinds:
        (root / "label_kinds.csv").write_text(kinds)


def test_a_manifest_follows_label_kinds(tmp_path: Path) -> None:
    text = "path,patient,trial,label_grade,label_find\na.csv,P1,1,0,x;y\na.csv,P2,1,1,x\n"
    write(tmp_path, text, "label,kind\ngrade,number\nlabel_find,Multilabel\n")
    first = sources.list_records("manifest", tmp_path)[0]
    assert first.labels == {"grade": 0.0, "find": ("x", "y")}
    for kinds, sentence in (
        ("label,kind\nage,number\n", "manifest.csv has no label of the name in row 1; correct it"),
        ("label,kind\ngrade,integer\n", "the kind in row 1 is none of class, number, multilabel"),
        ("label,kind\n,\ngrade,number\n,\nDoe Jane,class\n", "name in row 4"),
        ("label,kind\ngrade,number\n,\nlabel_grade,class\n", "one label is there twice, in rows 1 and 3"),
        ("label\ngrade\n", "column 'kind' is missing"),
    ):
        write(tmp_path, text, kinds)
        with pytest.raises(SourceError, match=sentence) as caught:
            manifest.list_records(tmp_path)
        assert "Doe" not in str(caught.value)


def test_a_wrong_label_loses_nothing_else_and_is_remarked(tmp_path: Path) -> None:
    rows = [f"a.csv,P{i},1,{'.' if i == 3 else 60 + i},{61.5 + i}" for i in range(8)]
    write(tmp_path, "path,patient,trial,label_bmi,label_age\n" + "\n".join(rows))
    records = sources.list_records("manifest", tmp_path)
    assert [r.labels.get("bmi") for r in records] == [60.0, 61.0, 62.0, None, 64.0, 65.0, 66.0, 67.0]
    assert records[3].labels == {"age": 64.5}
    (line,) = sources.remarks("manifest", tmp_path, records)
    assert line.startswith("bmi: ") and "not in row 4 of the table" in line
