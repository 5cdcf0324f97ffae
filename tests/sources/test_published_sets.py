"""Public sets of signals in miniature: folders and headers as published, a few patients each, files that are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edfio
import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.sources import published
from medssl.sources.record import BadRecord, Record, Signal, Volume

NAME = "Doe^Jane"


def wfdb(folder: Path, name: str, channels: dict[str, str], comments: str = "", rate_hz: int = 100) -> None:
    """Write 5 s of zeros to 499 in steps of one unit: channel -> unit, gain 100."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = np.repeat(np.arange(500, dtype="<i2")[:, None], len(channels), axis=1)
    (folder / f"{name}.dat").write_bytes(steps.tobytes())
    lines = [f"{name} {len(channels)} {rate_hz} 500"]
    lines += [f"{name}.dat 16 100/{unit} 16 0 0 0 0 {channel}" for channel, unit in channels.items()]
    (folder / f"{name}.hea").write_text("\n".join(lines) + f"\n{comments}\n")


def write_edf(path: Path, label: str = "EEG Fpz-Cz") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 50 * np.sin(np.arange(500) / 9)
    edfio.Edf([edfio.EdfSignal(values, 100, label=label, physical_dimension="uV")]).write(path)


def write_nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def who(records: list[Record]) -> list[tuple[str, str]]:
    return [(r.patient, r.trial) for r in records]


def labels(records: list[Record]) -> list[dict[str, Any]]:
    text = repr([(r.labels, r.anatomy, r.hints) for r in records])
    assert "Jane" not in text and "1990" not in text
    return [dict(r.labels) for r in records]


def read_signal(record: Record) -> Signal:
    signal = sources.read(record)
    assert isinstance(signal, Signal)
    return signal


def read_volume(record: Record) -> Volume:
    volume = sources.read(record)
    assert isinstance(volume, Volume)
    return volume


def reason(record: Record) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record)
    return caught.value.reason


def test_every_published_set_can_be_named() -> None:
    assert set(published.__all__) == set(sources.SOURCES) - {"manifest", "bids"}
    assert all(sources.SOURCES[name] is getattr(published, name) for name in published.__all__)


# --- ECG ------------------------------------------------------------------------------------------------------------
def test_ptbxl_at_both_rates(tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_text(",diagnostic,diagnostic_class\nNORM,1.0,NORM\n")
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr\n"
        "1,11.0,50,0,\"{'NORM': 100.0}\",3,records100/00000/00001_lr,records500/00000/00001_hr\n"
    )
    wfdb(tmp_path / "records100" / "00000", "00001_lr", {"I": "mV"})
    wfdb(tmp_path / "records500" / "00000", "00001_hr", {"I": "mV"}, rate_hz=500)
    for name, rate_hz in (("ptbxl", 100), ("ptbxl_500", 500)):
        (record,) = sources.list_records(name, tmp_path)
        assert (record.source, record.patient, record.trial, record.fold) == (name, "11", "1", 3)
        assert labels([record]) == [{"age": 50.0, "sex": "male", "superclass": ("NORM",), "norm": "normal"}]
        assert read_signal(record).rate_hz == rate_hz


PTB = "# age: {age}\n# sex: {sex}\n# ECG date: 01/10/1990\n# Diagnose:\n# Reason for admission: {reason}\n# Doe^Jane:"


