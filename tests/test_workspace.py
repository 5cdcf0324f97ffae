"""A workspace never takes the place of something else."""

from pathlib import Path

import pytest
import yaml

from medssl import workspace

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
    assert raw["modalities"]["mri"]["source"]["root"] == str(tmp_path / "mri" / "msd_hippocampus")
    assert "ecg: ecg/ptbxl_500 is not in the data folder; left out" in capsys.readouterr().err
