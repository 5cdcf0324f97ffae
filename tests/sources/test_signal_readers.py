"""WFDB, EDF and text against files written here, whose every value is known; and files that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
import wfdb

from medssl.sources.electrodes import clean_name
from tests.sources.test_readers import NAME, read_signal, refusal

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
