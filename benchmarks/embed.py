"""Peak memory of the probe stage, which pools features of a block of samples and lets them go, against all at once.

    python benchmarks/embed.py [--samples 50000] [--shape 1 250] [--encoder resnet1d --widths 4 4 8 16]

Both ways are the stage itself, in a process of its own, on one temporary store: an encoder, untrained ones, probes,
``embeddings.parquet``. The alternative reads the store as one block and keeps what each encoder gives. Their results
must be equal to the byte. Peak is resident memory without the pages of mapped files, which the
system takes back when it needs them (``RssAnon`` of ``/proc``, read every 5 ms; Linux). The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from benchmarks.timing import ROOT, Failed, apart, last_line, measured, table
from medssl import config, features, hub, models
from medssl import table as tables
from medssl.curate import dedup
from medssl.store import Store, Writer, open_store, write_parquet
from pipeline import probe, stage

RUN, COHORT = "tiny", "ecg"
PER_PATIENT, PER_TRIAL = 100, 10
PARTS = ("train", "train", "val", "test")
RESULTS = ("predictions.parquet", "embeddings.parquet")


def build(samples: int, shape: Sequence[int], encoder: dict[str, Any]) -> None:
    """Write a project into this folder: params, a store of noise with receipts and split, and an encoder."""
    channels = [f"C{i}" for i in range(shape[0])]
    ingest = {"rate_hz": 25, "channels": channels, "unit": "mV", "window_s": shape[1] / 25}
    run = {
        "modality": COHORT, "recipe": "simclr", "encoder": encoder, "pretrain": {"epochs": 1},
        "evaluate": {"labels": ["disease", "age"], "fractions": [1.0, 0.1], "seeds": 3,
                     "protocols": ["probe", "knn", "random_init", "permuted_labels"]},
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
    (stage.run_folder(RUN) / "seeds").mkdir()


def anonymous_gb() -> float:
    """Return the resident memory of this process without the pages of mapped files."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("RssAnon:", "RssShmem:")) * 1024 / 1e9


def work(way: str, home: str) -> dict[str, float]:
    """Run the stage in this process, in blocks or with the samples and all embeddings in memory, and measure it."""
    os.chdir(home)
    held, peak, done = [], [0.0], threading.Event()

    def at_once(name: str, store: Store, compute: Callable[[np.ndarray], np.ndarray], **_: Any) -> np.ndarray:
        held.append(compute(np.arange(len(store))))
        return held[-1]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous_gb())

    if way == "whole":
        features.of_samples = at_once  # type: ignore[assignment]
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds = measured(lambda: probe.work(config.load("params.yaml"), RUN)).seconds
    finally:
        done.set()
        watcher.join()
    return {"seconds": seconds, "gigabytes": peak[0]}


def main() -> None:
    """Print the table and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--shape", type=int, nargs=2, default=[1, 250], help="channels and steps of a sample")
    parser.add_argument("--encoder", default="resnet1d")
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 4, 8, 16])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        build(args.samples, args.shape, {"name": args.encoder, "widths": args.widths})
        print(f"{args.samples} samples of {'x'.join(map(str, args.shape))}, {args.encoder} {args.widths}")
        show = table("", "peak GB", "seconds")
        runs, results = {}, []
        for way in ("blocks", "whole"):
            try:
                runs[way] = apart(work, way, home)
            except Failed as error:
                print(f"{way}: {error}")
                continue
            show(way, runs[way]["gigabytes"], runs[way]["seconds"])
            results.append([(stage.run_folder(RUN) / "probe" / name).read_bytes() for name in RESULTS])
        os.chdir(ROOT)
    ratios = {"blocks_gb": runs["blocks"]["gigabytes"]}
    if len(results) == 2:
        print("equal to the byte" if results[0] == results[1] else "results DIFFER")
        ratios["memory"] = runs["blocks"]["gigabytes"] / runs["whole"]["gigabytes"]
    last_line(ratios)


if __name__ == "__main__":
    main()