def test_ptbdb(tmp_path: Path) -> None:
    rows = [
        ("patient001/s0010_re", 81, "female", "Myocardial infarction"),
        ("patient001/s0014lre", 81, "female", "Myocardial infarction"),
        ("patient104/s0306lre", 20, "male", "Healthy control"),
        ("patient105/s0303lre", "n/a", "", "Heart failure (NYHA 2)"),
        ("patient106/s0030_re", 30, "male", f"Visit of {NAME}"),
    ]
    for name, age, sex, why in rows:
        folder, stem = name.split("/")
        wfdb(tmp_path / folder, stem, {"i": "mV", "vx": "mV"}, PTB.format(age=age, sex=sex, reason=why), 1000)
    (tmp_path / "RECORDS").write_text("\n".join([*(row[0] for row in rows), "patient107/gone", "../out/x"]) + "\n")
    records = sources.list_records("ptbdb", tmp_path)
    by_patient = {r.patient: r for r in records}
    assert who(records)[1:3] == [("patient001", "s0010_re"), ("patient001", "s0014lre")]
    heart = {"diagnosis": "myocardial infarction", "mi": "yes", "age": 81.0, "sex": "female"}
    assert labels(records)[1:] == [
        heart,
        heart,
        {"diagnosis": "healthy control", "mi": "no", "age": 20.0, "sex": "male"},
        {"diagnosis": "heart failure"},
        {"age": 30.0, "sex": "male"},
        {},
    ]
    signal = read_signal(by_patient["patient104"])
    assert (signal.rate_hz, signal.channels, signal.unit) == (1000, ("i", "vx"), "mV")
    assert reason(by_patient["patient107"]) == "missing_file"
    assert reason(by_patient[".."]) == "outside_folder"


@pytest.mark.parametrize("source", ["cinc2020", "cinc2021"])
@pytest.mark.parametrize("mark", ["#", "# "])
def test_cinc_with_snomed_codes(tmp_path: Path, source: str, mark: str) -> None:
    def comments(age: str, sex: str, dx: str) -> str:
        return "\n".join(f"{mark}{line}" for line in (f"Age: {age}", f"Sex: {sex}", f"Dx: {dx}", f"Rx: {NAME}"))

    wfdb(tmp_path / "training/cpsc_2018/g1", "A0001", {"I": "mV"}, comments("74", "Male", "59118001,164889003"))
    wfdb(tmp_path / "training/ptb-xl/g22", "HR0001", {"I": "mV"}, comments("NaN", "Unknown", "999999999"))
    wfdb(tmp_path, "Q0001", {"I": "mV"}, comments("300", "F", ""))
    records = sources.list_records(source, tmp_path)
    assert who(records) == [("A0001", "A0001"), ("HR0001", "HR0001"), ("Q0001", "Q0001")]
    assert labels(records) == [
        {"dx": ("AF", "RBBB"), "age": 74.0, "sex": "male", "collection": "cpsc_2018"},
        {"dx": ("999999999",), "collection": "ptb-xl"},
        {"sex": "female"},
    ]
    assert read_signal(records[0]).values[0, 100] == pytest.approx(1)
    assert {r.source for r in records} == {source}


def test_mitbih_counts_two_records_as_one_patient(tmp_path: Path) -> None:
    for name, comment in (("100", "# 69 M 1085 1629 x1"), ("201", "# 68 M"), ("202", "# 68 M"), ("203", "# -1 F")):
        wfdb(tmp_path, name, {"MLII": "mV", "V5": "mV"}, f"{comment}\n# Aldomet, {NAME}", 360)
    (tmp_path / "RECORDS").write_text("100\n201\n202\n203\n")
    records = sources.list_records("mitbih", tmp_path)
    assert who(records) == [("100", "100"), ("201", "201"), ("201", "202"), ("203", "203")]
    assert labels(records)[0] == {"age": 69.0, "sex": "male"}
    assert labels(records)[3] == {"sex": "female"}
    assert read_signal(records[0]).rate_hz == 360


