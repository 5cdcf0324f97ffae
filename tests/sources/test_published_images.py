"""Public sets of images in miniature: the folders as published, a few patients each, files that are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl import sources
from medssl.sources.record import BadRecord, SourceError
from tests.sources.test_published_sets import labels, read_volume, reason, who, write_nifti

# --- volumes --------------------------------------------------------------------------------------------------------
SCENE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def test_msd_of_any_task(tmp_path: Path) -> None:
    write_nifti(tmp_path / "imagesTr" / "spleen_2.nii.gz", SCENE)
    write_nifti(tmp_path / "labelsTr" / "spleen_2.nii.gz", (SCENE > 30).astype(np.uint8))
    facts = {
        "labels": {"0": "background", "1": "Left Spleen"},
        "modality": {"0": "CT"},
        "training": [
            {"image": "./imagesTr/spleen_2.nii.gz", "label": "./labelsTr/spleen_2.nii.gz"},
            {"image": "../spleen_3.nii.gz", "label": "./labelsTr/spleen_3.nii.gz"},
        ],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    first, second = sources.list_records("msd", tmp_path)
    assert (first.patient, labels([first]), first.mask_labels) == ("spleen_2", [{"modality": "CT"}], {1: "left_spleen"})
    volume = read_volume(first)
    assert volume.unit == "HU" and volume.mask is not None and volume.mask.sum() == 29
    assert reason(second) == "outside_folder"
    for wrong in ("[]", "{}", "[" * 5000, '{"labels": {"x": "y"}, "modality": {"0": "CT"}, "training": []}'):
        (tmp_path / "dataset.json").write_text(wrong)
        with pytest.raises(SourceError, match=r"dataset\.json: not the description of a task"):
            sources.list_records("msd", tmp_path)


def test_openbhb(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "derivatives" / "sub-100053248969" / "ses-1"
    folder.mkdir(parents=True)
    np.save(folder / "sub-100053248969_ses-1_preproc-cat12vbm_desc-gm_T1w.npy", SCENE[np.newaxis, np.newaxis])
    np.save(folder / "sub-100053248969_ses-1_preproc-cat12vbm_desc-gm_ROI.npy", np.arange(284.0)[np.newaxis])
    thickness = np.arange(7 * 68.0).reshape(1, 7, 68)
    thickness[0, 0, 0] = np.nan
    np.save(folder / "sub-100053248969_ses-1_preproc-freesurfer_desc-desikan_ROI.npy", thickness)
    np.save(folder / "sub-100053248969_ses-2_preproc-freesurfer_desc-desikan_ROI.npy", np.ones((1, 1, 1)))
    (tmp_path / "train" / "participants.tsv").write_text(
        "participant_id\tsex\tage\tsite\tstudy\ttiv\tgmv\n100053248969\tfemale\t23.5\t7\tIXI\t1500.5\t\n"
    )
    (record,) = sources.list_records("openbhb", tmp_path)
    assert (record.patient, record.trial) == ("100053248969", "ses-1")
    assert labels([record]) == [{"age": 23.5, "sex": "female", "site": "7", "study": "IXI"}]
    assert len(record.anatomy) == 1 + 284 + 7 * 68 - 1
    assert record.anatomy["tiv_ml"] == 1500.5
    assert (record.anatomy["gm_1_001"], record.anatomy["gm_1_284"]) == (0, 283)
    assert (record.anatomy["desikan_1_002"], record.anatomy["desikan_7_068"]) == (1, 7 * 68 - 1)
    volume = read_volume(record)
    np.testing.assert_array_equal(volume.values, SCENE.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert volume.spacing_mm == (1.5, 1.5, 1.5)
    np.save(folder / "sub-100053248969_ses-1_preproc-x_desc-y_ROI.npy", np.array([["Doe"]], dtype=object))
    (record,) = sources.list_records("openbhb", tmp_path)
    assert record.hints["refused"][0] == "unreadable"


def test_ixi(tmp_path: Path) -> None:
    for name in ("IXI002-Guys-0828-T1", "IXI002-Guys-0828-T2", "IXI025-HH-1234-T1", "IXI002-Guys-0828-DTI-00"):
        write_nifti(tmp_path / f"{name}.nii.gz", SCENE)
    with pytest.raises(SourceError, match=r"IXI\.csv: no such table; .* saved from it"):
        sources.list_records("ixi", tmp_path)
    (tmp_path / "IXI.csv").write_text(
        "IXI_ID,SEX_ID (1=m, 2=f),HEIGHT,DOB,AGE\n".replace("SEX_ID (1=m, 2=f)", '"SEX_ID (1=m, 2=f)"')
        + "2,2,164,1990-01-01,35.8\n25,1,170,,40\n25,1,170,,41\n"
    )
    records = sources.list_records("ixi", tmp_path)
    assert who(records) == [("IXI002", "0828-T1"), ("IXI002", "0828-T2"), ("IXI025", "1234-T1")]
    assert labels(records)[1:] == [
        {"age": 35.8, "sex": "female", "site": "Guys", "contrast": "T2"},
        {"sex": "male", "site": "HH", "contrast": "T1"},
    ]
    assert read_volume(records[0]).values.shape == (5, 4, 3)


# --- pictures -------------------------------------------------------------------------------------------------------
def test_covid_ct_groups_pictures_of_one_preprint(tmp_path: Path) -> None:
    names = ("CT_COVID/2020.01.24.919183-p27-132.png", "CT_COVID/2020.01.24.919183-p27-133.png")
    for name in (*names, "CT_COVID/kjr-21.png", "CT_NonCOVID/1%0.jpg", "CT_NonCOVID/1.jpg", "CT_NonCOVID/10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / name)
    records = sources.list_records("covid_ct", tmp_path)
    groups = [r.patient.partition("/")[2] for r in records]
    assert groups == ["2020.01.24.919183", "2020.01.24.919183", "kjr-21", "1", "1", "10"]
    assert [r.labels["covid"] for r in records] == ["yes"] * 3 + ["no"] * 3
    assert read_volume(records[0]).values.shape == (1, 20, 20)


def write_covid_ct(root: Path, lists: dict[str, str]) -> None:
    """Write pictures of COVID-CT as its repository has them, and the given lists of Data-split."""
    for name in ("CT_COVID/a%0.png", "CT_COVID/a%1.PNG", "CT_COVID/e\u0301.jpg", "CT_NonCOVID/1.jpg"):
        path = root / "Images-processed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(path)
        (path.parent / f"._{path.name}").write_bytes(b"left by a Mac")
    for name, text in lists.items():
        path = root / "Data-split" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def test_covid_ct_has_the_publishers_folds_where_they_are(tmp_path: Path) -> None:
    write_covid_ct(tmp_path, {})
    assert [(r.path.name, r.fold) for r in sources.list_records("covid_ct", tmp_path)] == [
        ("a%0.png", None), ("a%1.PNG", None), ("e\u0301.jpg", None), ("1.jpg", None)
    ]  # fmt: skip
    lists = {
        "COVID/trainCT_COVID.txt": "a%0.png\r\n\u00e9.jpg \r\n",  # composed, unlike the file's name
        "COVID/testCT_COVID.txt": "\ufeffa%1.PNG\n\nlost.png\n",
        "NonCOVID/valCT_NonCOVID.txt": "1.jpg",
    }
    write_covid_ct(tmp_path, lists)
    records = sources.list_records("covid_ct", tmp_path)
    assert [(r.path.name, r.patient, r.fold) for r in records] == [
        ("a%0.png", "CT_COVID/a", 0), ("a%1.PNG", "CT_COVID/a", 2), ("lost.png", "CT_COVID/lost", 2),
        ("e\u0301.jpg", "CT_COVID/\u00e9", 0), ("1.jpg", "CT_NonCOVID/1", 1),
    ]  # fmt: skip
    assert read_volume(records[1]).values.shape == (1, 20, 20)
    with pytest.raises(BadRecord) as caught:  # listed by the publisher, but not there
        sources.read(records[2])
    assert caught.value.reason == "missing_file"
    assert "lost" not in str(caught.value)


def test_covid_ct_refuses_a_picture_of_two_parts(tmp_path: Path) -> None:
    write_covid_ct(tmp_path, {"COVID/trainCT_COVID.txt": "a%0.png", "COVID/testCT_COVID.txt": "a%0.png"})
    with pytest.raises(SourceError, match=r"testCT_COVID\.txt: names a picture that another part names too"):
        sources.list_records("covid_ct", tmp_path)


def test_medmnist(tmp_path: Path) -> None:
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    parts = {f"{part}_images": images + i for i, part in enumerate(("train", "val", "test"))}
    classes = {f"{part}_labels": np.array([[0], [1], [1]], np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **parts, **classes)
    findings = {f"{part}_labels": np.eye(3, 14, dtype=np.uint8) * [[1], [0], [1]] for part in ("train", "val", "test")}
    np.savez_compressed(tmp_path / "chestmnist_64.npz", **parts, **findings)
    np.savez_compressed(tmp_path / "pathmnist.npz", **parts, **classes)  # colour
    records = sources.list_records("medmnist", tmp_path)
    assert len(records) == 18 == len({r.patient for r in records})
    chest, pneumonia = records[:9], records[9:]
    assert [r.labels["chestmnist"] for r in chest[:3]] == [("atelectasis",), ("none",), ("effusion",)]
    assert [r.labels["pneumoniamnist"] for r in pneumonia[:3]] == ["normal", "pneumonia", "pneumonia"]
    last = next(r for r in pneumonia if r.fold == 2 and r.hints["index"] == 2)
    np.testing.assert_array_equal(read_volume(last).values[0], images[2] + 2)
    np.savez_compressed(tmp_path / "breastmnist.npz", train_labels=np.array([[7]]))
    with pytest.raises(SourceError, match=r"breastmnist\.npz: train_labels cannot be read"):
        sources.list_records("medmnist", tmp_path)
