"""What README and docs show runs as it stands: their commands, their Python, the page of the runs.

A block that needs a cluster or a cloud says so (``title="needs ..."``); what of it can run here does, on stand-ins.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medssl
from tests.pages import ALL, PAGES, Block, blocks
from tests.pipeline.project import ROOT, Project

pytestmark = pytest.mark.slow
BASH = blocks("bash")
MAKE = [line for block in BASH for line in block.text.splitlines() if line.startswith("make ")]
REST = [block for block in BASH if not block.text.startswith("make ")]


def named(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0]}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def served(words: list[str], project: Project, **environment: str) -> Iterator[None]:
    """Run a server as long as the test needs it."""
    server = subprocess.Popen(
        words,
        cwd=project.folder,
        env=project.environment | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(port: int) -> None:
    """Wait until a server takes connections."""
    for _ in range(240):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return
        time.sleep(0.5)
    pytest.fail("the server did not answer within 120 s")


def test_no_block_escapes() -> None:
    assert {block.language for block in ALL} == {"", "bash", "python", "yaml", "text"}
    fences = sum(line.startswith("```") for page in PAGES for line in page.read_text("utf-8").splitlines())
    assert fences == 2 * len(ALL)
    assert not [b for b in BASH if b.text.startswith("make ") and len(set(b.text.splitlines()) - set(MAKE))]
    marked = [block for block in ALL if block.needs]
    assert {block.language for block in marked} == {"bash"}
    for block in marked:
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", REST, ids=named)
def test_commands_run(project: Project, restored: None, block: Block) -> None:
    project.run("bash", "-e", "-c", block.text)


@pytest.mark.parametrize("command", dict.fromkeys(MAKE))
def test_make_targets_run(command: str) -> None:
    target = command.split()[1]
    continuous = (ROOT / ".ci/run").read_text()
    # What needs recordings is in test_real.py; `ui` is served below.
    runs = {"real": "--params params.real.yaml", "ui": "pipeline.ui"}
    if target in runs:
        words = ["make", "-n", target, "DATA=."]
        assert runs[target] in subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    else:
        assert f'make -C "$clone/medssl" {target}' in continuous


@pytest.mark.parametrize("block", blocks("python"), ids=named)
def test_python_runs(project: Project, block: Block) -> None:
    if '"scans"' in block.text:
        for name in ("normal/p01_1.png", "covid/p02_1.jpg", "covid/p02_2.jpg"):
            (project.folder / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
            colours = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(colours).save(project.folder / "scans" / name)
    project.run(sys.executable, "-c", block.text)
    if '"scans"' in block.text:
        assert "3 records, 2 patients, 3 usable" in project.run("medssl", "check", "scans")


def test_the_script_for_slurm_trains_on_two_nodes(
    project: Project, restored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [script] = [block.text for block in blocks("bash", apart=True) if block.text.startswith("#!")]
    # Stand-ins: a node is a process, and the first host is this one.
    stands = {
        "srun": 'for n in 1 0; do SLURM_PROCID=$n SLURM_NODEID=$n "$@" & wait=$wait" $!"; done; wait $wait',
        "scontrol": 'echo "127.0.0.1"; echo "127.0.0.2"',
    }
    for name, text in stands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    path = f"{tmp_path}{os.pathsep}{project.environment['PATH']}"
    monkeypatch.setattr(project, "environment", project.environment | slurm | {"PATH": path, "SLURM_JOB_NAME": "train"})
    (tmp_path / "activate").touch()
    script = script.replace(".venv/bin/activate", str(tmp_path / "activate")).replace("29500", str(free_port()))
    log = project.run("bash", "-e", "-c", script)
    assert log.count("ecg-simclr: 4 steps") == 1  # one process writes
    # The rest follows. Two processes may end with the weights of one, and then nothing is left to do; or with those
    # that two had in an earlier test, and then DVC has what follows.
    outcomes = (
        "Running stage 'probe@ecg-simclr'",
        "Stage 'probe@ecg-simclr' didn't change, skipping",
        "Stage 'probe@ecg-simclr' is cached - skipping run",
    )
    assert any(outcome in log for outcome in outcomes), log[-3000:]
    assert "Running stage 'pretrain@ecg-simclr'" not in log


def test_a_dask_cluster_makes_the_same_store(project: Project, tmp_path: Path) -> None:
    [servers] = [block.text for block in blocks("bash", apart=True) if block.text.startswith("dask scheduler")]
    port = free_port()
    servers = servers.replace("scheduler:8786", f"127.0.0.1:{port}").replace("--host scheduler", "--host 127.0.0.1")
    first, second = servers.replace("8786", str(port)).replace("--nworkers 8", "--nworkers 1").splitlines()
    kept = medssl.open_store(project.folder / "data/ecg/store").content_hash
    before = (project.folder / "params.yaml").read_text()
    changed = before.replace("executor: serial", f"executor: dask\n  address: tcp://127.0.0.1:{port}")
    assert changed != before
    (project.folder / "dask.yaml").write_text(changed)
    try:
        quiet = {"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
        with (
            served(first.split(), project, **quiet),
            served(second.split(), project, **quiet),
        ):
            answers(port)
            project.run(sys.executable, "-m", "pipeline.ingest", "ecg", "--params", "dask.yaml")
        assert medssl.open_store(project.folder / "data/ecg/store").content_hash == kept
    finally:
        (project.folder / "dask.yaml").unlink()
        project.run("dvc", "checkout", "--force")


def test_runs_land_on_a_server(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    page = (ROOT / "docs/how-to/mlflow-server.md").read_text()
    [words] = [part for part in page.split("`") if part.startswith("mlflow server --backend-store-uri sqlite")]
    words = words.replace("sqlite:///server.db", f"sqlite:///{tmp_path}/server.db")
    words = words.replace("mlartifacts", str(tmp_path / "files"))
    address = f"http://127.0.0.1:{port}"
    with served([*words.split(), "--port", str(port), "--workers", "1"], project):
        answers(port)
        monkeypatch.setattr(project, "environment", project.environment | {"MLFLOW_TRACKING_URI": address})
        project.run(sys.executable, "-m", "pipeline.results", "ecg-comet")
        with urllib.request.urlopen(
            f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=medssl"
        ) as answer:
            assert json.load(answer)["experiment"]["name"] == "medssl"


def test_the_ui_serves_the_runs_on_the_loopback_address(project: Project) -> None:
    port = free_port()
    with served([sys.executable, "-m", "pipeline.ui", str(port)], project):
        answers(port)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=medssl"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["experiment"]["name"] == "medssl"
