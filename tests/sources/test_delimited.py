"""Tables as people and devices write them: values stand under their names, or a line is named."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.sources import delimited
from medssl.sources.delimited import TableError

NAMES = ["path", "a b", "Größe", "n"]
ROWS = [["x", "1", "2.5", ""], ["y", "-3", "", "z"], ["", "4", "0", "w"]]


def table(text: str, **options: object) -> pd.DataFrame:
    return delimited.frame(delimited.lines_of(text), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encoding", "separator", "ending", "quoted", "spare"),
    list(
        itertools.product(
            ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"], ",;\t|", ["\n", "\r\n", "\r"], [0, 1], [0, 1]
        )
    ),
)
def test_every_way_to_write_a_table(
    tmp_path: Path, encoding: str, separator: str, ending: str, quoted: int, spare: int
) -> None:
    lines = [separator.join(f'"{cell}"' if quoted else cell for cell in row) for row in [NAMES, *ROWS]]
    lines = [lines[0], *(line + separator * spare for line in lines[1:])]
    (tmp_path / "a.csv").write_bytes((ending.join(lines) + ending).encode(encoding))
    found = table(delimited.decode(tmp_path / "a.csv"))
    assert list(found.columns) == NAMES
    assert found.to_numpy().tolist() == ROWS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b,c\n1,2,3\n4,5\n", "line 3 has 2 cells, the line of names 3"),
        ("a,b,c\n1,2,3\n4,5,6,7\n", "line 3 has 4 cells, the line of names 3"),
        ("a,b,c\n1,2,3,\n4,5,6,7\n", "line 3 has 4 cells"),
        ("a,b,c\n\n1,2\n", "line 3 has 2 cells"),
        ('a,b\n"1,2",3\n"1",3\n4\n', "line 4 has 1 cells"),
        ('a,b\n"1,2",3\n"1\n2,5\n2",3\n', "line 3 opens a quote that is closed on line 5"),
        ('a,b\n"1,2",3\n"1,3\n4,5\n', "line 3 opens a quote"),
        ("a b c\n1 2 3\n1 2\n", "line 3 has 2 cells"),
        ("", "the table is empty"),
        ("a,b\n0,5,0,25\n", "line 2 has 4 cells, the line of names 2"),  # decimal commas between commas
    ],
)
def test_lines_of_another_length_are_named(text: str, sentence: str) -> None:
    with pytest.raises(TableError, match=sentence):
        table(text)


def test_lines_before_a_table_are_counted() -> None:
    text = "Device X\nstart;2020\n\nI;II;III\n" + "1;2;3\n" * 5
    with pytest.raises(TableError, match=r"set skip_lines to 3$"):
        table(text, fix="set skip_lines to {lines}")
    assert table("value\n1,5\n2\n0,25\n").to_numpy().tolist() == [["1,5"], ["2"], ["0,25"]]
    assert table("sep=;\na;b\n1,5;2\n").to_numpy().tolist() == [["1,5", "2"]]


def test_spare_separators_make_no_column_and_a_filled_one_is_no_spare() -> None:
    assert list(table("a,b,,\n1,2,,\n3,4,,\n").columns) == ["a", "b"]
    assert table("a,b\n1,2,\n3,4,,\n5,6\n").to_numpy().tolist() == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert list(table("a,,b\n1,2,3\n").columns) == ["a", "", "b"]


def test_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\0\0\0b\n\1\2")
    with pytest.raises(TableError, match="no text; save it as CSV"):
        delimited.decode(tmp_path / "a")


@given(
    st.lists(st.lists(st.from_regex(r"[a-z0-9]{0,3}", fullmatch=True), min_size=3, max_size=3), min_size=1, max_size=8)
)
def test_a_table_is_what_the_csv_module_reads(rows: list[list[str]]) -> None:
    text = "\n".join(",".join(cells) for cells in [["x", "y", "z"], *rows])
    assert table(text).to_numpy().tolist() == rows


@pytest.mark.parametrize(
    ("texts", "comma"),
    [
        (["1,5", "2"], True), (["1,234", "2,345"], False), (["1,234", "0,5"], True), (["1.5", "2,5"], False),
        (["1,2,3"], False), (["0,234"], True), (["1,5e3"], True), (["x,5"], False), (["1", "2"], False), ([], False),
    ],
)  # fmt: skip
def test_decimal_commas(texts: list[str], comma: bool) -> None:
    assert delimited.decimal_comma(texts) is comma


def test_numbers_of_a_column() -> None:
    given = pd.Series(["1,5", "", None, "-2"])
    np.testing.assert_array_equal(delimited.numbers(given).to_numpy(), [1.5, np.nan, np.nan, -2])
    for wrong in (["1", "x"], ["1,234", "5,678"], ["1.5", "2,5"]):
        with pytest.raises(TableError, match=r"row [12] of a column holds a word, or commas"):
            delimited.numbers(pd.Series(wrong))
