"""The demo ends with commands that go on from what it made."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from medssl import cli, workspace
from tests.cli.test_cli import COMMANDS, document

ROW = {"run": "ecg-simclr", "label": "sex", "metric": "auroc", "n_patients": 40, "label_fraction": 1.0}


def pretend(folder: Path, *, lanes: int) -> None:
    """Leave what the pipeline leaves."""
    assert lanes == 2
    (folder / "data/report").mkdir(parents=True)
    (folder / "data/runs/ecg-simclr/encoder").mkdir(parents=True)
    (folder / "data/raw/ecg").mkdir(parents=True)
    (folder / "data/raw/ecg/manifest.csv").touch()
    rows = [ROW | {"protocol": p, "mean": 0.8, "lo": 0.7, "hi": 0.9} for p in ("probe", "random_init")]
    pd.DataFrame([*rows, rows[0] | {"label_fraction": 0.1}]).to_csv(folder / "data/report/comparison.csv", index=False)


def test_it_says_what_to_try_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lay_out(folder: Path, params: str) -> None:
        folder.mkdir()
        (folder / "params.yaml").write_text(params)

    monkeypatch.setattr(workspace, "lay_out", lay_out)
    monkeypatch.setattr(workspace, "repro", pretend)
    folder = tmp_path / "a demo"
    code, said = document(capsys, "demo", "--quick", "--out", folder)
    assert code == 0 and said["encoders"] == {"ecg-simclr": str(folder / "data/runs/ecg-simclr/encoder")}
    assert [row["protocol"] for row in said["results"]] == ["probe", "random_init"]
    assert len(said["next"]) == 3
    for line in said["next"]:
        there, command = line.split(" && ")
        assert shlex.split(there) == ["cd", str(folder)]
        program, name, *words = shlex.split(command)
        assert program == "medssl" and COMMANDS[name].parse_args(words)
        assert all((folder / word).exists() for word in words if word.startswith("data/"))
    assert cli.main(["demo", "--out", str(tmp_path / "again")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["run", "label", "metric", "n_patients", "probe", "random_init"]
    assert "try next:" in shown and json.dumps(said)
