"""Store + split -> encoder. Also under torchrun: ``torchrun --nproc-per-node 2 -m pipeline.pretrain ecg-comet``."""

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl import config, hub, project, tracking
from medssl import table as tables
from medssl.evaluate import labels
from medssl.models.joined import Joined
from medssl.pretrain.data import columns, training_rows
from medssl.pretrain.fit import Fitted, fit
from medssl.pretrain.recipes import RECIPES
from medssl.report import card, plots, seen
from medssl.report import cohort as people
from medssl.store import Store
from pipeline import stage


def foretell(table: pd.DataFrame, wanted: config.Run) -> list[str]:
    """Refuse what the cohort lacks before anything is trained, and return what will be left out later, and why.

    Args:
        table: sample table with receipts and split.
        wanted: entry of ``runs``.

    Raises:
        ValueError: a label or measure that the cohort does not have, a ``monitor_label`` without classes, measures that
            nobody knows of any training patient, samples that the recipe's options name; a loss for other labels.
    """
    pretrain, evaluate = wanted.pretrain, wanted.evaluate
    notes = []
    for name in ("labels", "finetune_labels"):
        reasons = labels.left_out(table, getattr(evaluate, name), key=f"evaluate.{name}")
        notes += [f"evaluate.{name} '{label}' will be left out: {reason}" for label, reason in reasons.items()]
    if (loss := evaluate.finetune_loss) is not None:
        suited = "number" if loss == "conr" else "class"
        for name in labels.finetuned(evaluate.finetune_labels, evaluate.labels):
            kind = labels.kind(table[f"label_{name}"])
            if kind != suited:
                raise ValueError(
                    f"evaluate.finetune_loss: {loss} is for a {suited} label, and '{name}' is a {kind} one; take null, "
                    "or name others as evaluate.finetune_labels"
                )
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
    if wanted.encoder_from is None and (arrange := RECIPES[wanted.recipe].arrange) is not None:
        arrange(table.iloc[training_rows(table, pretrain.duplicates)], None, pretrain)
    return notes


def start(params: config.Params, key: str, store: Store, *, number: int, fold: int | None) -> hub.Encoder | None:
    """Return the encoder that a training of a run starts from, see `medssl.config.Params.started`.

    Args:
        params: of the project.
        key: of the run.
        store: of its cohort, with the split of the fold.
        number: of the training.
        fold: of cross-fitting.

    Raises:
        ValueError: that encoder has seen patients who are held out here, or reads another number of channels.
    """
    began = params.started(key, fold, number)
    if began is None:
        return None
    encoder, table = hub.load_encoder(stage.encoder_folder(*began)), store.table
    reads, have = encoder.config["architecture"]["in_channels"], store.facts["shape"][0]
    if reads != have:
        raise ValueError(f"start: {began[0]} reads {reads} channels, and samples here have {have}; name another run")
    # A patient whom the publisher's parts divide is seen by this training too.
    own, held_out = (table.loc[table["split"].isin(parts), "patient"] for parts in (["train", "val"], ["test"]))
    others = set(tables.patient_codes(held_out)) - set(tables.patient_codes(own))
    if known := len(others & set(encoder.config["provenance"]["seen"]["patients"])):
        raise ValueError(
            f"start: {began[0]} has seen {known} patients who are held out here; run its stages again, or start from a "
            "run of other patients"
        )
    return encoder


