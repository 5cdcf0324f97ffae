"""Encoder + labels -> linear-probe metrics, with controls."""

import json

import numpy as np
import pandas as pd

from medssl import config, hub, tracking
from medssl.evaluate import handcrafted, labels, probe
from medssl.evaluate.tasks import Results, Task
from medssl.models import build
from medssl.models.embed import embed_samples
from medssl.report import card, plots
from medssl.store import write_parquet
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/runs/<key>/probe``: embeddings, metrics and predictions."""
    wanted: config.Run = config.part(params, "runs", key)
    evaluate = wanted.evaluate
    store = stage.open_cohort(wanted.modality)
    folder = stage.run_folder(key) / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    with tracking.stage_run(
        params.tracking, f"probe@{key}", run=key, modality=wanted.modality, data_hash=store.content_hash
    ) as run:
        run.params(evaluate.model_dump(mode="json"))
        module = hub.load_encoder(stage.run_folder(key) / "encoder").module
        frozen = embed_samples(module, store, progress=params.compute.progress)
        seeds = range(evaluate.seeds)
        fresh = {**wanted.encoder.model_dump(), "in_channels": store.facts["shape"][0]}
        random = [embed_samples(build(**fresh, seed=1000 + s), store) for s in seeds]
        simple = handcrafted.features(store.read(np.arange(len(store))))
        results = Results.empty(evaluate.bootstrap)
        left_out = labels.left_out(store.table, evaluate.labels)
        results.leave_out(left_out)
        for name in evaluate.labels:
            if name in left_out:
                continue
            task = Task.of(store.table, name)
            pooled, plain = task.pool(frozen[task.rows]), task.pool(simple[task.rows])
            untrained = [task.pool(z[task.rows]) for z in random]
            for fraction in evaluate.fractions:
                # With all labels every seed has the same training units: one fit stands for all.
                units = [task.subset(fraction, s) for s in (seeds if fraction < 1 else range(1))]
                results.add(task, "probe", fraction, [probe.linear(task, pooled, u) for u in units])
                results.add(task, "knn", fraction, [probe.knn(task, pooled, u) for u in units])
                results.add(task, "handcrafted", fraction, [probe.linear(task, plain, u) for u in units])
                drawn = [probe.linear(task, z, units[s % len(units)]) for s, z in enumerate(untrained)]
                results.add(task, "random_init", fraction, drawn)
            results.add(task, "permuted_labels", 1.0, probe.permuted(task, pooled))
        write_parquet(
            pd.DataFrame({"sample_id": store.table["sample_id"], "embedding": list(frozen)}),
            folder / "embeddings.parquet",
        )
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
