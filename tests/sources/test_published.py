"""Listing: the manifest, and the published layouts in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import sources
from medssl.sources import manifest
from medssl.sources.record import BadRecord, Record, Signal, SourceError


def reason(record: Record) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record)
    assert record.path.name not in str(caught.value)
    return caught.value.reason


# --- registry -------------------------------------------------------------------------------------------------------
def test_unknown_source_names_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.name 'ptb' is unknown; allowed: manifest, bids, ptbxl"):
        sources.list_records("ptb", tmp_path)


@pytest.mark.parametrize("name", sorted(sources.SOURCES))
def test_missing_root_and_missing_table_are_one_line(tmp_path: Path, name: str) -> None:
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(SourceError, match=str(root)) as caught:
            sources.list_records(name, root)
        assert "\n" not in str(caught.value)


# --- manifest -------------------------------------------------------------------------------------------------------
def write_manifest(root: Path, *lines: str) -> Path:
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


def test_manifest_full_row(tmp_path: Path) -> None:
    write_manifest(
        tmp_path,
        "path,patient,trial,start_s,end_s,fold,mask,rate_hz,unit,label_age,label_stage,label_dx_multi,anat_liver_ml",
        "b.txt,007,02,1.5,3,4,,250,mV,61,II,a; b,1500",
        "a.nii.gz,007,01,,,,m.nii.gz,,,,nan,,",
    )
    (tmp_path / "mask_labels.csv").write_text("value,name\n1,liver\n2,spleen\n")
    first, second = sources.list_records("manifest", tmp_path)
    assert (first.patient, first.trial, first.format) == ("007", "01", "nifti")
    assert first.mask == tmp_path / "m.nii.gz"
    assert first.mask_labels == {1: "liver", 2: "spleen"}
    assert (first.labels, first.anatomy, first.fold, first.start_s) == ({}, {}, None, None)
    assert second.labels == {"age": 61.0, "stage": "II", "dx": ("a", "b")}
    assert (second.start_s, second.end_s, second.fold) == (1.5, 3.0, 4)
    assert second.anatomy == {"liver_ml": 1500.0}
    assert second.hints == {"rate_hz": 250.0, "unit": "mV"}
    assert second.mask_labels == {}


def test_manifest_reads_the_files_it_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("1\t2\t3\t4")
    write_manifest(tmp_path, "path,patient,trial,rate_hz,start_s", "b.txt,p,t,2,1")
    signal = sources.read(sources.list_records("manifest", tmp_path)[0])
    assert isinstance(signal, Signal)
    np.testing.assert_array_equal(signal.values, [[3, 4]])


def test_manifest_parquet_equals_csv(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"path": ["a.edf", "b.edf"], "patient": ["01", "02"], "trial": [1, 2], "label_age": [50.5, None]}
    )
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    from_csv = sources.list_records("manifest", tmp_path)
    (tmp_path / "manifest.csv").unlink()
    rows.to_parquet(tmp_path / "manifest.parquet")
    assert sources.list_records("manifest", tmp_path) == from_csv
    assert [dict(r.labels) for r in from_csv] == [{"age": 50.5}, {}]
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(SourceError, match="keep one of them"):
        sources.list_records("manifest", tmp_path)


@pytest.mark.parametrize("column", manifest.REQUIRED)
def test_manifest_names_the_missing_column(tmp_path: Path, column: str) -> None:
    header = ",".join(name for name in manifest.REQUIRED if name != column)
    write_manifest(tmp_path, header, "x,y")
    with pytest.raises(SourceError, match=rf"manifest.csv: column '{column}' is missing; add it to the header line"):
        sources.list_records("manifest", tmp_path)


@pytest.mark.parametrize("content", [b"", b"path,patient\n1,2,3\n4,5,6,7,8\n", b"\xff\xfe\x00\x01"])
def test_manifest_that_is_no_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(SourceError, match=r"manifest\.csv"):
        sources.list_records("manifest", tmp_path)


def test_manifest_bad_rows_are_refused_one_by_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.txt").write_text("1\t2")
    (root / "inside.txt").write_text("1\t2")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "x.xyz").write_text("1")
    write_manifest(
        root,
        "path,patient,trial,rate_hz,mask",
        "gone.edf,p,1,,",
        "../outside.txt,p,2,10,",
        "link.txt,p,3,10,",
        f"{tmp_path}/outside.txt,p,4,10,",
        "inside.txt,p,5,ten,",
        "inside.txt,,6,10,",
        "x.xyz,p,7,,",
        ",p,8,,",
        "inside.txt,p,9,10,../mask.nii",
        f"{root}/inside.txt,q,1,10,",
    )
    records = {(r.patient, r.trial): r for r in sources.list_records("manifest", root)}
    assert reason(records["p", "1"]) == "missing_file"
    for trial in "2349":
        assert reason(records["p", trial]) == "outside_folder"
    assert reason(records["p", "5"]) == "unreadable"
    assert reason(records["", "6"]) == "no_identity"
    assert reason(records["p", "7"]) == "unsupported"
    with pytest.raises(BadRecord, match="missing_file"):
        sources.read(records["p", "8"])
    assert isinstance(sources.read(records["q", "1"]), Signal)


def test_manifest_order_limit_and_formats(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "rec.hea").write_text("rec 1 100 10")
    write_manifest(tmp_path, "path,patient,trial", "series,b,1", "rec,a,2", "x.NII.GZ,a,1", "y.tif,c,1")
    records = sources.list_records("manifest", tmp_path, limit=3)
    assert [r.format for r in records] == ["nifti", "wfdb", "dicom"]
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    table = elsewhere / "mine.csv"
    table.write_text("path,patient,trial\nrec.hea,a,1\n")
    assert manifest.list_table(table, tmp_path)[0].path == tmp_path / "rec.hea"
    assert manifest.list_table(table)[0].path == elsewhere / "rec.hea"


# --- published layouts in miniature ---------------------------------------------------------------------------------
def test_ptbxl_labels(tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_text(
        ",diagnostic,diagnostic_class\nNORM,1.0,NORM\nIMI,1.0,MI\nSR,,\nLVH,1.0,HYP\n"
    )
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr\n"
        "1,11.0,300.0,0,\"{'NORM': 100.0, 'SR': 0.0}\",3,records100/00001_lr\n"
        "2,12.0,,1,\"{'LVH': 50.0, 'IMI': 0.0}\",4,records100/00002_lr\n"
        "3,13.0,40.0,1,{'SR': 0.0},5,../../etc/passwd\n"
        "4,14.0,40.0,1,__import__('os').getcwd(),5,records100/00004_lr\n"
    )
    records = sources.list_records("ptbxl", tmp_path)
    assert dict(records[0].labels) == {"age": 90.0, "sex": "male", "superclass": ("NORM",), "norm": "normal"}
    assert dict(records[1].labels) == {"sex": "female", "superclass": ("HYP", "MI"), "norm": "abnormal"}
    assert [r.patient for r in records] == ["11", "12", "13", "14"]
    assert [r.fold for r in records] == [3, 4, 5, 5]
    assert set(records[2].labels) == set(records[3].labels) == {"age", "sex"}
    assert [reason(r) for r in records] == ["missing_file", "missing_file", "outside_folder", "missing_file"]


def test_cinc2017_labels(tmp_path: Path) -> None:
    (tmp_path / "REFERENCE.csv").write_text("A1,N\nA2,A\nA3,O\nA4,~\n")
    (tmp_path / "unlisted.hea").touch()
    records = sources.list_records("cinc2017", tmp_path)
    assert [dict(r.labels) for r in records] == [
        {"rhythm": "normal", "af": "not_af"},
        {"rhythm": "af", "af": "af"},
        {"rhythm": "other", "af": "not_af"},
        {"rhythm": "noisy"},
    ]
    assert [reason(r) for r in records] == ["missing_file"] * 4


def test_missing_label_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "subject-info.csv").write_text("Subject,Age\n")
    with pytest.raises(SourceError, match=r"subject-info.csv: column 'Gender' is missing; point source.root at"):
        sources.list_records("eegmat", tmp_path)


def test_eegmat_has_rest_and_task_of_each_subject(tmp_path: Path) -> None:
    (tmp_path / "subject-info.csv").write_text(
        "Subject,Age,Gender,Recording year,Number of subtractions,Count quality\nSubject00,21,F,2011,9.7,0\n"
    )
    rest, task = sources.list_records("eegmat", tmp_path)
    same = {"age": 21.0, "sex": "female", "count_quality": "bad"}
    assert dict(rest.labels) == {"condition": "rest", **same}
    assert dict(task.labels) == {"condition": "mental_arithmetic", **same}
    assert [r.path.name for r in (rest, task)] == ["Subject00_1.edf", "Subject00_2.edf"]


def test_eegmat_is_divided_as_published(tmp_path: Path) -> None:
    rows = "".join(f"Subject{n:02d},21,F,0\n" for n in range(36))
    (tmp_path / "subject-info.csv").write_text("Subject,Age,Gender,Count quality\n" + rows)
    folds = {r.patient: r.fold for r in sources.list_records("eegmat", tmp_path)}
    assert [list(folds.values()).count(fold) for fold in (0, 1, 2)] == [28, 4, 4]
    assert [folds[f"Subject{n}"] for n in ("00", "27", "28", "31", "32", "35")] == [0, 0, 1, 1, 2, 2]


def test_ppg_bp_has_the_parts_and_the_label_of_papagei(tmp_path: Path) -> None:
    names = "subject_id,sex,age_years,height_cm,weight_kg,sbp_mmhg,dbp_mmhg,heart_rate_bpm,bmi,hypertension,diabetes\n"
    about = "F,45,152,63,{sbp},80,97,27.3,Normal,\n"
    # A patient of each part, one of none, and one without a pressure.
    rows = [f"{n}," + about.format(sbp=sbp) for n, sbp in ((2, 120), (3, 119), (14, 161), (1, 90), (6, ""))]
    (tmp_path / "labels.csv").write_text(names + "".join(rows))
    records = {r.patient: r for r in sources.list_records("ppg_bp", tmp_path)}
    assert {who: r.fold for who, r in records.items()} == {"2": 0, "3": 1, "14": 2, "1": None, "6": 0}
    assert [records[who].labels.get("sbp_120") for who in ("2", "3", "14", "6")] == ["yes", "no", "yes", None]
    known = records["3"].labels
    assert {k: known[k] for k in ("height", "weight", "sbp", "dbp", "bmi")} == {
        "height": 152, "weight": 63, "sbp": 119, "dbp": 80, "bmi": 27.3,
    }  # fmt: skip


def test_welltory_heart_rate(tmp_path: Path) -> None:
    for name, intervals in (("subject_01", "1000 500 x"), ("subject_02", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "RR.txt").write_text(intervals)
    records = sources.list_records("welltory", tmp_path)
    assert [dict(r.labels) for r in records] == [{"heart_rate": 80.0}, {}]


def test_hippocampus_without_volumes_lists_images(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    for name in ("hippocampus_001.nii.gz", "._hippocampus_001.nii.gz"):
        (tmp_path / "imagesTr" / name).touch()
    (only,) = sources.list_records("msd_hippocampus", tmp_path)
    assert (only.patient, dict(only.labels), dict(only.anatomy)) == ("hippocampus_001", {}, {})
