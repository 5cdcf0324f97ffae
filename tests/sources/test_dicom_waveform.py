"""DICOM ECG: leads, units and the group that is read, against sines that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from medssl.sources.record import Signal
from tests.sources import examples_images as examples
from tests.sources.examples_images import LEADS, ecg_uv, waveform
from tests.sources.test_dicom import read, refusal

NUMBERS = {
    "I": 1, "II": 2, "III": 61, "AVR": 62, "AVL": 63, "AVF": 64, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8,
}  # fmt: skip
TWELVE = {name: (f"2:{number}", "MDC") for name, number in NUMBERS.items()}


def test_ecg_sine(tmp_path: Path) -> None:
    signal = read(examples.dicom_waveform(tmp_path, 0))
    assert isinstance(signal, Signal)
    assert (signal.rate_hz, signal.channels, signal.unit) == (250.0, ("I", "II", "V1"), "mV")
    np.testing.assert_allclose(signal.values, ecg_uv() / 1000, atol=1.3e-3)  # half a step of 2.5 uV
    part = read(tmp_path / "a.dcm", start_s=1, end_s=2.5, hints={"unit": "uV"})
    np.testing.assert_allclose(part.values, ecg_uv()[:, 250:625], atol=1.3)
    assert part.unit == "uV"
    assert refusal(tmp_path / "a.dcm", start_s=4)[0] == "too_short"
    assert refusal(tmp_path / "a.dcm", hints={"unit": "mmHg"})[0] == "bad_unit"


def test_ecg_leads(tmp_path: Path) -> None:
    group = waveform(ecg_uv(12), 250, TWELVE)
    assert read(examples.write_ecg(tmp_path / "a.dcm", [group])).channels == tuple(TWELVE)
    odd = {
        "aVR": ("x", "99LOCAL"), "I (Einthoven)": ("", "99LOCAL"), "II": ("2:2", "MDC"), "Lead of Doe^Jane": ("", ""),
        "second II": ("MDC_ECG_LEAD_II", "MDC"),
    }  # fmt: skip
    signal = read(examples.write_ecg(tmp_path / "b.dcm", [waveform(ecg_uv(5), 250, odd)]))
    assert signal.channels == ("AVR", "I", "II", "channel 4")


def test_ecg_group_with_most_leads_then_the_longest(tmp_path: Path) -> None:
    strip = waveform(ecg_uv(1, 10), 250, {"II": ("2:2", "MDC")})
    beat = waveform(ecg_uv(3, 1, 500), 500, LEADS, WaveformOriginality="DERIVED")
    rhythm = waveform(ecg_uv(3, 4, 100), 100, LEADS)
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [strip, beat, rhythm]))
    assert (signal.rate_hz, signal.values.shape) == (100.0, (3, 400))


def test_ecg_units_and_padding(tmp_path: Path) -> None:
    group = waveform(ecg_uv(), 250, LEADS, WaveformPaddingValue=np.int16(-40).tobytes())
    units = [channel.ChannelSensitivityUnitsSequence[0] for channel in group.ChannelDefinitionSequence]
    units[1].CodeValue, units[2].CodeValue = "mV", "mm[Hg]"
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [group]))
    assert signal.channels == ("I", "II")
    np.testing.assert_allclose(signal.values[1, 1:5], ecg_uv()[1, 1:5], atol=1.3)
    assert np.isnan(signal.values[0, 0])  # 0 uV is stored as -40
    for unit in units:
        unit.CodeValue = "mm[Hg]"
    assert refusal(examples.write_ecg(tmp_path / "b.dcm", [group]))[0] == "bad_unit"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SamplingFrequency": 0}, "no_rate"),
        ({"NumberOfWaveformSamples": 1001}, "unreadable"),
        ({"NumberOfWaveformSamples": 4000000000}, "unreadable"),
        ({"NumberOfWaveformSamples": 0}, "no_samples"),
        ({"NumberOfWaveformChannels": 4}, "unreadable"),
        ({"WaveformBitsAllocated": 8}, "unreadable"),
        ({"WaveformSampleInterpretation": "MB"}, "unsupported"),
    ],
)
def test_ecg_claims_are_checked(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    assert refusal(examples.write_ecg(tmp_path / "a.dcm", [waveform(ecg_uv(), 250, LEADS, **tags)]))[0] == reason


def test_ecg_32_bit_and_other_waveforms(tmp_path: Path) -> None:
    group = waveform(ecg_uv(), 250, LEADS, WaveformBitsAllocated=32, WaveformSampleInterpretation="SL")
    group.WaveformData = np.frombuffer(group.WaveformData, "<i2").astype("<i4").tobytes()
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [group], uid.General32bitECGWaveformStorage))
    np.testing.assert_allclose(signal.values, ecg_uv() / 1000, atol=1.3e-3)
    assert refusal(examples.write_ecg(tmp_path / "b.dcm", [group], uid.HemodynamicWaveformStorage))[0] == "unsupported"
    assert refusal(examples.write_ecg(tmp_path / "c.dcm", []))[0] == "no_samples"
