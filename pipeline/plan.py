"""Store + split + receipts -> what a run will train and test, and what it costs, told before anything is trained."""

import hashlib
import json
from pathlib import Path

from medssl import config, project
from medssl.evaluate import labels
from medssl.store import open_store
from pipeline import stage


def cost(wanted: config.Run, folds: int, labelled: int) -> str:
    """Return in words what a run trains.

    Args:
        wanted: entry of ``runs``.
        folds: of its cohort, 0 without cross-fitting.
        labelled: labels that networks are trained on.
    """
    parts, evaluate = 1 + folds, wanted.evaluate
    trained = 0 if wanted.encoder_from else 1 + folds * wanted.seeds if folds else wanted.seeds
    budgets = evaluate.finetune_fractions or evaluate.fractions
    networks = labelled * len(budgets) * evaluate.seeds * parts * sum(map(evaluate.asked, config.TRAINED))
    where = f" ({folds} folds and the fixed split)" if folds else ""
    return f"{trained} pretrainings and {networks} networks of at most {evaluate.finetune_steps} steps on labels{where}"


def weights(reference: str | None) -> str | None:
    """Return a hash of an encoder in a folder, so that another one there is another run; None for any other."""
    if reference is None or ":" in reference:
        return None
    return hashlib.blake2b((Path(reference) / "checksums.json").read_bytes(), digest_size=8).hexdigest()


def work(params: config.Params, key: str) -> None:
    """Write ``data/runs/<key>/folds/plan/run.json``: all that decides the trainings of a run, its data by their hashes.

    Stages of the run depend on it, so that those of folds, which know their run by name alone, run again with its data.
    """
    wanted: config.Run = config.part(params, "runs", key)
    cohort = stage.DATA / wanted.modality
    store = open_store(cohort / "store")
    split = config.part(params, "modalities", wanted.modality).split
    folds = (split.folds or 0) * split.repeats
    path = stage.plan_file(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    digests = {
        name: hashlib.blake2b((cohort / f"{name}.parquet").read_bytes(), digest_size=8).hexdigest()
        for name in ("split", "dedup")
    }
    plan = wanted.model_dump(mode="json", exclude={"evaluate"}) | {
        "data_hash": store.content_hash,
        "folds": folds,
        "repeats": split.repeats,
        "weights": weights(wanted.encoder_from),
        **digests,
    }
    path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n")
    if wanted.start is None:  # it did before; DVC forgets the file together with its stage
        stage.start_file(key).unlink(missing_ok=True)
    table = stage.open_cohort(wanted.modality).table
    names = labels.finetuned(wanted.evaluate.finetune_labels, wanted.evaluate.labels)
    left_out = labels.left_out(table, names, key="evaluate.finetune_labels")
    print(f"{key}: {cost(wanted, folds, len(names) - len(left_out))}")
    if (seconds := stage.seconds(project.root(), key)) is not None:
        print(f"{key}: a pretraining took {seconds:.0f} s here before")


if __name__ == "__main__":
    stage.main(work, __doc__)
