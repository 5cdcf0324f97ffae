"""Annotated ECGs of HL7: values, what is passed over, and what must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl import sources
from medssl.sources.record import BadRecord, Record, Signal

NAME = "Doe^Jane"
RATE_HZ = 500
TIME_S = np.arange(5000) / RATE_HZ
LEADS = {name: np.sin(2 * np.pi * 1.5 * TIME_S + i) for i, name in enumerate(("I", "aVR", "V1"))}
TIME = '<value xsi:type="GLIST_TS"><head value="20010203040506.789"/><increment value="0.002" unit="s"/></value>'


def sequence(code: str, value: str) -> str:
    return f'<component><sequence><code code="{code}" displayName="{NAME}"/>{value}</sequence></component>'


def lead(
    name: str, values: np.ndarray, *, origin: str = 'value="0" unit="uV"', scale: str = 'value="5" unit="uV"'
) -> str:
    digits = " ".join(str(n) for n in np.round(200 * values).astype(int))
    value = f'<value xsi:type="SLIST_PQ"><origin {origin}/><scale {scale}/><digits>{digits}</digits></value>'
    return sequence(f"MDC_ECG_LEAD_{name}", value)


def rhythm(listed: str | None = None, time: str = TIME) -> str:
    listed = "".join(lead(name, v) for name, v in LEADS.items()) if listed is None else listed
    return f"<component><sequenceSet>{sequence('TIME_ABSOLUTE', time)}{listed}</sequenceSet></component>"


def write(folder: Path, sets: str | None = None, *, before: str = "", encoding: str = "UTF-8") -> Path:
    """Write an annotated ECG with a patient, annotations and a mean beat around ``sets``."""
    beat = f"<derivation><derivedSeries>{rhythm(lead('I', 9 + LEADS['I'][:300]))}</derivedSeries></derivation>"
    notes = f"<annotationSet><annotation><text>{NAME}</text></annotation></annotationSet>"
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n{before}'
        '<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f'<id root="1.2" extension="{NAME}"/><effectiveTime><low value="20010203"/></effectiveTime>'
        f"<componentOf><timepointEvent><subject><name>{NAME}</name><birthTime value='19750413'/></subject>"
        f"</timepointEvent></componentOf><component><series><id extension='{NAME}'/>"
        f"{rhythm() if sets is None else sets}{beat}{notes}</series></component></AnnotatedECG>\n"
    )
    (folder / "a.xml").write_text(text, encoding=encoding)
    return folder / "a.xml"


def read_signal(path: Path, **more: Any) -> Signal:
    signal = sources.read(Record(path=path, format="aecg", patient="p1", trial="t1", **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert NAME not in repr(signal)
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="aecg", patient="p1", trial="t1", **more))
    for private in (NAME, "Jane", path.name, str(path.parent), "1975"):
        assert private not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1", "us-ascii"])
def test_sine(tmp_path: Path, encoding: str) -> None:
    signal = read_signal(write(tmp_path, encoding=encoding))
    np.testing.assert_allclose(signal.values, list(LEADS.values()), atol=0.0026)
    assert (signal.rate_hz, signal.channels, signal.unit) == (500.0, ("I", "AVR", "V1"), "mV")


def test_part_and_unit(tmp_path: Path) -> None:
    path = write(tmp_path)
    signal = read_signal(path)
    np.testing.assert_array_equal(read_signal(path, start_s=1.0, end_s=2.5).values, signal.values[:, 500:1250])
    np.testing.assert_allclose(read_signal(path, hints={"unit": "uV"}).values, 1000 * signal.values, rtol=1e-6)
    assert refusal(path, hints={"unit": "mmHg"}) == "bad_unit"
    assert refusal(path, start_s=10.0) == "too_short"


def test_origin_and_scale_have_units_of_their_own(tmp_path: Path) -> None:
    listed = lead("II", LEADS["I"], origin='value="0.25" unit="mV"', scale='value="2500" unit="nV"')
    np.testing.assert_allclose(read_signal(write(tmp_path, rhythm(listed))).values, [LEADS["I"] / 2 + 0.25], atol=0.002)


@pytest.mark.parametrize(
    ("step", "rate_hz"),
    [('value="2" unit="ms"', 500), ('value="0.001" unit="s"', 1000), ('value="3906.25" unit="us"', 256)],
)
def test_time_steps(tmp_path: Path, step: str, rate_hz: float) -> None:
    time = f'<value xsi:type="GLIST_PQ"><head value="0" unit="s"/><increment {step}/></value>'
    assert read_signal(write(tmp_path, rhythm(time=time))).rate_hz == rate_hz


def test_all_leads_have_their_usual_names(tmp_path: Path) -> None:
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    signal = read_signal(write(tmp_path, rhythm("".join(lead(name, LEADS["I"]) for name in names))))
    assert signal.channels == ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")


def test_other_sequences_are_passed_over(tmp_path: Path) -> None:
    pressure = lead("I", LEADS["I"]).replace("MDC_ECG_LEAD_I", "MDC_PRESS_BLD").replace("uV", "mm[Hg]")
    assert read_signal(write(tmp_path, rhythm(lead("II", LEADS["I"]) + pressure))).channels == ("II",)


# --- refusals -------------------------------------------------------------------------------------------------------
def test_empty_and_absent_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.xml") == "missing_file"
    (tmp_path / "a.xml").touch()
    assert refusal(tmp_path / "a.xml") == "unreadable"


ZOO = "".join(f'<!ENTITY {b} "{f"&{a};" * 50}">' for a, b in zip("abcdefg", "bcdefgh", strict=True))


@pytest.mark.parametrize(
    "before",
    [
        '<!DOCTYPE AnnotatedECG SYSTEM "http://127.0.0.1/x.dtd">',
        '<!DOCTYPE AnnotatedECG [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        f'<!DOCTYPE AnnotatedECG [<!ENTITY a "aaaaaaaaaa">{ZOO}]>',
        f"<!--{'x' * 65_480}--><!DOCTYPE AnnotatedECG>",  # across two reads
    ],
)
def test_document_types_are_refused(tmp_path: Path, before: str) -> None:
    assert refusal(write(tmp_path, before=before)) == "unsupported"


@pytest.mark.parametrize("encoding", ["utf-16", "cp037"])
def test_encodings_that_could_hide_a_document_type_are_refused(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, before="<!DOCTYPE AnnotatedECG>", encoding=encoding)
    assert refusal(path) in ("unsupported", "unreadable")
    path.write_text('<?xml version="1.0" encoding="cp037"?><AnnotatedECG/>')
    assert refusal(path) == "unsupported"


def test_other_xml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(f"<patient><name>{NAME}</name></patient>")
    assert refusal(tmp_path / "a.xml") == "unsupported"
    (tmp_path / "a.xml").write_text("<AnnotatedECG>" + "<a>" * 5000 + "</a>" * 5000 + "</AnnotatedECG>")
    assert refusal(tmp_path / "a.xml") == "unreadable"


@pytest.mark.parametrize("keep", [50, 1000, 20_000, -3])
def test_cut_off_files_are_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"


V = LEADS["I"]


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ("", "no_samples"),
        (rhythm(""), "no_samples"),
        (rhythm(lead("I", V[:0])), "no_samples"),
        (rhythm() + rhythm(), "unsupported"),
        (rhythm(lead("I", V) + lead("I", V)), "unreadable"),
        (rhythm(lead("I", V) + lead("II", V[:-1])), "unreadable"),
        (rhythm(lead("I", V).replace("<digits>", "<digits>1 x2 ")), "unreadable"),
        (rhythm(lead("I", V).replace("<digits>", "<digits>nan ")), "unreadable"),
        (rhythm(lead("I", V).replace("SLIST_PQ", "GLIST_PQ")), "unsupported"),
        (rhythm(lead(f"I {NAME}", V)), "unreadable"),
        (rhythm(lead("I", V, scale='value="5" unit="mmHg"')), "bad_unit"),
        (rhythm(lead("I", V, scale='value="5"')), "bad_unit"),
        (rhythm(lead("I", V, scale='value="0" unit="uV"')), "bad_unit"),
        (rhythm(lead("I", V, scale='value="nan" unit="uV"')), "bad_unit"),
        (rhythm(lead("I", V, origin="")), "bad_unit"),
        (rhythm(time=TIME.replace('value="0.002"', 'value="0"')), "no_rate"),
        (rhythm(time=TIME.replace('value="0.002"', "")), "no_rate"),
        (rhythm(time=TIME.replace('unit="s"', 'unit="d"')), "no_rate"),
        (rhythm(time=TIME.replace("increment", "step")), "no_rate"),
    ],
)
def test_incomplete_recordings_are_refused(tmp_path: Path, sets: str, reason: str) -> None:
    assert refusal(write(tmp_path, sets)) == reason
