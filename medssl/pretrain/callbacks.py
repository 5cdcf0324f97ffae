"""What happens beside the training: measuring an epoch, choosing the encoder, keeping a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from medssl.config import Batch as BatchParams
from medssl.models.embed import embed_samples
from medssl.pretrain import monitor
from medssl.pretrain.data import Batch, Samples, collate
from medssl.pretrain.gather import averaged
from medssl.pretrain.module import Contrast
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store

MONITORED = 512
# Draw numbers of the validation batch, far from those of training.
VALIDATION = 2**62


def validation_rows(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the validation samples; near copies stay in, exact ones would count twice."""
    return np.flatnonzero((table["method"] != "exact").to_numpy() & (table["split"] == "val").to_numpy())


def validation_batch(samples: Samples, composition: BatchParams, *, within: str | None) -> Batch | None:
    """Return one batch of validation patients, always the same; None with fewer than two patients."""
    rows = validation_rows(samples.store.table)
    table = samples.store.table.iloc[rows]
    if within is not None and within in table and len(table):
        # The value with the most patients stands for all.
        most = table.groupby(within)["patient"].nunique().idxmax()
        mine = (table[within] == most).to_numpy()
        table, rows = table[mine], rows[mine]
    patients = min(composition.patients, table["patient"].nunique())
    if patients < 2:
        return None
    sampler = HierarchicalBatches(
        table, rows, patients=patients, trials=composition.trials, samples=composition.samples, steps=1
    )
    (drawn,) = sampler
    return collate([samples[row, VALIDATION + draw] for row, draw in drawn])


class Monitors(Callback):
    """After each epoch: the losses, and what the embedding looks like on patients that are not trained on.

    ``val/loss`` of a fixed batch; RankMe; dispersion ratio; alignment and uniformity of two views; a patient-safe kNN
    score where there is a label. Measured with the encoder that would be exported.
    """

    def __init__(
        self,
        store: Store,
        label: str | None,
        batch: Batch | None,
        on_epoch: Callable[[dict[str, float], int], None],
    ) -> None:
        table = store.table
        rng = np.random.default_rng(0)
        self.store, self.batch, self.on_epoch = store, batch, on_epoch
        self.history: list[dict[str, float]] = []

        def some(rows: np.ndarray) -> np.ndarray:
            return np.sort(rng.permutation(rows)[:MONITORED])

        self.train_rows = some(np.flatnonzero(table["kept"].to_numpy() & (table["split"] == "train").to_numpy()))
        self.val_rows = some(validation_rows(table))
        self.labels: np.ndarray | None = None
        if label is not None:
            column = f"label_{label}"
            if column not in table or not table[column].dropna().map(lambda v: isinstance(v, str)).all():
                raise ValueError(f"pretrain.monitor_label '{label}': the cohort has no such class label")
            self.labels = table[column].fillna("").to_numpy(dtype=str)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure and hand out one row."""
        assert isinstance(pl_module, Contrast)
        row = pl_module.epoch_means()
        if not trainer.is_global_zero:
            return
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row |= self._embeddings(pl_module)
        if self.batch is not None:
            row |= self._views(pl_module, self.batch)
        self.history.append(row)
        self.on_epoch(row, trainer.current_epoch)

    def _embeddings(self, net: Contrast) -> dict[str, float]:
        """Return effective ranks, dispersion and the nearest-neighbour score."""
        train, val = (
            embed_samples(net.exported(), self.store, rows, device=net.device)
            for rows in (self.train_rows, self.val_rows)
        )
        row = {"train/rankme": monitor.rankme(train)}
        if not len(val):
            return row
        row["val/rankme"] = monitor.rankme(val)
        row["val/dispersion"] = monitor.dispersion_ratio(val, self.store.table["patient"].to_numpy()[self.val_rows])
        if self.labels is not None:
            known_t, known_v = self.labels[self.train_rows] != "", self.labels[self.val_rows] != ""
            if known_t.any() and known_v.any():
                row["val/knn"] = monitor.knn_accuracy(
                    train[known_t],
                    self.labels[self.train_rows][known_t],
                    val[known_v],
                    self.labels[self.val_rows][known_v],
                )
        return row

    @torch.no_grad()
    def _views(self, net: Contrast, batch: Batch) -> dict[str, float]:
        """Return loss, alignment and uniformity of the validation batch."""
        trained = net.encoder
        net.encoder = net.exported()
        net.eval()
        try:
            with torch.random.fork_rng():
                batch = net.on_before_batch_transfer(batch, 0).to(net.device)
                batch = net.on_after_batch_transfer(batch, 0)
                row = {"val/loss": float(net.recipe.step(net, batch)["loss"])}
                pair = [net.encoder(v).float().cpu().numpy() for v in (batch.v1, batch.v2)]
        finally:
            net.encoder = trained
            net.train()
        return row | {"val/alignment": monitor.alignment(*pair), "val/uniformity": monitor.uniformity(pair[0])}

    def state_dict(self) -> dict[str, Any]:
        """Keep the curves in the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        self.history = list(state_dict["history"])
        for epoch, row in enumerate(self.history):
            self.on_epoch(row, epoch)


