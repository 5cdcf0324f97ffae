"""EDF and BDF: values against mne, gaps in time, and headers that must be refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edfio
import mne
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medssl import sources
from medssl.sources import edf
from medssl.sources.record import BadRecord, Record, Signal
from tests.sources.examples_eeg import annotate

RATE_HZ = 200
LENGTH_S = 10
SECRET = "Doe_Jane"


def sine(rate_hz: float, frequency_hz: float = 5.0) -> np.ndarray:
    return 100 * np.sin(2 * np.pi * frequency_hz * np.arange(round(LENGTH_S * rate_hz)) / rate_hz)


def write(path: Path, channels: dict[str, tuple[np.ndarray, float]], unit: str = "uV", low: float = -500) -> Path:
    """Write labels -> (values, rate_hz); the suffix says which format."""
    kind, file = (edfio.BdfSignal, edfio.Bdf) if path.suffix == ".bdf" else (edfio.EdfSignal, edfio.Edf)
    signals = [
        kind(values, rate_hz, label=label, physical_dimension=unit, physical_range=(low, 500))
        for label, (values, rate_hz) in channels.items()
    ]
    notes = [edfio.EdfAnnotation(1.0, None, SECRET + 40 * " ")]  # room for what `place` writes
    patient = edfio.Patient(name=SECRET)
    file(signals, patient=patient, annotations=notes, data_record_duration=1).write(path)
    return path


def read(path: Path, **more: Any) -> Signal:
    signal = sources.read(Record(path, path.suffix[1:], "p", "t", **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert SECRET not in repr(signal)
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path, path.suffix[1:], "p", "t", **more))
    assert SECRET not in str(caught.value) and path.stem not in str(caught.value)
    return caught.value.reason


def patch(path: Path, at: int, text: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(text)] = text
    path.write_bytes(data)
    return path


@pytest.fixture(params=[".edf", ".bdf"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two scalp channels at one rate."""
    values = sine(RATE_HZ)
    return write(tmp_path / f"smith{request.param}", {"EEG FP1-REF": (values, RATE_HZ), "Cz": (values / 2, RATE_HZ)})


def test_sine(pair: Path) -> None:
    signal = read(pair)
    expected = sine(RATE_HZ) * [[1], [0.5]]
    np.testing.assert_allclose(signal.values, expected, atol=0.02 if pair.suffix == ".edf" else 1e-4)
    assert (signal.rate_hz, signal.channels, signal.unit) == (200.0, ("Fp1", "Cz"), "uV")


def test_whole_file_by_mne(pair: Path) -> None:
    reader = {".edf": mne.io.read_raw_edf, ".bdf": mne.io.read_raw_bdf}[pair.suffix]
    np.testing.assert_allclose(read(pair).values, reader(pair, verbose="error").get_data() * 1e6, atol=1e-4)


