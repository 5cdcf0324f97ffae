"""Does pretraining on fewer, less redundant slices help, or only cost less? The claim of Less is More, put to the test.

    python studies/less_is_more.py --data mri/msd_hippocampus [--seeds 5] [--out effect.csv]

SwAV on the slices of MRI volumes, pretrained on all of them, on every N-th, and on those that difference hashes keep
(radius 6 within a volume; N is chosen to keep as many), at equal epochs (fewer slices, fewer steps) and at equal
steps. A linear probe on the mean embedding of a volume's slices predicts the volume of the hippocampus on held-out
patients. Training seeds share one split; the interval is a bootstrap over test patients of the mean over seeds, paired
across arms where arms are compared. Times are wall times of training. The last line is JSON.

Source: Wolf et al. 2024, at the scale of one machine: another organ, a smaller network and task, 48 x 48 slices.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.timing import last_line
from medssl import config, sources
from medssl.curate import dedup, methods, split
from medssl.evaluate import probe
from medssl.evaluate.tasks import Task, pooled
from medssl.ingest.build import build as ingest
from medssl.models import build
from medssl.models.embed import embed_samples
from medssl.pretrain.fit import fit
from medssl.store import Store, open_store, write_parquet

LABEL = "total_volume"
ENCODER = {"name": "resnet2d", "widths": [16, 32, 64, 128], "depth": 1}
PRETRAIN: dict[str, Any] = {
    "batch": {"patients": 32, "trials": 1, "samples": 4},
    "lr": 0.002,
    "select": "last",
    "options": {"prototypes": 100, "crops": 4},
}
ARMS = (
    ("all", "equal_epochs"),
    ("every_n", "equal_epochs"),
    ("dhash", "equal_epochs"),
    ("every_n", "equal_steps"),
    ("dhash", "equal_steps"),
)


def cohort(data: Path, folder: Path) -> Store:
    """Return the slices of all volumes with a split by patient."""
    ingest(
        sources.list_records("msd_hippocampus", data),
        folder / "store",
        key="mri",
        params=config.VolumeIngest(samples="slices", size=(48, 48), spacing_mm=(1, 1)),
        secret=os.urandom(32),
    )
    table = open_store(folder / "store").table
    part = split.by_patient(table, shares={"train": 0.5, "val": 0.1, "test": 0.4}, stratify=[LABEL], seed=7)
    write_parquet(pd.DataFrame({"sample_id": table["sample_id"], "split": part}), folder / "split.parquet")
    return open_store(folder / "store", folder / "split.parquet")


def reduced(store: Store, folder: Path) -> dict[str, Store]:
    """Return the store with the receipts of each arm."""
    hashes = methods.signatures("dhash", store)
    made = {"all": dedup.receipts(store.table)}
    made["dhash"] = dedup.receipts(
        store.table,
        lambda rows, groups, order: dedup.greedy(hashes[rows], radius=6, groups=groups, order=order),
        method="dhash",
        min_per_patient=3,
    )
    every = round(1 / made["dhash"]["kept"].mean())
    made["every_n"] = dedup.receipts(store.table, method="every_n", every=max(2, every))
    for name, receipts in made.items():
        write_parquet(receipts, folder / f"{name}.parquet")
        print(f"{name}: keeps {receipts['kept'].mean():.3f} of {len(receipts)} slices", flush=True)
    return {name: open_store(folder / "store", folder / f"{name}.parquet", folder / "split.parquet") for name in made}


def r2(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the coefficient of determination under each row of bootstrap weights (B, n)."""
    total = weights.sum(1)
    centre = (weights @ truth) / total
    spread = weights @ truth**2 - total * centre**2
    return 1 - (weights @ (truth - predicted) ** 2) / spread


def main() -> None:
    """Pretrain every arm with every seed, probe, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Task04_Hippocampus")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, help="write a row per arm and seed there, as they come")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    predictions: dict[tuple[str, str], list[np.ndarray]] = {arm: [] for arm in (*ARMS, ("untrained", ""))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = reduced(cohort(args.data, folder), folder)
        plain = stores["all"]
        task = Task.of(plain.table, LABEL)
        test, train = task.part("test"), task.subset(1.0, 0)
        truth = task.truth[test].astype(float)

        def probed(module: Any) -> np.ndarray:
            (z,) = pooled([task], plain.blocks(), lambda rows: embed_samples(module, plain, rows))
            return np.asarray(probe.linear(task, z, train))[:, 0]

        jobs = [(seed, arm) for seed in range(args.seeds) for arm in ARMS]
        for seed, (arm, length) in tqdm(jobs, desc="runs"):
            if arm == "all":
                predictions["untrained", ""].append(probed(build(**ENCODER, in_channels=1, seed=1000 + seed)))
            run = config.Run(
                modality="mri",
                recipe="swav",
                encoder=config.EncoderParams(**ENCODER),
                pretrain={**PRETRAIN, "epochs": args.epochs, "length": length},
                evaluate=config.Evaluate(),
            )
            compute = config.Compute(accelerator="cpu", progress=False)
            fitted = fit(stores[arm], run, seed=seed, compute=compute, checkpoints=folder / "checkpoints")
            predictions[arm, length].append(probed(fitted.encoder))
            score = float(r2(truth, predictions[arm, length][-1], np.ones((1, len(truth))))[0])
            rows.append(
                {
                    "arm": arm,
                    "length": length,
                    "seed": seed,
                    "steps": fitted.steps,
                    "seconds": fitted.seconds,
                    "r2": score,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            if args.out:
                pd.DataFrame(rows).to_csv(args.out, index=False)
    weights = np.random.default_rng(0).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), 2000)
    scores = {arm: np.mean([r2(truth, p, weights) for p in some], axis=0) for arm, some in predictions.items()}
    whole = {arm: [float(r2(truth, p, np.ones((1, len(truth))))[0]) for p in some] for arm, some in predictions.items()}
    made = pd.DataFrame(rows).groupby(["arm", "length"])[["steps", "seconds"]].mean()
    base, ratios = ("all", "equal_epochs"), {}
    print(f"\nR2 of {LABEL}, {len(truth)} test patients, {args.seeds} seeds; mean [95 % over patients] (sd over seeds)")
    print(f"{'':28}{'steps':>7}{'seconds':>9}{'time':>7}  R2{'':30}difference to all")
    for arm, values in scores.items():
        steps, seconds = made.loc[arm] if arm in made.index else (0.0, 0.0)
        ratio = made.loc[base, "seconds"] / seconds if seconds else float("nan")
        low, high = np.quantile(values, [0.025, 0.975])
        gap = values - scores[base]
        less, more = np.quantile(gap, [0.025, 0.975])
        mean, spread = np.mean(whole[arm]), np.std(whole[arm], ddof=1) if args.seeds > 1 else 0.0
        print(
            f"{arm[0] + ' ' + arm[1]:28}{steps:>7.0f}{seconds:>9.1f}{ratio:>7.2f}  "
            f"{mean:.3f} [{low:.3f}, {high:.3f}] ({spread:.3f})   "
            f"{mean - np.mean(whole[base]):+.3f} [{less:+.3f}, {more:+.3f}]"
        )
        key = "_".join(a for a in arm if a)
        ratios[f"{key}_r2"] = float(mean)
        if seconds and arm != base:
            ratios[f"{key}_time_ratio"] = float(ratio)
    last_line(ratios)


if __name__ == "__main__":
    main()
