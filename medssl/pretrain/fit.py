"""Run a pretraining: data, trainer, monitors, checkpoints outside the outputs, exact resume."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from monai.data import DataLoader
from torch import nn

from medssl.config import Compute, Run
from medssl.models import build
from medssl.models.embed import embed_samples
from medssl.objectives.kernels import median_sigma
from medssl.pretrain import monitor
from medssl.pretrain.data import Samples, Standard, collate
from medssl.pretrain.module import Contrast
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.project import launched
from medssl.store import Store

MONITORED = 512


@dataclass(frozen=True)
class Fitted:
    """A trained encoder and its curves (one dict per epoch)."""

    encoder: nn.Module
    history: list[dict[str, float]]
    steps: int


def run_hash(run: Run, store: Store, seed: int) -> str:
    """Return the name of a run's checkpoint folder: parameters, data, split, seed and training code.

    A run resumes only from a folder of its own name, so that changed parameters never start from old weights.
    """
    code = hashlib.blake2b(digest_size=8)
    package = Path(__file__).parents[1]
    for folder in ("models", "objectives", "views", "pretrain"):
        for path in sorted((package / folder).rglob("*.py")):
            code.update(path.read_bytes())
    split = hashlib.blake2b("".join(store.table["split"]).encode(), digest_size=8).hexdigest()
    kept = hashlib.blake2b(store.table["kept"].to_numpy().tobytes(), digest_size=8).hexdigest()
    facts = [run.model_dump(mode="json", exclude={"evaluate"}), store.content_hash, split, kept, seed, code.hexdigest()]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


class Monitors(Callback):
    """After each epoch: RankMe and a patient-safe kNN probe, collected with the losses and the learning rate."""

    def __init__(self, store: Store, label: str | None, on_epoch: Callable[[dict[str, float], int], None]) -> None:
        table = store.table
        rng = np.random.default_rng(0)
        self.store, self.on_epoch = store, on_epoch
        self.history: list[dict[str, float]] = []

        def some(mask: np.ndarray) -> np.ndarray:
            rows = np.flatnonzero(mask)
            return np.sort(rng.permutation(rows)[:MONITORED])

        kept = table["kept"].to_numpy()
        self.train_rows = some(kept & (table["split"] == "train").to_numpy())
        self.val_rows = some((table["method"] != "exact").to_numpy() & (table["split"] == "val").to_numpy())
        self.labels: np.ndarray | None = None
        if label is not None:
            column = f"label_{label}"
            if column not in table or not table[column].dropna().map(lambda v: isinstance(v, str)).all():
                raise ValueError(f"pretrain.monitor_label '{label}': the cohort has no such class label")
            self.labels = table[column].fillna("").to_numpy(dtype=str)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure and hand out one row."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Contrast)
        encoder = pl_module.exported()
        device = pl_module.device
        row = {k: float(v) for k, v in trainer.callback_metrics.items()}
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        train = embed_samples(encoder, self.store, self.train_rows, device=device)
        row["train/rankme"] = monitor.rankme(train)
        if len(self.val_rows):
            val = embed_samples(encoder, self.store, self.val_rows, device=device)
            row["val/rankme"] = monitor.rankme(val)
            if self.labels is not None:
                known_t, known_v = self.labels[self.train_rows] != "", self.labels[self.val_rows] != ""
                if known_t.any() and known_v.any():
                    row["val/knn"] = monitor.knn_accuracy(
                        train[known_t],
                        self.labels[self.train_rows][known_t],
                        val[known_v],
                        self.labels[self.val_rows][known_v],
                    )
        self.history.append(row)
        self.on_epoch(row, trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Keep the curves in the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        self.history = list(state_dict["history"])
        for epoch, row in enumerate(self.history):
            self.on_epoch(row, epoch)


def fit(
    store: Store,
    run: Run,
    *,
    seed: int,
    compute: Compute,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float], int], None] = lambda row, epoch: None,
    stop_after: int | None = None,
) -> Fitted:
    """Pretrain one encoder on the kept training samples of ``store``.

    Args:
        store: opened with dedup receipts and split.
        run: entry of ``runs``.
        seed: of weights, batches and views.
        compute: devices, precision, loader workers.
        checkpoints: folder for resumable state, outside any stage output; this run's part is removed on success.
        on_epoch: called with each row of curves.
        stop_after: stop after this many epochs as if killed (for tests of the resume).
    """
    recipe, params = RECIPES[run.recipe], run.pretrain
    table = store.table
    rows = np.flatnonzero(table["kept"].to_numpy() & (table["split"] == "train").to_numpy())
    training = table.iloc[rows]
    if recipe.measures and not params.anatomy.measures:
        raise ValueError("recipe anatomy needs pretrain.anatomy.measures, names of anat_ columns without prefix")
    standard = Standard.fit(training, params.anatomy.measures if recipe.measures else ())
    sigma = 1.0
    if recipe.measures:
        some = np.random.default_rng(0).permutation(len(training))[:1000]
        sigma = params.anatomy.sigma or median_sigma(torch.from_numpy(standard.apply(training.iloc[some])))
    folder = checkpoints / run_hash(run, store, seed)
    monitors = Monitors(store, params.monitor_label, on_epoch)
    callbacks: list[Callback] = [
        monitors,
        ModelCheckpoint(dirpath=folder, filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False),
    ]
    # A log file has no use for a bar that redraws itself.
    progress = compute.progress and sys.stderr.isatty()
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    devices, nodes = launched() or (compute.devices, compute.nodes)
    several = nodes > 1 or (torch.cuda.device_count() if devices == "auto" else devices) > 1
    try:
        trainer = L.Trainer(
            max_epochs=params.epochs if stop_after is None else stop_after,
            accelerator=compute.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=compute.precision,
            # Not every recipe uses the projection head; DDP has to look which parameters got a gradient.
            strategy="ddp_find_unused_parameters_true" if several else "auto",
            use_distributed_sampler=False,
            logger=False,
            callbacks=callbacks,
            enable_model_summary=False,
            enable_progress_bar=progress,
            num_sanity_val_steps=0,
            gradient_clip_val=1.0,
            default_root_dir=folder,
        )
    except MisconfigurationException as error:
        raise ValueError(f"compute: {error}") from None
    composition = recipe.batch(params.batch)
    sampler: HierarchicalBatches
    sampler = HierarchicalBatches(
        training,
        rows,
        patients=composition.patients,
        trials=composition.trials,
        samples=composition.samples,
        steps=params.steps_per_epoch,
        seed=seed,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        # The step count is restored before the loader starts; the epoch number is not.
        epoch_of=lambda: trainer.global_step // len(sampler),
    )
    with torch.random.fork_rng():  # MONAI's loader puts the global generator back to its first seed
        loader: Any = DataLoader(
            Samples(store, standard, seed=seed),
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=compute.loader_workers,
            persistent_workers=compute.loader_workers > 0,
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Contrast(
            build(**run.encoder.model_dump(), in_channels=int(store.facts["shape"][0])),
            recipe,
            params,
            steps=params.epochs * len(sampler),
            sigma=sigma,
            seed=seed,
        )
    last = folder / "last.ckpt"
    with torch.random.fork_rng():
        trainer.fit(net, loader, ckpt_path=last if last.is_file() else None, weights_only=True)
    if stop_after is None and trainer.is_global_zero:
        shutil.rmtree(folder, ignore_errors=True)
    return Fitted(net.exported().cpu().eval(), monitors.history, int(trainer.global_step))
