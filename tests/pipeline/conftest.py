"""The project that all tests of the pipeline look at: its pipeline runs once."""

import shutil
from collections.abc import Iterator

import pytest

from medssl import workspace
from tests.pipeline.project import ROOT, Project, small_params


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.run("git", "init", "-q")
    made.run("dvc", "init", "-q")
    made.run("dvc", "config", "core.analytics", "false")
    workspace.lay_out(made.folder, small_params())
    shutil.copyfile(ROOT / ".gitignore", made.folder / ".gitignore")
    made.run("git", "add", "-A")
    made.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start")
    made.run("medssl", "repro")
    return made


@pytest.fixture
def restored(project: Project) -> Iterator[None]:
    """Give the project back as it was: values, outputs, and DVC's own settings."""
    lock = (project.folder / "dvc.lock").read_text()
    yield
    project.run("git", "checkout", "-q", "params.yaml")
    (project.folder / ".dvc/config.local").unlink(missing_ok=True)
    shutil.rmtree(project.folder / "data/remote", ignore_errors=True)
    if (project.folder / "dvc.lock").read_text() != lock:
        (project.folder / "dvc.lock").write_text(lock)
        project.run("dvc", "checkout", "--force")
