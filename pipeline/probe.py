"""Encoders + labels -> predictions of probes, baselines and controls on frozen features."""

import hashlib
import json

import numpy as np
import pandas as pd

from medssl import config, hub, project, tracking
from medssl.evaluate import frozen, labels, outcome
from medssl.evaluate.results import Predictions
from medssl.evaluate.tasks import Task
from medssl.models.embed import device_of
from medssl.store import parquet_parts, write_parquet
from pipeline import encoders, stage

ENDS = {"": "mean", "_lo": "lo", "_hi": "hi"}


def register(run: tracking.StageRun, part: frozen.Part, encoder: hub.Encoder, cohort: str) -> None:
    """Make the encoder a version of its cohort's, with what a probe of the first label says of validation patients."""
    assert encoder.folder is not None
    label = part.tasks[0].name
    metric, score = frozen.validated(part.of([0]), encoder)
    run.metrics({f"probe/val/{label}/{metric}{end}": score[k] for end, k in ENDS.items() if score[k] is not None})
    table = part.store.table[["sample_id", "split"]]
    split = hashlib.blake2b(table.to_csv(index=False).encode(), digest_size=8).hexdigest()
    same = {"label": label, "metric": metric, "data_hash": part.store.content_hash, "split": split}
    run.register(f"medssl-{cohort}", stage.weights(encoder.folder), score=score, same=same)


def work(params: config.Params, key: str, fold: int | None = None) -> None:
    """Write ``probe``: embeddings of the fixed split's encoder, predictions, and notes on whether to trust them."""
    wanted: config.Run = config.part(params, "runs", key)
    folder = stage.run_folder(key, fold) / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    if not stage.has_fold(params, key, fold):
        return
    store = stage.open_cohort(wanted.modality, fold)
    name = stage.stage_name("probe", key, fold)
    with stage.tracked(params, "probe", key, store, fold) as run:
        run.params(wanted.evaluate.model_dump(mode="json"))
        left_out = labels.left_out(store.table, wanted.evaluate.labels)
        part = frozen.Part(
            store,
            [Task.of(store.table, label) for label in wanted.evaluate.labels if label not in left_out],
            wanted.evaluate,
            Predictions(),
            fold=fold or 0,
            repeat=stage.repeat(params, key, fold),
            cache=project.root() / ".medssl" / "features",
            device=device_of(params.compute.accelerator),
            progress=params.compute.progress,
        )
        trained = encoders.of_run(key, fold)
        checks = frozen.evaluate(part, trained, key=project.identity_key(project.root()))
        if fold is None:
            with parquet_parts(folder / "embeddings.parquet") as write:
                z = part.embedded(trained[0])
                for rows in store.blocks():
                    ids = store.table["sample_id"].iloc[rows]
                    write(pd.DataFrame({"sample_id": ids, "embedding": list(np.asarray(z[rows]))}))
            if trained[0].folder is not None and part.tasks:
                register(run, part, trained[0], wanted.modality)
        said = json.dumps(outcome.notes(left_out, checks), indent=1)
        (folder / "notes.json").write_text(said + "\n")
        write_parquet(part.results.frame(), folder / "predictions.parquet")
    print(f"{name}: {len(part.tasks)} labels, {len(part.results.frame())} predictions")


if __name__ == "__main__":
    stage.main(work, __doc__)
