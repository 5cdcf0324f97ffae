"""An open run. What MLflow does not take because its store is silent is kept below ``.medssl/unlogged`` until later.

A stage computes for hours; that its numbers cannot be sent ends no stage. `medssl.tracking.resync` sends them later.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medssl import project
from medssl.tracking import entries
from medssl.tracking.entries import Entry

KEPT = Path(".medssl") / "unlogged"
HEAD, ENTRIES, FILES = "run.json", "entries.jsonl", "files"


class Log:
    """Sends the entries of one run, and keeps them from the first one on that could not be sent.

    Attributes:
        client: ``MlflowClient``; None from then on.
        ids: of the ``run`` and its ``parent``, as far as they could be made.
    """

    def __init__(self, about: dict[str, Any], root: Path) -> None:
        self.about, self._root = about, root
        self.client: Any = None
        self.ids: dict[str, str] = {}
        self._folder: Path | None = None

    def open(self, client: Any, ids: dict[str, str]) -> None:
        """Send from now on."""
        self.client, self.ids = client, ids

    def write(self, entry: Entry, to: str = "run") -> None:
        """Send an entry to the run, or to its ``parent``, or keep it."""
        if to == "parent" and self.about["parent"] is None:
            return
        if self.client is not None:
            try:
                entries.send(self.client, self.ids[to], entry)
            except Exception as error:
                if not entries.silent(error):
                    raise
                self.lose(error)
            else:
                return
        self._keep(entry | {"to": to})

    def lose(self, error: Exception) -> None:
        """Go on without MLflow, and say so."""
        self.client = None
        why = project.shown_uri(" ".join(str(error).split()))[:160]
        print(f"{self.about['name']}: MLflow does not answer ({why}). The stage goes on; what it records is kept in "
              f"{KEPT}; `medssl track --resync` sends it later", file=sys.stderr, flush=True)  # fmt: skip

    def _keep(self, entry: Entry) -> None:
        if self._folder is None:
            self._folder = self._root / KEPT / f"{self.about['begin']}-{uuid.uuid4().hex[:8]}"
            self._folder.mkdir(parents=True, mode=0o700)
            head = self.about | {"ids": self.ids, "process": os.getpid()}
            (self._folder / HEAD).write_text(json.dumps(head, indent=1) + "\n")
        if "path" in entry:  # a later stage may write another file there
            place = self._folder / FILES / uuid.uuid4().hex[:8] / Path(entry["path"]).name
            place.parent.mkdir(parents=True)
            copy = shutil.copytree if Path(entry["path"]).is_dir() else shutil.copyfile
            copy(entry["path"], place)
            entry = entry | {"path": str(place.relative_to(self._folder / FILES))}
        with (self._folder / ENTRIES).open("a") as out:
            out.write(json.dumps(entry) + "\n")


class StageRun:
    """An open MLflow run of one stage execution."""

    def __init__(self, log: Log, to: str = "run") -> None:
        self._log, self._to = log, to

    @property
    def run_id(self) -> str:
        """MLflow's id of the run, empty where it could not be made yet."""
        return self._log.ids.get(self._to, "")

    @property
    def name(self) -> str:
        """Name of the stage."""
        return str(self._log.about["name"])

    @property
    def parent(self) -> StageRun:
        """The run above, of the medssl run or cohort as a whole; a run without one records nothing there."""
        return StageRun(self._log, "parent")

    def params(self, values: Mapping[str, Any]) -> None:
        """Log a nested mapping as flat ``a.b.c`` parameters, once."""
        self._log.write(entries.params(values), self._to)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers named ``stage/split/name`` at a step; NaN is left out."""
        self._log.write(entries.metrics(values, step), self._to)

    def tag(self, key: str, value: str) -> None:
        """Set a tag."""
        self._log.write({"do": "tag", "key": key, "value": value}, self._to)

    def document(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a mapping as a JSON file."""
        self._log.write({"do": "document", "name": name, "content": dict(content)}, self._to)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all its files, under ``folder`` of the run."""
        self._log.write({"do": "artifact", "path": str(Path(path).absolute()), "folder": folder}, self._to)

    def dataset(self, name: str, digest: str, *, source: str, context: str, profile: Mapping[str, int]) -> None:
        """Note which data the run read: the cohort's name, its content hash, its kind of source, its counts."""
        about = {"name": name, "digest": digest, "source": {"source": source}, "profile": dict(profile)}
        self._log.write({"do": "dataset", "context": context, **about}, self._to)

    def register(self, name: str, weights: str, *, score: Mapping[str, Any], same: Mapping[str, str]) -> None:
        """Make the encoder with these weights a version of a registered model (`medssl.tracking.registry`)."""
        about = {"name": name, "weights": weights, "score": dict(score), "same": dict(same)}
        self._log.write({"do": "register", **about}, self._to)

    @contextmanager
    def machine(self) -> Iterator[None]:
        """Note the load of processors, memory and GPUs every ten seconds, as ``system/...``."""
        watch = None
        if self._log.client is not None and (uri := self._log.client.tracking_uri):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            with suppress(Exception):  # numbers on the side: whatever keeps them away ends no training
                watch = SystemMetricsMonitor(self.run_id, tracking_uri=uri)
                watch.start()
        try:
            yield
        finally:
            if watch is not None:
                with suppress(Exception):
                    watch.finish()


class NoRun(StageRun):
    """A run that records nothing: of trainings beside the one that is tracked, and of processes beside the first."""

    def __init__(self) -> None:
        super().__init__(Log({"parent": None, "name": ""}, Path()))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Do nothing."""

    def tag(self, key: str, value: str) -> None:
        """Do nothing."""
