"""Annotations of EDF+ and BDF+: files written byte by byte and by edfio, against a parser of one byte at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.sources.annotations import MAX_TEXT, Annotation, read_edf
from medssl.sources.record import BadRecord
from tests.sources.examples_eeg import annotate

SECRET = "Doe_Jane"


def write(
    path: Path,
    blocks: Sequence[Sequence[bytes]],
    labels: Sequence[str] = ("EDF Annotations",),
    block_s: str = "0",
    kind: str = "EDF+C",
    size: int = 0,
) -> Path:
    """Write an EDF (or BDF, by the suffix) of channels with ``labels``, whose bytes are ``blocks[block][channel]``."""
    width = 3 if path.suffix == ".bdf" else 2
    samples = max(size, *(len(data) for block in blocks for data in block)) // width + 1
    count = len(labels)
    fields = [(16, list(labels)), (80, [""] * count), (8, [""] * count), (8, ["-1"] * count), (8, ["1"] * count)]
    fields += [(8, ["-32768"] * count), (8, ["32767"] * count), (80, [""] * count), (8, [str(samples)] * count)]
    fields += [(32, [""] * count)]
    version = "\xffBIOSEMI" if width == 3 else "0       "
    head = f"{version}{f'X F X {SECRET}':<80}{'Startdate X X X X':<80}01.01.8500.00.00{256 * (count + 1):<8}{kind:<44}"
    head += f"{len(blocks):<8}{block_s:<8}{count:<4}"
    head += "".join(f"{text:<{n}}" for n, texts in fields for text in texts)
    body = b"".join(data.ljust(samples * width, b"\0") for block in blocks for data in block)
    path.write_bytes(head.encode("latin-1") + body)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadRecord) as caught:
        read_edf(path)
    assert SECRET not in str(caught.value) and path.stem not in str(caught.value)
    return caught.value.reason


def slow(data: bytes) -> list[tuple[str, str, bytes]] | None:
    """Return onset, duration and text of every annotation with a text, None for a list that is none."""
    found: list[tuple[str, str, bytes]] = []
    at = 0

    def number() -> str:
        nonlocal at
        text = ""
        while at < len(data) and chr(data[at]) in "0123456789.":
            text += chr(data[at])
            at += 1
        return text if text[:1].isdigit() and text.count(".") <= 1 else "no"

    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        sign = chr(data[at])
        at += 1
        onset, duration = number(), "0"
        if data[at : at + 1] == b"\x15":
            at += 1
            duration = number()
        if sign not in "+-" or "no" in (onset, duration) or data[at : at + 1] != b"\x14":
            return None
        at += 1
        texts, text = [], b""
        while at < len(data) and data[at] != 0:
            if data[at] == 0x14:
                texts.append(text)
                text = b""
            else:
                text += data[at : at + 1]
            at += 1
        if text or not texts:  # the last one ends too
            return None
        found += [(sign + onset, duration, text) for text in texts if text]
    return found


@pytest.fixture(params=[".edf", ".bdf"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / f"smith{request.param}"


def test_hypnogram(path: Path) -> None:
    tals = b"+0\x1530630\x14Sleep stage W\x14\0+30630\x15120\x14Sleep stage 1\x14\0+30750\x15390\x14Sleep stage ?\x14\0"
    assert read_edf(write(path, [[tals]])) == [
        Annotation(0.0, 30630.0, "Sleep stage W"),
        Annotation(30630.0, 120.0, "Sleep stage 1"),
        Annotation(30750.0, 390.0, "Sleep stage ?"),
    ]


def test_examples_of_the_standard(path: Path) -> None:
    tals = [
        b"+180\x14Lights off\x14Close door\x14\0+180\x14Lights off\x14\0+180\x14Close door\x14\0",
        b"+1800.2\x1525.5\x14Apnea\x14\0-0.065\x14Pre-stimulus beep 1000Hz\x14\0",
        b"+3456.789\x14\x14R-wave\x14\0+3.14\x1504.20\x14nothing\x14\0\0\0",
    ]
    assert read_edf(write(path, [[b"+0\x14\x14\0" + tal] for tal in tals], block_s="1")) == [
        Annotation(-0.065, 0.0, "Pre-stimulus beep 1000Hz"),
        Annotation(3.14, 4.2, "nothing"),
        Annotation(180.0, 0.0, "Lights off"),
        Annotation(180.0, 0.0, "Close door"),
        Annotation(180.0, 0.0, "Lights off"),
        Annotation(180.0, 0.0, "Close door"),
        Annotation(1800.2, 25.5, "Apnea"),
        Annotation(3456.789, 0.0, "R-wave"),
    ]


def test_seconds_count_from_the_first_block(path: Path) -> None:
    blocks = [[b"+0.25\x14\x14\0+1.5\x14a\x14\0"], [b"+7.25\x14\x14\0+7.25\x142\x14\0"]]
    for kind in ("EDF+C", "EDF+D"):
        assert read_edf(write(path, blocks, kind=kind)) == [Annotation(1.25, 0.0, "a"), Annotation(7.0, 0.0, "2")]


def test_several_channels(path: Path) -> None:
    labels = ("EEG Cz", "EDF Annotations", "EOG", "BDF Annotations")
    blocks = [
        [b"+9\x14no\x14", b"+5\x14\x14\0+5.5\x14a\x14", b"\xff\x80", b"+5.25\x14b\x14\0"],
        [b"", b"+6\x14\x14\0", b"+", b"+6.5\x14c\x14\0+5\x14d\x14"],
    ]
    assert [(a.onset_s, a.text) for a in read_edf(write(path, blocks, labels, "1"))] == [
        (0.0, "d"), (0.25, "b"), (0.5, "a"), (1.5, "c")
    ]  # fmt: skip


def test_no_annotation_channel(path: Path) -> None:
    assert read_edf(write(path, [[b"+0\x14a\x14\0"]], ["EEG Cz"], "1")) == []
    assert read_edf(write(path, [[b""]])) == []


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_written_by_edfio(tmp_path: Path, suffix: str) -> None:
    kind, file = (edfio.BdfSignal, edfio.Bdf) if suffix == ".bdf" else (edfio.EdfSignal, edfio.Edf)
    rng = np.random.default_rng(0)
    onsets, durations = rng.uniform(0, 10, 50).round(4), rng.uniform(0, 3, 50).round(3)
    notes = [edfio.EdfAnnotation(t, d, f"event {i} µ") for i, (t, d) in enumerate(zip(onsets, durations, strict=True))]
    path = tmp_path / f"smith{suffix}"
    file([kind(rng.normal(size=1000), 100, label="EEG Cz")], annotations=notes, data_record_duration=1).write(path)
    assert read_edf(path) == [Annotation(*note) for note in sorted(notes)]


def test_text_in_any_encoding(path: Path) -> None:
    tals = [
        "+0\x14µV — Schläfrig\x14\0".encode(),
        b"+1\x14Schl\xe4frig\x14\0",
        b"+2\x14two\r\nlines\tand \xff\x15\x14\0",
    ]
    assert [a.text for a in read_edf(write(path, [[b"".join(tals)]]))] == [
        "µV — Schläfrig", "Schläfrig", "two\r\nlines\tand ÿ\x15"
    ]  # fmt: skip


def test_long_text_is_cut_off(path: Path) -> None:
    (long,) = read_edf(write(path, [[b"+0\x14" + 3000 * "é".encode() + b"\x14\0"]]))
    assert long.text == MAX_TEXT * "é"


def test_too_many_annotations(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, [[b"+0\x14\x14\0" + 50 * b"+1\x14a\x14b\x14\0"]] * 2)
    monkeypatch.setattr("medssl.sources.annotations.MAX_ANNOTATIONS", 200)
    assert len(read_edf(path)) == 200
    monkeypatch.setattr("medssl.sources.annotations.MAX_ANNOTATIONS", 199)
    assert refusal(path) == "unsupported"


@pytest.mark.parametrize(
    "damaged",
    [
        b"1\x14a\x14",
        b"+\x14a\x14",
        b"+.5\x14a\x14",
        b"+1.2.3\x14a\x14",
        b"+1,5\x14a\x14",
        b"+1e3\x14a\x14",
        b"+nan\x14a\x14",
        b"+inf\x14a\x14",
        b"+1 \x14a\x14",
        b"+\xb2\x14a\x14",
        b"+" + 13 * b"9" + b"\x14a\x14",
        b"+" + 5000 * b"9" + b"\x14a\x14",
        b"+1." + 31 * b"0" + b"\x14a\x14",
        b"+1\x15\x14a\x14",
        b"+1\x15-2\x14a\x14",
        b"+1\x152\x153\x14a\x14",
        b"+1\x14a",
        b"+1\x14",
        b"+1",
        b"a",
        b"\x14\x14",
        b"\xff\xff\xff",
        b"+1\x14a\x14\0junk",
    ],
)
def test_damaged_lists(path: Path, damaged: bytes) -> None:
    assert refusal(write(path, [[b"+0\x14\x14\0+1\x14good\x14\0" + damaged + b"\0"]])) == "unreadable"


def test_damaged_files(path: Path, tmp_path: Path) -> None:
    whole = write(path, [[b"+0\x14\x14\0"], [b"+1\x14\x14\0"]]).read_bytes()
    assert refusal(tmp_path / "absent.edf") == "missing_file"
    assert refusal(tmp_path) == "missing_file"
    assert refusal(tmp_path / ("x" * 5000)) == "unreadable"
    for keep in (0, 100, 255, 300, 511, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert refusal(path) == "unreadable"
    for at, text, reason in (
        (0, b"1", "unreadable"), (184, b"x", "unreadable"), (236, b"0", "no_samples"), (236, b"3", "unreadable"),
        (244, b"\xff", "unreadable"), (252, b"9", "unreadable"), (252, b"0", "no_samples"),
        (256 + 216, b"-1", "unreadable"), (256 + 216, b"99999999", "unreadable"),
    ):  # fmt: skip
        path.write_bytes(whole[:at] + text + whole[at + len(text) :])
        assert refusal(path) == reason
    path.write_bytes(whole[:236] + b"-1" + whole[238:])  # unknown number of blocks
    assert read_edf(path) == []


def test_claims_without_a_byte_a_block_take_no_time(path: Path) -> None:
    whole = write(path, [[b""]]).read_bytes()
    path.write_bytes(whole[:236] + b"99999999" + whole[244 : 256 + 216] + b"0       " + whole[256 + 224 :])
    assert read_edf(path) == []


def test_annotations_meet_the_samples_after_a_gap(tmp_path: Path) -> None:
    from medssl.sources import read
    from medssl.sources.record import Record, Signal

    ramp = np.arange(500.0)
    path = tmp_path / "smith.edf"
    signal = edfio.EdfSignal(ramp, 100, label="EEG Cz", physical_dimension="uV", physical_range=(-500, 500))
    edfio.Edf([signal], annotations=[edfio.EdfAnnotation(0, None, 40 * " ")], data_record_duration=1).write(path)
    tals = [f"+{t}\x14\x14\0+{t + 0.5}\x14middle\x14\0".encode() for t in (0.5, 1.5, 2.5, 9.5, 20.5)]
    values = read(Record(annotate(path, tals, "+D"), "edf", "p", "t"))
    assert isinstance(values, Signal)
    at = [round(a.onset_s * values.rate_hz) for a in read_edf(path)]
    np.testing.assert_allclose(values.values[0, at], [50, 150, 250, 350, 450], atol=0.02)
    assert np.isfinite(values.values[0]).sum() == 500


ANY = st.lists(st.sampled_from([*b"+-.0159\x14\x15\0\0a\n\xc3\xa9"]), max_size=40).map(bytes)
SECONDS = st.decimals(0, 10**6, places=4).map(str)
TEXTS = st.lists(st.text(st.characters(exclude_characters="\x14\0", codec="utf-8"), max_size=5), max_size=3)


@st.composite
def lists(draw: st.DrawFn) -> bytes:
    """Return a list as the standard has it, now and then with a byte changed."""
    data = draw(st.sampled_from("+-")) + draw(SECONDS) + draw(st.one_of(st.just(""), SECONDS.map("\x15{}".format)))
    out = bytearray((data + "\x14" + "".join(f"{text}\x14" for text in draw(TEXTS) or [""])).encode() + b"\0")
    if draw(st.integers(0, 5)) == 0:
        out[draw(st.integers(0, len(out) - 1))] = draw(st.sampled_from(b"+.5\x14\x15\0\xff"))
    return bytes(out)


@settings(max_examples=300, deadline=None)
@given(blocks=st.lists(st.lists(st.one_of(lists(), ANY), max_size=4).map(b"".join), min_size=1, max_size=3))
def test_against_the_slow_parser(tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes]) -> None:
    path = write(tmp_path_factory.mktemp("tal") / "smith.edf", [[b"+0\x14\x14\0" + data] for data in blocks])
    parsed = [slow(data) for data in blocks]
    if None in parsed:
        assert refusal(path) == "unreadable"
        return
    expected = []
    for onset, duration, text in (line for lines in parsed for line in lines or []):
        try:
            words = text.decode()
        except UnicodeDecodeError:
            words = text.decode("latin-1")
        expected.append(Annotation(float(onset), float(duration), words))
    assert read_edf(path) == sorted(expected, key=lambda a: a.onset_s)
