"""A folder of recordings of each kind becomes a project whose parameters are right and whose table can be listed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medssl import cli, config
from medssl.check import paths
from medssl.sources import manifest
from tests.check.test_paths import CODE, NAME, write_ct, write_ecg
from tests.new.test_params import made_without_dvc

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture(autouse=True)
def _no_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    made_without_dvc(monkeypatch)


def new(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code = cli.main(["new", *map(str, words), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert code == 0, said
    return said


def cohort(project: Path, key: str) -> config.Cohort:
    assert paths.check(project / "params.yaml")[1] == []
    return config.load(project / "params.yaml").modalities[key]


def test_ecg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    for patient in (1, 2):
        for trial in "ab":
            write_ecg(raw / f"P{patient}" / f"{trial}.hea", rate_hz=500, leads=tuple(reversed(TWELVE)))
    (raw / "notes.csv").write_text("a,b\n1,2\n")
    said = new(capsys, tmp_path / "own", "--from", raw)
    assert (said["cohort"], said["run"], said["recordings"]) == ("ecg", "ecg-simclr", 4)
    assert len(said["next"]) == 3
    assert "files of other kinds are left out: 1 tabular" in said["notes"]
    assert all(Path(name).exists() for name in said["written"] if not name.endswith(".dvcignore"))
    made = cohort(tmp_path / "own", "ecg")
    assert isinstance(made.ingest, config.SignalIngest)
    assert (made.ingest.rate_hz, made.ingest.unit, made.ingest.window_s) == (100, "mV", 2.5)
    assert made.ingest.channels == TWELVE
    assert made.source.root == str(raw)
    records = manifest.list_records(raw)
    assert [(r.patient, r.trial) for r in records] == [("P1", "a"), ("P1", "b"), ("P2", "a"), ("P2", "b")]
    assert paths.check(raw)[1] == []


def test_a_table_that_is_there_stays_and_its_labels_are_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, rows = tmp_path / "raw", ["path,patient,trial,label_rhythm,label_age,label_same,anat_size"]
    for i in range(4):
        write_ecg(raw / f"{i}.hea", seconds=1.4)
        rows.append(f"{i}.hea,p{i},1,{('af', 'sinus')[i % 2]},{40.5 + i},one,3")
    (raw / "manifest.csv").write_text(text := "\n".join(rows) + "\n")
    said = new(capsys, tmp_path / "own", "--from", raw)
    assert (raw / "manifest.csv").read_text() == text
    assert str(raw / "manifest.csv") not in said["written"]
    params = config.load(tmp_path / "own" / "params.yaml")
    run = params.runs[said["run"]]
    assert run.recipe == "wearable"  # two leads
    assert run.evaluate.labels == ("age", "rhythm")  # a label of one class tells nothing
    assert run.pretrain.monitor_label == "rhythm" and run.evaluate.finetune_labels == ("rhythm",)
    made = params.modalities["ecg"]
    assert made.split.stratify == ("rhythm",)
    assert isinstance(made.ingest, config.SignalIngest) and made.ingest.window_s == 1.4  # no longer than they are


def test_dicom_series_and_what_headers_tell_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pydicom

    raw = tmp_path / "raw"
    for number in range(3):
        series = write_ct(raw / f"scan{number}")
        for path in series.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID = f"{CODE}{number % 2}"
            header.save_as(path)
    said = new(capsys, tmp_path / "own", "--from", raw)
    assert (said["cohort"], said["run"]) == ("ct", "ct-anatomy")
    records = manifest.list_records(raw)
    assert [r.patient for r in records] == ["P0001", "P0001", "P0002"]
    for text in (json.dumps(said), (raw / "manifest.csv").read_text(), (tmp_path / "own/params.yaml").read_text()):
        assert CODE not in text and NAME not in text
    run = config.load(tmp_path / "own" / "params.yaml").runs["ct-anatomy"]
    assert run.pretrain.options.covariates()["measures"].measures[0] == "fat_share"


def test_slices_of_several_people_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(3):
        series = write_ct(tmp_path / f"s{number}", slices=1)
        next(series.iterdir()).rename(raw / f"id{number}_x.dcm")
    said = new(capsys, tmp_path / "own", "--from", raw)  # one PatientID in all: it tells nobody apart, names do
    assert said["recordings"] == 3
    assert [r.patient for r in manifest.list_records(raw)] == ["id0", "id1", "id2"]


def test_nifti_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import nibabel

    raw = tmp_path / "raw"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
        for i in range(3):
            values = np.random.default_rng(i).integers(1, 100, (20, 30, 10)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 2, 4, 1])), raw / folder / f"brain_{i:03d}.nii.gz")
    said = new(capsys, tmp_path / "own", "--from", raw)
    assert said["notes"][0].startswith("no clear pattern of names tells the patients; fill in the column patient")
    assert said["next"][0].startswith("fill in patient in ")
    records = manifest.list_records(raw)
    assert [r.mask.name for r in records if r.mask] == ["brain_000.nii.gz", "brain_001.nii.gz", "brain_002.nii.gz"]
    assert [r.path.parent.name for r in records] == ["imagesTr"] * 3
    made = cohort(tmp_path / "own", "mri")
    assert isinstance(made.ingest, config.VolumeIngest) and made.ingest.samples == "volume"
    extent = np.array(made.ingest.size) * np.array(made.ingest.spacing_mm)
    assert (extent >= (40, 60, 40)).all()  # slices, rows, columns in mm: what is there fits in
    (raw / "manifest.csv").unlink()
    said = new(capsys, tmp_path / "own2", "--from", raw, "--patients", "file")
    assert [r.patient for r in manifest.list_records(raw)] == ["brain_000", "brain_001", "brain_002"]
    assert "3 patients" in said["notes"][0]


def test_tables_need_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(3):
        rows = "\n".join(f"{np.sin(t / 9 + i):.4f}" for t in range(900))
        (raw / f"p{i}_1.csv").write_text(f"pleth\n{rows}\n")
    assert cli.main(["new", str(tmp_path / "own"), "--from", str(raw)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--rate-hz" in error
    assert not (tmp_path / "own").exists() and not (raw / "manifest.csv").exists()
    new(capsys, tmp_path / "own", "--from", raw, "--rate-hz", 50)
    made = cohort(tmp_path / "own", "ppg")
    assert isinstance(made.ingest, config.SignalIngest)
    assert (made.ingest.rate_hz, made.ingest.channels) == (30, ("pleth",))
    assert paths.check(raw)[1] == []


def test_pictures_in_folders_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    for name in ("normal/p1_1.png", "normal/p2_1.png", "covid/p3_1.png", "covid/p4_1.png"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)).save(raw / name)
    assert cli.main(["new", str(tmp_path / "own"), "--from", str(raw)]) == 1
    assert "--modality ct or mri" in capsys.readouterr().err
    said = new(capsys, tmp_path / "own", "--from", raw, "--modality", "ct")
    assert config.load(tmp_path / "own/params.yaml").runs[said["run"]].evaluate.labels == ("class",)
    assert {r.labels["class"] for r in manifest.list_records(raw)} == {"normal", "covid"}


def test_without_recordings_there_is_a_project_to_fill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = new(capsys, tmp_path / "own", "--modality", "eeg-sleep")
    root = tmp_path / "own" / "data" / "raw" / "eeg-sleep"
    assert (root / "manifest.csv").read_text() == "path,patient,trial\n"
    assert cohort(tmp_path / "own", "eeg-sleep").source.root == "data/raw/eeg-sleep"
    assert said["next"][0].startswith("put recordings into ")


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", ".gitignore", "medssl"])
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_text("mine")
    assert cli.main(["new", str(tmp_path / "own")]) == 1
    assert f"holds {name}, and nothing is overwritten" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "own").iterdir()] == ["mine"]


def _read_only(path: Path, mode: str = "r", *words: Any, **more: Any) -> Any:
    if "x" in mode:
        raise OSError(30, "Read-only file system", str(path))
    return io.open(path, mode, *words, **more)  # noqa: UP020 (its own is replaced)


def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    write_ecg(tmp_path / "some" / "p1_1.hea")
    write_ct(tmp_path / "ct" / "p1")
    monkeypatch.setattr("pathlib.Path.open", _read_only)
    for words, says in (
        (["--from", tmp_path / "some"], "cannot be written (Read-only file system); copy the recordings to "),
        (["--from", tmp_path], "lies in the folder of the recordings"),
        (["--from", tmp_path / "ct", "--modality", "ecg"], "holds no signals, as --modality ecg has it"),
        (["--from", tmp_path / "some", "--modality", "ct"], "no recording that can be read"),
        (["--from", tmp_path / "nowhere"], "no such folder"),
        (["--from", tmp_path / "empty"], "no recording that can be read"),
        (["--modality", "xray"], "allowed: ecg, ppg, eeg, ct, mri"),
    ):
        assert cli.main(["new", str(tmp_path / "own"), *map(str, words)]) == 1
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    assert not (tmp_path / "own").exists()
