"""Read the rhythm of an HL7 annotated ECG (aECG), the XML that drug trials hand to the FDA.

The file is parsed as a stream that looks at signals alone: names, dates and the trial's identifiers are passed over
and never kept.

Source: HL7 aECG implementation guide (Brown and Badilini, 2005), sections on series, sequence sets and sequences.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import XMLParser

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_file, span
from medssl.sources.record import BadRecord, Record, Signal

MAX_BYTES = 256 << 20
MAX_DEPTH = 100
READ_BYTES = 1 << 16
LEAD = "MDC_ECG_LEAD_"
TIME = ("TIME_ABSOLUTE", "TIME_RELATIVE")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
# Where signals lie; a derived series (a mean beat) hangs below "derivation" instead.
SET = ("AnnotatedECG", "component", "series", "component", "sequenceSet")
SEQUENCE = (*SET, "component", "sequence")
VALUE = (*SEQUENCE, "value")
FIELDS = {"head", "increment", "origin", "scale", "digits"}
# XML of other makers: the name of its first element, and what it is.
OTHERS = {
    rb"RestingECG": "a GE MUSE export", rb"restingecgdata": "a Philips export",
    rb"CardiologyXML": "a GE CardioSoft export",
}  # fmt: skip
# Encodings in which "<!DOCTYPE" is these nine bytes.
ENCODINGS = {"utf-8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"}


@dataclass
class _Sequence:
    """One list of numbers: its code, its kind (``SLIST_PQ``, ``GLIST_TS``, ...), and the attributes of its parts."""

    code: str = ""
    kind: str = ""
    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    digits: list[str] = field(default_factory=list)


class _Sequences:
    """Target of the XML parser: the sequences of each sequence set, and nothing else."""

    def __init__(self) -> None:
        self.sets: list[list[_Sequence]] = []
        self._path: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag.rpartition("}")[2])
        path = tuple(self._path)
        if len(path) > MAX_DEPTH:
            raise BadRecord("unreadable", "the XML is nested deeper than any annotated ECG")
        if len(path) == 1 and path[0] != SET[0]:
            raise BadRecord("unsupported", "the XML file is no annotated ECG of HL7")
        if path == SET:
            self.sets.append([])
        elif path == SEQUENCE:
            self.sets[-1].append(_Sequence())
        elif path == (*SEQUENCE, "code"):
            self.sets[-1][-1].code = attributes.get("code", "")
        elif path == VALUE:
            kind = next((text for name, text in attributes.items() if name.rpartition("}")[2] == "type"), "")
            self.sets[-1][-1].kind = kind.rpartition(":")[2]
        elif path[:-1] == VALUE and path[-1] in FIELDS:
            self.sets[-1][-1].parts[path[-1]] = attributes

    def end(self, tag: str) -> None:
        self._path.pop()

    def data(self, text: str) -> None:
        if len(self._path) == len(VALUE) + 1 and tuple(self._path) == (*VALUE, "digits"):
            self.sets[-1][-1].digits.append(text)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse a document type: it can define entities that grow without end or name other files."""
        raise BadRecord("unsupported", "the XML file declares a document type; annotated ECGs have none")


def read(record: Record) -> Signal:
    """Read all leads of an annotated ECG in mV, or in ``hints["unit"]`` (V, mV, uV, nV).

    Leads are named as params name them: ``I``, ``II``, ``III``, ``AVR``, ``AVL``, ``AVF``, ``V1`` to ``V6``.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``, ``unsupported`` (no
            annotated ECG, several recordings in one file, a document type) or ``unreadable``.
    """
    if require_file(record.path) > MAX_BYTES:
        raise BadRecord("unsupported", f"the XML file is larger than {MAX_BYTES >> 20} MB")
    target = str(record.hints.get("unit", "mV"))
    if target not in VOLTS:
        raise BadRecord("bad_unit", f"an ECG is in one of {', '.join(VOLTS)}")
    with guarded("the XML reader"):
        sets = _parse(record.path)
        found = [sequences for sequences in sets if any(s.code.startswith(LEAD) for s in sequences)]
        if not found:
            raise BadRecord("no_samples", "the annotated ECG holds no lead")
        if len(found) > 1:
            raise BadRecord("unsupported", "the annotated ECG holds several recordings; export one per file")
        rate_hz = _rate_hz(found[0])
        leads = [s for s in found[0] if s.code.startswith(LEAD)]
        channels = tuple(_lead_name(s.code) for s in leads)
        if len(set(channels)) != len(channels):
            raise BadRecord("unreadable", "the annotated ECG holds one lead twice")
        rows = [_values(sequence, target) for sequence in leads]
        if len({len(row) for row in rows}) != 1:
            raise BadRecord("unreadable", "the leads differ in length")
        start, stop = span(record, rate_hz, len(rows[0]))
        values = np.stack([row[start:stop] for row in rows])
    return Signal(values, rate_hz, channels, target)


