"""What happens beside the training: measuring the encoder, choosing one, keeping a checkpoint."""

from __future__ import annotations

import math
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
from medssl.config import Positives
from medssl.models.embed import embed_samples
from medssl.pretrain import monitor
from medssl.pretrain.data import Batch, Samples, collate
from medssl.pretrain.gather import averaged
from medssl.pretrain.module import Training
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store

MONITORED = 512  # samples of either part for neighbours and dispersion
RANKED = 2048  # patients of either part for RankMe, if there are as many
# Of a measurement in the passes of the steps between two. A third of the bound on its time, which reading samples,
# decompositions and writing curves share.
SHARE = 1 / 60
LEAST = 10  # steps between two measurements
# Draw numbers of the validation batch, far from those of training.
VALIDATION = 2**62


def validation_rows(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the validation samples; near copies stay in, exact ones would count twice."""
    return np.flatnonzero((table["method"] != "exact").to_numpy() & (table["split"] == "val").to_numpy())


def validation_batch(
    samples: Samples, composition: BatchParams, *, within: str | None, positives: Positives | None = None
) -> Batch | None:
    """Return one batch of validation patients, always the same, partners too; None with fewer than two patients."""
    rows = validation_rows(samples.store.table)
    table = samples.store.table.iloc[rows]
    if within is not None and within in table and len(table):
        # The value with the most patients stands for all.
        most = table.groupby(within)["patient"].nunique().idxmax()
        mine = (table[within] == most).to_numpy()
        table, rows = table[mine], rows[mine]
    if min(composition.patients, table["patient"].nunique()) < 2:
        return None
    (drawn,) = HierarchicalBatches(table, rows, **dict(composition), positives=positives, steps=1)
    return collate([samples[row, VALIDATION + draw, *partner] for row, draw, *partner in drawn])


def spacing(steps: int, *, measured: int, trained: int) -> int:
    """Return every how many steps to measure, so that it takes no more than about `SHARE` of the training.

    What decides is counted, not timed, so that a run measures at the same steps wherever it runs: a sample measured is
    one pass, a view trained on three (forward, and twice as much backward).

    Args:
        steps: optimiser steps of the run, the largest answer.
        measured: samples looked at in a measurement.
        trained: views in a step, over all processes and accumulated batches.
    """
    return max(1, min(steps, max(LEAST, math.ceil(measured / (SHARE * 3 * trained)))))


class Monitors(Callback):
    """Every so many steps, and at the end: the losses, and what the embedding looks like on patients not trained on.

    RankMe of the projections, one sample a patient (`monitor.rankme`), and of the encoder's outputs on the same samples
    (``rankme_encoder``); ``val/loss`` of a fixed batch; dispersion ratio; alignment and uniformity of two views; a
    patient-safe kNN score where there is a label. Measured with the encoder that would be exported.

    Args:
        store: opened with its receipts and split.
        label: class label of the kNN score.
        batch: of validation patients.
        on_measured: called with each row and the number of steps.
        dim: of projections or embeddings, whichever is larger.

    Attributes:
        every: steps between two measurements, see `spacing`; set before training.
        history: one row a measurement, with the ``step`` it was at.
        now: whether the step in hand was measured, the same on all processes.
        seconds: spent in all.
    """

    def __init__(
        self,
        store: Store,
        label: str | None,
        batch: Batch | None,
        on_measured: Callable[[dict[str, float], int], None],
        *,
        dim: int,
    ) -> None:
        table = store.table
        rng = np.random.default_rng(0)
        self.store, self.batch, self.on_measured = store, batch, on_measured
        self.every = 1
        self.history: list[dict[str, float]] = []
        self.now, self.seconds, self._last = False, 0.0, 0
        parts = {
            "train": np.flatnonzero(table["kept"].to_numpy() & (table["split"] == "train").to_numpy()),
            "val": validation_rows(table),
        }
        self.rows = {part: np.sort(rng.permutation(rows)[:MONITORED]) for part, rows in parts.items()}
        # RankMe: one sample a patient, of as many as its definition asks for.
        patients = {
            part: rows[np.unique(table["patient"].to_numpy()[rows], return_index=True)[1]]
            for part, rows in parts.items()
        }
        self.patients = {
            part: np.sort(rng.permutation(rows)[: max(RANKED, 4 * dim)]) for part, rows in patients.items()
        }
        self.labels: np.ndarray | None = None
        if label is not None:
            column = f"label_{label}"
            if column not in table or not table[column].dropna().map(lambda v: isinstance(v, str)).all():
                raise ValueError(f"pretrain.monitor_label '{label}': the cohort has no such class label")
            self.labels = table[column].fillna("").to_numpy(dtype=str)

    def samples(self) -> int:
        """Return how many samples a measurement looks at."""
        rows = sum(len(np.union1d(rows, self.patients[part])) for part, rows in self.rows.items())
        # Two views pass for the loss, with a teacher twice, and once more for alignment.
        return rows + (0 if self.batch is None else 6 * len(self.batch.x))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Measure if it is time."""
        assert isinstance(pl_module, Training)
        step = pl_module.net.step
        # Counted back from the end, so that the last one is at its distance too. All processes come to the same
        # steps; a batch that only accumulates is no new one.
        self.now = (pl_module.steps - step) % self.every == 0 and step > self._last
        if not self.now:
            return
        self._last = step
        begin = time.monotonic()
        row = pl_module.mean_losses()
        if trainer.is_global_zero:
            row |= {"step": float(step), "lr": float(trainer.optimizers[0].param_groups[0]["lr"])}
            row |= self._embeddings(pl_module)
            if self.batch is not None:
                row |= self._views(pl_module, self.batch)
            self.history.append(row)
            self.on_measured(row, step)
        self.seconds += time.monotonic() - begin

    def _embeddings(self, training: Training) -> dict[str, float]:
        """Return effective ranks, dispersion and the nearest-neighbour score."""
        row: dict[str, float] = {}
        z: dict[str, np.ndarray] = {}
        for part, rows in self.rows.items():
            # Rows of both kinds pass once.
            every = np.union1d(rows, self.patients[part])
            found = embed_samples(training.exported(), self.store, every, device=training.device)
            z[part] = found[np.searchsorted(every, rows)]
            if len(of_patients := found[np.searchsorted(every, self.patients[part])]):
                row[f"{part}/rankme"] = monitor.rankme(self._projected(training, of_patients))
                row[f"{part}/rankme_encoder"] = monitor.rankme(of_patients)
        if not len(z["val"]):
            return row
        patients = self.store.table["patient"].to_numpy()[self.rows["val"]]
        row["val/dispersion"] = monitor.dispersion_ratio(z["val"], patients)
        if self.labels is not None:
            labels = {part: self.labels[rows] for part, rows in self.rows.items()}
            known = {part: of != "" for part, of in labels.items()}
            if all(of.any() for of in known.values()):
                train, val = ((z[part][of], labels[part][of]) for part, of in known.items())
                row["val/knn"] = monitor.knn_accuracy(*train, *val)
        return row

    @torch.no_grad()
    def _projected(self, training: Training, z: np.ndarray) -> np.ndarray:
        """Return what the losses see of embeddings; without a projection these themselves."""
        if "projection" not in training.net.heads:
            return z
        head = training.net.heads["projection"].eval()
        out: np.ndarray = head(torch.from_numpy(z).to(training.device)).float().cpu().numpy()
        head.train()
        return out

    @torch.no_grad()
    def _views(self, training: Training, batch: Batch) -> dict[str, float]:
        """Return loss, alignment and uniformity of the validation batch."""
        net = training.net
        trained, net.encoder = net.encoder, training.exported()
        training.eval()
        try:
            with torch.random.fork_rng():
                batch = training.on_before_batch_transfer(batch, 0).to(training.device)
                batch = training.on_after_batch_transfer(batch, 0)
                row = {"val/loss": float(training.recipe.step(net, batch)["loss"])}
                pair = [net.encoder(v).float().cpu().numpy() for v in batch.views[:2]]
        finally:
            net.encoder = trained
            training.train()
        return row | {"val/alignment": monitor.alignment(*pair), "val/uniformity": monitor.uniformity(pair[0])}

    def state_dict(self) -> dict[str, Any]:
        """Keep the curves in the checkpoint."""
        return {"history": self.history, "last": self._last, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves of the checkpoint."""
        self.history, self._last = list(state_dict["history"]), state_dict["last"]
        self.seconds = state_dict["seconds"]
        for row in self.history:
            self.on_measured(row, int(row["step"]))


class Selection(Callback):
    """Choose the encoder by validation: longer pretraining can make it worse.

    Args:
        monitors: the curves; this callback comes after it.
        select: ``knn``: the latest measurement within one standard error of the best score (a score of few patients is
            noise, and then the last one wins); ``loss``: the lowest validation loss; ``last``.
        patients: validation patients, for the standard error.
        patience: stop after so many measurements without a new choice; None: never.

    Attributes:
        weights: state of the chosen encoder.
        chosen: which measurement it was, from 0.
    """

    def __init__(self, monitors: Monitors, *, select: str, patients: int, patience: int | None) -> None:
        self.monitors, self.select, self.patients, self.patience = monitors, select, patients, patience
        self.weights: dict[str, Tensor] = {}
        self.best, self.chosen, self.stopped = float("nan"), -1, False

    def _score(self) -> float:
        row = self.monitors.history[-1]
        if self.select == "loss":
            return -row.get("val/loss", float("nan"))
        return row.get("val/knn", float("nan"))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stay where a run had stopped that died before its encoder was written."""
        trainer.should_stop = self.stopped

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Keep the weights of this measurement if they are to be preferred."""
        assert isinstance(pl_module, Training)
        if not self.monitors.now:
            return
        stop = False
        if trainer.is_global_zero:
            number = len(self.monitors.history) - 1
            score = self._score() if self.select != "last" else float("nan")
            slack = 0.0
            if self.select == "knn" and self.best == self.best:
                slack = (self.best * (1 - self.best) / max(1, self.patients)) ** 0.5
            # Without a score there is nothing to choose by, and the latest stays.
            if score != score or self.best != self.best or score >= self.best - slack:
                self.chosen = number
                self.best = np.fmax(self.best, score).item()
                state = pl_module.exported().state_dict()
                self.weights = {name: value.detach().cpu().clone() for name, value in state.items()}
            stop = self.patience is not None and number - self.chosen >= self.patience
        if trainer.strategy.reduce_boolean_decision(stop, all=False):
            trainer.should_stop = self.stopped = True

    def state_dict(self) -> dict[str, Any]:
        """Keep the choice in the checkpoint."""
        return {"weights": self.weights, "best": self.best, "chosen": self.chosen, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the choice of the checkpoint."""
        self.weights, self.best, self.chosen, self.stopped = (
            state_dict[k] for k in ("weights", "best", "chosen", "stopped")
        )


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
        assert isinstance(pl_module, Training)
        if averaged({"batches": float(pl_module.batches)})["batches"] != pl_module.batches:
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
        assert isinstance(pl_module, Training)
        inside = pl_module.batches % int(trainer.num_training_batches)
        if inside and inside % self.accumulate == 0:
            due = time.monotonic() - self.saved >= self.minutes * 60
            if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
                self._save(trainer)
        self.on_step(pl_module.batches)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the finished epoch."""
        self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Keep the time in the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the time of the checkpoint."""
        self.seconds = state_dict["seconds"]
