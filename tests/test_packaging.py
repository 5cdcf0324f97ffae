"""A release: the version is that of the tags, and the wheel installs alone, with what it needs and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from release import oldest, version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEMPLATE = ("dvc.yaml", "params.yaml", "params.real.yaml", ".dvcignore")
SECRET = re.compile(rb"PRIVATE KEY-----|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34}|pypi-AgEI")


def git(folder: Path, *words: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=toy", "-c", "user.email=toy@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=os.environ | own, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def build(sources: Path, out: Path, target: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=sources, check=True, capture_output=True)
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_the_version_is_that_of_the_tags(tmp_path: Path) -> None:
    def commit() -> str:
        git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "toy")
        return git(tmp_path, "rev-parse", "--short", "HEAD")

    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    commit()
    second = commit()
    assert version.read(tmp_path) == f"{version.BEFORE}.dev2+g{second}"
    git(tmp_path, "tag", "other")
    git(tmp_path, "tag", "v0.2.0")
    assert version.read(tmp_path) == "0.2.0"
    (tmp_path / "file").write_text("b")
    assert re.fullmatch(r"0\.2\.1\.dev0\+g[0-9a-f]+\.dirty", version.read(tmp_path))
    git(tmp_path, "checkout", "file")
    third = commit()
    assert version.read(tmp_path) == f"0.2.1.dev1+g{third}"
    git(tmp_path, "tag", "-a", "v0.3.0rc1", "-m", "toy")
    assert version.read(tmp_path) == "0.3.0rc1"
    fourth = commit()
    assert version.read(tmp_path) == f"0.3.0rc2.dev1+g{fourth}"
    inner = tmp_path / "unpacked"
    inner.mkdir()
    assert version.read(inner) == version.UNKNOWN  # not that of the checkout around it
    (inner / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: medssl\nVersion: 0.2.0\n\nVersion: 9\n")
    assert version.read(inner) == "0.2.0"


def test_git_that_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert version.read(tmp_path) == version.UNKNOWN
    assert "git failed" in capsys.readouterr().err


def test_a_wheel_has_the_package_and_the_template_and_nothing_else(wheel: Path) -> None:
    tracked = git(ROOT, "ls-files", "medssl", "pipeline").splitlines()
    expected = {
        path.replace("pipeline/", "medssl/template/pipeline/", 1) for path in tracked if "pipeline/" in path[:9]
    }
    expected |= {path for path in tracked if path.startswith("medssl/")} | {f"medssl/template/{n}" for n in TEMPLATE}
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        assert names - expected == set(), "not in git: add it, or delete it"
        assert expected - names == set()
        assert {f"medssl/encoders/ecg-small/{n}" for n in ("card.md", "model.safetensors")} < names
        assert not [n for n in archive.namelist() if SECRET.search(archive.read(n))]
    assert wheel.stat().st_size < 20e6


def test_the_metadata_is_that_of_the_project(wheel: Path) -> None:
    of = metadata(wheel)
    assert of["Version"] == version.read()
    assert f"medssl-{of['Version']}" in wheel.name
    assert of["License-Expression"] == "Apache-2.0"
    required = [r for r in of.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert len(required) == len(PROJECT["dependencies"])
    with zipfile.ZipFile(wheel) as archive:
        names = {n.partition(".dist-info/")[2]: n for n in archive.namelist() if ".dist-info/" in n}
        assert "licenses/LICENSE" in names
        assert b"medssl = medssl.cli:main" in archive.read(names["entry_points.txt"])


def test_a_wheel_of_the_sdist_is_the_wheel_of_the_checkout(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, filter="data")
    assert not [n for n in names if re.search(r"/(tests|data|notebooks|studies|benchmarks|\.medssl|\.dvc)(/|$)", n)]
    (sources,) = tmp_path.iterdir()
    again = build(sources, tmp_path / "dist", "wheel")
    assert again.name == wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}


USE = """
import sys
from pathlib import Path

import numpy as np

import medssl
from medssl import workspace

home, out = Path(sys.argv[1]), Path(sys.argv[2])
assert home in Path(medssl.__file__).parents, medssl.__file__
assert medssl.__version__ == sys.argv[3], medssl.__version__
encoder = medssl.load_encoder("ecg-small")
leads = encoder.contract["channels"]
z = encoder.embed(np.random.default_rng(0).normal(size=(len(leads), 5000)), rate_hz=500, channels=leads)
assert z.shape == (1, 1728), z.shape
workspace.lay_out(out, workspace.params_for("params.yaml", None))
"""


@pytest.mark.slow
def test_an_installed_wheel_works_outside_any_checkout(wheel: Path, tmp_path: Path) -> None:
    home, out, here = tmp_path / "installed", tmp_path / "work", tmp_path / "elsewhere"
    here.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(home)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDSSL_")} | {"PYTHONPATH": str(home)}

    def call(*command: str | Path, cwd: Path = here) -> str:
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = home / "bin" / "medssl"
    assert "usage: medssl" in call(command, "--help")
    assert "| `ecg-small` |" in call(command, "card")
    assert "# ecg-small" in call(command, "card", "ecg-small")
    call(sys.executable, "-c", USE, home, out, metadata(wheel)["Version"])
    assert call(command, "check", "params.yaml", cwd=out).endswith("ok\n")
    assert "pretrain@ecg-simclr" in call(sys.executable, "-m", "dvc", "stage", "list", "--name-only", cwd=out)
    assert not list(here.iterdir())  # nothing was written where the user stands


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    assert (ROOT / "requirements.oldest").read_text() == oldest.constraints(), "run `make bounds`"
    assert oldest.lowest("dask[distributed]>=2025.1,<2027; python_version > '3'") == "dask==2025.1"
    with pytest.raises(ValueError, match="'toy<2' has 0 lower bounds; expected one"):
        oldest.lowest("toy<2")


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_public_host_runs_is_pinned_unprivileged_and_there(path: Path) -> None:
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text and "pull_request_target" not in text
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in workflow["jobs"].values():
        steps = job.get("steps", [])
        assert "uses" in job or job["timeout-minutes"] <= 120
        for used in [step["uses"] for step in steps if "uses" in step]:
            assert re.search(r"@v\d+(\.\d+)*$", used), used
        for step in steps:
            assert "${{" not in step.get("run", "")  # what somebody else wrote never becomes a command
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            if made := re.fullmatch(r"make ([a-z ]+)", step.get("run", "")):
                assert set(made[1].split()) <= targets, made[0]


def test_it_is_tested_on_each_python_that_it_allows() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(ci["jobs"]) == {"lint", "test", "oldest", "docs", "wheel"}
    tested = ci["jobs"]["test"]["strategy"]["matrix"]["python"]
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert tested == [f"3.{minor}" for minor in range(30) if f"3.{minor}.1" in allowed]
