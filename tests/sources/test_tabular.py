"""Tables: column maps, missing values and Parquet. Text has test_tabular_text.py and test_signal_readers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl import sources
from medssl.sources import tabular
from medssl.sources.record import BadRecord, Record, Signal

RATE_HZ = 100.0
TIME_S = np.arange(500) / RATE_HZ
SINES = np.stack([np.sin(2 * np.pi * 1.5 * TIME_S), 0.4 * np.cos(2 * np.pi * 5 * TIME_S)])
NAME = "Doe^Jane"


def read(path: Path, **more: Any) -> Signal:
    hints = {"rate_hz": RATE_HZ, **more.pop("hints", {})}
    signal = sources.read(Record(path, "tabular", "p", "t", hints=hints, **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.flags["C_CONTIGUOUS"]
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        read(path, **more)
    for private in (NAME, "Jane", path.name, str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


def table(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"patient": NAME, "t_ms": TIME_S * 1000, "lead1": SINES[0], "lead2": SINES[1], **more})


def write(path: Path, frame: pd.DataFrame, **options: Any) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path, **options)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",", **options)
    return path


# --- every kind of table --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(
    "columns",
    ["I=lead1;II=lead2", "I = lead1, II = lead2", {"I": "lead1", "II": "lead2"}, ["I=lead1", "II=lead2"]],
)
def test_column_map(tmp_path: Path, suffix: str, columns: Any) -> None:
    path = write(tmp_path / f"a{suffix}", table())
    signal = read(path, hints={"columns": columns, "unit": "mV"})
    np.testing.assert_allclose(signal.values, SINES, atol=1e-6)
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II"), "mV")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_order_time_column_and_part(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", table())
    np.testing.assert_allclose(read(path, hints={"columns": "lead2,lead1"}).values, SINES[::-1], atol=1e-6)
    assert read(path).channels == ("t_ms", "lead1", "lead2")
    assert read(path, hints={"time_column": "t_ms", "time_unit": "ms"}).channels == ("lead1", "lead2")
    part = read(path, hints={"columns": "I=lead1"}, start_s=1.0, end_s=2.5)
    np.testing.assert_allclose(part.values, SINES[:1, 100:250], atol=1e-6)
    half = read(path, hints={"columns": "I=lead1", "time_column": "t_ms", "time_unit": "ms", "rate_hz": 50})
    np.testing.assert_allclose(half.values, SINES[:1, ::2], atol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_missing_and_infinite_values_are_nan(tmp_path: Path, suffix: str) -> None:
    frame = table()
    frame.loc[3, "lead1"] = np.nan
    frame.loc[4, "lead1"] = np.inf
    frame.loc[5, "lead1"] = 1e300  # beyond float32
    values = read(write(tmp_path / f"a{suffix}", frame), hints={"columns": "lead1"}).values
    assert np.flatnonzero(np.isnan(values[0])).tolist() == [3, 4, 5]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(
    ("hints", "reason"),
    [
        ({"rate_hz": None}, "no_rate"),
        ({"columns": "I=lead9"}, "missing_channel"),
        ({"columns": "I=lead1;I=lead2"}, "unreadable"),
        ({"columns": "I=;II=lead2"}, "unreadable"),
        ({"columns": "patient"}, "unreadable"),
        ({"time_column": "time"}, "missing_channel"),
        ({"time_column": "t_ms", "time_unit": "years", "columns": "lead1"}, "unsupported"),
        ({"time_column": "lead1", "columns": "lead2"}, "unreadable"),
    ],
)
def test_refusals(tmp_path: Path, suffix: str, hints: dict[str, Any], reason: str) -> None:
    assert refusal(write(tmp_path / f"a{suffix}", table()), hints=hints) == reason


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_empty_tables_and_late_parts(tmp_path: Path, suffix: str) -> None:
    assert refusal(write(tmp_path / f"a{suffix}", table()[:0]), hints={"columns": "lead1"}) == "no_samples"
    assert refusal(write(tmp_path / f"b{suffix}", table()[["patient"]])) == "no_samples"
    assert refusal(write(tmp_path / f"c{suffix}", table()), start_s=5.0) == "too_short"


# --- Parquet --------------------------------------------------------------------------------------------------------
def test_parquet_reads_only_the_groups_of_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", table(), row_group_size=100)
    asked: list[list[int]] = []
    plain = pq.ParquetFile.read_row_groups

    def watched(self: pq.ParquetFile, groups: list[int], **more: Any) -> pa.Table:
        asked.append(groups)
        return plain(self, groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", watched)
    for start_s, end_s, groups in ((0.5, 0.9, [0]), (1.0, 3.0, [1, 2]), (1.99, 2.01, [1, 2]), (4.5, 9.0, [4])):
        signal = read(path, hints={"columns": "I=lead1"}, start_s=start_s, end_s=end_s)
        expected = SINES[:1, round(start_s * 100) : round(end_s * 100)]
        np.testing.assert_allclose(signal.values, expected, atol=1e-6)
        assert asked.pop() == groups


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "i2": pa.array([1, None, 3], pa.int16()),
        "f2": pa.array(np.array([0.5, 1, 2], np.float16)),
        "dec": pa.array([1, 2, 3], pa.decimal128(5, 1)),
        "flag": pa.array([True, False, True]),
        "word": pa.array(["x", "y", NAME]),
        "list": pa.array([[1.0], [2.0], [3.0]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    signal = read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(signal.values, [[1, np.nan, 3], [0.5, 1, 2], [1, 2, 3]])
    assert signal.channels == ("i2", "f2", "dec")
    for column in ("flag", "word", "list"):
        assert refusal(tmp_path / "a.parquet", hints={"columns": column}) == "unreadable"


def test_parquet_row_names_of_pandas_are_no_channel(tmp_path: Path) -> None:
    frame = table()[["lead1"]].set_index(np.arange(7, 507))
    frame.to_parquet(tmp_path / "a.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "a.parquet").names
    assert read(tmp_path / "a.parquet").channels == ("lead1",)


def test_parquet_rows_are_bounded_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", pd.DataFrame({"I": np.zeros(100_000, np.float32)}))
    assert path.stat().st_size < 4000
    assert read(path).values.shape == (1, 100_000)
    monkeypatch.setattr(tabular, "FREE_NUMBERS", 1000)
    monkeypatch.setattr(tabular, "MAX_NUMBERS_PER_BYTE", 10)
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("keep", [4, 100, 2000, -1])
def test_parquet_truncated(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "a.parquet", table())
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"


def test_parquet_checksums_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"I": SINES[0]}), path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    assert refusal(path) == "unreadable"
