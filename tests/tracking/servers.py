"""Real servers on the loopback address for the tests: ``mlflow server`` and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300  # seconds until a server must answer, on a busy machine


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait(answers: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answers():
            return
        time.sleep(0.3)
    raise AssertionError(f"{what} did not start")


class Server:
    """An ``mlflow server`` that can be killed and started again."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.port, self.folder = free_port(), folder
        self.store = store or f"sqlite:///{folder / 'server.db'}"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["--backend-store-uri", self.store, "--artifacts-destination", str(self.folder / "artifacts")]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait(self._answers, "mlflow server")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=5).read()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where it is not installed."""
    found = [Path(p).parent for p in (shutil.which("initdb"), shutil.which("postgres")) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((one for one in found if (one / "initdb").exists() and (one / "postgres").exists()), None)


class Postgres:
    """A database server in a folder of its own, which ends with the test."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.uri = f"postgresql://medssl@127.0.0.1:{self.port}/postgres"
        self.programs = postgres()
        # It does not run as root.
        self.user = "nobody" if os.geteuid() == 0 else None
        folder.mkdir(parents=True, exist_ok=True)
        if self.user:
            shutil.chown(folder, self.user)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.programs is not None
        data = str(self.folder / "data")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": self.user, "cwd": self.folder}
        subprocess.run([self.programs / "initdb", "-D", data, "-U", "medssl", "-A", "trust"], check=True, **quiet)
        words = ["-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        self.process = subprocess.Popen([self.programs / "postgres", *words], **quiet)
        wait(self._answers, "PostgreSQL")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
