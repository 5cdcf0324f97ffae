"""Read ECG waveforms from DICOM: 12-lead, general (16 and 32 bit) and ambulatory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.sources.claims import VOLTS, guarded, positive, require_bytes, span
from medssl.sources.record import BadRecord, Record, Signal

CLASSES = {f"1.2.840.10008.5.1.4.1.1.9.1.{kind}" for kind in (1, 2, 3, 4)}
LITTLE_ENDIAN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
# Both dictionaries of leads, MDC (ISO 11073-10101) and SCP-ECG (EN 1064), number them alike.
LEADS = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 61: "III", 62: "AVR", 63: "AVL", 64: "AVF",
}  # fmt: skip
NUMBER = {"MDC": re.compile(r"2:(\d+)"), "SCPECG": re.compile(r"5\.6\.3-9-(\d+)")}
SPELLED = "MDC_ECG_LEAD_"
NAME = re.compile(r"(?:Lead )?(I{1,3}|aV[RLF]|V[1-9]R?|X|Y|Z)(?: \(Einthoven\))?", re.IGNORECASE)
SAMPLES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}


@dataclass(frozen=True)
class _Channel:
    """One usable channel of a group; value in V = ``(stored * gain + baseline) * volts``."""

    index: int
    name: str
    gain: float
    baseline: float
    volts: float


def read(record: Record) -> Signal:
    """Read the ECG of one file in ``hints["unit"]``, by default mV.

    A file may hold several groups of channels, each with its own rate: a rhythm of ten seconds beside an average
    beat, or three leads at a time. One group is read: the one with the most standard leads, of those the longest,
    of those the first. Channels that are no voltage are left out, as is a lead named before; padding is NaN.
    Leads are named I, II, III, AVR, AVL, AVF, V1 to V9 (V3R to V9R), X, Y, Z; others ``channel <number>``.

    Raises:
        BadRecord: ``no_rate``, ``bad_unit`` (no channel in a voltage), ``no_samples``, ``too_short``, ``unsupported``
            (samples coded as sound) or ``unreadable``.
    """
    import pydicom

    target = str(record.hints.get("unit", "mV"))
    if target not in VOLTS:
        raise BadRecord("bad_unit", f"an ECG is a voltage; its unit must be one of {', '.join(VOLTS)}")
    with guarded("pydicom"):
        file = pydicom.dcmread(record.path, specific_tags=["WaveformSequence"])
        if file.file_meta.TransferSyntaxUID not in LITTLE_ENDIAN:
            raise BadRecord("unsupported", "the waveform is big endian or compressed")
        groups = [(group, list(_channels(group))) for group in file.get("WaveformSequence") or []]
        if not groups:
            raise BadRecord("no_samples", "the file holds no waveform")
        group, chosen = max(groups, key=_rank)  # the first of equal ones
        if not chosen:
            raise BadRecord("bad_unit", "no channel states a voltage and its sensitivity")
        rate_hz = positive(group.get("SamplingFrequency"))
        if rate_hz is None:
            raise BadRecord("no_rate", "the file states no sampling rate")
        stored = _stored(group)
        start, stop = span(record, rate_hz, len(stored))
        values = np.empty((len(chosen), stop - start), dtype=np.float32)
        padding = group.get("WaveformPaddingValue")
        for row, channel in zip(values, chosen, strict=True):
            part = stored[start:stop, channel.index]
            row[:] = (part * channel.gain + channel.baseline) * (channel.volts / VOLTS[target])
            if isinstance(padding, bytes) and len(padding) >= part.itemsize:
                row[part == np.frombuffer(padding, dtype=part.dtype, count=1)[0]] = np.nan
    return Signal(values, rate_hz, tuple(channel.name for channel in chosen), target)


def _channels(group: Any) -> Iterator[_Channel]:
    """Yield the channels of a group that are voltages, each lead once."""
    seen: set[str] = set()
    for index, channel in enumerate(group.get("ChannelDefinitionSequence") or []):
        units = channel.get("ChannelSensitivityUnitsSequence")
        volts = VOLTS.get(str(units[0].get("CodeValue", "")).strip()) if units else None
        gain, correction = channel.get("ChannelSensitivity"), channel.get("ChannelSensitivityCorrectionFactor")
        if volts is None or gain in (None, "", 0):
            continue
        gain = float(gain) * (1.0 if correction in (None, "") else float(correction))
        baseline = float(channel.get("ChannelBaseline") or 0)
        name = _lead(channel) or f"channel {index + 1}"
        if name not in seen and np.isfinite([gain, baseline]).all():
            seen.add(name)
            yield _Channel(index, name, gain, baseline, volts)


def _lead(channel: Any) -> str | None:
    """Return the lead by its code, else by the meaning of the code; the free label may hold anything."""
    for source in channel.get("ChannelSourceSequence") or []:
        code, meaning = str(source.get("CodeValue", "")).strip(), str(source.get("CodeMeaning", "")).strip()
        pattern = NUMBER.get(str(source.get("CodingSchemeDesignator", "")).strip())
        number = pattern.fullmatch(code) if pattern else None
        if number and int(number[1]) in LEADS:
            return LEADS[int(number[1])]
        spelled = code.removeprefix(SPELLED) if code.startswith(SPELLED) else meaning
        if name := NAME.fullmatch(spelled):
            return name[1].upper()
    return None


def _rank(one: tuple[Any, list[_Channel]]) -> tuple[int, float]:
    """Return the number of standard leads of a group, and its length in s."""
    group, channels = one
    leads = sum(not channel.name.startswith("channel ") for channel in channels)
    return leads, int(group.get("NumberOfWaveformSamples") or 0) / (positive(group.get("SamplingFrequency")) or np.inf)


def _stored(group: Any) -> np.ndarray:
    """Return the stored samples ``(T, C)`` of a group."""
    channels, length, data = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples), group.WaveformData
    code = SAMPLES.get(str(group.get("WaveformSampleInterpretation", "")).strip())
    if code is None:
        raise BadRecord("unsupported", "the samples are neither plain 8, 16 nor 32 bit integers")
    kind = np.dtype(f"<{code}")
    if int(group.WaveformBitsAllocated) != 8 * kind.itemsize:
        raise BadRecord("unreadable", "the bits of a sample contradict each other")
    if channels < 1 or length < 1:
        raise BadRecord("no_samples", "the waveform holds no samples")
    if channels != len(group.ChannelDefinitionSequence):
        raise BadRecord("unreadable", "the header describes another number of channels than it states")
    require_bytes(channels * length * kind.itemsize, len(data))
    return np.frombuffer(data, dtype=kind, count=channels * length).reshape(length, channels)