# --- PPG ------------------------------------------------------------------------------------------------------------
def test_bidmc_as_ppg_and_as_ecg(tmp_path: Path) -> None:
    channels = {"RESP,": "pm", "PLETH,": "NU", "V,": "mV", "II,": "mV"}
    wfdb(tmp_path, "bidmc01", channels, "# from mimic2wdb/matched/s09177/x", 125)
    wfdb(tmp_path, "bidmc02", channels, rate_hz=125)
    wfdb(tmp_path, "bidmc01n", {"HR,": "bpm"}, rate_hz=1)
    (tmp_path / "RECORDS").write_text("bidmc01\nbidmc01n\nbidmc02\n")
    (tmp_path / "bidmc_csv").mkdir()
    (tmp_path / "bidmc_csv" / "bidmc_02_Fix.txt").write_text(f"Name: {NAME}\nAge: 88+\nGender: F\n")
    records = sources.list_records("bidmc", tmp_path)
    assert who(records) == [("bidmc02", "bidmc02"), ("s09177", "bidmc01")]
    assert labels(records) == [{"age": 88.0, "sex": "female"}, {}]
    assert "PLETH" in " ".join(read_signal(records[0]).channels)
    ecg = read_signal(sources.list_records("bidmc_ecg", tmp_path)[0])
    assert ecg.unit == "mV" and len(ecg.channels) == 2


def test_ppg_dalia_reads_the_sensor_and_no_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "S1" / "S1_E4"
    folder.mkdir(parents=True)
    (folder / "BVP.csv").write_text("1490000000.00\n64.000000\n" + "\n".join(f"{v}.5" for v in range(200)))
    (folder / "ACC.csv").write_text("1490000000.00,1,1\n32,32,32\n0,0,64\n")
    (tmp_path / "S1" / "S1.pkl").write_bytes(b"\x80\x04.")
    (tmp_path / "S1" / "S1_quest.csv").write_text("# SUBJECT_ID,S1\n# AGE,34\n# GENDER, m\n# SKIN,3\n")
    (record,) = sources.list_records("ppg_dalia", tmp_path)
    assert (record.patient, labels([record])) == ("S1", [{"age": 34.0, "sex": "male"}])
    signal = read_signal(record)
    assert (signal.rate_hz, signal.channels) == (64, ("PPG",))
    np.testing.assert_array_equal(signal.values[0], np.arange(200) + 0.5)


# --- EEG ------------------------------------------------------------------------------------------------------------
def test_eegmmidb_tasks(tmp_path: Path) -> None:
    for run in (1, 2, 3, 4, 5, 6, 7, 14):
        write_edf(tmp_path / "S001" / f"S001R{run:02d}.edf", "Fc5.")
    (tmp_path / "S001" / "S001R01.edf.event").touch()
    records = sources.list_records("eegmmidb", tmp_path)
    assert {r.patient for r in records} == {"S001"}
    assert [(r.trial, r.labels.get("task"), r.labels.get("imagined")) for r in records] == [
        ("R01", "eyes_open", None),
        ("R02", "eyes_closed", None),
        ("R03", "fists_one", "no"),
        ("R04", "fists_one", "yes"),
        ("R05", "fists_feet", "no"),
        ("R06", "fists_feet", "yes"),
        ("R07", "fists_one", "no"),
        ("R14", "fists_feet", "yes"),
    ]
    assert read_signal(records[0]).channels == ("FC5",)


def test_sleep_edf_patients(tmp_path: Path) -> None:
    for name in ("SC4011E0-PSG", "SC4012E0-PSG", "SC4012EC-Hypnogram", "SC4021E0-PSG"):
        write_edf(tmp_path / "sleep-cassette" / f"{name}.edf")
    write_edf(tmp_path / "sleep-telemetry" / "ST7011J0-PSG.edf")
    records = sources.list_records("sleep_edf", tmp_path)
    assert who(records) == [
        ("SC01", "SC4011E0"),
        ("SC01", "SC4012E0"),
        ("SC02", "SC4021E0"),
        ("ST01", "ST7011J0"),
    ]
    assert labels(records)[1] == {"study": "cassette", "night": 2.0}
    assert labels(records)[3] == {"study": "telemetry", "night": 1.0}
    assert read_signal(records[0]).channels == ("Fpz-Cz",)
