"""One table of names of sites and leads, for files, cohorts and embed."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.ingest.channels import pick_channels
from medssl.sources.electrodes import channel_names, clean_name
from medssl.sources.record import BadRecord, Signal


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EEG FP1-LE", "Fp1"), ("C3:M2", "C3"), ("C3/A2", "C3"), ("POL C3", "C3"), ("EEG_Fp1", "Fp1"),
        ("fp1 - ref", "Fp1"),
        ("Fc5.", "FC5"), ("EEG Cz-A1+A2", "Cz"), ("EEG O1 (uV)", "O1"), ("EEG T3-CLE", "T3"), ("O2-Ref1", "O2"),
        ("C3A2", "C3"), ("C3 A2", "C3"), ("C3_M1", "C3"), ("EEG C3 Ref", "C3"), ("C3-AVERAGE", "C3"), ("C3-Vref", "C3"),
        ("C3-(A1+A2)/2", "C3"), ("EEG A1-REF", "A1"), ("EEG Cz-REF-0", "Cz"), ("EEG.C3", "C3"),
        ("aVL mV", "aVL"), ("V 1", "V1"),
        ("Lead I", "I"), ("lead 2", "II"), ("Lead3", "III"), ("ECG Lead V1", "V1"), ("ECG I", "I"),
        ("MDC_ECG_LEAD_AVF", "AVF"),
        ("I (mV)", "I"), ("V6 [mV]", "V6"), ("DII", "II"), ("ECG V4R", "V4R"),
        # What is no single site or lead keeps its name.
        ("EEG A2-A1", "A2-A1"), ("Fp1-F7", "Fp1-F7"), ("EEG Fpz-Cz", "Fpz-Cz"), ("-aVR", "-aVR"), ("ECG", "ECG"),
        ("EEG", "EEG"),
        ("MLII", "MLII"), ("leads off", "leads off"), ("Pleth", "Pleth"), ("EKG1", "EKG1"), ("", ""),
        ("EMG Chin", "EMG Chin"), ("EEG Chin", "EEG Chin"), ("EMG I", "EMG I"), ("EOG C3", "EOG C3"),
        ("V4 (R)", "V4 (R)"),
        ("C3 (Laplacian)", "C3 (Laplacian)"), ("Pacing lead 2", "Pacing lead 2"), ("PPG lead 1", "PPG lead 1"),
        ("D1", "D1"),
        ("ECG 1", "ECG 1"), ("ECG -aVR", "ECG-aVR"), ("POL E", "POL E"), ("EOG E1-M2", "EOG E1-M2"),
    ],
)  # fmt: skip
def test_names(label: str, name: str) -> None:
    assert clean_name(label) == name
    assert clean_name(name) == name


def signal(*channels: str) -> Signal:
    return Signal(np.arange(len(channels), dtype=np.float32)[:, None].repeat(3, 1), 100, channels, "uV")


def picked(found: Signal, *wanted: str) -> list[float]:
    return pick_channels(found, wanted)[:, 0].tolist()


def test_names_agree_in_both_directions() -> None:
    assert picked(signal("EEG FP1-LE", "POL C3", "EEG T7-M2"), "C3", "T3", "Fp1") == [1, 2, 0]
    assert picked(signal("Fp1", "C3"), "EEG C3-LE", "POL FP1") == [1, 0]
    # The name as it is wins, then the only other one that may be meant.
    assert picked(signal("C3-M2", "C3"), "C3") == [1]
    assert picked(signal("Lead I", "Lead II"), "II", "i") == [1, 0]
    with pytest.raises(BadRecord, match=r"channels \['C3'\]: two of the recording may be meant"):
        picked(signal("C3-A1", "C3-A2"), "C3")
    assert picked(signal("C3-A1", "C3-A2"), "C3-A2") == [1]


def test_two_of_one_name_are_never_chosen_from() -> None:
    assert picked(signal("i", "II", "I"), "I", "i") == [2, 0]
    assert picked(signal("i", "II"), "I") == [0]
    for have, wanted in ((("I", "II", "I"), "I"), (("i", "i"), "I"), (("T3", "T3"), "T7"), (("Lead I", "ECG I"), "I")):
        with pytest.raises(BadRecord, match="two of the recording may be meant"):
            picked(signal(*have), wanted)
    twice = Signal(np.ones((2, 3), np.float32), 100, ("T8-P8", "T8-P8"), "uV")  # one channel, written twice
    assert pick_channels(twice, ("T8-P8",)).shape == (1, 3)
    with pytest.raises(BadRecord, match=r"channels \['I'\]: two of the recording"):
        pick_channels(signal("I", "I", "II"), ("aVR",), "derive")
    for have, wanted in (("V4 (R)", "V4"), ("EMG I", "I"), ("Resp lead 2", "II"), ("ECG 1", "EMG 1"), ("-aVR", "aVR")):
        with pytest.raises(BadRecord, match="are absent"):
            picked(signal(have), wanted)


def test_labels_that_would_become_one_name_stay() -> None:
    assert channel_names(["EEG Fp1-LE", "EEG C3-A1", "EEG C3-A2", "", "ECG I", "EMG I"]) == [
        "Fp1", "EEG C3-A1", "EEG C3-A2", "channel 4", "I", "EMG I",
    ]  # fmt: skip
    assert channel_names(["Lead I", "I"]) == ["Lead I", "I"]
    assert picked(signal(*channel_names(["EEG C3-A1", "EEG C3-A2"])), "EEG C3-A2") == [1]
