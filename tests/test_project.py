"""Where the project, its runs and its key are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from medssl import config, project


def test_project_root_is_the_outermost(tmp_path: Path) -> None:
    inner = tmp_path / "project" / ".dvc" / "tmp" / "copy"
    deep = inner / "data" / "runs"
    deep.mkdir(parents=True)
    assert project.root(deep) == deep.resolve()
    for folder in (inner, tmp_path / "project"):
        (folder / "dvc.yaml").touch()
        (folder / "params.yaml").touch()
    (tmp_path / "dvc.yaml").touch()  # alone it makes no project
    assert project.root(deep) == (tmp_path / "project").resolve()


def test_tracking_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert project.tracking_uri(config.Tracking(), tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    assert project.tracking_uri(config.Tracking(uri="http://x"), tmp_path) == "http://x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://y")
    assert project.tracking_uri(config.Tracking(uri="http://x"), tmp_path) == "http://y"


def test_identity_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDSSL_KEY", raising=False)
    key = project.identity_key(tmp_path)
    path = tmp_path / ".medssl" / "key"
    assert len(key) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert project.identity_key(tmp_path) == key
    assert project.identity_key(tmp_path / "other") != key
    monkeypatch.setenv("MEDSSL_KEY", "mine, sixteen bytes")
    assert project.identity_key(tmp_path) == b"mine, sixteen bytes"
    assert path.read_bytes() == key


def test_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert project.stage() == ""
    monkeypatch.setenv("DVC_STAGE", "probe@x")
    assert project.stage() == "probe@x"


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".medssl").mkdir()
    (tmp_path / ".medssl" / "key").write_text("")
    with pytest.raises(config.ConfigError, match="0 bytes; expected at least 16"):
        project.identity_key(tmp_path)


def test_passwords_are_not_shown() -> None:
    assert project.shown_uri("postgresql://user:secret@host/db") == "postgresql://host/db"
    assert project.shown_uri("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"


def test_the_private_folder_is_closed_even_if_it_was_open(tmp_path: Path) -> None:
    (tmp_path / ".medssl" / "dvc").mkdir(parents=True)
    (tmp_path / ".medssl").chmod(0o755)
    project.identity_key(tmp_path)
    assert stat.S_IMODE((tmp_path / ".medssl").stat().st_mode) == 0o700