def _parse(path: Path) -> list[list[_Sequence]]:
    """Return the sequences of each sequence set, without building a tree."""
    found = _Sequences()
    parser, tail = XMLParser(target=found), b""
    with path.open("rb") as file:
        head = file.read(1024)
        encoding = re.search(rb"""^[^>]*\bencoding\s*=\s*["']([\w.-]+)""", head)
        stated = encoding[1].decode("ascii").lower() if encoding else "utf-8"
        if b"\0" in head or head.startswith((b"\xff\xfe", b"\xfe\xff")) or stated not in ENCODINGS:
            raise BadRecord("unsupported", "the XML file is not in UTF-8 or Latin-1")
        other = next((name for root, name in OTHERS.items() if re.search(rb"<(\w+:)?" + root + rb"[\s>/]", head)), None)
        if other:
            detail = f"the file is {other}, no annotated ECG; export DICOM, HL7 aECG or CSV instead"
            raise BadRecord("unsupported", detail)
        file.seek(0)
        while block := file.read(READ_BYTES):
            # Before the parser sees it: within one block it would go on to expand what the type defines.
            if b"<!DOCTYPE" in tail + block:
                raise BadRecord("unsupported", "the XML file declares a document type; annotated ECGs have none")
            parser.feed(block)
            tail = block[-16:]
    parser.close()
    return found.sets


def _rate_hz(sequences: list[_Sequence]) -> float:
    """Return the sampling rate that the set's own time sequence states."""
    for sequence in sequences:
        if sequence.code in TIME and sequence.kind.startswith("GLIST_"):
            step = sequence.parts.get("increment", {})
            step_s = positive(step.get("value"))
            rate_hz = None if step_s is None else positive(1 / (step_s * SECONDS.get(step.get("unit", ""), np.inf)))
            if rate_hz is not None:
                # 0.002 s is 500 Hz; ten digits are more than files give.
                return float(f"{rate_hz:.10g}")
    raise BadRecord("no_rate", "the annotated ECG states no time step in s, ms or us")


def _lead_name(code: str) -> str:
    """Return the name of a lead: ``MDC_ECG_LEAD_aVR`` is AVR."""
    name = code.removeprefix(LEAD).upper()
    if not re.fullmatch(r"[A-Z0-9_+-]{1,16}", name):
        raise BadRecord("unreadable", "a lead has a code that is no lead's")
    return name


def _values(sequence: _Sequence, target: str) -> np.ndarray:
    """Return the float32 values of one lead in ``target``: origin + scale * digits."""
    if sequence.kind != "SLIST_PQ":
        raise BadRecord("unsupported", "a lead is no list of scaled digits (SLIST_PQ)")
    origin, scale = (_quantity(sequence.parts.get(name, {}), target) for name in ("origin", "scale"))
    if not scale:
        raise BadRecord("bad_unit", "a lead has a scale of 0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # before 2.4, numpy only warns of a word among the numbers
        try:
            digits = np.fromstring("".join(sequence.digits), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            digits = np.array([np.nan])
    if not np.isfinite(digits).all():
        raise BadRecord("unreadable", "the digits of a lead are not numbers")
    return (origin + scale * digits).astype(np.float32)


def _quantity(attributes: dict[str, str], target: str) -> float:
    """Return the value of a quantity in ``target``."""
    unit = attributes.get("unit", "")
    try:
        value = float(attributes["value"])
    except (KeyError, ValueError):
        value = np.nan
    if unit not in VOLTS or not np.isfinite(value):
        raise BadRecord("bad_unit", "a lead states no origin or scale in volts")
    return value * VOLTS[unit] / VOLTS[target]
