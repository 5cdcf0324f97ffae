"""WFDB records of several segments: fixed and variable layouts, rates, units, and lists that must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from tests.sources.test_wfdb import NAME, RATE_HZ, SINES, read_signal, refusal, sine, write, write_rates


def write_fixed(folder: Path, lines: str = "a 200\nb 300\n", record: str = "rec/2 3 100 500") -> Path:
    write(folder, SINES[:, :200], name="a")
    write(folder, SINES[:, 200:], name="b", fmt="212")
    (folder / "rec.hea").write_text(f"{record}\n{lines}# {NAME}\n")
    return folder / "rec.hea"


def test_fixed_layout(tmp_path: Path) -> None:
    path = write_fixed(tmp_path)
    signal = read_signal(path)
    np.testing.assert_allclose(signal.values, SINES, atol=6e-4)
    np.testing.assert_allclose(signal.values, wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T, atol=1e-6)
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II", "III"), "mV")
    for start, stop in ((150, 250), (0, 200), (200, 201), (350, 500)):
        part = read_signal(path, start_s=start / RATE_HZ, end_s=stop / RATE_HZ)
        np.testing.assert_array_equal(part.values, signal.values[:, start:stop])


def write_variable(folder: Path, lines: str = "lay 0\na 200\n~ 50\nb 250\n", record: str = "rec/4 3 100 500") -> Path:
    write(folder, SINES[:2, :200], name="a")
    write(folder, SINES[[2, 1], 250:], name="b", labels=["III", "II"])
    layout = [f"~ 0 1000/mV 16 0 0 0 0 {name}" for name in ("I", "II", "III")]
    (folder / "lay.hea").write_text("\n".join(["lay 3 100 0", *layout]))
    (folder / "rec.hea").write_text(f"{record}\n{lines}")
    return folder / "rec.hea"


def test_variable_layout(tmp_path: Path) -> None:
    path = write_variable(tmp_path)
    signal = read_signal(path)
    expected = SINES.copy()
    expected[0, 200:] = np.nan
    expected[1, 200:250] = np.nan
    expected[2, :250] = np.nan
    np.testing.assert_allclose(signal.values, expected, atol=6e-4)
    np.testing.assert_allclose(signal.values, wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T, atol=1e-6)
    assert signal.channels == ("I", "II", "III")
    part = read_signal(path, start_s=1.9, end_s=2.6)
    np.testing.assert_array_equal(part.values, signal.values[:, 190:260])


def test_segments_of_two_rates(tmp_path: Path) -> None:
    write_rates(tmp_path, (4, 1), [sine(200), sine(50)])
    (tmp_path / "rec.hea").write_text("rec/3 2 50 1100\n~ 100\na 500\n~ 500\n")
    values = read_signal(tmp_path / "rec").values
    assert values.shape == (2, 4400)
    assert np.isnan(values[:, :400]).all() and np.isnan(values[:, 2400:]).all()
    np.testing.assert_allclose(values[1, 500:2300], sine(200)[100:1900], atol=0.01)


def test_segments_in_other_units(tmp_path: Path) -> None:
    path = write_fixed(tmp_path)
    second = tmp_path / "b.hea"
    second.write_text(second.read_text().replace("1000(3)/mV", "1(3)/uV"))
    np.testing.assert_allclose(read_signal(path).values, SINES, atol=6e-4)
    second.write_text(second.read_text().replace("/uV", "/mmHg"))
    assert refusal(path) == "bad_unit"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("a 200\n../b 300\n", "outside_folder"),
        ("a 200\n/etc/b 300\n", "outside_folder"),
        ("a 200\nc 300\n", "missing_file"),
        ("a 200\nb 301\n", "unreadable"),
        ("a 200\nb 299\n", "unreadable"),
        ("a 200\na 200\n", "unsupported"),
        ("a 200\nrec 300\n", "unsupported"),  # itself
        ("~ 200\n~ 300\n", "no_samples"),
        ("a 200\n~ 99999999999\n", "unreadable"),
        ("a 200\nb 0\n", "unreadable"),
        ("a 200\nb -300\n", "unreadable"),
        ("a 200\nb\n", "unreadable"),
        ("a 200\n", "unreadable"),
        ("a 200\nother 300\n", "unreadable"),  # one channel less
    ],
)
def test_segments_are_checked(tmp_path: Path, lines: str, reason: str) -> None:
    write(tmp_path, SINES[:2, 200:], name="other")
    assert refusal(write_fixed(tmp_path, lines)) == reason
    assert refusal(write_fixed(tmp_path, lines, "rec/2 3 100")) == reason


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("rec/2 3 100 501", "unreadable"),
        ("rec/2 2 100 500", "unreadable"),
        ("rec/3 3 100 500", "unreadable"),
        ("rec/2 3 200 500", "unreadable"),
        ("rec/2 3", "no_rate"),
        ("rec/2 3 100 50000", "unreadable"),
    ],
)
def test_segments_must_add_up(tmp_path: Path, record: str, reason: str) -> None:
    assert refusal(write_fixed(tmp_path, record=record)) == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("b.dat 212", "../b.dat 212", "outside_folder"),
        ("b 3 100 300", "b 3 100 99999999999", "unreadable"),
        ("b 3 100 300", "b 3 50 300", "unreadable"),
        ("b.dat 212", "b.dat 99", "unsupported"),
        ("1000(3)/mV", "0/mV", "bad_unit"),
        ("b 3 100 300", "b/3 3 100 300", "unreadable"),
    ],
)
def test_headers_of_segments_are_checked(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = write_fixed(tmp_path)
    second = tmp_path / "b.hea"
    assert old in second.read_text()
    second.write_text(second.read_text().replace(old, new))
    assert refusal(path) == reason


def test_two_lists_of_segments_that_name_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text("a/1 1 100 10\nb 10\n")
    (tmp_path / "b.hea").write_text("b/1 1 100 10\na 10\n")
    assert refusal(tmp_path / "a.hea") == "unsupported"


@pytest.mark.parametrize("linked", ["b.hea", "b.dat"])
def test_links_of_segments_must_not_lead_outside(tmp_path: Path, linked: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = write_fixed(folder)
    (folder / linked).rename(tmp_path / linked)
    (folder / linked).symlink_to(tmp_path / linked)
    assert refusal(path) == "outside_folder"


def test_a_segment_with_a_channel_that_the_layout_lacks(tmp_path: Path) -> None:
    path = write_variable(tmp_path)
    layout = tmp_path / "lay.hea"
    layout.write_text(layout.read_text().replace("III", "V1"))
    assert refusal(path) == "unreadable"


def test_many_segments_are_read_in_order(tmp_path: Path) -> None:
    for i in range(50):
        write(tmp_path, SINES[:, 10 * i : 10 * i + 10], name=f"s{i}")
    lines = "".join(f"s{i} 10\n" for i in range(50))
    (tmp_path / "rec.hea").write_text(f"rec/50 3 100 500\n{lines}")
    np.testing.assert_allclose(read_signal(tmp_path / "rec").values, SINES, atol=6e-4)
