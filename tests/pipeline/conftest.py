"""The project that all tests of the pipeline look at: its pipeline runs once."""

import shutil

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
