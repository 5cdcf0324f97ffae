"""What the README shows runs as it stands: its commands, its Python, the page of the runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.project import ROOT, Project

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [line.strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make ")])
def test_readme_commands_run(project: Project, command: str) -> None:
    try:
        project.run("bash", "-c", command)
    finally:
        if command.startswith("dvc exp"):
            project.run("git", "checkout", "-q", "params.yaml")
            project.run("dvc", "repro")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_readme_make_targets_run(command: str) -> None:
    target = command.split()[1]
    continuous = (ROOT / ".ci/run").read_text()
    if target == "real":
        # The pieces of it that need recordings are in test_real.py.
        assert (
            "--params params.real.yaml"
            in subprocess.run(
                ["make", "-n", "real", "DATA=."], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
        )
    elif target == "ui":  # served in the test below
        assert (
            "pipeline.ui"
            in subprocess.run(["make", "-n", "ui"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )
    else:
        assert f'make -C "$clone/medssl" {target}' in continuous


@pytest.mark.parametrize("block", blocks("python"), ids=["pictures", "load", "store", "objectives"])
def test_readme_python_runs(project: Project, block: str) -> None:
    if '"scans"' in block:
        for name in ("normal/p01_1.png", "covid/p02_1.jpg", "covid/p02_2.jpg"):
            (project.folder / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
            colours = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(colours).save(project.folder / "scans" / name)
    project.run(sys.executable, "-c", block)
    if '"scans"' in block:
        assert "3 records, 2 patients, 3 usable" in project.run("medssl", "check", "scans")


def test_the_ui_serves_the_runs_on_the_loopback_address(project: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "pipeline.ui", str(port)],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    assert answer.status == 200
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        else:
            pytest.fail("the UI did not answer within 60 s")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=medssl"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["experiment"]["name"] == "medssl"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