class Selection(Callback):
    """Choose the encoder by validation: longer pretraining can make it worse.

    Args:
        monitors: the curves; this callback comes after it.
        select: ``knn``: the latest epoch within one standard error of the best score (a score of few patients is noise,
            and then the last epoch wins); ``loss``: the lowest validation loss; ``last``.
        patients: validation patients, for the standard error.
        patience: stop after so many epochs without a new choice; None: never.

    Attributes:
        weights: state of the chosen encoder.
        epoch: of the choice, from 0.
    """

    def __init__(self, monitors: Monitors, *, select: str, patients: int, patience: int | None) -> None:
        self.monitors, self.select, self.patients, self.patience = monitors, select, patients, patience
        self.weights: dict[str, Tensor] = {}
        self.best, self.epoch = float("nan"), -1

    def _score(self) -> float:
        row = self.monitors.history[-1]
        if self.select == "loss":
            return -row.get("val/loss", float("nan"))
        return row.get("val/knn", float("nan"))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights of this epoch if they are to be preferred."""
        assert isinstance(pl_module, Contrast)
        stop = False
        if trainer.is_global_zero:
            epoch = len(self.monitors.history) - 1
            score = self._score() if self.select != "last" else float("nan")
            slack = 0.0
            if self.select == "knn" and self.best == self.best:
                slack = (self.best * (1 - self.best) / max(1, self.patients)) ** 0.5
            # Without a score there is nothing to choose by, and the latest stays.
            if score != score or self.best != self.best or score >= self.best - slack:
                self.epoch = epoch
                self.best = np.fmax(self.best, score).item()
                state = pl_module.exported().state_dict()
                self.weights = {name: value.detach().cpu().clone() for name, value in state.items()}
            stop = self.patience is not None and epoch - self.epoch >= self.patience
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Keep the choice in the checkpoint."""
        return {"weights": self.weights, "best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the choice of the checkpoint."""
        self.weights, self.best, self.epoch = (state_dict[k] for k in ("weights", "best", "epoch"))


class Checkpoints(Callback):
    """Keep one checkpoint: at the end of each epoch and every so many minutes, whole or not at all.

    Args:
        minutes: between checkpoints within an epoch.
        accumulate: batches per optimiser step; gradients in the making are not kept, so it waits for a step.
        on_step: called after each batch with the number of batches so far.

    Attributes:
        path: of the checkpoint; set before training.
        seconds: trained in all, up to the last batch or epoch; what came after the checkpoint a run went on from is in
            vain and not counted.
    """

    def __init__(self, *, minutes: float, accumulate: int, on_step: Callable[[int], None]) -> None:
        self.minutes, self.accumulate, self.on_step = minutes, accumulate, on_step
        self.path = Path()
        self.saved = time.monotonic()
        self.seconds, self._began = 0.0, time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make sure that all processes go on from the same batch.

        Raises:
            ValueError: some found a checkpoint and others did not.
        """
        assert isinstance(pl_module, Contrast)
        if averaged({"seen": float(pl_module.seen)})["seen"] != pl_module.seen:
            raise ValueError(
                f"{self.path.parent.name}: processes found different checkpoints; let the nodes share the project's "
                ".medssl folder, or delete this run's folder in .medssl/checkpoints on each of them"
            )
        self._began = time.monotonic() - self.seconds

    def _save(self, trainer: L.Trainer) -> None:
        # All processes take part; the first one writes.
        self.seconds = time.monotonic() - self._began
        partial = self.path.with_suffix(".part")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Save if it is time, with one clock for all processes."""
        assert isinstance(pl_module, Contrast)
        inside = pl_module.seen % int(trainer.num_training_batches)
        if inside and inside % self.accumulate == 0:
            due = time.monotonic() - self.saved >= self.minutes * 60
            if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
                self._save(trainer)
        self.on_step(pl_module.seen)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the finished epoch."""
        self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Keep the time in the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the time of the checkpoint."""
        self.seconds = state_dict["seconds"]
