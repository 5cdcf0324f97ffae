"""Encoder + labels -> linear-probe metrics, with controls."""

import functools
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
from tqdm import tqdm

from medssl import config, hub, tracking
from medssl.evaluate import handcrafted, labels, probe
from medssl.evaluate.tasks import Results, Task, pooled
from medssl.models import build
from medssl.models.embed import device_of, embed_samples
from medssl.report import card, plots
from medssl.store import parquet_parts, write_parquet
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/runs/<key>/probe``: embeddings, metrics and predictions."""
    wanted: config.Run = config.part(params, "runs", key)
    evaluate = wanted.evaluate
    store = stage.open_cohort(wanted.modality)
    device = device_of(params.compute.accelerator)
    folder = stage.run_folder(key) / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    with tracking.stage_run(
        params.tracking, f"probe@{key}", run=key, modality=wanted.modality, data_hash=store.content_hash
    ) as run:
        run.params(evaluate.model_dump(mode="json"))
        results = Results.empty(evaluate.bootstrap)
        left_out = labels.left_out(store.table, evaluate.labels)
        results.leave_out(left_out)
        tasks = [Task.of(store.table, name) for name in evaluate.labels if name not in left_out]

        # Features of a block of samples are pooled at once and go: those of a whole store may not fit in memory.
        def pool(what: str, features: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
            quiet = None if params.compute.progress else True
            return pooled(tasks, tqdm(store.blocks(), desc=what, disable=quiet, leave=False), features)

        module = hub.load_encoder(stage.run_folder(key) / "encoder").module
        with parquet_parts(folder / "embeddings.parquet") as write:

            def embedded(rows: np.ndarray) -> np.ndarray:
                z = embed_samples(module, store, rows, device=device)
                write(pd.DataFrame({"sample_id": store.table["sample_id"].iloc[rows], "embedding": list(z)}))
                return z

            frozen = pool("embed", embedded)
        seeds = range(evaluate.seeds)
        fresh = {**wanted.encoder.model_dump(), "in_channels": store.facts["shape"][0]}
        random = [
            pool("untrained", functools.partial(embed_samples, build(**fresh, seed=1000 + s), store, device=device))
            for s in seeds
        ]
        simple = pool("handcrafted", lambda rows: handcrafted.features(store.read(rows)))
        for task, trained, plain, *untrained in zip(tasks, frozen, simple, *random, strict=True):
            for fraction in evaluate.fractions:
                # With all labels every seed has the same training units: one fit stands for all.
                units = [task.subset(fraction, s) for s in (seeds if fraction < 1 else range(1))]
                results.add(task, "probe", fraction, [probe.linear(task, trained, u) for u in units])
                results.add(task, "knn", fraction, [probe.knn(task, trained, u) for u in units])
                results.add(task, "handcrafted", fraction, [probe.linear(task, plain, u) for u in units])
                drawn = [probe.linear(task, z, units[s % len(units)]) for s, z in enumerate(untrained)]
                results.add(task, "random_init", fraction, drawn)
            results.add(task, "permuted_labels", 1.0, probe.permuted(task, trained))
        (folder / "metrics.json").write_text(json.dumps(results.metrics, indent=1, allow_nan=False) + "\n")
        write_parquet(results.frame(), folder / "predictions.parquet")
        figure = plots.label_efficiency(results.metrics, key)
        figure.savefig(folder / "label_efficiency.png", dpi=100)
        run.metrics(plots.flat_metrics(results.metrics))
        run.artifact(folder / "label_efficiency.png")
        run.artifact(folder / "metrics.json")
    for name in evaluate.labels:
        print(plots.summary(f"{key} {name}", results.metrics[name]))
    if crossing := labels.crossing_patients(store.table):
        print(f"{key}: {card.crossing(crossing)}")


if __name__ == "__main__":
    stage.main(work, __doc__)
