"""A workspace never takes the place of something else, and its stages depend on the encoders in it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medssl import config, hub, models, workspace

ROOT = Path(__file__).parents[1]


def test_another_project_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    with pytest.raises(workspace.WorkspaceError, match=r"holds params\.yaml of another project"):
        workspace.lay_out(tmp_path, "seed: 1\n")
    assert (tmp_path / "params.yaml").read_text() == "mine: 1\n"
    with pytest.raises(workspace.WorkspaceError, match="another project"):
        workspace.lay_out(ROOT, "seed: 1\n")
    assert (ROOT / "medssl" / "workspace.py").is_file()


def test_a_workspace_is_refreshed(tmp_path: Path) -> None:
    for text in ("seed: 1\n", "seed: 2\n"):
        workspace.lay_out(tmp_path / "w", text)
        (tmp_path / "w" / "data").mkdir(exist_ok=True)
        assert (tmp_path / "w" / "params.yaml").read_text() == text
        assert (tmp_path / "w" / "pipeline" / "ingest.py").is_file()
        for name in ("encoders", "runs"):  # dvc.yaml lists them; git has them, and nothing that is put there
            assert (tmp_path / "w" / "data" / name / ".gitignore").read_text() == "*\n!.gitignore\n"
            assert (ROOT / "data" / name / ".gitignore").read_text() == workspace.KEPT
            for file, ignored in ((".gitignore", False), ("mine/config.json", True)):
                words = ["git", "-C", str(ROOT), "check-ignore", "-q", "--no-index", f"data/{name}/{file}"]
                assert (subprocess.run(words, check=False).returncode == 0) == ignored
    assert (tmp_path / "w" / "data").is_dir()
    assert (tmp_path / "w" / ".medssl").stat().st_mode & 0o777 == 0o700


def test_only_the_sets_that_are_there_are_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(workspace.WorkspaceError, match="no such folder"):
        workspace.params_for("params.real.yaml", tmp_path / "nowhere")
    with pytest.raises(workspace.WorkspaceError, match="none of the sets is there; expected any of ecg/ptbxl_500"):
        workspace.params_for("params.real.yaml", tmp_path)
    (tmp_path / "mri" / "msd_hippocampus").mkdir(parents=True)
    raw = yaml.safe_load(workspace.params_for("params.real.yaml", tmp_path))
    assert list(raw["modalities"]) == ["mri"]
    assert list(raw["runs"]) == ["mri-anatomy"]
    assert {one["run"] for one in raw["release"].values()} <= {"mri-anatomy"}
    assert raw["modalities"]["mri"]["source"]["root"] == str(tmp_path / "mri" / "msd_hippocampus")
    assert "ecg: ecg/ptbxl_500 is not in the data folder; left out" in capsys.readouterr().err
    (tmp_path / "ct" / "tcga_lung_ct63").mkdir(parents=True)
    raw = yaml.safe_load(workspace.params_for("params.real.yaml", tmp_path))
    assert (list(raw["modalities"]), list(raw["runs"]), raw["sequels"]) == (["mri", "ct"], ["mri-anatomy"], {})
    said = "ct-anatomy: starts from ct-slices-swav, whose recordings are not there; left out"
    assert said in capsys.readouterr().err.splitlines()


def said(monkeypatch: pytest.MonkeyPatch, *, fails: str = "", changed: int = 1) -> list[tuple[str, ...]]:
    """Note what DVC is asked, in place of asking it."""
    asked: list[tuple[str, ...]] = []

    def dvc(folder: Path, *words: str, label: str = "", **_: object) -> int:
        if words[0] == "status":
            return changed
        asked.append(words)
        if label and label == fails:
            raise workspace.WorkspaceError(f"dvc failed for {label}")
        return 0

    monkeypatch.setattr(workspace, "dvc", dvc)
    return asked


def test_cohorts_run_side_by_side_and_then_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["release"] = {"ct-ours": {"run": "ct-anatomy", "licence": "CC0-1.0", "cite": "us"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    asked = said(monkeypatch)
    workspace.repro(tmp_path, lanes=2)
    lanes = {frozenset(words[2:]) for words in asked[:-1]}
    assert all(words[:2] == ("--wait-for-lock", "repro") for words in asked[:-1])
    assert lanes == {
        frozenset({"dedup@ecg", "results@ecg-simclr", "results@ecg-comet"}),
        frozenset({"dedup@ppg", "results@ppg-wearable"}),
        frozenset({"dedup@eeg", "results@eeg-simclr"}),
        frozenset({"dedup@ct", "results@ct-anatomy", "release@ct-ours"}),
        frozenset({"dedup@mri", "results@mri-anatomy"}),
    }
    assert asked[-1] == ("repro",)
    asked.clear()
    workspace.repro(tmp_path, lanes=1)
    assert asked == [("repro",)]


def lane_with(stage: str, raw: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return the one lane of five, before all the rest, that has a stage."""
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    asked = said(monkeypatch)
    workspace.repro(folder, lanes=2)
    (lane,) = [words for words in asked if stage in words]
    assert len(asked) == 6
    return lane


