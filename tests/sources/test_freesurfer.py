"""FreeSurfer tables in the published layout: values, what is absent, and what of the header never comes out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl import sources
from medssl.sources.freesurfer import measures
from medssl.sources.record import BadRecord

HEAD = "# Title Segmentation Statistics\n# subjectname Doe^Jane\n# user jane\n# hostname clinic-7\n"
ASEG = HEAD + (
    "# Measure BrainSeg, BrainSegVol, Brain Segmentation Volume, 1234567.000000, mm^3\n"
    "# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, 1543210.5, mm^3\n"
    "# ColHeaders  Index SegId NVoxels Volume_mm3 StructName normMean normStdDev normMin normMax normRange\n"
    "  1   4  10  8123.4  Left-Lateral-Ventricle  30.1 9.0 5.0 80.0 75.0\n"
    "  2  17  10  3999.0  Left-Hippocampus        60.1 9.0 5.0 90.0 85.0\n"
    "  3  77   0     0.0  WM-hypointensities       0.0 0.0 0.0  0.0  0.0\n"
)
APARC = HEAD + (
    "# ColHeaders StructName NumVert SurfArea GrayVol ThickAvg ThickStd MeanCurv GausCurv FoldInd CurvInd\n"
    "bankssts      1500  1010  2500  2.512 0.4 0.11 0.02 13 1.3\n"
    "superiorfrontal 9000 6100 19000 2.801 0.5 0.12 0.03 90 9.0\n"
)


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    (stats := tmp_path / "sub01" / "stats").mkdir(parents=True)
    (stats / "aseg.stats").write_text(ASEG)
    (stats / "lh.aparc.stats").write_text(APARC)
    return tmp_path / "sub01"


def test_measures_by_side_and_column(subject: Path) -> None:
    found = measures(subject)
    assert found == measures(subject / "stats")
    assert found == {
        "intracranial_mm3": 1543210.5,
        "left_lateral_ventricle_mm3": 8123.4,
        "left_hippocampus_mm3": 3999.0,
        "lh_bankssts_area_mm2": 1010.0, "lh_bankssts_mm3": 2500.0, "lh_bankssts_mm": 2.512,
        "lh_superiorfrontal_area_mm2": 6100.0, "lh_superiorfrontal_mm3": 19000.0, "lh_superiorfrontal_mm": 2.801,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (APARC.replace("2500", "many"), "unreadable"),
        (APARC.replace(" 1010 ", " "), "unreadable"),
        (APARC.replace("GrayVol", "Other"), "unreadable"),
        (APARC.split("# ColHeaders")[0] + "bankssts 1 2\n", "unreadable"),
        ("", "unreadable"),
        (APARC + "x" * 1_000_001, "unreadable"),
    ],
)
def test_damaged_tables_are_refused(subject: Path, text: str, reason: str) -> None:
    (subject / "stats" / "lh.aparc.stats").write_text(text)
    with pytest.raises(BadRecord) as caught:
        measures(subject)
    assert caught.value.reason == reason
    assert "Jane" not in str(caught.value) and "sub01" not in str(caught.value)


def test_tables_elsewhere_are_not_followed(subject: Path, tmp_path: Path) -> None:
    (tmp_path / "other.stats").write_text(APARC)
    (subject / "stats" / "rh.aparc.stats").symlink_to(tmp_path / "other.stats")
    with pytest.raises(BadRecord, match="outside_folder"):
        measures(subject)


def test_a_manifest_names_the_folder(subject: Path, tmp_path: Path) -> None:
    rows = [
        {"path": "a.nii", "patient": "a", "trial": "1", "freesurfer": "sub01", "anat_age_years": "50"},
        {"path": "b.nii", "patient": "b", "trial": "1", "freesurfer": "", "anat_age_years": "60"},
        {"path": "c.nii", "patient": "c", "trial": "1", "freesurfer": "gone", "anat_age_years": "70"},
        {"path": "d.nii", "patient": "d", "trial": "1", "freesurfer": "../sub01", "anat_age_years": "70"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    with_table, without, gone, outside = sources.list_records("manifest", tmp_path)
    assert with_table.anatomy["left_hippocampus_mm3"] == 3999.0
    assert with_table.anatomy["age_years"] == 50
    assert dict(without.anatomy) == {"age_years": 60}
    assert gone.hints["refused"][0] == "missing_file"
    assert outside.hints["refused"][0] == "outside_folder"
