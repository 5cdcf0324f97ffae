"""Names of sites and leads, which devices write in many ways, and what the EEG readers share.

`clean_name` is the one table of names: readers, cohorts and ``embed`` compare channels by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from medssl.sources.claims import VOLTS
from medssl.sources.record import BadRecord, Record

# Spelling of the 10-20 and 10-10 sites; files write them in any case.
SITES = {
    name.lower(): name
    for name in re.findall(
        r"\w+",
        "Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F9 F7 F5 F3 F1 Fz F2 F4 F6 F8 F10 FT9 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 "
        "FT8 FT10 T9 T7 T3 C5 C3 C1 Cz C2 C4 C6 T4 T8 T10 TP9 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 TP10 P9 P7 T5 "
        "P5 P3 P1 Pz P2 P4 P6 T6 P8 P10 PO7 PO3 POz PO4 PO8 O1 Oz O2 Iz A1 A2 M1 M2",
    )
}
EARS = {"A1", "A2", "M1", "M2"}
SCALP = set(SITES.values()) - EARS
# Words before a name (``EEG Fp1``, ``POL C3``, ``ECG Lead I``, ``MDC_ECG_LEAD_V1``) and units behind it (``I (mV)``).
BEFORE_SITE = re.compile(r"^((EEG|POL)[\s_.:-]+)+", re.IGNORECASE)
BEFORE_LEAD = re.compile(r"^((ECG|EKG|LEAD|MDC_ECG_LEAD)([\s_.:]+|(?<=LEAD)(?=I|V|a|\d)|-(?=I|V)))+", re.IGNORECASE)
UNIT_BEHIND = re.compile(r"\s*([(\[]\s*[num\u00b5\u03bc]?V\s*[)\]]|\s[num\u00b5\u03bc]V)$", re.IGNORECASE)
# References behind a site, an electrode of the ears or a mean (``C3-A2``, ``C3 A2``, ``Cz-REF-0``).
REFERENCE = re.compile(
    r"[-\s_](v?ref\d?(-\d)?|le|ler|cle|ar|avg|ave|average|mean|av|car|lm|aa|a12|a1a2|m1m2|"
    r"\(?(a1\+a2|m1\+m2)\)?([/-]2)?|linked ?(ears|mastoids)|(?P<ear>[am][12]))$",
    re.IGNORECASE,
)
TOGETHER = re.compile(r"([a-z]+\d{0,2})[am][12]", re.IGNORECASE)  # C3A2
LEAD = re.compile(r"I{1,3}|aV[RLF]|V ?\d{1,2}R?|ML(I{1,3})|MCL ?\d", re.IGNORECASE)
ROMANCE = {"di": "I", "dii": "II", "diii": "III"}
NUMERALS = re.compile(r"((ECG|EKG)\W*)?lead\W*([123])", re.IGNORECASE)
# Units of voltage in headers, which write them in any case, and what they are in V.
UNITS = {unit.casefold(): volts for unit, volts in VOLTS.items()}
# Channels of markers: numbers that stand for events, whatever unit the file gives them.
MARKERS = {"status", "trigger", "trig", "stim", "stim channel", "sti 014", "marker", "markers", "event", "events"}
# A recording of voltages outside of these rates is a header gone wrong; resampling it would take any memory.
RATES_HZ = (0.1, 1e7)
# Volts beyond this have no meaning and would overflow float32 on the way to nV.
MAX_VOLTS = 1e20


@lru_cache(maxsize=4096)
def clean_name(label: str) -> str:
    """Return the site, lead or channel in a label: ``EEG Fp1-REF``, ``POL FP1`` and ``Fp1:M2`` become ``Fp1``.

    ``Lead I``, ``ECG I (mV)`` and ``DI`` become ``I``. What is no single site or lead keeps its name, as a wrong one is
    worse than none: a difference of two sites (``EEG A2-A1`` is ``A2-A1``), ``-aVR``, ``V4 (R)``, ``EMG 1``.
    """
    name = UNIT_BEHIND.sub("", label.strip()).strip(" .")
    if site := _site(BEFORE_SITE.sub("", name)):
        return site
    if number := NUMERALS.fullmatch(name):
        return "I" * int(number[3])
    lead = BEFORE_LEAD.sub("", name).strip(" .")
    if LEAD.fullmatch(lead):
        return lead.replace(" ", "")
    name = re.sub(r"^(\w+)[\s_-]+\1$", r"\1", name)  # ECG ECG: the kind of signal and its label
    return ROMANCE.get(lead.lower(), re.sub(r"\s*-\s*", "-", name))


def _site(text: str) -> str | None:
    """Return the site that a name means, or the difference of two, or None."""
    text = re.sub(r"\s*[-:/]\s*", "-", text.strip(" ."))
    if found := REFERENCE.search(text):
        site = SITES.get(text[: found.start()].lower())
        if site and not (found["ear"] and site in EARS):
            return site
    together = TOGETHER.fullmatch(text)
    if together and SITES.get(together[1].lower()) in SCALP:
        return SITES[together[1].lower()]
    parts = [SITES.get(part.lower()) for part in text.split("-")]
    return None if None in parts or len(parts) > 2 else "-".join(part for part in parts if part)


def channel_names(labels: Sequence[str]) -> list[str]:
    """Return the clean names of the channels of one recording, ``channel 1`` and so on for empty ones.

    Channels that would share one (``EMG Chin`` and ``EEG Chin``, ``C3-A1`` and ``C3-A2``) keep their labels.
    """
    clean = [clean_name(label) or f"channel {i}" for i, label in enumerate(labels, start=1)]
    pairs = [(name, label.strip()) for name, label in zip(clean, labels, strict=True)]
    shared = Counter(name for name, _ in {(name.lower(), label) for name, label in pairs})
    return [name if shared[name.lower()] == 1 else label for name, label in pairs]


def is_marker(label: str) -> bool:
    """Tell whether a channel holds event codes instead of a voltage."""
    return label.strip().lower() in MARKERS


def volts_of(label: str, unit: str) -> float | None:
    """Return the unit of a channel in V, or None for a marker and for what is no unit of voltage."""
    return None if is_marker(label) else UNITS.get(unit.strip().casefold())


def asked_unit(record: Record) -> tuple[str, float]:
    """Return the unit to give values in (``hints["unit"]``, uV by default) and its size in V; refuse ``bad_unit``."""
    unit = str(record.hints.get("unit", "uV"))
    if unit not in VOLTS:
        raise BadRecord("bad_unit", f"the recording is a voltage; unit must be one of {', '.join(VOLTS)}")
    return unit, VOLTS[unit]


def check_rate(rate_hz: float) -> float:
    """Return ``rate_hz``, or refuse one that no recording of voltages has."""
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:  # NaN compares false
        raise BadRecord("no_rate", f"the header's sampling rate is not between {RATES_HZ[0]:g} and {RATES_HZ[1]:g} Hz")
    return rate_hz


def as_float32(values: np.ndarray) -> np.ndarray:
    """Return ``values`` as float32, NaN where a file holds what is no voltage: infinities and absurd floats."""
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.asarray(values, dtype=np.float32)
    if not np.isfinite(out).all():
        out = np.where(np.isfinite(out), out, np.float32(np.nan))
    return out