def test_part_and_unit(pair: Path) -> None:
    whole = read(pair).values
    np.testing.assert_array_equal(read(pair, start_s=2.345, end_s=7.0).values, whole[:, 469:1400])
    in_mv = read(pair, hints={"unit": "mV"})
    assert in_mv.unit == "mV"
    np.testing.assert_allclose(in_mv.values, whole / 1000, rtol=1e-6)
    assert refusal(pair, start_s=10.0) == "too_short"
    assert refusal(pair, hints={"unit": "mmHg"}) == "bad_unit"


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_extremes_of_the_integers(tmp_path: Path, suffix: str) -> None:
    values = np.tile([-500.0, 500.0, 0.0, -0.25], RATE_HZ * 5 // 2)
    path = write(tmp_path / f"smith{suffix}", {"Fp1": (values, RATE_HZ)})
    np.testing.assert_allclose(read(path).values[0], values, atol=0.01)


def test_inverted_physical_range(pair: Path) -> None:
    upright = read(pair).values
    at = 256 + 3 * (16 + 80 + 8)  # physical minima, then maxima; the third channel is the annotations
    patch(patch(pair, at, b"500     "), at + 3 * 8, b"-500    ")
    np.testing.assert_allclose(read(pair).values[0], -upright[0], atol=0.02)


@pytest.mark.parametrize(("unit", "factor"), [("nV", 1e-3), ("uV", 1.0), ("\xb5V", 1.0), ("mV", 1e3), ("V", 1e6)])
def test_every_unit_of_voltage(pair: Path, unit: str, factor: float) -> None:
    in_uv = read(pair).values
    patch(pair, 256 + 3 * (16 + 80), unit.encode("latin-1").ljust(8))
    values = read(pair).values
    np.testing.assert_allclose(values[0], in_uv[0] * factor, rtol=1e-6)
    np.testing.assert_array_equal(values[1], in_uv[1])  # the other channel is in uV


def test_decimal_comma_and_case_of_the_unit(pair: Path) -> None:
    upright = read(pair).values
    patch(pair, 256 + 3 * (16 + 80 + 8), b"-500,0  ")
    patch(pair, 256 + 3 * (16 + 80), b"UV      ")
    np.testing.assert_array_equal(read(pair).values, upright)


# --- claims ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at", "text", "reason"),
    [
        (0, b"\xffBIOSEMA", "unreadable"),
        (184, b"256     ", "unreadable"),  # length of the header
        (236, b"99999999", "unreadable"),  # blocks
        (236, b"0       ", "no_samples"),
        (244, b"0       ", "no_rate"),  # seconds of a block
        (244, b"1e-300  ", "no_rate"),
        (244, b"99999999", "no_rate"),
        (252, b"0   ", "no_samples"),  # channels
        (252, b"9999", "unreadable"),
        (256 + 3 * 216, b"99999999", "unreadable"),  # samples of the first channel in a block
        (256 + 3 * 216, b"-5      ", "unreadable"),
    ],
)
def test_claims_are_checked(pair: Path, at: int, text: bytes, reason: str) -> None:
    assert refusal(patch(pair, at, text)) == reason


def test_24_bits_claimed_of_16(tmp_path: Path) -> None:
    path = write(tmp_path / "smith.edf", {"Fp1": (sine(RATE_HZ), RATE_HZ)})
    patch(path, 0, b"\xffBIOSEMI")
    assert refusal(path) == "unreadable"  # three bytes a sample are not there


@pytest.mark.parametrize("field", [b"nan     ", b"inf     ", b"1e99    ", b"x       ", b"-500    "])
def test_channel_without_a_range_is_left_out(pair: Path, field: bytes) -> None:
    at = 256 + 3 * (16 + 80 + 8 + 8)  # physical maximum of the first channel
    assert read(patch(pair, at, field)).channels == ("Cz",)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (8, f"{SECRET} F 01-JAN-1950 {SECRET} a=b=c".encode()),  # patient
        (None, b"a@@Cz@@b"),  # annotation
    ],
)
def test_what_stops_mne_given_the_file_itself(pair: Path, at: int | None, text: bytes) -> None:
    whole = read(pair).values
    patch(pair, pair.read_bytes().rfind(SECRET.encode()) if at is None else at, text)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever it is
        {".edf": mne.io.read_raw_edf, ".bdf": mne.io.read_raw_bdf}[pair.suffix](pair, verbose="error")
    np.testing.assert_array_equal(read(pair).values, whole)


