"""Encoder + labels -> fine-tuned metrics against training from scratch; joins all metrics of the run."""

import json

import pandas as pd
from tqdm import tqdm

from medssl import config, hub, tracking
from medssl.evaluate import labels
from medssl.evaluate.finetune import finetune
from medssl.evaluate.tasks import Results, Task
from medssl.models import build
from medssl.models.embed import device_of
from medssl.report import card, plots
from medssl.store import write_parquet
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``metrics.json``, ``predictions.parquet`` and a plot of the run."""
    wanted: config.Run = config.part(params, "runs", key)
    evaluate = wanted.evaluate
    store = stage.open_cohort(wanted.modality)
    folder = stage.run_folder(key)
    names = evaluate.finetune_labels or evaluate.labels[:1]
    device = device_of(params.compute.accelerator)
    with tracking.stage_run(
        params.tracking, f"finetune@{key}", run=key, modality=wanted.modality, data_hash=store.content_hash
    ) as run:
        run.params(evaluate.model_dump(mode="json"))
        pretrained = hub.load_encoder(folder / "encoder").module
        fresh = {**wanted.encoder.model_dump(), "in_channels": store.facts["shape"][0]}
        results = Results.empty(evaluate.bootstrap)
        left_out = labels.left_out(store.table, names, key="evaluate.finetune_labels")
        results.leave_out(left_out)
        tasks = [name for name in names if name not in left_out]
        total = len(tasks) * len(evaluate.fractions) * 2 * evaluate.seeds
        with tqdm(total=total, desc=f"finetune {key}", disable=None if params.compute.progress else True) as bar:
            for name in tasks:
                task = Task.of(store.table, name)
                for fraction in evaluate.fractions:
                    for protocol in ("finetune", "supervised"):
                        predictions = []
                        for seed in range(evaluate.seeds):
                            start = pretrained if protocol == "finetune" else build(**fresh, seed=2000 + seed)
                            predictions.append(
                                finetune(
                                    start,
                                    store,
                                    task,
                                    task.subset(fraction, seed),
                                    steps=evaluate.finetune_steps,
                                    batch=evaluate.finetune_batch,
                                    lr=evaluate.finetune_lr,
                                    seed=seed,
                                    device=device,
                                )
                            )
                            bar.update()
                        results.add(task, protocol, fraction, predictions)
        metrics = json.loads((folder / "probe" / "metrics.json").read_text())
        for name, protocols in results.metrics.items():
            metrics.setdefault(name, {}).update(protocols)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        probed = pd.read_parquet(folder / "probe" / "predictions.parquet")
        everything = pd.concat([probed, results.frame()], ignore_index=True) if results.predictions else probed
        write_parquet(everything, folder / "predictions.parquet")
        figure = plots.label_efficiency(metrics, key)
        figure.savefig(folder / "label_efficiency.png", dpi=100)
        run.metrics(plots.flat_metrics(results.metrics))
        for name in ("label_efficiency.png", "metrics.json", "predictions.parquet"):
            run.artifact(folder / name)
    for name in names:
        print(plots.summary(f"{key} {name}", results.metrics[name]))
    if crossing := labels.crossing_patients(store.table):
        print(f"{key}: {card.crossing(crossing)}")


if __name__ == "__main__":
    stage.main(work, __doc__)
