"""Sampler and loader of a store of 20,000 windows, as a share of the training step that waits for them.

    python benchmarks/loading.py [--batch 64] [--rounds 5]

The step is SimCLR's on the windows' shape. One process reads, as with ``compute.workers: 0``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import numpy as np

from benchmarks.step import CHANNELS, LENGTH, step
from benchmarks.timing import Process, apart, last_line, measured, table

WINDOWS, STEPS = 20_000, 20


def loading(folder: str, batch: int) -> dict[str, float]:
    """Write the windows, and return seconds a batch of the sampler and of the loader."""
    from medssl.pretrain.data import Samples, collate
    from medssl.pretrain.sampler import HierarchicalBatches
    from medssl.store import Writer, open_store
    from medssl.table import content_hash, sample_id

    if batch % 4:
        raise ValueError(f"batch {batch}: expected a multiple of 4, two trials of two samples each")
    facts = {"modality": "ecg", "shape": [CHANNELS, LENGTH], "unit": "mV", "params": {}, "anatomy_units": {}}
    rng, noise = np.random.default_rng(0), np.random.default_rng(1).standard_normal((64, CHANNELS, LENGTH))
    with Writer(f"{folder}/store", facts) as writer:
        for k in range(WINDOWS):
            x = (noise[k % 64] + rng.random()).astype(np.float32)
            content, codes = content_hash(x), (k // 40, k // 10)
            row = {"sample_id": sample_id(content, *codes, k % 10), "patient": codes[0], "trial": codes[1]}
            row |= {"index_in_trial": k % 10, "content": content, "source": "noise", "quality": 1.0, "fold": 1.0}
            row |= {"modality": "ecg", "rate_hz": 250.0, "spacing_mm": None, "unit": "mV", "channels": ["a"]}
            writer.add(x, row | {"start_s": 0.0, "duration_s": 1.2})
    store = open_store(f"{folder}/store")
    rows = np.arange(len(store))
    sampler = HierarchicalBatches(store.table, rows, patients=batch // 4, trials=2, samples=2, steps=STEPS)
    batches, drawn, *_ = measured(lambda: list(sampler))
    samples = Samples(store)
    loaded, read, *_ = measured(lambda: [collate([samples[key] for key in each]) for each in batches])
    assert loaded[0].x.shape == (batch, CHANNELS, LENGTH)
    return {"sampler": drawn / STEPS, "loader": read / STEPS}


def main() -> None:
    """Print seconds a batch and the share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="steps measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost = apart(loading, folder, args.batch)
    with Process() as process:
        seconds = statistics.median(process(step, "simclr", args.batch)["seconds"] for _ in range(args.rounds))
    show = table(f"batch of {args.batch}", "seconds", "share")
    for name in ("sampler", "loader"):
        show(name, cost[name], cost[name] / seconds)
    show("step", seconds, 1.0)
    last_line({"loading_share": (cost["sampler"] + cost["loader"]) / seconds})


if __name__ == "__main__":
    main()