def test_mne_is_given_no_text(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    name = f"read_raw_{pair.suffix[1:]}"
    original = getattr(mne.io, name)
    monkeypatch.setattr(mne.io, name, lambda file, **more: given.append(file.getvalue()) or original(file, **more))
    read(pair)
    (data,) = given  # opened once
    for text in (SECRET, "FP1", "Annotations", "EDF+C", "uV"):
        assert text.encode() not in data[: 256 * 4]


def test_pieces_are_joined(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(pair).values
    monkeypatch.setattr(edf, "PIECE_BYTES", 5000)
    np.testing.assert_array_equal(read(pair).values, whole)
    np.testing.assert_array_equal(read(pair, start_s=2.3, end_s=8.1).values, whole[:, 460:1620])


def test_unknown_number_of_blocks(pair: Path) -> None:
    whole = read(pair).values
    patch(pair, 236, b"-1      ")
    np.testing.assert_array_equal(read(pair).values, whole)


# --- gaps in time ---------------------------------------------------------------------------------------------------
STARTS_S = (0, 1, 2, 5, 6, 7, 8, 12.5, 13.5, 20)  # of ten blocks of a second: gaps after the third, seventh and ninth


def place(path: Path, starts_s: Sequence[float | str]) -> Path:
    """Let the blocks start at these seconds, each with an annotation that must not come out."""
    onsets = [f"{t:+.6f}" if not isinstance(t, str) else t for t in starts_s]
    return annotate(path, [f"{t}\x14\x14\0{t}\x14{SECRET}\x14\0".encode() for t in onsets], "+D")


def expand(values: np.ndarray, rate_hz: float, starts_s: Sequence[float] = STARTS_S) -> np.ndarray:
    """Return blocks of a second (C, T) where they belong in time, NaN elsewhere."""
    n = round(rate_hz)
    at = [round((t - starts_s[0]) * rate_hz) for t in starts_s]
    out = np.full((len(values), at[-1] + n), np.nan)
    for i, a in enumerate(at):
        out[:, a : a + n] = values[:, i * n : (i + 1) * n]
    return out


def test_gaps_are_missing(pair: Path) -> None:
    whole = read(pair).values
    signal = read(place(pair, STARTS_S))
    np.testing.assert_array_equal(signal.values, expand(whole, RATE_HZ))
    assert signal.rate_hz == RATE_HZ
    first, second = signal.values[0], whole[0]
    assert first[599] == second[599] and np.isnan(first[600:1000]).all() and first[1000] == second[600]


def test_part_across_a_gap(pair: Path) -> None:
    place(pair, STARTS_S)
    whole = read(pair).values
    np.testing.assert_array_equal(read(pair, start_s=2.345, end_s=13.0).values, whole[:, 469:2600])
    np.testing.assert_array_equal(read(pair, start_s=8.5).values, whole[:, 1700:])
    np.testing.assert_array_equal(read(pair, start_s=3.5, end_s=5.005).values, whole[:, 700:1001])
    inside = read(pair, start_s=3.5, end_s=4.5).values
    assert inside.shape == (2, 200) and np.isnan(inside).all()
    assert refusal(pair, start_s=21.0) == "too_short"


def test_time_counts_from_the_first_block(pair: Path) -> None:
    expected = read(place(pair, STARTS_S)).values
    np.testing.assert_array_equal(read(place(pair, [t + 0.123 for t in STARTS_S])).values, expected)
    np.testing.assert_array_equal(read(place(pair, [t - 3600 for t in STARTS_S])).values, expected)


def test_onsets_between_samples_are_rounded(pair: Path) -> None:
    starts_s = [0, 1, 2, 3.5012, 4.5012, 5.5012, 6.5012, 7.5012, 9.0038, 10.0038]  # samples of 5 ms
    values = read(pair).values
    np.testing.assert_array_equal(read(place(pair, starts_s)).values, expand(values, RATE_HZ, starts_s))


def test_blocks_a_fraction_of_a_sample_apart_are_one_run(pair: Path) -> None:
    whole = read(pair).values
    for step_s in (1.002, 0.998):  # 0.4 samples
        np.testing.assert_array_equal(read(place(pair, [step_s * i for i in range(10)])).values, whole)
    # After a gap the onset counts again, unless the blocks before fill that time.
    late = [1.002 * i for i in range(9)] + [12.0]
    assert np.flatnonzero(np.isfinite(read(place(pair, late)).values[0]))[1800] == 2400
    early = [0.998 * i for i in range(9)] + [0.998 * 8 + 1.005]  # one sample
    np.testing.assert_array_equal(read(place(pair, early)).values, whole)


def test_no_gap_after_all(pair: Path) -> None:
    whole = read(pair).values
    np.testing.assert_array_equal(read(place(pair, range(10))).values, whole)
    annotate(pair, [b""] * 10, "+C")  # nobody asks these
    np.testing.assert_array_equal(read(pair).values, whole)


def test_pieces_are_joined_across_gaps(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(place(pair, STARTS_S)).values
    monkeypatch.setattr(edf, "PIECE_BYTES", 5000)
    np.testing.assert_array_equal(read(pair).values, whole)


@pytest.mark.parametrize(
    "starts_s",
    [
        (0, 1, 2, 2.5, 4, 5, 6, 7, 8, 9),  # one within another
        (0, 1, 2, 2.995, 4, 5, 6, 7, 8, 9),  # by a sample
        (0, 1, 2, 5, 4, 6, 7, 8, 9, 10),
        (*range(9), -5),
        (*range(9), 1e6),  # eleven days for ten seconds
        (*range(9), "+999999999999"),
        (*range(9), "+9999999999999"),
        (*range(9), "9"),
        (*range(9), "+nan"),
        (*range(9), "+9e3"),
        (*range(9), "+ 9"),
        (*range(9), "++9"),
        (*range(9), "+9\x151"),
        (*range(9), "+9\x14text"),  # an annotation, but not one that keeps time
        (*range(9), "\0+9"),
        ("", *range(1, 10)),
    ],
)
def test_onsets_that_cannot_be(pair: Path, starts_s: tuple[float | str, ...]) -> None:
    assert refusal(place(pair, starts_s)) == "unreadable"


def test_other_annotations_may_be_anything(pair: Path) -> None:
    values = read(place(pair, STARTS_S)).values
    annotate(pair, [f"{t:+}\x14\x14".encode() + b"\xff\xfe+-\x15\0" + SECRET.encode() for t in STARTS_S], "+D")
    np.testing.assert_array_equal(read(pair).values, values)


def test_no_channel_keeps_the_time(pair: Path) -> None:
    place(pair, STARTS_S)
    patch(pair, 256 + 2 * 16, b"EEG            ")
    assert refusal(pair) == "unreadable"


def test_gaps_take_no_memory_before_they_are_refused(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(pair, (*range(9), 990))
    assert read(pair).values.shape == (2, 991 * RATE_HZ)
    place(pair, (*range(9), 1100))
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    assert refusal(pair) == "unreadable"


@settings(max_examples=60, deadline=None)
@given(
    steps_s=st.lists(st.one_of(st.just(0.0), st.floats(0.006, 30)), min_size=9, max_size=9),
    start_s=st.floats(0, 10),
    length_s=st.floats(0.01, 300),
)
def test_any_gaps(
    tmp_path_factory: pytest.TempPathFactory, steps_s: list[float], start_s: float, length_s: float
) -> None:
    path = write(tmp_path_factory.mktemp("gaps") / "smith.edf", {"Fp1": (sine(RATE_HZ), RATE_HZ)})
    values = read(path).values
    starts_s = [round(float(t), 6) for t in np.cumsum([0, *(1 + np.array(steps_s))])]
    # Half way between two samples either is right.
    assume(all(abs(RATE_HZ * t % 1 - 0.5) > 1e-3 for t in starts_s))
    expected = expand(values, RATE_HZ, starts_s)
    begin, end = round(start_s * RATE_HZ), round((start_s + length_s) * RATE_HZ)
    if begin >= min(end, expected.shape[1]):
        return
    part = read(place(path, starts_s), start_s=start_s, end_s=start_s + length_s).values
    np.testing.assert_array_equal(part, expected[:, begin:end])
