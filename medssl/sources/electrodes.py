"""Names of sites and leads, which devices write in many ways, and what the EEG readers share.

`clean_name` is the one table of names: readers, cohorts and ``embed`` compare channels by it.
"""

from __future__ import annotations

import re
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
SCALP = set(SITES.values()) - {"A1", "A2", "M1", "M2"}
# Words before a name (``EEG Fp1``, ``POL C3``, ``ECG Lead I``, ``MDC_ECG_LEAD_V1``) and units behind it (``I (mV)``).
BEFORE = re.compile(r"^((EEG|ECG|EKG|EOG|EMG|POL|LEAD|MDC_ECG_LEAD)[\s_:-]+|LEAD(?=\s*[IV\d]))+", re.IGNORECASE)
UNIT_BEHIND = re.compile(r"\s*[(\[][^()\[\]]*[)\]]$")
REFERENCE = re.compile(
    r"-(ref\d?|le|ler|cle|ar|avg|av|car|lm|a1|a2|m1|m2|a1a2|a1\+a2|a12|m1m2|m1\+m2|linked ?(ears|mastoids))$",
    re.IGNORECASE,
)
# Leads of an ECG by other names: Arabic numerals, and the D of Romance languages.
LEADS = {name: lead for lead, n in (("I", 1), ("II", 2), ("III", 3)) for name in (f"d{lead.lower()}", f"d{n}")}
NUMERALS = {"1": "I", "2": "II", "3": "III"}
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

    ``Lead I``, ``ECG I (mV)`` and ``DI`` become ``I``. A difference of two electrodes keeps its name (``EEG A2-A1``
    becomes ``A2-A1``): it is no single site; nor is ``-aVR`` the lead aVR.
    """
    stripped = UNIT_BEHIND.sub("", label.strip()).strip(" .")
    name = BEFORE.sub("", stripped).strip(" .") or stripped
    if re.match(r"(?i)(.*\W)?lead\W*[123]$", stripped):
        name = NUMERALS[name[-1]]
    name = re.sub(r"\s*[-:/]\s*", "-", name) if SITES.get(re.split(r"\s*[-:/]", name)[0].lower()) else name
    name = re.sub(r"\s*-\s*", "-", name)
    base = REFERENCE.sub("", name)
    if base != name and SITES.get(base.lower(), "") not in {"A1", "A2", "M1", "M2"}:
        name = base
    return LEADS.get(name.lower(), SITES.get(name.lower(), name))


def is_marker(label: str) -> bool:
    """Tell whether a channel holds event codes instead of a voltage."""
    return label.strip().lower() in MARKERS


def asked_unit(record: Record) -> tuple[str, float]:
    """Return the unit to give values in (``hints["unit"]``, uV by default) and its size in V.

    Raises:
        BadRecord: ``bad_unit`` for one that is no unit of voltage.
    """
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
