"""The real sets where they are at hand: how many are listed, and whether values are plausible."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medssl import sources
from medssl.sources import manifest, published
from medssl.sources.record import Record, Signal, Volume

REAL = {  # folder, records, patients
    "ptbxl": ("ecg/ptbxl_500", 500, 466),
    "cinc2017": ("ecg/cinc2017_af300", 300, 300),
    "ppg_bp": ("ppg/ppg_bp", 657, 219),
    "welltory": ("ppg/welltory", 21, 21),
    "eegmat": ("eeg/eegmat_125hz", 72, 36),
    "msd_hippocampus": ("mri/msd_hippocampus", 260, 260),
    "luna16_slices": ("ct/luna16_slices224", 1000, 500),
    "tcga_lung": ("ct/tcga_lung_ct63", 63, 54),
}
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
SITES = (
    *("Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4", "T5", "T6", "P3", "P4", "O1", "O2"),
    *("Fz", "Cz", "Pz", "A2-A1", "ECG"),
)


def real_root(name: str) -> Path:
    folder = os.environ.get("MEDSSL_REAL_DATA")
    if not folder:
        pytest.skip("MEDSSL_REAL_DATA is not set")
    return Path(folder) / REAL[name][0]


@pytest.mark.parametrize("name", REAL)
def test_real_counts(name: str) -> None:
    records = sources.list_records(name, real_root(name))
    assert len(records) == REAL[name][1]
    assert len({r.patient for r in records}) == REAL[name][2]
    assert len({(r.patient, r.trial) for r in records}) == len(records)
    assert {r.source for r in records} == {name}
    assert [manifest.order(r) for r in records] == sorted(manifest.order(r) for r in records)
    assert not any("refused" in r.hints for r in records)


def few(name: str) -> list[Record]:
    return sources.list_records(name, real_root(name))[::20]


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "unit", "lengths"),
    [
        ("ptbxl", 100, LEADS, "mV", (1000, 1000)),
        ("cinc2017", 300, ("ECG",), "mV", (2700, 18300)),
        ("ppg_bp", 1000, ("PPG",), "1", (2100, 4200)),
        ("welltory", 30, ("R", "G", "B"), "1", (2000, 3400)),
        ("eegmat", 125, SITES, "uV", (7500, 7500)),
    ],
)
def test_real_signals(
    name: str, rate_hz: float, channels: tuple[str, ...], unit: str, lengths: tuple[int, int]
) -> None:
    for record in few(name):
        signal = sources.read(record)
        assert isinstance(signal, Signal)
        assert (signal.rate_hz, signal.channels, signal.unit) == (rate_hz, channels, unit)
        assert signal.values.shape[0] == len(channels)
        assert lengths[0] <= signal.values.shape[1] <= lengths[1]
        assert np.isfinite(signal.values).all()
        assert signal.values.std() > 0


def test_real_units_are_plausible() -> None:
    ecg = sources.read(few("ptbxl")[0])
    eeg = sources.read(few("eegmat")[0])
    assert isinstance(ecg, Signal)
    assert isinstance(eeg, Signal)
    assert 0.3 < np.abs(ecg.values).max() < 10  # mV
    assert 3 < eeg.values[:19].std() < 60  # uV


def test_real_ptbxl_superclasses() -> None:
    records = sources.list_records("ptbxl", real_root("ptbxl"))
    counts: dict[str, int] = {}
    for record in records:
        superclasses = record.labels.get("superclass", ())
        assert isinstance(superclasses, tuple)
        for superclass in superclasses:
            counts[superclass] = counts.get(superclass, 0) + 1
    assert counts == {"NORM": 297, "STTC": 96, "CD": 78, "MI": 73, "HYP": 40}
    assert sum(r.fold == 9 for r in records) == 81
    assert sum(r.labels.get("age") == 90 for r in records) == 3


def test_real_workbook_of_ppg_bp_equals_its_csv(tmp_path: Path) -> None:
    root = real_root("ppg_bp")
    (tmp_path / "PPG-BP dataset.xlsx").symlink_to(root / "PPG-BP dataset.xlsx")
    from_csv, from_workbook = published.ppg_bp(root), published.ppg_bp(tmp_path)
    assert [(r.patient, r.trial, dict(r.labels)) for r in from_workbook] == [
        (r.patient, r.trial, dict(r.labels)) for r in from_csv
    ]
    assert sum(r.labels["hypertensive"] == "yes" for r in from_csv) == 3 * 54
    assert sum(r.labels["diabetes"] == "yes" for r in from_csv) == 3 * 38


def test_real_parts_of_papagei() -> None:
    patients = {r.patient: r for r in published.ppg_bp(real_root("ppg_bp"))}.values()
    assert [sum(r.fold == fold for r in patients) for fold in (0, 1, 2, None)] == [123, 41, 41, 14]
    # Of the 82 who do not train, age alone ranks those with a systolic pressure of 120 or more.
    others = [r for r in patients if r.fold in (1, 2)]
    high = [r.labels["sbp_120"] == "yes" for r in others]
    assert sum(high) == 52
    assert roc_auc_score(high, [r.labels["age"] for r in others]) == pytest.approx(0.774, abs=5e-4)


def test_real_hippocampus() -> None:
    for record in few("msd_hippocampus"):
        volume = sources.read(record)
        assert isinstance(volume, Volume)
        assert volume.spacing_mm == (1.0, 1.0, 1.0)
        assert np.isfinite(volume.values).all()
        assert volume.mask is not None
        assert volume.mask.shape == volume.values.shape
        assert np.sum(volume.mask == 1) == record.anatomy["anterior_mm3"]
        assert np.sum(volume.mask == 2) == record.anatomy["posterior_mm3"]
        # The head of the hippocampus lies before its tail: the axis towards posterior is the right way round.
        assert np.mean(np.nonzero(volume.mask == 1)[1]) < np.mean(np.nonzero(volume.mask == 2)[1])


def test_real_ct() -> None:
    for record in few("luna16_slices"):
        volume = sources.read(record)
        assert isinstance(volume, Volume)
        assert (volume.values.shape, volume.unit) == ((1, 224, 224), "1")
        assert 0 <= volume.values.min() < volume.values.max() <= 255
        assert np.isnan(volume.spacing_mm).all()
    for record in sources.list_records("tcga_lung", real_root("tcga_lung")):
        volume = sources.read(record)
        assert isinstance(volume, Volume)
        assert (volume.values.shape, volume.unit) == ((1, 512, 512), "HU")
        assert record.anatomy == {"age_years": record.labels["age"]}
        assert volume.values.min() >= -1024
        assert 100 < volume.values.max() < 31000  # metal
        assert 1 <= volume.spacing_mm[0] <= 10
        assert 0.5 < volume.spacing_mm[1] == volume.spacing_mm[2] < 1


def test_real_ct_lies_on_its_back() -> None:
    """The lungs of a chest slice have more soft tissue and bone behind than in front, on either side of the middle."""
    shares = []
    for record in sources.list_records("tcga_lung", real_root("tcga_lung")):
        volume = sources.read(record)
        assert isinstance(volume, Volume)
        bone = volume.values[0] > 300
        rows = np.nonzero((volume.values[0] > -300).any(axis=1))[0]
        middle = (rows[0] + rows[-1]) // 2
        shares.append(bone[middle:].sum() / max(bone.sum(), 1))
    assert np.mean(np.array(shares) > 0.5) > 0.8
