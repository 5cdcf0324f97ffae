"""The project around the parameters: its folder, key and tracking store, and how this process was started.

The only module that reads environment variables.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from medssl.config import ConfigError, Tracking


def root(start: Path | None = None) -> Path:
    """Return the outermost folder above ``start`` that holds ``dvc.yaml`` and ``params.yaml``.

    The outermost, because ``dvc exp run --temp`` and ``make real`` work in copies below the project, and
    their runs belong to the project's tracking store.
    """
    start = (start or Path.cwd()).resolve()
    found = [p for p in (start, *start.parents) if (p / "dvc.yaml").is_file() and (p / "params.yaml").is_file()]
    return found[-1] if found else start


def identity_key(folder: Path) -> bytes:
    """Return the key that patient identifiers are hashed with.

    It comes from ``MEDSSL_KEY``, else from ``.medssl/key`` under ``folder``, made there with mode 600 if absent.
    The same key gives the same ids; it never enters a store, a log or version control.
    """
    if given := os.environ.get("MEDSSL_KEY"):
        return _long_enough(given.encode(), "MEDSSL_KEY")
    path = folder / ".medssl" / "key"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # DVC, whose index of raw names lies there, may have made it open to all
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=path.parent)  # mode 600
        with os.fdopen(handle, "wb") as out:
            out.write(os.urandom(32).hex().encode())
        print(f"note: made {path}, the key of patients' codes; codes agree only under one key", file=sys.stderr)
        # The first of two stages wins, and neither ever reads half a key.
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        os.unlink(name)
    return _long_enough(path.read_bytes().strip(), str(path))


def _long_enough(key: bytes, where: str) -> bytes:
    if len(key) < 16:
        raise ConfigError(f"{where}: {len(key)} bytes; expected at least 16. Put the project's key back, or delete it")
    return key


def tracking_uri(tracking: Tracking, folder: Path) -> str:
    """Return the tracking URI: environment, then ``tracking.uri``, then an absolute SQLite file under ``folder``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def shown_uri(uri: str) -> str:
    """Return a URI without the user and password it may hold."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def stage() -> str:
    """Return the DVC stage this process runs in, or an empty string."""
    return os.environ.get("DVC_STAGE", "")


def launched() -> tuple[int, int] | None:
    """Return processes per node and nodes that torchrun started, or None without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def first_process() -> bool:
    """Say whether this process is the one that writes outputs and runs; others only train along."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
