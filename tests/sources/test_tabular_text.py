"""Tables as text: separators, names, units, times and device headers, and what is refused because it is unsure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.sources import heading
from medssl.sources.record import BadRecord
from tests.sources.test_tabular import read, refusal


@pytest.mark.parametrize(
    "text",
    [
        "I;II\n1,5;2\n-0,5;3\n",
        "I\tII\n1,5\t2\n-0,5\t3\n",
        "I;II\n1.5;2\n-.5;3\n",
        "I II\n1.5 2\n-0.5  3\n",
        '\ufeffI,"II"\n1.5,2\n"-0.5",3\n',
        "1,5;2\n-0,5;3\n",
        "1,5\t2\n-0,5\t3\n",
        "1.5,2\n-0.5,3\n",
    ],
)
def test_separators_and_decimal_commas(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    signal = read(tmp_path / "a.csv", hints={"columns": "I,II"})
    np.testing.assert_array_equal(signal.values, [[1.5, -0.5], [2, 3]])
    assert signal.channels == ("I", "II")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("I,II\n1,2,\n3,4,\n", [[1, 3], [2, 4]]),  # spare commas shifted the leads by one
        ("I;II\n0;0\n0,5;0,25\n", [[0, 0.5], [0, 0.25]]),  # decimal commas below whole numbers
        (",I,II\n0,1,2\n1,3,4\n", [[1, 3], [2, 4]]),  # rows counted by pandas
        ("I\n1\n\n3\n", [[1, np.nan, 3]]),  # an empty line of a single column is a missing value
        ("i,II\n1,2\n3,4\n", [[1, 3], [2, 4]]),
        ("I|II\n1|2\n3|4\n", [[1, 3], [2, 4]]),
        ("sep=;\nI;II\n1,5;2\n3;4\n", [[1.5, 3], [2, 4]]),
    ],
)
def test_values_stand_under_their_names(tmp_path: Path, text: str, values: list[list[float]]) -> None:
    (tmp_path / "a.csv").write_text(text)
    signal = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(signal.values, values)
    assert [name.upper() for name in signal.channels] == ["I", "II"][: len(values)]
    asked = read(tmp_path / "a.csv", hints={"columns": "x=I"})
    np.testing.assert_array_equal(asked.values, values[:1])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (",0,1,2\n0,0.5,1.5,2.5\n1,3.5,4.5,5.5\n", [[0.5, 3.5], [1.5, 4.5], [2.5, 5.5]]),  # pandas counts columns
        ("t,1,2\n0,0.5,1.5\n1,3.5,4.5\n", [[0, 1], [0.5, 3.5], [1.5, 4.5]]),
        ("nan,0.2\n1,2\n", [[np.nan, 1], [0.2, 2]]),
        ("sep=;\n1;2\n3;4\n", [[1, 3], [2, 4]]),
        ("0,12;0,13;0,14\n", [[0.12, 0.13, 0.14]]),
        ("0,12\n0,13\n-0,045\n", [[0.12, 0.13, -0.045]]),
        ("1,2\n3,4\n", [[1, 3], [2, 4]]),
        ("\u22120,5;1\n2;\u22123\n", [[-0.5, 2], [1, -3]]),
    ],
)
def test_names_or_numbers_above_the_numbers(tmp_path: Path, text: str, values: list[list[float]]) -> None:
    (tmp_path / "a.csv").write_text(text)
    np.testing.assert_allclose(read(tmp_path / "a.csv").values, values, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0,1,2\n0.5,1.5,2.5\n3.5,4.5,5.5\n", "line 1 counts the columns and may hold names; set skip_lines to 1"),
        ("1;2\n0.5;1.5\n", "counts the columns"),
        ("I,0.1,0.2,0.3\nII,0.4,0.5,0.6\n", "holds numbers where names should be"),
        ("Smith John 1970-01-01\n1\n2\n", "line 1 looks like a title"),
        ("ECG\n250\n0.1\n0.2\n0.3\n0.4\n", "line 2 looks like a start time, a rate"),
        ("ECG,PPG\n250,125\n0.1,1\n0.2,2\n0.3,2\n0.4,3\n", "line 2 looks like"),
        ("43831.4\n1\n2\n3\n4\n5\n", "line 1 looks like"),  # a day of a spreadsheet
        ("1700000000000000\n1\n2\n3\n4\n5\n", "line 1 looks like"),
        ("20200101\n1\n2\n3\n4\n5\n", "line 1 looks like"),
        ("250\n500\n510\n540\n560\n600\n", "line 1 looks like"),
        ("200,250\n0.1,0.2\n0.2,0.1\n0.3,0.2\n0.1,0.2\n", "line 1 looks like"),
        ("I;II\n1.234;0,5\n2.345;0,25\n", "line 2: a point as in 1.234 beside decimal commas"),
        ("I;II\n1;1.234,56\n2;2.345,67\n", "column 2 of the table holds numbers in a form not read"),
        ("I;II\n1;1'234.5\n2;2'345.5\n", "column 2 of the table holds numbers"),
        ('I,II\n1,"1,234.5"\n2,"2,345.5"\n', "column 2 of the table holds numbers"),
        ("I,II\n1,0.1 mV\n2,0.2 mV\n", "column 2 of the table holds numbers"),
        ("I,II\n1,10%\n2,20%\n", "column 2 of the table holds numbers"),
        ("I,II\n1,0x1F\n2,0x20\n", "column 2 of the table holds numbers"),
        ('I,II\n1,"2\n3,4\n5",6\n', "line 2 opens a quote that is closed on line 4"),
        (",0\n0,0.5\n1,1.5\n", None),
        ("1,2,3,4\n512,513,514,515\n516,517,518,519\n", "line 1 counts the columns"),
        ("min,CH1\n,300\n0.0,0.5\n0.1,0.6\n0.2,0.7\n0.3,0.8\n", "line 2 looks like"),
    ],
)
def test_numbers_that_may_be_something_else_are_refused(tmp_path: Path, text: str, sentence: str | None) -> None:
    (tmp_path / "a.csv").write_text(text)
    if sentence is None:  # pandas' names of rows and columns
        np.testing.assert_array_equal(read(tmp_path / "a.csv").values, [[0.5, 1.5]])
        return
    with pytest.raises(BadRecord, match=sentence) as caught:
        read(tmp_path / "a.csv")
    assert "Smith" not in str(caught.value)


def test_words_dates_and_codes_are_no_channels(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("ECG Lead II\n1\n2\n")  # a name of several words is a name
    assert read(tmp_path / "b.csv").channels == ("ECG Lead II",)
    (tmp_path / "b.csv").write_text("code,pressure,I\n12345A,120/80,1\n12346B,125/80,2\n")
    assert read(tmp_path / "b.csv").channels == ("I",)
    (tmp_path / "a.csv").write_text(
        "when,day,who,I\n2020-01-01 00:00:00,31.01.2020,P001,1\n2020-01-01 00:00:01,31.01.2020,P002,2\n"
    )
    assert read(tmp_path / "a.csv").channels == ("I",)


@pytest.mark.parametrize(
    ("text", "hints", "values"),
    [
        ("I,Other,Other\n1,a,b\n2,a,b\n", {}, [[1, 2]]),  # names that nobody asks for may repeat
        ("I,II,II\n1,5,6\n2,5,6\n", {"columns": "I"}, [[1, 2]]),
        ('I,note\n1,"bad\nnoisy"\n2,\n', {"columns": "I"}, [[1, 2]]),
        ("PPG [V]\n1\n2\n", {}, [[1, 2]]),
        ("I,note\n" + "1,\n" * 9 + "2,5 s\n", {}, [[1] * 9 + [2]]),
        ("ppg\n0\n500\n510\n505\n504\n503\n", {}, [[0, 500, 510, 505, 504, 503]]),
        ("abp\n120\n117.6\n116\n115.5\n110.5\n100.5\n", {}, [[120, 117.6, 116, 115.5, 110.5, 100.5]]),
        ("temp\n37\n36.97\n36.96\n36.95\n36.95\n36.94\n", {}, [[37, 36.97, 36.96, 36.95, 36.95, 36.94]]),
        ("spo2\n98\n97.5\n97.5\n97.5\n97.5\n", {}, [[98] + [97.5] * 4]),
        (",I\n0.5,1\n0.7,2\n", {"columns": "I"}, [[1, 2]]),
        ('"I" "II"\n0.1 0.2\n0.3 0.4\n', {}, [[0.1, 0.3], [0.2, 0.4]]),
        ("I;version\n0,5;1.100\n1;1.100\n", {"columns": "I"}, [[0.5, 1]]),
        ("I\n" + "2,514\n-1,250\n" * 10, {}, [[2.514, -1.25] * 10]),
    ],
)
def test_ordinary_tables_are_read(tmp_path: Path, text: str, hints: dict[str, Any], values: list[list[float]]) -> None:
    (tmp_path / "a.csv").write_text(text)
    np.testing.assert_allclose(read(tmp_path / "a.csv", hints=hints).values, values, rtol=1e-6)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (["12:30", "12:31", "12:32"], "may be hours or minutes"),
        (["20200131120058", "20200131120059", "20200131120100"], "dates without signs"),
    ],
)
def test_times_that_may_be_others_are_refused(tmp_path: Path, times: list[str], sentence: str) -> None:
    (tmp_path / "a.csv").write_text("t,I\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
    with pytest.raises(BadRecord, match=sentence):
        read(tmp_path / "a.csv", hints={"time_column": "t", "rate_hz": 1})


def test_units_in_names_must_be_those_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t (s),I [uV],II\n0,1,2\n0.01,3,4\n")
    assert read(tmp_path / "a.csv", hints={"columns": "x=I [uV]", "unit": "uV"}).unit == "uV"
    with pytest.raises(BadRecord, match="bad_unit: the name of a column says uV, the table of recordings mV"):
        read(tmp_path / "a.csv", hints={"unit": "mV"})
    read(tmp_path / "a.csv", hints={"unit": "mV", "columns": "II"})


def test_one_word_among_decimal_commas_is_named_by_its_own_row(tmp_path: Path) -> None:
    rows = ["x" if i == 400 else f"{i},5" for i in range(600)]
    (tmp_path / "a.csv").write_text("I;II\n" + "".join(f"{row};1\n" for row in rows))
    with pytest.raises(BadRecord, match="channel 1: row 401 of a column holds a word"):
        read(tmp_path / "a.csv")


def test_times_coarser_than_the_rate_are_refused(tmp_path: Path) -> None:
    for times in (["12:00:00"] * 4 + ["12:00:01"] * 4, ["0"] * 4 + ["1"] * 4):
        (tmp_path / "a.csv").write_text("t,I\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times)))
        with pytest.raises(BadRecord, match="many rows have the time of the row before"):
            read(tmp_path / "a.csv", hints={"time_column": "t", "rate_hz": 4})


@pytest.mark.parametrize(
    ("line", "rate_hz"),
    [
        ("Rate;51,2", 51.2), ("Rate: 250 Hz", 250), ("Rate=250", 250), ("250Hz", 250), ("64.000000", 64),
        ("32.0, 32.0, 32.0", 32), ("32,32,32", 32), ("Fs 100.0", 100), ("Sample Rate,512 hertz", 512),
        ("SamplingRate,250.0", 250),
        ("samples per second: 250", 250), ("250 samples/s", 250),
        ("Lead 1 rate 250 Hz", None), ("Rate 1,000 Hz", None), ("Sampling interval 4 ms", None),
        ("1 msec/sample", None),
        ("Rate 1.000 Hz", None), ("HDR,2,128", None), ("Device: BioX 200", None), ("0.128 kHz", 128),
        ("Interval= 0.001 s", None), ("#channels 2 rate 500", None), ("none", None), ("0", None),
    ],
)  # fmt: skip
def test_the_rate_of_a_line(line: str, rate_hz: float | None) -> None:
    if rate_hz is None:
        with pytest.raises(BadRecord, match="line 7 of the file, which rate_from names, does not hold one rate in Hz"):
            heading.rate_in(line, 7)
    else:
        assert heading.rate_in(line, 7) == rate_hz


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("Größe;II\n1;2\n3;4\n", encoding=encoding)
    assert read(tmp_path / "a.csv").channels == ("Größe", "II")


@pytest.mark.parametrize(
    ("text", "hints", "sentence"),
    [
        ("I,II\n1,2\n3\n", {}, "line 3 has 1 cells, the line of names 2"),
        ("I,II\n1,2\n3,4,5\n", {}, "line 3 has 3 cells"),
        ("Device X\nrate;500\n\nI;II;III\n1;2;3\n4;5;6\n7;8;9\n", {}, "set skip_lines to 3"),
        ("1700000000\n64\n1\n2\n3\n4\n", {}, "line 1 looks like a start time"),
        ("1700000000,1700000000\n32,32\n1,2\n2,3\n3,4\n", {}, "line 1 looks like a start time"),
        ("1700000000123\n1\n2\n3\n4\n5\n", {}, "line 1 looks like a start time"),
        ("500\n0.1\n0.2\n0.3\n0.4\n", {}, "line 1 looks like a start time, a rate"),
        ("I,II\nmV,mV\n1,2\n3,4\n5,6\n", {}, "channel 1: row 1 of a column holds a word"),
        ("t,I\nnoon,1\nmidnight,2\n", {"time_column": "t"}, "neither numbers nor times such as"),
        ("a,,b\n1,7,3\n4,5,6\n", {}, "column 2 of the table has no name"),
        ("I,II\n1,2\n", {"columns": "I;V9"}, "entry 2 of columns asks for"),
        ("1\n2\n", {"rate_hz": None, "rate_from": 3}, "rate_from names, does not hold one rate"),
        ("1\n2\n", {"skip_lines": "x"}, "skip_lines is not a whole number"),
    ],
)
def test_what_is_unsure_is_refused_with_the_fix(
    tmp_path: Path, text: str, hints: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadRecord, match=sentence):
        read(tmp_path / "a.csv", hints=hints)


def test_lines_of_a_device_are_skipped_and_its_rate_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1700000000\n64\n1\n2\n3\n4\n")
    signal = read(tmp_path / "a.csv", hints={"rate_hz": None, "rate_from": "2", "skip_lines": "2"})
    np.testing.assert_array_equal(signal.values, [[1, 2, 3, 4]])
    assert signal.rate_hz == 64
    (tmp_path / "b.csv").write_text("Holter;X\nrate: 250 Hz\nI;II\n1,5;2\n3;4\n")
    signal = read(tmp_path / "b.csv", hints={"rate_hz": None, "rate_from": "2", "skip_lines": "2"})
    np.testing.assert_array_equal(signal.values, [[1.5, 3], [2, 4]])
    assert (signal.rate_hz, signal.channels) == (250, ("I", "II"))
    (tmp_path / "c.csv").write_text("I,II\nmV,mV\n1,2\n3,4\n")  # units below the names
    signal = read(tmp_path / "c.csv", hints={"skip_lines": "2", "columns": "I=1;II=2"})
    np.testing.assert_array_equal(signal.values, [[1, 3], [2, 4]])
    # A first value that only is a usual rate, or large beside the others, stays.
    for text in ("50\n52\n51\n50\n49\n", "0\n0.1\n0.2\n0.3\n0.4\n", "900\n700\n650\n600\n800\n"):
        (tmp_path / "d.csv").write_text(text)
        assert read(tmp_path / "d.csv").values.shape == (1, 5)
    (tmp_path / "d.csv").write_text("900\n0.1\n0.2\n0.3\n0.4\n")  # and who says that nothing is skipped is believed
    assert read(tmp_path / "d.csv", hints={"skip_lines": "0"}).values.shape == (1, 5)


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-31 23:59:59.9", "2020-02-01 00:00:00.0", "2020-02-01 00:00:00.1"],
        ["2020-01-31T23:59:59.9Z", "2020-02-01T00:00:00.0Z", "2020-02-01T00:00:00.1Z"],
        ["31/01/2020 12:00:00.1", "31/01/2020 12:00:00.2", "31/01/2020 12:00:00.3"],
        ["12:00:00.1", "12:00:00.2", "12:00:00.3"],
        ["12:00:00,1", "12:00:00,2", "12:00:00,3"],
        ["0:00.1", "0:00.2", "0:00.3"],
        ["0,1", "0,2", "0,3"],
    ],
)
def test_times_as_text(tmp_path: Path, times: list[str]) -> None:
    (tmp_path / "a.csv").write_text("t;I\n" + "".join(f"{t};{i}\n" for i, t in enumerate(times)))
    signal = read(tmp_path / "a.csv", hints={"time_column": "t", "rate_hz": 10})
    np.testing.assert_allclose(signal.values, [[0, 1, 2]], atol=1e-4)


def test_names_with_separators_in_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"a;b (mV, raw)",x\n1,2\n3,4\n')
    signal = read(tmp_path / "a.csv", hints={"columns": {"I": "a;b (mV, raw)"}})
    np.testing.assert_array_equal(signal.values, [[1, 3]])


def test_a_word_among_numbers_is_no_reason_to_drop_the_channel(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("I,II,note\n1,2,Jane\n3,x,Jane\n5,6,7\n")
    assert refusal(tmp_path / "a.csv") == "unreadable"
    np.testing.assert_array_equal(read(tmp_path / "a.csv", hints={"columns": "I"}).values, [[1, 3, 5]])


def test_numbers_without_names_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2 3\n4 5 6\n")
    assert read(path).channels == ("channel 1", "channel 2", "channel 3")
    signal = read(path, hints={"columns": "I=3;II=1"})
    np.testing.assert_array_equal(signal.values, [[3, 6], [1, 4]])
    for wrong in ("I;II", "I=4", "I=0", "I=x"):
        assert refusal(path, hints={"columns": wrong}) == "missing_channel"
    path.write_text("1700000000\n64\n1\n2\n3\n")
    np.testing.assert_array_equal(read(path, hints={"skip_lines": 2}).values, [[1, 2, 3]])


def test_wide_tables_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("I," + "1," * 10_000 + "\n")
    assert refusal(tmp_path / "a.csv") == "unreadable"
