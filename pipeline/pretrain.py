"""Store + split -> encoder. Also under torchrun: ``torchrun --nproc-per-node 2 -m pipeline.pretrain ecg-comet``."""

import json
import shutil
from typing import Any

import numpy as np
import pandas as pd

from medssl import config, hub, project, tracking
from medssl import table as tables
from medssl.evaluate import labels
from medssl.pretrain.data import columns, training_rows
from medssl.pretrain.fit import fit
from medssl.report import card, plots
from pipeline import stage


def foretell(table: pd.DataFrame, wanted: config.Run) -> list[str]:
    """Refuse what the cohort lacks before anything is trained, and return what will be left out later, and why.

    Args:
        table: sample table with receipts and split.
        wanted: entry of ``runs``.

    Raises:
        ValueError: a label or measure that the cohort does not have, a ``monitor_label`` without classes, measures that
            nobody knows of any training patient.
    """
    pretrain, evaluate = wanted.pretrain, wanted.evaluate
    notes = []
    for name in ("labels", "finetune_labels"):
        reasons = labels.left_out(table, getattr(evaluate, name), key=f"evaluate.{name}")
        notes += [f"evaluate.{name} '{label}' will be left out: {reason}" for label, reason in reasons.items()]
    parts = {part: table[(table["split"] == part) & (table["method"] != "exact")] for part in ("train", "val")}
    monitor = pretrain.monitor_label
    if monitor is not None:
        classes = [t for t in tables.tasks(table) if labels.are_classes(table[f"label_{t}"])]
        labels.require(classes, [monitor], key="pretrain.monitor_label", what="class label")
        for part, rows in parts.items():
            if not rows[f"label_{monitor}"].notna().any():
                kept = "; the last epoch is kept" if pretrain.select in (None, "knn") else ""
                notes.append(f"pretrain.monitor_label '{monitor}': no patient of {part} has it, so no kNN score{kept}")
    if pretrain.select == "loss" and parts["val"]["patient"].nunique() < 2:
        notes.append("pretrain.select: loss needs two validation patients; the last epoch is kept")
    have = tables.measures(table)
    factors = pretrain.options.covariates()
    named = {key: columns(key, factor, have) for key, factor in factors.items()}
    names = [name for key in named if key.endswith("measures") for name in named[key]]
    values = {name: parts["train"][f"anat_{name}"].dropna() for name in names}
    unknown = [name for name in values if values[name].nunique() < 2]
    if unknown and len(unknown) == len(values):
        raise ValueError(
            f"pretrain.options.measures: {', '.join(unknown)} have fewer than two values among the training patients, "
            "which weights no pair; name other measures or take another recipe"
        )
    notes += [
        f"pretrain.options.measures '{name}': fewer than two values among the training patients" for name in unknown
    ]
    labels.require(tables.tasks(table), pretrain.labels, key="pretrain.labels")
    return notes


def work(params: config.Params, key: str) -> None:
    """Write ``data/runs/<key>/encoder`` and its curves."""
    wanted: config.Run = config.part(params, "runs", key)
    store = stage.open_cohort(wanted.modality)
    notes = foretell(store.table, wanted)
    crossing = labels.crossing_patients(store.table)
    checkpoints = project.root() / ".medssl" / "checkpoints"
    if not project.first_process():
        fit(store, wanted, seed=params.seed, compute=params.compute, checkpoints=checkpoints)
        return
    for note in [*notes, *([card.crossing(crossing)] if crossing else [])]:
        print(f"{key}: {note}", flush=True)
    folder = stage.run_folder(key)
    folder.mkdir(parents=True, exist_ok=True)
    with tracking.stage_run(
        params.tracking, f"pretrain@{key}", run=key, modality=wanted.modality, data_hash=store.content_hash
    ) as run:
        run.params(wanted.model_dump(mode="json", exclude={"evaluate"}) | {"seed": params.seed})
        # Without tracking and roots, which may hold a password or a name.
        hidden: Any = {"tracking": True, "modalities": {"__all__": {"source": {"root"}}}}
        run.document("params.json", params.model_dump(mode="json", exclude=hidden))
        fitted = fit(
            store,
            wanted,
            seed=params.seed,
            compute=params.compute,
            checkpoints=checkpoints,
            on_measured=lambda row, step: run.metrics({k: v for k, v in row.items() if k != "step"}, step),
        )
        architecture = {"in_channels": store.facts["shape"][0], **wanted.encoder.model_dump(mode="json")}
        provenance = {
            "run": key,
            "recipe": wanted.recipe,
            "pretrain": wanted.pretrain.model_dump(mode="json"),
            "seed": params.seed,
            "steps": fitted.steps,
            "steps_unreduced": fitted.steps_unreduced,
            "kept_step": fitted.chosen,
            "reads": list(wanted.reads()),
            "cohort": wanted.modality,
            "source": config.part(params, "modalities", wanted.modality).source.name,
            "data_hash": store.content_hash,
            "patients": int(store.table.loc[store.table["split"] == "train", "patient"].nunique()),
            "samples": len(training_rows(store.table, wanted.pretrain.duplicates)),
            "crossing_patients": crossing,
            "git_commit": tracking.git_commit(project.root()),
        }
        contract = hub.contract_of(store.facts, int(fitted.encoder.embedding_dim))  # type: ignore[arg-type]
        encoder = hub.save_encoder(
            folder / "encoder",
            fitted.encoder,
            architecture=architecture,
            contract=contract,
            provenance=provenance,
            card=card.render(contract, architecture, provenance),
        )
        # JSON has no NaN; a value that could not be measured is null.
        curves = [{name: v if np.isfinite(v) else None for name, v in row.items()} for row in fitted.history]
        (folder / "curves.json").write_text(json.dumps(curves, indent=1, allow_nan=False) + "\n")
        plots.curves(fitted.history, key).savefig(folder / "curves.png", dpi=100)
        # A speed-up is a quotient of two runs' seconds, or of their steps; seconds would make equal encoders differ.
        lengths = {name: float(getattr(fitted, name)) for name in ("steps", "steps_unreduced", "seconds", "measuring")}
        run.metrics({f"pretrain/{name}": value for name, value in lengths.items()})
        run.artifact(encoder, "encoder")
        run.artifact(folder / "curves.png")
        shutil.rmtree(fitted.checkpoints, ignore_errors=True)
    last = fitted.history[-1]
    print(
        f"{key}: {fitted.steps} steps in {fitted.seconds:.0f} s ({fitted.steps_unreduced} steps with all copies), "
        f"{fitted.measuring:.0%} of it measuring; loss {last['train/loss']:.3f}, RankMe {last['train/rankme']:.1f}; "
        f"kept step {fitted.chosen}"
    )
    # Identity levels can only learn where samples meet others of their patient or trial.
    weights = getattr(wanted.pretrain.options, "levels", {})
    for level, share in fitted.unpaired.items():
        if share > 0 and weights.get(level, 0) > 0:
            print(f"{key}: {share:.0%} of samples meet no other of their {level} in a batch")


if __name__ == "__main__":
    stage.main(work, __doc__)
