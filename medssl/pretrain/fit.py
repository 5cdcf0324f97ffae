"""Run a pretraining: data, trainer, monitors, checkpoints outside the outputs, exact resume."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from medssl.config import Compute, Run
from medssl.models import build, embedding_dim
from medssl.models.crops import starts
from medssl.models.embed import embed_samples
from medssl.models.joined import Joined
from medssl.pretrain.callbacks import Checkpoints, Monitors, Selection, spacing, validation_batch
from medssl.pretrain.data import Loader, Samples, collate, label_values, measure, training_rows
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.resume import arithmetic, run_hash
from medssl.pretrain.sampler import Batches, FixedBatches, HierarchicalBatches
from medssl.pretrain.told import Told
from medssl.project import launched
from medssl.store import Store

PART = 10_000_000  # between the seeds of an ensemble: more than trainings and folds take


@dataclass(frozen=True)
class Fitted:
    """The chosen encoder, its curves (one dict per measurement), optimiser steps, and the step it was chosen at.

    ``patients`` and ``samples`` are how many were trained on. ``steps_unreduced`` is how many steps as many epochs take
    with all copies of them. ``seconds`` is the time from the first step to the last, with measuring and saving, without
    what a killed run did in vain; ``measuring`` the share of it that went into the curves. ``unpaired`` is the share of
    anchors without a positive in the first epoch, by level, and of those without a partner to draw (``partner_trial``,
    ``partner_patient``), which took a finer one; ``checkpoints`` the folder of the finished run's state, to be removed
    once the encoder is safe.
    """

    encoder: nn.Module
    history: list[dict[str, float]]
    patients: int
    samples: int
    steps: int
    steps_unreduced: int
    seconds: float
    measuring: float
    chosen: int
    unpaired: dict[str, float]
    checkpoints: Path


def keep_freed_memory() -> None:
    """Ask glibc not to give large blocks back to the system after each use.

    A training step on CPU frees and asks for the same hundreds of megabytes again and again; the system then clears
    every page anew, which can cost more than the arithmetic. Other C libraries ignore this.
    """
    most_mapped, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(most_mapped, 0)
    mallopt(trim_threshold, -1)


def make_sampler(
    training: pd.DataFrame, rows: np.ndarray, run: Run, seed: int, *, unreduced: int, **process: Any
) -> Batches:
    """Return the batches of a run.

    Args:
        training: table of the samples to train on.
        rows: their positions in the store.
        run: entry of ``runs``.
        seed: of the batches.
        unreduced: number of samples with all copies, for ``length: equal_steps``.
        process: rank, world size and where to start.
    """
    params, recipe = run.pretrain, RECIPES[run.recipe]
    batch = recipe.batch(params.batch) if recipe.batch else params.batch
    if params.sampler == "comet_fixed":
        fixed = not (recipe.batch or recipe.within or params.within or params.steps_per_epoch or params.positives)
        if not fixed or params.length != "equal_epochs":
            raise ValueError(
                f"pretrain.sampler: comet_fixed has frozen batches of its own; recipe {run.recipe}, `within`, "
                "`positives`, `steps_per_epoch` and `length: equal_steps` need the hierarchical one"
            )
        size = batch.patients * batch.trials * batch.samples
        return FixedBatches(training, rows, size=size, seed=seed, **process)
    return HierarchicalBatches(
        training,
        rows,
        patients=batch.patients,
        trials=batch.trials,
        samples=batch.samples,
        within=recipe.within or params.within,
        positives=params.positives,
        steps=params.steps_per_epoch,
        counted=unreduced if params.length == "equal_steps" else None,
        seed=seed,
        **process,
    )


def drawn(
    store: Store, rows: np.ndarray, run: Run, seed: int, *, z: np.ndarray | None = None, **process: Any
) -> tuple[pd.DataFrame, int, Batches]:
    """Return the table that batches are drawn from, how many samples that is with all copies, and the batches.

    Args:
        store: opened with dedup receipts and split.
        rows: of the training samples in it, from which the recipe takes its own.
        run: entry of ``runs``.
        seed: of the batches.
        z: (S, n, d) embeddings of ``rows`` by the stages of the encoder of ``run.start``.
        process: as for `make_sampler`.

    Returns:
        The table's index are rows of the store.
    """
    arrange = RECIPES[run.recipe].arrange
    whole = store.table[store.table["split"] == "train"]
    table = store.table.iloc[rows].set_axis(rows)
    if arrange is not None:  # which samples it takes depends on the table alone
        table, whole = arrange(table, z, run.pretrain), arrange(whole, None, run.pretrain)
    return table, len(whole), make_sampler(table, table.index.to_numpy(), run, seed, unreduced=len(whole), **process)


def make_trainer(run: Run, compute: Compute, folder: Path, callbacks: list[Callback]) -> L.Trainer:
    """Return the trainer: one device or many, one node or many, from the same section."""
    devices, nodes = launched() or (compute.devices, compute.nodes)
    graphics = torch.cuda.is_available() and compute.accelerator in ("auto", "gpu", "cuda")
    several = nodes > 1 or (torch.cuda.device_count() if devices == "auto" else devices) > 1
    # A log file has no use for a bar that redraws itself.
    progress = compute.progress and sys.stderr.isatty()
    try:
        return L.Trainer(
            max_epochs=run.pretrain.epochs,
            accelerator=compute.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=compute.precision,
            # State, memory and averages are equal on all processes, and only the first one's statistics are kept.
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            sync_batchnorm=several and graphics,
            use_distributed_sampler=False,
            accumulate_grad_batches=run.pretrain.accumulate,
            logger=False,
            callbacks=[*callbacks, *([TQDMProgressBar(refresh_rate=10)] if progress else [])],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            num_sanity_val_steps=0,
            gradient_clip_val=run.pretrain.clip,
            default_root_dir=folder,
        )
    except MisconfigurationException as error:
        raise ValueError(f"compute: {error}") from None


def fit(
    store: Store,
    run: Run,
    *,
    seed: int,
    compute: Compute,
    checkpoints: Path,
    cache: Path | None = None,
    start: nn.Module | None = None,
    on_measured: Callable[[dict[str, float], int], None] = lambda row, step: None,
    on_step: Callable[[int], None] = lambda batches: None,
) -> Fitted:
    """Pretrain an encoder on the training samples of ``store`` that ``pretrain.duplicates`` leaves.

    Each of an ``ensemble`` is trained as if alone, with a seed, batches and views of its own. Curves and steps are
    those of the first.

    Args:
        store: opened with dedup receipts and split.
        run: entry of ``runs``.
        seed: of weights, batches and views.
        compute: devices, precision, loader workers.
        checkpoints: folder for resumable state, outside any stage output. A run that was stopped, within an epoch or
            between two, goes on from there and ends with the same weights.
        cache: folder of features of all samples, which ``pretrain.predict`` may have told; None computes them anew.
        start: encoder of ``run.start``, whose weights or embeddings the recipe begins with (`Recipe.begin`).
        on_measured: called with each row of curves and the number of steps.
        on_step: called after each batch with the number of batches so far, of one of an ensemble.
    """
    if run.encoder is not None and run.encoder.ensemble:
        folder = checkpoints / run_hash(run, store, seed)
        parts: list[Fitted] = []
        for part in range(run.encoder.ensemble):
            fitted = fit(
                store,
                run.alone(),
                seed=seed + part * PART,
                compute=compute,
                checkpoints=folder,
                cache=cache,
                on_measured=on_measured if part == 0 else lambda row, step: None,
                on_step=on_step,
            )
            parts.append(fitted)
        return replace(
            parts[0],
            encoder=Joined([part.encoder for part in parts], unit=False).eval(),
            seconds=sum(part.seconds for part in parts),
            checkpoints=folder,
        )
    if (run.start is None) != (start is None):
        raise ValueError(f"runs.<name>.start: {run.start}, and {'no' if start is None else 'an'} encoder to start from")
    if run.encoder is None:
        raise ValueError(f"encoder_from: {run.encoder_from} is trained already; there is nothing to pretrain")
    recipe, params = RECIPES[run.recipe], run.pretrain
    table = store.table
    if recipe.duplicates and params.duplicates != "remove":
        raise ValueError(
            f"pretrain.duplicates: {params.duplicates} is not for recipe {run.recipe}: {recipe.duplicates}; take remove"
        )
    if recipe.partners and params.positives is not None:
        shares = ", ".join(f"{level}: {share:g}" for level, share in params.positives)
        raise ValueError(
            f"pretrain.positives: {{{shares}}} is not for recipe {run.recipe}: {recipe.partners}; take null"
        )
    length = int(store.facts["shape"][-1])
    crop = run.encoder.crop or length
    rows = training_rows(table, params.duplicates)
    training = table.iloc[rows]
    measures = measure(table, training, params.options.covariates())
    labels = label_values(table, training, params.labels, numbers=params.options.numbers)
    samples = Samples(store, measures.values, labels)
    told = None
    if params.predict is not None and params.predict.name == "handcrafted":
        told = Told.of(store, rows, cache=cache, progress=compute.progress)
    composition = recipe.batch(params.batch) if recipe.batch else params.batch
    architecture = run.encoder.model_dump() | {"in_channels": int(store.facts["shape"][0])}
    monitors = Monitors(
        store,
        params.monitor_label,
        validation_batch(samples, composition, within=params.within, positives=params.positives),
        on_measured,
        dim=max(params.projection_dim, embedding_dim(**architecture)),
    )
    selection = Selection(
        monitors,
        select=params.select or ("knn" if params.monitor_label else "last"),
        patients=table.loc[table["split"] == "val", "patient"].nunique(),
        patience=params.patience,
    )
    saving = Checkpoints(minutes=compute.checkpoint_minutes, accumulate=params.accumulate, on_step=on_step)
    trainer = make_trainer(run, compute, checkpoints, [monitors, selection, saving])
    module: Training
    process = {"rank": trainer.global_rank, "world_size": trainer.world_size, "start": lambda: module.batches}
    root = trainer.strategy.root_device
    z = None
    if recipe.arrange is not None and start is not None:
        flat = embed_samples(start, store, rows, device=root)
        z = flat.reshape(len(rows), -1, embedding_dim(**architecture)).swapaxes(0, 1)
    chosen, unreduced, sampler = drawn(store, rows, run, seed, z=z, **process)
    steps = params.epochs * -(-len(sampler) // params.accumulate)
    views = max(1, recipe.views(params.options).whole) * sampler.size * params.accumulate
    measured = monitors.samples() * len(starts(length, crop))
    monitors.every = params.monitor_steps or spacing(steps, measured=measured, trained=views)
    numbers = arithmetic(compute, root, size=sampler.size, processes=trainer.world_size)
    folder = checkpoints / f"{run_hash(run, store, seed, start)}-{numbers}"
    saving.path = folder / "last.ckpt"
    if root.type == "cpu":
        keep_freed_memory()
    devices = [root] if root.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        encoder = recipe.begin(build(**architecture), start)
        some = np.random.default_rng(0).permutation(len(training))[:1000]
        sizes = Sizes(
            embedding=int(encoder.embedding_dim),  # type: ignore[arg-type]
            samples=len(store),
            shape=tuple(store.facts["shape"]),
            measures=measures.shapes,
            anatomy=torch.from_numpy(measures.values[rows[some]]),
            channels=tuple(table["channels"].iloc[0]),
            label=torch.from_numpy(labels[rows[some]]),
            drawn=chosen,
            told=0 if told is None else len(told.columns),
            earlier=int(encoder.embedding_dim) - embedding_dim(**architecture),  # type: ignore[arg-type]
        )
        net = recipe.net(encoder, params, sizes, start)
        module = Training(net, recipe, steps=steps, modality=store.facts["modality"], seed=seed, told=told)
    if compute.compile:
        net.compile()
    with torch.random.fork_rng(devices):  # a loader draws its seed from the global generator
        loader = Loader(
            samples,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=compute.loader_workers,
            persistent_workers=compute.loader_workers > 0,
        )
    with torch.random.fork_rng(devices):
        last = saving.path
        trainer.fit(module, loader, ckpt_path=last if last.is_file() else None, weights_only=True)
    exported = module.exported().cpu()
    if trainer.is_global_zero:
        exported.load_state_dict(selection.weights)
    done = int(trainer.global_step)
    per_epoch, per_whole = (-(-batches // params.accumulate) for batches in (len(sampler), sampler.count(unreduced)))
    history = monitors.history
    return Fitted(
        exported.eval(),
        history,
        patients=int(chosen["patient"].nunique()),
        samples=len(chosen),
        steps=done,
        steps_unreduced=round(done * per_whole / per_epoch),
        seconds=saving.seconds,
        measuring=monitors.seconds / max(saving.seconds, 1e-9),
        chosen=int(history[selection.chosen]["step"]) if history else done,
        unpaired=sampler.report(),
        checkpoints=folder,
    )
