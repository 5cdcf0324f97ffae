"""Encoders + labels -> predictions of networks trained on labels: from the encoder, and from scratch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from medssl import config
from medssl.evaluate import labels
from medssl.evaluate.results import Predictions
from medssl.evaluate.tasks import Task
from medssl.ingest import contract
from medssl.store import write_parquet
from pipeline import stage

if TYPE_CHECKING:
    from medssl.evaluate.finetune import Depth

DEPTHS: dict[str, Depth] = {"head": "head", "partial": "partial", "finetune": "full", "supervised": "full"}


def validation(task: Task, fraction: float, seed: int) -> np.ndarray:
    """Return validation units of the same share of patients as the training units, of two patients or more."""
    units = task.part("val")
    patients = np.random.default_rng([seed, 17]).permutation(pd.unique(task.patient[units]))
    return units[np.isin(task.patient[units], patients[: max(2, math.ceil(fraction * len(patients)))])]


def work(params: config.Params, key: str, fold: int | None = None) -> None:
    """Write ``finetune/predictions.parquet``."""
    wanted: config.Run = config.part(params, "runs", key)
    evaluate = wanted.evaluate
    folder = stage.run_folder(key, fold) / "finetune"
    folder.mkdir(parents=True, exist_ok=True)
    if not stage.has_fold(params, key, fold):
        return
    names = labels.finetuned(evaluate.finetune_labels, evaluate.labels)
    protocols = [protocol for protocol in DEPTHS if evaluate.asked(protocol)]
    if not names or not protocols:  # as in most of an ablation: nothing to wait for torch and MLflow for
        write_parquet(Predictions().frame(), folder / "predictions.parquet")
        print(f"{key}: no network is trained on labels")
        return
    from medssl.evaluate.finetune import finetune
    from medssl.models.embed import device_of
    from pipeline import encoders

    store = stage.open_cohort(wanted.modality, fold)
    device = device_of(params.compute.accelerator)
    name = stage.stage_name("finetune", key, fold)
    with stage.tracked(params, "finetune", key, store, fold) as run:
        run.params(evaluate.model_dump(mode="json"))
        trained = encoders.of_run(key, fold)
        left_out = labels.left_out(store.table, names, key="evaluate.finetune_labels")
        tasks = [Task.of(store.table, label) for label in names if label not in left_out]
        differing = contract.differences(trained[0].contract, store.facts)
        if differing:
            print(f"{name}: no network is trained, the encoder's contract differs in {', '.join(differing)}")
            tasks = []
        store = store.scaled_by(trained[0].scale)
        results = Predictions()
        where = {"fold": fold or 0, "repeat": stage.repeat(params, key, fold)}
        fractions = evaluate.finetune_fractions or evaluate.fractions
        total = len(tasks) * len(fractions) * len(protocols) * evaluate.seeds
        steps: list[int] = []
        with tqdm(total=total, desc=name, disable=None if params.compute.progress else True) as bar:
            for task in tasks:
                for fraction in fractions:
                    for protocol in protocols:
                        predicted = []
                        for seed in range(evaluate.seeds):
                            encoder = trained[seed % len(trained)]
                            made, kept = finetune(
                                encoder.untrained(2000 + seed) if protocol == "supervised" else encoder.module,
                                store,
                                task,
                                task.subset(fraction, seed),
                                depth=DEPTHS[protocol],
                                max_steps=evaluate.finetune_steps,
                                batch=evaluate.finetune_batch,
                                lr=evaluate.finetune_lr,
                                encoder_lr=1.0 if protocol == "supervised" else evaluate.finetune_encoder_lr,
                                loss=evaluate.finetune_loss,
                                augment=evaluate.finetune_views and protocol != "head",
                                validation=validation(task, fraction, seed),
                                seed=seed,
                                device=device,
                            )
                            predicted.append(made)
                            steps.append(kept)
                            bar.update()
                        # From scratch each seed is a training of its own.
                        trainings = evaluate.seeds if protocol == "supervised" else len(trained)
                        results.add(task, protocol, fraction, predicted, trainings=trainings, **where)
        write_parquet(results.frame(), folder / "predictions.parquet")
    kept_steps = f", kept after {min(steps)} to {max(steps)} steps" if steps else ""
    print(f"{name}: {len(steps)} networks of at most {evaluate.finetune_steps} steps{kept_steps}")


if __name__ == "__main__":
    stage.main(work, __doc__)
