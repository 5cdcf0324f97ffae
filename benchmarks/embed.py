"""Peak memory of the probe stage, which pools features of a block of samples and lets them go, against all at once.

    python benchmarks/embed.py [--samples 50000] [--shape 1 250] [--encoder resnet1d --widths 4 4 8 16]

Both ways are the stage itself, in a process of its own, on one temporary store: an encoder, untrained ones, simple
features, probes, ``embeddings.parquet``. The alternative reads the store as one block and keeps what each encoder
gives. Their results must be equal to the byte. Peak is resident memory without the pages of mapped files, which the
system takes back when it needs them (``RssAnon`` of ``/proc``, read every 5 ms; Linux). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from medssl import config, hub, models
from medssl import table as tables
from medssl.curate import dedup
from medssl.evaluate.tasks import Task, pooled
from medssl.store import Writer, open_store, write_parquet
from pipeline import probe, stage

ROOT = Path(__file__).parents[1]
RUN, COHORT = "tiny", "ecg"
PER_PATIENT, PER_TRIAL = 100, 10
PARTS = ("train", "train", "val", "test")
RESULTS = ("metrics.json", "embeddings.parquet")


def build(samples: int, shape: Sequence[int], encoder: dict[str, Any]) -> None:
    """Write a project into this folder: params, a store of noise with receipts and split, and an encoder."""
    channels = [f"C{i}" for i in range(shape[0])]
    ingest = {"rate_hz": 25, "channels": channels, "unit": "mV", "window_s": shape[1] / 25}
    run = {
        "modality": COHORT, "recipe": "simclr", "encoder": encoder, "pretrain": {"epochs": 1},
        "evaluate": {"labels": ["disease", "age"], "fractions": [1.0, 0.1], "seeds": 3, "bootstrap": 100},
    }  # fmt: skip
    params = {
        "compute": {"accelerator": "cpu", "progress": False}, "runs": {RUN: run},
        "modalities": {COHORT: {"source": {"name": "manifest", "root": "raw"}, "ingest": ingest}},
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params))
    dumped = config.SignalIngest(**ingest).model_dump(mode="json")
    facts = {"modality": "ecg", "shape": list(shape), "unit": "mV", "params": dumped, "anatomy_units": {}}
    rng = np.random.default_rng(0)
    folder = stage.store_of(COHORT)
    with Writer(folder, facts) as writer:
        for i in tqdm(range(samples), desc="build", disable=None, leave=False):
            x = rng.standard_normal(shape, dtype=np.float32)
            patient, trial, index = i // PER_PATIENT, i // PER_TRIAL, i % PER_TRIAL
            content = tables.content_hash(x)
            row = {
                "sample_id": tables.sample_id(content, patient, trial, index), "patient": patient, "trial": trial,
                "index_in_trial": index, "modality": "ecg", "source": "noise", "rate_hz": 25.0, "spacing_mm": None,
                "unit": "mV", "channels": channels, "start_s": 10.0 * index, "duration_s": 10.0, "quality": 1.0,
                "content": content, "fold": 1.0, "label_disease": ("sick", "healthy")[patient // 4 % 2],
                "label_age": 30.0 + patient % 50,
            }  # fmt: skip
            writer.add(x, row)
    table = open_store(folder).table
    write_parquet(dedup.receipts(table), stage.DATA / COHORT / "dedup.parquet")
    part = np.array(PARTS)[table["patient"].to_numpy() % 4]
    write_parquet(pd.DataFrame({"sample_id": table["sample_id"], "split": part}), stage.DATA / COHORT / "split.parquet")
    module = models.build(**encoder, in_channels=shape[0], seed=0)
    hub.save_encoder(
        stage.run_folder(RUN) / "encoder",
        module,
        architecture={"in_channels": shape[0], **encoder},
        contract=hub.contract_of(facts, int(module.embedding_dim)),  # type: ignore[arg-type]
        provenance={},
        card="",
    )


def work(way: str) -> None:
    """Run the stage in this process: in blocks, or with the samples and all embeddings in memory."""
    held = []

    def at_once(
        tasks: Sequence[Task], blocks: Iterable[np.ndarray], features: Callable[[np.ndarray], np.ndarray]
    ) -> list[np.ndarray]:
        rows = np.concatenate(list(blocks))
        held.append(features(rows))
        return pooled(tasks, [rows], lambda _: held[-1])

    if way == "whole":
        probe.pooled = at_once  # type: ignore[attr-defined]
    probe.work(config.load("params.yaml"), RUN)


def child(*words: str) -> dict[str, float]:
    """Run this script in a process of its own; return its seconds and its peak in bytes.

    Raises:
        ChildProcessError: it failed, or was killed for want of memory.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, __file__, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = [line.split() for line in status.read_text().splitlines()]
        peak = max(peak, sum(int(line[1]) for line in lines if line[0] in ("RssAnon:", "RssShmem:")) * 1024)
        time.sleep(0.005)
    assert process.stderr is not None
    if process.returncode:
        raise ChildProcessError((process.stderr.read().strip().splitlines() or [f"ended {process.returncode}"])[-1])
    return {"seconds": time.perf_counter() - start, "peak": peak}


def main() -> None:
    """Print the table and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--shape", type=int, nargs=2, default=[1, 250], help="channels and steps of a sample")
    parser.add_argument("--encoder", default="resnet1d")
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 4, 8, 16])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        work(args.child)
        return
    out: dict[str, float] = {"samples": args.samples}
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        build(args.samples, args.shape, {"name": args.encoder, "widths": args.widths})
        print(f"{args.samples} samples of {'x'.join(map(str, args.shape))}, {args.encoder} {args.widths}")
        print(f"{'':8} {'peak (GB)':>10} {'seconds':>8}")
        found = []
        for way in ("blocks", "whole"):
            try:
                run = child("--child", way)
            except ChildProcessError as error:
                print(f"{way:8} {error}")
                continue
            out |= {f"{way}_gb": round(run["peak"] / 1e9, 3), f"{way}_s": round(run["seconds"], 1)}
            print(f"{way:8} {run['peak'] / 1e9:10.2f} {run['seconds']:8.1f}", flush=True)
            found.append([(stage.run_folder(RUN) / "probe" / name).read_bytes() for name in RESULTS])
        os.chdir(ROOT)
    if len(found) == 2:
        out["ratio"] = round(out["blocks_gb"] / out["whole_gb"], 3)
        print("equal to the byte" if found[0] == found[1] else "results DIFFER")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