def trainings_of(provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trainings behind an encoder, the last one first, each with its run, source, cohort and numbers."""
    own = {key: provenance[key] for key in ("run", "source", "cohort", "patients", "samples")}
    return [own, *provenance.get("before", [])]


def train(
    params: config.Params,
    key: str,
    store: Store,
    folder: Path,
    run: tracking.StageRun,
    *,
    number: int,
    fold: int | None,
) -> Fitted:
    """Pretrain one encoder and write its folder; its checkpoints are left to whoever knows that all is safe."""
    wanted: config.Run = config.part(params, "runs", key)
    cohort: config.Cohort = config.part(params, "modalities", wanted.modality)
    seed = stage.training_seed(params.seed, number, fold)
    began = start(params, key, store, number=number, fold=fold)
    fitted = fit(
        store,
        wanted,
        seed=seed,
        compute=params.compute,
        start=None if began is None else began.module,
        checkpoints=project.root() / ".medssl" / "checkpoints",
        cache=project.root() / ".medssl" / "features",
        on_measured=lambda row, step: run.metrics({f"pretrain/{k}": v for k, v in row.items() if k != "step"}, step),
    )
    if not project.first_process():
        return fitted
    assert wanted.encoder is not None
    architecture = {"in_channels": store.facts["shape"][0], **wanted.encoder.model_dump(mode="json")}
    if isinstance(fitted.encoder, Joined) and fitted.encoder.unit:
        architecture["joined"] = len(fitted.encoder.parts)
    seen = set(store.table.loc[store.table["split"].isin(["train", "val"]), "patient"])
    if began is not None:
        seen |= {int(code, 16) for code in began.config["provenance"]["seen"]["patients"]}
    provenance = {
        "run": key,
        "recipe": wanted.recipe,
        "start": wanted.start,
        "before": [] if began is None else trainings_of(began.config["provenance"]),
        "pretrain": wanted.pretrain.model_dump(mode="json"),
        "seed": seed,
        "steps": fitted.steps,
        "steps_unreduced": fitted.steps_unreduced,
        "kept_step": fitted.chosen,
        "reads": list(params.reads(key)),
        "cohort": wanted.modality,
        "source": cohort.source.name,
        "published_split": cohort.split.published if fold is None else None,
        "data_hash": store.content_hash,
        "data": people.facts(store.table),
        "patients": fitted.patients,
        "samples": fitted.samples,
        "crossing_patients": labels.crossing_patients(store.table),
        "seen": tables.seen_patients(seen, project.identity_key(project.root())),
        "git_commit": tracking.git_commit(project.root()),
    }
    contract = hub.contract_of(store.facts, int(fitted.encoder.embedding_dim), store.scale)  # type: ignore[arg-type]
    hub.save_encoder(
        folder,
        fitted.encoder,
        architecture=architecture,
        contract=contract,
        provenance=provenance,
        card=card.render(contract, architecture, provenance),
    )
    last = fitted.history[-1]
    print(
        f"{key}: {fitted.steps} steps in {fitted.seconds:.0f} s ({fitted.steps_unreduced} steps with all copies), "
        f"{fitted.measuring:.0%} of it measuring; loss {last['train/loss']:.3f}, RankMe {last['train/rankme']:.1f}; "
        f"kept step {fitted.chosen}",
        flush=True,
    )
    return fitted


def take(wanted: config.Run, folder: Path) -> None:
    """Write the encoder folder of a run that takes its encoder from elsewhere: a copy, or where its code is."""
    encoder = hub.load_encoder(str(wanted.encoder_from))
    shutil.rmtree(folder, ignore_errors=True)
    if encoder.folder is not None:
        shutil.copytree(encoder.folder, folder)
    else:
        folder.mkdir(parents=True)
        (folder / "reference.json").write_text(json.dumps({"encoder_from": wanted.encoder_from}) + "\n")


def further(params: config.Params, run: tracking.StageRun, seed: int) -> AbstractContextManager[tracking.StageRun]:
    """Open the MLflow run of a further training of a stage."""
    return tracking.stage_run(params.tracking, f"{run.name} training {seed}", below=run)


def work(params: config.Params, key: str, fold: int | None = None) -> None:
    """Write ``encoder``, ``seeds`` (those of further trainings), curves and ``views`` of a run, or of one fold of it.

    ``views`` has a picture of what the encoder sees; of an encoder from elsewhere it is empty.
    """
    wanted: config.Run = config.part(params, "runs", key)
    folder = stage.run_folder(key, fold)
    for name in ("encoder", "seeds", *["views"] * (fold is None)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not stage.has_fold(params, key, fold):
        return
    store = stage.open_cohort(wanted.modality, fold)
    notes = foretell(store.table, wanted)
    crossing = labels.crossing_patients(store.table)
    # Of a cohort with folds the fixed split trains one encoder, to be left; what it is worth the folds say.
    folds = config.part(params, "modalities", wanted.modality).split.folds
    trainings = 1 if folds and fold is None else wanted.seeds
    if not project.first_process():
        for seed in range(0 if wanted.encoder_from else trainings):
            train(params, key, store, folder, tracking.NoRun(), number=seed, fold=fold)
        return
    if fold is None:
        for note in [*notes, *([card.crossing(crossing)] if crossing else [])]:
            print(f"{key}: {note}", flush=True)
    with stage.tracked(params, "pretrain", key, store, fold) as run, run.machine():
        run.params(wanted.model_dump(mode="json", exclude={"evaluate"}) | {"seed": params.seed})
        # Without tracking and roots, which may hold a password or a name.
        hidden: Any = {"tracking": True, "modalities": {"__all__": {"source": {"root"}}}}
        run.document("params.json", params.model_dump(mode="json", exclude=hidden))
        if wanted.encoder_from is not None:
            take(wanted, folder / "encoder")
            if fold is None:
                (folder / "curves.json").write_text("[]\n")
                plots.curves([], key).savefig(folder / "curves.png", dpi=100)
            return
        places = [stage.encoder_folder(key, fold, seed) for seed in range(trainings)]
        fits = []
        for seed, place in enumerate(places):
            # A further training is a run below this one; one that was finished before a stop is not repeated.
            with nullcontext(run) if seed == 0 else further(params, run, seed) as to:
                fits.append(train(params, key, store, place, to, number=seed, fold=fold))
            if seed == 0 and len(places) > 1:
                ahead = fits[0].seconds * (len(places) - 1)
                print(f"{key}: {len(places) - 1} more trainings, about {ahead:.0f} s", flush=True)
        fitted = fits[0]
        stage.note_seconds(project.root(), key, fitted.seconds)
        if fold is not None:
            for done in fits:
                shutil.rmtree(done.checkpoints, ignore_errors=True)
            return
        # JSON has no NaN; a value that could not be measured is null.
        curves = [{name: v if np.isfinite(v) else None for name, v in row.items()} for row in fitted.history]
        (folder / "curves.json").write_text(json.dumps(curves, indent=1, allow_nan=False) + "\n")
        plots.curves(fitted.history, key).savefig(folder / "curves.png", dpi=100)
        seen.picture(store, wanted, seed=params.seed).savefig(folder / "views" / "views.png", dpi=100)
        # A speed-up is a quotient of two runs' seconds, or of their steps; seconds would make equal encoders differ.
        lengths = {name: float(getattr(fitted, name)) for name in ("steps", "steps_unreduced", "seconds", "measuring")}
        run.metrics({f"pretrain/all/{name}": value for name, value in lengths.items()})
        run.tag("weights", stage.weights(folder / "encoder"))
        run.artifact(folder / "encoder", "encoder")
        run.artifact(folder / "curves.png")
        run.artifact(folder / "views" / "views.png")
        for done in fits:
            shutil.rmtree(done.checkpoints, ignore_errors=True)
    # Identity levels can only learn where samples meet others of their patient or trial.
    weights = getattr(wanted.pretrain.options, "levels", {})
    for level, share in fitted.unpaired.items():
        if share > 0 and weights.get(level, 0) > 0:
            print(f"{key}: {share:.0%} of samples meet no other of their {level} in a batch")
    for level in ("trial", "patient"):
        share = fitted.unpaired.get(f"partner_{level}", 0)
        if share > 0 and getattr(wanted.pretrain.positives, level, 0) > 0:
            print(f"{key}: {share:.0%} of samples have no partner of their {level}; a finer level is taken")


if __name__ == "__main__":
    stage.main(work, __doc__)
