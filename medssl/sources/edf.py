"""Read EDF and EDF+ recordings in microvolt."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, span
from medssl.sources.record import BadRecord, Record, Signal

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
# The units that mne scales to V; it would take any other, nV included, for V.
VOLTS = {"V", "mV", "uV", "µV", "μV"}
SCALP = set(SITES.values()) - {"A1", "A2", "M1", "M2"}
REFERENCE = re.compile(r"-(ref|le|ar|avg|av|a1|a2|m1|m2|a1a2|a1\+a2|m1m2)$", re.IGNORECASE)
FIELDS = (  # name and width of the per-channel fields, in file order
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    """What the header claims: kept channels all have ``rate_hz``; ``dropped`` are labels to leave out."""

    rate_hz: float
    dropped: tuple[str, ...]


def read(record: Record) -> Signal:
    """Read one EDF file in uV, channel names cleaned by `clean_name`.

    Channels that are no voltage, that have no range, or that run at another rate than the scalp channels (the
    fastest channels where there are none) are left out: mne would resample them to the fastest.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``bad_unit``, ``no_samples``, ``too_short``, ``unsupported``
            (gaps in time, EDF+D) or ``unreadable``.
    """
    import mne

    size = require_file(record.path)
    with guarded("the EDF header"):
        header = _check_header(record.path, size)
    with guarded("mne"):
        raw = mne.io.read_raw_edf(
            record.path, preload=False, exclude=list(header.dropped), encoding="latin1", verbose="error"
        )
        names, length, rate_hz = list(raw.ch_names), int(raw.n_times), float(raw.info["sfreq"])
    if abs(rate_hz - header.rate_hz) > 1e-6 * header.rate_hz:
        raise BadRecord("unsupported", "the channels have different sampling rates")
    start, stop = span(record, header.rate_hz, length)
    with guarded("mne"):
        values = (raw.get_data(start=start, stop=stop, verbose="error") * 1e6).astype(np.float32)
    return Signal(values, header.rate_hz, tuple(clean_name(name) for name in names), "uV")


def clean_name(label: str) -> str:
    """Return the site or channel in an EDF label: ``EEG Fp1-REF`` and ``EEG FP1`` become ``Fp1``.

    A difference of two electrodes keeps its name (``EEG A2-A1`` becomes ``A2-A1``): it is no single site.
    """
    name = re.sub(r"^(EEG|ECG|EKG|EOG|EMG)\s+", "", label.strip(), flags=re.IGNORECASE).strip(" .")
    name = re.sub(r"\s*-\s*", "-", name)
    base = REFERENCE.sub("", name)
    if base != name and SITES.get(base.lower(), "") not in {"A1", "A2", "M1", "M2"}:
        name = base
    return SITES.get(name.lower(), name)


def _check_header(path: Path, size: int) -> _Header:
    """Compare the header's claims with the file size and choose the channels; patient fields are skipped over."""
    with path.open("rb") as file:
        version = file.read(8)
        file.seek(192)
        fixed = file.read(64)
        if version.strip() != b"0" or len(fixed) < 64:
            raise BadRecord("unreadable", "the file is not EDF or its header is cut off")
        if fixed[:5] == b"EDF+D":
            raise BadRecord("unsupported", "the recording has gaps in time (EDF+D); export it as EDF+C")
        blocks, count = int(fixed[44:52]), int(fixed[60:64])
        block_s = positive(fixed[52:60].decode("ascii"))
        if count <= 0 or blocks == 0:
            raise BadRecord("no_samples", "the file holds no data")
        if block_s is None:
            raise BadRecord("no_rate", "the header gives data blocks without a duration, so no sampling rate")
        require_bytes(256 * (count + 1), size)
        columns: dict[str, list[str]] = {}
        for name, width in FIELDS:
            text = file.read(width * count).decode("latin-1")
            columns[name] = [text[i * width : (i + 1) * width].split("\0")[0].strip() for i in range(count)]
    samples = [int(n) for n in columns["samples"]]
    if min(samples) < 0:
        raise BadRecord("unreadable", "the header claims a negative number of samples")
    # -1 blocks means "unknown" while recording; mne then counts what is there.
    require_bytes(256 * (count + 1) + max(blocks, 1) * sum(samples) * 2, size)

    signals = [i for i, label in enumerate(columns["label"]) if not label.endswith("Annotations")]
    ranged = [
        i
        for i in signals
        if samples[i]
        and _number(columns["physical_min"][i]) != _number(columns["physical_max"][i])
        and _number(columns["digital_min"][i]) < _number(columns["digital_max"][i])
    ]
    volts = [i for i in ranged if columns["unit"][i] in VOLTS]
    if not ranged:
        raise BadRecord("no_samples", "no channel has samples and a range of values")
    if not volts:
        raise BadRecord("bad_unit", "no channel is in V, mV or uV")
    scalp = [i for i in volts if clean_name(columns["label"][i]) in SCALP]
    per_block = Counter(samples[i] for i in scalp).most_common(1)[0][0] if scalp else max(samples[i] for i in volts)
    kept = [i for i in volts if samples[i] == per_block]
    dropped = tuple(columns["label"][i] for i in signals if i not in kept)
    return _Header(rate_hz=per_block / block_s, dropped=dropped)


def _number(text: str) -> float:
    """Return a header number; some writers put a decimal comma."""
    return float(text.replace(",", "."))
