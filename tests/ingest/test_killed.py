"""Ingests that are killed: the store is absent or whole, and what comes after has the bytes of one never stopped."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl import sources
from medssl.config import SignalIngest
from medssl.ingest.build import build
from medssl.store import open_store

PARAMS = SignalIngest(rate_hz=50, channels=("A", "B"), unit="mV", window_s=1)
KILLS = 20


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty recordings of 20 s at 200 Hz as text, one of them broken."""
    root = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    rows = []
    for p in range(60):
        np.savetxt(root / f"{p}.csv", rng.standard_normal((4000, 2)), delimiter=",", header="A,B", comments="")
        rows.append({"path": f"{p}.csv", "patient": f"{p // 2}", "trial": f"{p % 2}", "rate_hz": 200, "unit": "mV"})
    (root / "7.csv").write_bytes(b"A,B\n\xff")
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


def ingest(raw: Path, out: Path, **options: Any) -> None:
    records = sources.list_records("manifest", raw)
    build(records, out, key="ecg", params=PARAMS, secret=b"0123456789abcdef", progress=False, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference") / "store"
    ingest(raw, out)
    assert len(open_store(out)) == 59 * 20
    return content(out)


def test_killed_at_any_moment_then_run_again(raw: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # a fork of a process without threads; imports once
    context.set_forkserver_preload(["medssl.ingest.build"])
    (warm := context.Process(target=ingest, args=(raw, tmp_path / "warm"))).start()
    warm.join()
    start = time.perf_counter()
    (whole := context.Process(target=ingest, args=(raw, tmp_path / "whole"))).start()
    whole.join()
    lasts = time.perf_counter() - start
    draw, midway = random.Random(3), 0
    for kill in range(KILLS):
        out = tmp_path / str(kill) / "store"
        child = context.Process(target=ingest, args=(raw, out))
        child.start()
        time.sleep(draw.uniform(0.1, 1.0) * lasts)
        child.kill()
        child.join()
        if out.exists():  # killed after the end, or in the last step
            assert content(out) == reference
        else:
            midway += any(out.parent.glob(".store.*.parts/*"))
        ingest(raw, out)
        assert content(out) == reference
        assert [p.name for p in out.parent.iterdir()] == ["store"]
    assert midway > KILLS / 3


def test_a_restart_reads_only_what_is_not_finished(
    raw: Path, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medssl.ingest import parts

    read: list[Path] = []
    plain = parts.cut

    def until_the_thirtieth(record: Any, **options: Any) -> Any:
        if len(read) == 30:
            raise KeyboardInterrupt
        read.append(record.path)
        return plain(record, **options)

    with monkeypatch.context() as patched:
        patched.setattr(parts, "cut", until_the_thirtieth)
        with pytest.raises(KeyboardInterrupt):
            ingest(raw, tmp_path / "store")
        os.utime(raw / "3.csv")  # a file that changed since is read again
        read.clear()
        with pytest.raises(KeyboardInterrupt):
            ingest(raw, tmp_path / "store")
        assert len(set(read)) == 30 and len([p for p in read if p.name == "3.csv"]) == 1
    ingest(raw, tmp_path / "store")
    assert content(tmp_path / "store") == reference


def test_a_worker_killed_in_the_middle_changes_no_byte(raw: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        while not any(tmp_path.glob(".store.*.parts/*")):
            time.sleep(0.005)
        child = multiprocessing.active_children()[0]
        killed.append(child.pid or 0)
        os.kill(child.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    ingest(raw, tmp_path / "store", executor="process", workers=2)
    killer.join()
    assert killed
    assert content(tmp_path / "store") == reference


def test_a_dask_worker_killed_in_the_middle_changes_no_byte(
    raw: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        pids: list[int] = []

        def kill_one() -> None:
            while not any(tmp_path.glob(".store.*.parts/*")):
                time.sleep(0.005)
            pids.append(cluster.workers[0].pid)
            os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        ingest(raw, tmp_path / "store", executor="dask", workers=2, address=cluster.scheduler_address)
        killer.join()
    assert pids
    assert content(tmp_path / "store") == reference
