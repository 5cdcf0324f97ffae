"""WFDB records of every format, layout and rate, against wfdb's own values and against bytes written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from medssl import sources
from medssl.sources.record import BadRecord, Record, Signal
from medssl.sources.wfdb_header import FORMAT_BYTES

NAME = "Doe^Jane"
RATE_HZ = 100
TIME_S = np.arange(500) / RATE_HZ
SINES = np.stack([np.sin(2 * np.pi * f * TIME_S + f) for f in (1.5, 5.0, 0.7)])
STEPS = {"80": 100, "508": 100, "310": 500, "311": 500, "8": 100}  # per mV; the narrow formats take no more


def read_signal(path: Path, **more: Any) -> Signal:
    signal = sources.read(Record(path=path, format="wfdb", patient="p1", trial="t1", **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.flags["C_CONTIGUOUS"]
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="wfdb", patient="p1", trial="t1", **more))
    for private in (NAME, "Jane", path.name, str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


def pack_310(a: int, b: int, c: int) -> bytes:
    return (a << 1 | (c & 31) << 11).to_bytes(2, "little") + (b << 1 | c >> 5 << 11).to_bytes(2, "little")


# Formats that wfdb reads and does not write: samples of one block, and how they are packed.
PACK: dict[str, tuple[int, Any]] = {
    "61": (1, lambda a: a.to_bytes(2, "big")),
    "160": (1, lambda a: ((a + 2**15) % 2**16).to_bytes(2, "little")),
    "310": (3, lambda a, b, c: pack_310(a % 1024, b % 1024, c % 1024)),
    "311": (3, lambda a, b, c: (a % 1024 | b % 1024 << 10 | c % 1024 << 20).to_bytes(4, "little")),
}


def write_by_hand(folder: Path, values: np.ndarray, fmt: str, labels: list[str]) -> Path:
    steps, bits = STEPS.get(fmt, 1000), 10 if fmt in ("310", "311") else 16
    flat = [-(2 ** (bits - 1)) if np.isnan(v) else int(np.round(v * steps)) + 3 for v in values.T.reshape(-1)]
    per_block, pack = PACK[fmt]
    flat += [0] * (-len(flat) % per_block)
    if fmt == "61":
        flat = [n % 2**16 for n in flat]
    blocks = [pack(*flat[i : i + per_block]) for i in range(0, len(flat), per_block)]
    (folder / "rec.dat").write_bytes(b"".join(blocks))
    lines = [f"rec.dat {fmt} {steps}(3)/mV 0 0 0 0 0 {name}" for name in labels]
    (folder / "rec.hea").write_text("\n".join([f"rec {len(values)} {RATE_HZ} {values.shape[1]}", *lines, f"# {NAME}"]))
    return folder / "rec.hea"


def write(folder: Path, values: np.ndarray = SINES, *, fmt: str = "16", name: str = "rec", **more: Any) -> Path:
    labels = more.pop("labels", ["I", "II", "III"][: len(values)])
    if fmt in PACK:
        return write_by_hand(folder, values, fmt, labels)
    wfdb.wrsamp(
        name,
        fs=RATE_HZ,
        units=["mV"] * len(values),
        sig_name=list(labels),
        p_signal=values.T.copy(),
        fmt=[fmt] * len(values),
        adc_gain=[STEPS.get(fmt, 1000)] * len(values),
        baseline=[3] * len(values),
        comments=[f"name: {NAME}"],
        write_dir=str(folder),
        **more,
    )
    return folder / f"{name}.hea"


# --- formats --------------------------------------------------------------------------------------------------------
def test_every_format_is_tested() -> None:
    assert set(FORMAT_BYTES) == {"8", *WRITTEN}


WRITTEN = ["16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"]


@pytest.mark.parametrize("fmt", WRITTEN)
def test_formats_against_wfdb(tmp_path: Path, fmt: str) -> None:
    values = SINES.copy()
    values[1, 40:47] = np.nan
    path = write(tmp_path, values, fmt=fmt)
    signal = read_signal(path)
    theirs = wfdb.rdrecord(str(path.with_suffix(""))).p_signal.T
    np.testing.assert_allclose(signal.values, theirs, atol=1e-6)
    np.testing.assert_allclose(signal.values, values, atol=0.51 / STEPS.get(fmt, 1000))
    assert np.isnan(signal.values).sum() == 7
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II", "III"), "mV")


@pytest.mark.parametrize("fmt", WRITTEN)
@pytest.mark.parametrize(("start", "stop"), [(1, 500), (2, 4), (133, 134), (499, 500), (0, 1)])
def test_formats_from_any_frame(tmp_path: Path, fmt: str, start: int, stop: int) -> None:
    path = write(tmp_path, fmt=fmt)
    part = read_signal(path, start_s=start / RATE_HZ, end_s=stop / RATE_HZ)
    np.testing.assert_array_equal(part.values, read_signal(path).values[:, start:stop])


@pytest.mark.parametrize("fmt", WRITTEN)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7])
def test_formats_end_anywhere_in_a_block(tmp_path: Path, fmt: str, frames: int) -> None:
    path = write(tmp_path, SINES[:2, :frames], fmt=fmt)
    np.testing.assert_allclose(read_signal(path).values, SINES[:2, :frames], atol=0.51 / STEPS.get(fmt, 1000))


def test_format_8_adds_up_differences(tmp_path: Path) -> None:
    stored = np.round(100 * SINES[:2]).astype(int)
    differences = np.diff(stored, axis=1, prepend=[[50], [-7]])
    (tmp_path / "a.dat").write_bytes(differences.T.astype("<i1").tobytes())
    lines = [f"a.dat 8 100/mV 8 0 {first} 0 0 {name}" for first, name in ((50, "I"), (-7, "II"))]
    (tmp_path / "a.hea").write_text("\n".join(["a 2 100 500", *lines]))
    signal = read_signal(tmp_path / "a.hea")
    np.testing.assert_allclose(signal.values, wfdb.rdrecord(str(tmp_path / "a")).p_signal.T, atol=1e-6)
    np.testing.assert_allclose(signal.values, stored / 100, atol=1e-6)
    # From the middle too, where wfdb itself starts again at the first value of the header.
    part = read_signal(tmp_path / "a.hea", start_s=2.0, end_s=3.0)
    np.testing.assert_array_equal(part.values, signal.values[:, 200:300])


def test_24_bits_far_from_zero_keep_their_digits(tmp_path: Path) -> None:
    stored = 8_000_000 + np.arange(10)
    (tmp_path / "a.dat").write_bytes(stored.astype("<i4").tobytes())
    (tmp_path / "a.hea").write_text("a 1 100 10\na.dat 32 1000(8000000)/mV 32 0 0 0 0 I\n")
    np.testing.assert_allclose(read_signal(tmp_path / "a").values, [np.arange(10) / 1000], rtol=1e-6)


@pytest.mark.parametrize("fmt", [f for f in WRITTEN if not f.startswith("5")])
def test_length_may_be_left_to_the_file(tmp_path: Path, fmt: str) -> None:
    path = write(tmp_path, fmt=fmt)
    whole = read_signal(path).values
    path.write_text(path.read_text().replace("rec 3 100 500", "rec 3 100"))
    np.testing.assert_array_equal(read_signal(path).values, whole)
    np.testing.assert_array_equal(read_signal(path, start_s=1.0, end_s=2.0).values, whole[:, 100:200])


@pytest.mark.parametrize(("fmt", "length"), [("516", ""), ("16", " 0"), ("516", " 0")])
def test_lengths_that_wfdb_needs(tmp_path: Path, fmt: str, length: str) -> None:
    path = write(tmp_path, fmt=fmt)
    path.write_text(path.read_text().replace("rec 3 100 500", f"rec 3 100{length}"))
    assert refusal(path) == "unsupported"


@pytest.mark.parametrize(("old", "new"), [(" 516 ", " 508 "), ("100 500", "100 501"), ("100 500", "100 99999999999")])
def test_flac_must_agree_with_the_header(tmp_path: Path, old: str, new: str) -> None:
    path = write(tmp_path, fmt="516")
    path.write_text(path.read_text().replace(old, new))
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("fmt", WRITTEN)
def test_cut_off_files_are_refused(tmp_path: Path, fmt: str) -> None:
    path = write(tmp_path, fmt=fmt)
    data = next(file for file in tmp_path.iterdir() if file.suffix in (".dat", ".flac"))
    data.write_bytes(data.read_bytes()[:-4])
    assert refusal(path) == "unreadable"


def test_format_310_ends_with_a_word(tmp_path: Path) -> None:
    path = write(tmp_path, SINES[:1, :5], fmt="310")
    data = path.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:-1])  # wfdb would repeat a byte of the block before
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("fmt", WRITTEN)
def test_lengths_are_compared_with_the_files_before_a_part_is_read(tmp_path: Path, fmt: str) -> None:
    path = write(tmp_path, fmt=fmt)
    path.write_text(path.read_text().replace(" 100 500", " 100 99999999999"))
    assert refusal(path, end_s=1.0) == "unreadable"


def test_formats_must_not_differ_within_a_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("rec.dat 16 ", "rec.dat 8 ", 1))
    assert refusal(path) == "unreadable"


# --- header ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_microvolts_written_with_a_greek_letter(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_text().replace("/mV", "/µV").encode(encoding))
    np.testing.assert_allclose(read_signal(path).values, SINES / 1000, atol=1e-6)


def test_names_may_hold_spaces_and_signs(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace(" III\n", " Lead #3 of 3\n"))
    assert read_signal(path).channels == ("I", "II", "Lead #3 of 3")
    path.write_text(path.read_text().replace(" Lead #3 of 3\n", "\n"))
    assert read_signal(path).channels == ("I", "II", "channel 3")


def test_adc_zero_stands_in_for_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(np.array([1024, 1224], "<i2").tobytes())
    (tmp_path / "a.hea").write_text("a 1 100 2\na.dat 16 200 11 1024 0 0 0 I\n")
    np.testing.assert_array_equal(read_signal(tmp_path / "a").values, [[0, 1]])


def test_skewed_channels_are_aligned(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("rec.dat 16 ", "rec.dat 16:3 ", 1))
    plain, signal = SINES[0], read_signal(path)
    np.testing.assert_allclose(signal.values[0, :-3], plain[3:], atol=6e-4)
    assert np.isnan(signal.values[0, -3:]).all()
    np.testing.assert_allclose(signal.values[1:], SINES[1:], atol=6e-4)
    np.testing.assert_array_equal(read_signal(path, end_s=1.0).values, signal.values[:, :100])
    path.write_text(path.read_text().replace("16:3 ", "16:999999999999 "))
    assert refusal(path) == "unreadable"


def test_skews_differ_between_channels_of_several_samples(tmp_path: Path) -> None:
    plain = [sine(100, seconds=5.0), sine(50, 3.0, seconds=5.0), sine(100, 1.0, seconds=5.0)]
    path = write_rates(tmp_path, (2, 1, 2), plain)
    whole = read_signal(path).values
    path.write_text(path.read_text().replace("16x2 ", "16x2:5 ", 1).replace("16x1 ", "16x1:2 "))
    values = read_signal(path).values
    np.testing.assert_array_equal(values[0, :-10], whole[0, 10:])
    np.testing.assert_allclose(values[1, 20:-20], whole[1, 24:-16], atol=0.01)  # filtered up to 100 Hz
    np.testing.assert_array_equal(values[2], whole[2])
    assert np.isnan(values).sum(axis=1).tolist() == [10, 5, 0]


def test_a_name_that_is_not_ascii_is_the_file_that_was_checked(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = read_signal(path).values
    (tmp_path / "rc.dat").write_bytes(bytes(len((tmp_path / "rec.dat").read_bytes())))  # what wfdb's own parser finds
    (tmp_path / "rec.dat").rename(tmp_path / "réc.dat")
    path.write_text(path.read_text().replace("rec.dat", "réc.dat"))
    np.testing.assert_array_equal(read_signal(path).values, whole)


def test_differences_begin_at_the_zero_of_the_converter(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(np.ones(10, "<i1").tobytes())
    (tmp_path / "a.hea").write_text("a 1 100 10\na.dat 8 1/mV 8 5\n")
    np.testing.assert_array_equal(read_signal(tmp_path / "a.hea").values[0], np.arange(6, 16) - 5)
    later = read_signal(tmp_path / "a.hea", start_s=0.04, end_s=0.08).values[0]
    np.testing.assert_array_equal(later, np.arange(10, 14) - 5)


def test_header_text_never_comes_out(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("rec 3 100 500", "rec 3 100 500 10:11:12 13/04/1975") + f"# {NAME}\n")
    signal = read_signal(path)
    assert NAME not in repr(signal) and "1975" not in repr(signal)


# --- rates ----------------------------------------------------------------------------------------------------------
def write_rates(folder: Path, per_frame: tuple[int, ...], signals: list[np.ndarray], unit: str = "mV") -> Path:
    """Write channels of ``per_frame`` samples per frame, 1000 steps per mV, 50 frames a second."""
    frames = len(signals[0]) // per_frame[0]
    blocks = [
        np.nan_to_num(np.round(1000 * s), nan=-32768).reshape(frames, n)
        for s, n in zip(signals, per_frame, strict=True)
    ]
    (folder / "a.dat").write_bytes(np.concatenate(blocks, axis=1).astype("<i2").tobytes())
    lines = [f"a.dat 16x{n} 1000/{'mV' if i == 0 else unit} 16 0 0 0 0 c{i}" for i, n in enumerate(per_frame)]
    (folder / "a.hea").write_text("\n".join([f"a {len(per_frame)} 50 {frames}", *lines]))
    return folder / "a.hea"


def sine(rate_hz: float, f_hz: float = 2.0, seconds: float = 10.0, offset: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * f_hz * np.arange(round(seconds * rate_hz)) / rate_hz) + offset


@pytest.mark.parametrize("per_frame", [(4, 1), (1, 4), (3, 2), (2, 1, 5)])
def test_slower_channels_come_at_the_fastest_rate(tmp_path: Path, per_frame: tuple[int, ...]) -> None:
    path = write_rates(tmp_path, per_frame, [sine(50 * n, offset=5.0) for n in per_frame])
    signal = read_signal(path)
    rate_hz = 50.0 * max(per_frame)
    assert signal.rate_hz == rate_hz
    expected = sine(rate_hz, offset=5.0)
    assert signal.values.shape == (len(per_frame), len(expected))
    inner = slice(len(expected) // 10, -len(expected) // 10)
    for row, n in zip(signal.values, per_frame, strict=True):
        # 0.5 % of the amplitude; half a sample late would be 3 % at 200 Hz.
        np.testing.assert_allclose(row[inner], expected[inner], atol=0.005)
        # No step at the ends, in spite of the offset; after a channel's last sample nothing is known.
        last = (500 * n - 1) * max(per_frame) // n
        np.testing.assert_allclose(row[: last + 1], expected[: last + 1], atol=0.1)
        np.testing.assert_allclose(row[last:], expected[last], atol=0.5)
    part = read_signal(path, start_s=2.0, end_s=6.0)
    whole = signal.values[:, int(2 * rate_hz) : int(6 * rate_hz)]
    np.testing.assert_allclose(part.values[:, 40:-40], whole[:, 40:-40], atol=0.005)


def test_missing_values_of_slower_channels_stay_missing(tmp_path: Path) -> None:
    slow = sine(50)
    slow[100:110] = np.nan
    values = read_signal(write_rates(tmp_path, (4, 1), [sine(200), slow])).values
    absent = np.flatnonzero(np.isnan(values[1]))
    # From just after the last known value to just before the next: nothing else is lost, nothing made up.
    np.testing.assert_array_equal(absent, np.arange(99 * 4 + 1, 110 * 4))
    assert not np.isnan(values[0]).any()
    gone = np.full(500, np.nan)
    assert np.isnan(read_signal(write_rates(tmp_path, (4, 1), [sine(200), gone])).values[1]).all()


def test_rate_is_that_of_the_channels_kept(tmp_path: Path) -> None:
    path = write_rates(tmp_path, (1, 4), [sine(50), sine(200)], unit="mmHg")
    signal = read_signal(path)
    assert (signal.rate_hz, signal.channels, signal.values.shape) == (50.0, ("c0",), (1, 500))