def test_cohorts_of_one_folder_share_a_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both need the stage that makes the folder, and the second DVC would find it busy."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["modalities"]["ecg-b"] = raw["modalities"]["ecg"]
    assert "dedup@ecg-b" in lane_with("dedup@ecg", raw, tmp_path, monkeypatch)


def test_a_run_that_starts_in_another_cohort_shares_its_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["modalities"]["ct-b"] = raw["modalities"]["ct"] | {"source": {"root": "data/raw/ct-b"}}
    raw["runs"]["ct-b"] = raw["runs"]["ct-anatomy"] | {"modality": "ct-b", "start": "ct-anatomy"}
    raw["sequels"] = {"ct-b": "ct-anatomy"}
    assert "results@ct-b" in lane_with("results@ct-anatomy", raw, tmp_path, monkeypatch)


def test_where_nothing_changed_no_lane_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    asked = said(monkeypatch, changed=0)
    workspace.repro(tmp_path, lanes=2)
    assert asked == []


def test_a_cohort_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    asked = said(monkeypatch, fails="ecg")
    with pytest.raises(workspace.WorkspaceError, match="dvc failed for ecg"):
        workspace.repro(tmp_path, lanes=2)
    assert len(asked) == 5 and ("repro",) not in asked  # which would fail once more


def test_lines_of_a_lane_name_its_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(workspace.WorkspaceError, match="dvc repro failed"):
        workspace.dvc(tmp_path, "repro", label="ecg")
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("         ecg | ") for line in lines)


def test_the_quick_one_has_two_small_cohorts() -> None:
    params = config.parse(workspace.quick((ROOT / "params.yaml").read_text()))
    assert list(params.modalities) == list(params.synthetic) == ["ecg", "ct"]
    assert list(params.runs) == ["ecg-simclr", "ct-anatomy"]
    whole = config.load(ROOT / "params.yaml")
    assert all(params.synthetic[k].patients < whole.synthetic[k].patients for k in params.synthetic)
    assert params.modalities["ct"] == whole.modalities["ct"]
    with pytest.raises(workspace.WorkspaceError, match=r"--quick is for params\.yaml"):
        workspace.quick((ROOT / "params.real.yaml").read_text())


def ran(folder: Path) -> set[str]:
    """Run the pipeline and return the stages that DVC started."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}


@pytest.mark.slow
def test_another_encoder_runs_dedup_again_and_nothing_else(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["synthetic"] = {k: {"patients": 8, "trials": 1, "corrupt": 0} for k in ("ppg", "ecg")}
    raw["modalities"] = {k: raw["modalities"][k] | {"split": {}} for k in raw["synthetic"]}
    raw["modalities"]["ppg"]["dedup"] = {"method": "embedding", "encoder": "data/encoders/mine", "keep_ratio": 0.5}
    folder = tmp_path / "w"
    workspace.lay_out(folder, yaml.safe_dump(raw | {"runs": {}}))
    facts = {"modality": "ppg", "channels": ["PPG"], "rate_hz": 50.0, "shape": [1, 250], "unit": "1"}

    def place(seed: int) -> None:
        torch.manual_seed(seed)
        architecture = {"name": "resnet1d", "in_channels": 1, "widths": [4, 4, 8, 8], "depth": 1}
        shutil.rmtree(folder / "data/encoders/mine", ignore_errors=True)
        hub.save_encoder(
            folder / "data/encoders/mine", models.build(**architecture), architecture=architecture,
            contract=facts | {"embedding_dim": 8}, provenance={}, card="",
        )  # fmt: skip

    with torch.random.fork_rng():
        place(0)
        stages = {f"{stage}@{key}" for stage in ("synthesise", "ingest", "dedup", "split") for key in ("ecg", "ppg")}
        assert ran(folder) == stages | {"report"}
        assert ran(folder) == set()
        receipts = {key: (folder / "data" / key / "dedup.parquet").read_bytes() for key in ("ecg", "ppg")}
        place(1)
        # DVC sees the folder of all encoders: the other dedup runs too, to the same bytes, and nothing after it.
        assert ran(folder) - {"split@ppg", "report"} == {"dedup@ecg", "dedup@ppg"}
        assert (folder / "data/ecg/dedup.parquet").read_bytes() == receipts["ecg"]
        assert (folder / "data/ppg/dedup.parquet").read_bytes() != receipts["ppg"]
        assert ran(folder) == set()
