"""A BIDS folder in miniature: what is listed, whose it is, and which columns of participants.tsv become labels."""

from __future__ import annotations

from pathlib import Path

import edfio
import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.sources import manifest
from medssl.sources.record import BadRecord, Signal, SourceError, Volume


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def participants(root: Path, *lines: str) -> None:
    (root / "participants.tsv").write_text("\n".join(line.replace("|", "\t") for line in lines) + "\n")


def test_eeg_and_mri_are_read(tmp_path: Path) -> None:
    eeg, anat = tmp_path / "sub-01" / "eeg", tmp_path / "sub-01" / "anat"
    eeg.mkdir(parents=True)
    anat.mkdir()
    sine = 100 * np.sin(2 * np.pi * np.arange(500) / 100)
    edfio.Edf([edfio.EdfSignal(sine, 100, label="Fp1", physical_dimension="uV")]).write(
        eeg / "sub-01_task-rest_eeg.edf"
    )
    scene = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(scene, np.eye(4)), anat / "sub-01_T1w.nii.gz")
    mri, recording = sources.list_records("bids", tmp_path)
    assert (mri.patient, mri.trial, mri.source, mri.format) == ("01", "T1w", "bids", "nifti")
    assert dict(mri.labels) == {"contrast": "T1w"}
    assert (recording.patient, recording.trial, recording.format) == ("01", "task-rest_eeg", "edf")
    assert dict(recording.labels) == {"task": "rest"}
    signal, volume = sources.read(recording), sources.read(mri)
    assert isinstance(signal, Signal)
    np.testing.assert_allclose(signal.values[0], sine, atol=0.01)
    assert isinstance(volume, Volume)
    assert volume.values.shape == (5, 4, 3)


def test_what_is_listed_and_what_is_not(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.vhdr",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.eeg",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.json",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_channels.tsv",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-2_eeg.set",
        "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-2_eeg.fdt",
        "sub-01/ses-b/anat/sub-01_ses-b_FLAIR.nii",
        "sub-01/ses-b/anat/sub-01_ses-b_FLAIR.nii.gz",
        "sub-01/ses-b/anat/._sub-01_ses-b_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_mod-T1w_defacemask.nii.gz",
        "sub-01/ses-b/func/sub-01_ses-b_task-rest_bold.nii.gz",
        "sub-02/eeg/sub-02_task-go_eeg.BDF",
        "sub-02/eeg/sub-02_task-go_eeg.fif",
        "sub-02/eeg/sub-02_task-no_split-01_eeg.fif",
        "sub-02/eeg/sub-02_task-no_split-02_eeg.fif",
        "derivatives/clean/sub-01/eeg/sub-01_task-rest_eeg.set",
        "sourcedata/sub-01/eeg/sub-01_task-rest_eeg.edf",
    )
    records = sources.list_records("bids", tmp_path)
    assert [(r.patient, r.trial, r.format) for r in records] == [
        ("01", "ses-a_task-rest_run-1_eeg", "brainvision"),
        ("01", "ses-a_task-rest_run-2_eeg", "eeglab"),
        ("01", "ses-b_FLAIR", "nifti"),
        ("02", "task-go_eeg", "bdf"),
        ("02", "task-no_split-01_eeg", "fif"),
    ]
    assert [dict(r.labels) for r in records[:3]] == [
        {"task": "rest", "session": "a"},
        {"task": "rest", "session": "a"},
        {"session": "b", "contrast": "FLAIR"},
    ]
    assert records[2].path.name.endswith(".nii.gz")
    assert [manifest.order(r) for r in records] == sorted(manifest.order(r) for r in records)


def test_labels_of_participants(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{i}/eeg/sub-{i}_task-rest_eeg.edf" for i in ("1", "2", "3", "4")))
    participants(
        tmp_path,
        "participant_id|Age|sex|Group|MoCA score|handedness|mixed",
        "sub-1|34|M|AD|22|n/a|1",
        "2|89+|F|HC|30.5|R|x",
        "sub-3|n/a|f|HC||R|2|cell too many",
        "sub-9|20|M|HC|1|R|3",
    )
    labels = [dict(r.labels) for r in sources.list_records("bids", tmp_path)]
    assert labels == [
        {"age": 34.0, "sex": "male", "group": "AD", "moca_score": 22.0, "mixed": "1", "task": "rest"},
        {"age": 89.0, "sex": "female", "group": "HC", "moca_score": 30.5, "handedness": "R", "mixed": "x"}
        | {"task": "rest"},
        {"sex": "female", "group": "HC", "handedness": "R", "mixed": "2", "task": "rest"},
        {"task": "rest"},
    ]


def test_columns_that_identify_become_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{i}/eeg/sub-{i}_task-rest_eeg.edf" for i in range(8)))
    participants(
        tmp_path,
        "participant_id|name|birth_date|hospital_id|mrn|remark|group|date",
        *(f"sub-{i}|Jane|1970-01-0{i + 1}|{i}|99{i}|Jane {i}|{'ab'[i % 2]}|2020" for i in range(8)),
    )
    for record in sources.list_records("bids", tmp_path):
        assert set(record.labels) == {"group", "task"}


def test_rows_of_one_participant_that_differ(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/eeg/sub-1_task-rest_eeg.edf")
    participants(tmp_path, "participant_id|age|sex", "sub-1|34|M", "sub-1|35|M")
    (record,) = sources.list_records("bids", tmp_path)
    assert dict(record.labels) == {"sex": "male", "task": "rest"}


def test_tables_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/eeg/sub-1_task-rest_eeg.edf", "participants.tsv")
    assert len(sources.list_records("bids", tmp_path)) == 1
    participants(tmp_path, "subject|age", "sub-1|3")
    with pytest.raises(SourceError, match=r"participants.tsv: column 'participant_id' is missing"):
        sources.list_records("bids", tmp_path)
    (tmp_path / "participants.tsv").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(SourceError, match=r"participants\.tsv"):
        sources.list_records("bids", tmp_path)


def test_links_of_git_annex(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, "sub-1/eeg/sub-1_task-a_eeg.json", ".git/annex/objects/key/key.edf")
    (tmp_path / "outside.edf").touch()
    eeg = root / "sub-1" / "eeg"
    (eeg / "sub-1_task-a_eeg.edf").symlink_to("../../.git/annex/objects/gone/gone.edf")
    (eeg / "sub-1_task-b_eeg.edf").symlink_to("../../.git/annex/objects/key/key.edf")
    (eeg / "sub-1_task-c_eeg.edf").symlink_to("../../../outside.edf")
    reasons = []
    for record in sources.list_records("bids", root):
        with pytest.raises(BadRecord) as caught:
            sources.read(record)
        reasons.append(caught.value.reason)
    assert reasons == ["missing_file", "unreadable", "outside_folder"]  # the second is there, and empty


def test_no_bids_folder(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/func/sub-1_bold.nii.gz")
    with pytest.raises(SourceError, match=r"point source\.root at the top folder of a BIDS set"):
        sources.list_records("bids", tmp_path)
