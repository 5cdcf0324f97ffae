"""Channels by name, and leads that follow from two others."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.ingest.channels import pick_channels
from medssl.sources.record import BadRecord, Signal


def recording(values: np.ndarray, channels: tuple[str, ...]) -> Signal:
    return Signal(values, 100, channels, "mV")


def test_channels_are_picked_by_name() -> None:
    x = np.arange(3, dtype=np.float32)[:, None] * np.ones((3, 200), np.float32)
    picked = pick_channels(recording(x, channels=("I", "avr", "V1")), ("V1", "AVR"))
    assert picked[:, 0].tolist() == [2, 1]


def test_a_missing_channel_is_refused_and_never_zero() -> None:
    with pytest.raises(BadRecord, match="missing_channel") as caught:
        pick_channels(recording(np.ones((1, 200), np.float32), channels=("A",)), ("A", "B"))
    assert "['B'] are absent" in caught.value.detail


def test_old_and_new_names_of_eeg_sites() -> None:
    x = np.arange(4, dtype=np.float32)[:, None] * np.ones((4, 200), np.float32)
    old = recording(x, channels=("T3", "T4", "T5", "T6"))
    assert pick_channels(old, ("P8", "t7", "T4", "P7"))[:, 0].tolist() == [3, 0, 1, 2]
    new = recording(x, channels=("T7", "T8", "P7", "P8"))
    assert pick_channels(new, ("T6", "T3", "T8"))[:, 0].tolist() == [3, 0, 1]
    both = recording(x, channels=("T7", "T3", "P7", "C3"))
    assert pick_channels(both, ("T3", "T7"))[:, 0].tolist() == [1, 0]  # its own name first


def test_limb_leads_follow_from_two() -> None:
    # Potentials of the right arm, left arm and left foot; every lead by its definition.
    right, left, foot = np.random.default_rng(0).standard_normal((3, 300)).astype(np.float32)
    leads = {
        "I": left - right,
        "II": foot - right,
        "III": foot - left,
        "aVR": right - (left + foot) / 2,
        "aVL": left - (right + foot) / 2,
        "aVF": foot - (right + left) / 2,
    }
    two = recording(np.stack([leads["II"], leads["I"]]), channels=("II", "I"))
    asked = tuple(leads)
    assert np.allclose(pick_channels(two, asked, "derive"), np.stack(list(leads.values())), atol=1e-5)
    with pytest.raises(BadRecord, match=r"missing_channel: channels \['III', 'aVR', 'aVL', 'aVF'\] are absent"):
        pick_channels(two, asked)
    with pytest.raises(BadRecord, match=r"missing_channel: channels \['V1'\] are absent"):
        pick_channels(two, ("III", "V1"), "derive")
    # What is recorded is never replaced, and MLII is no II.
    own = recording(np.ones((3, 300), np.float32), channels=("I", "II", "AVR"))
    assert (pick_channels(own, ("aVR", "III"), "derive") == [[1], [0]]).all()
    with pytest.raises(BadRecord, match="missing_channel"):
        pick_channels(recording(np.ones((2, 9), np.float32), channels=("I", "MLII")), ("III",), "derive")
    with pytest.raises(BadRecord, match="missing_channel"):
        pick_channels(recording(np.ones((1, 9), np.float32), channels=("II",)), ("I",), "derive")


def test_a_gap_stays_a_gap_in_what_is_derived() -> None:
    x = np.ones((2, 200), np.float32)
    x[0, 50:100] = np.nan
    derived = pick_channels(recording(x, channels=("I", "II")), ("aVF",), "derive")
    assert np.isnan(derived[0]).nonzero()[0].tolist() == list(range(50, 100))
