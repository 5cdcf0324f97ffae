"""The Lightning module: a network, a recipe, views on the device, averages, the schedule, and nothing global."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from medssl.config import Pretrain
from medssl.models.joined import crop_of
from medssl.pretrain.data import Batch
from medssl.pretrain.gather import averaged, divided
from medssl.pretrain.net import Net, approach, still_copy
from medssl.pretrain.recipes import Recipe
from medssl.pretrain.recipes.predict import prediction, untold
from medssl.pretrain.told import Told
from medssl.views.augment import Augmentation
from medssl.views.draws import Draws


def augmentation(recipe: Recipe, params: Pretrain, modality: str, crop: int | None = None) -> Augmentation:
    """Return how a run draws views of its samples; ``crop`` is the encoder's."""
    name = params.views or recipe.plan
    return Augmentation(name, modality=modality, strength=params.view_strength, place=recipe.place, crop=crop)


class Training(L.LightningModule):
    """Trains a network by a recipe.

    Args:
        net: made by ``recipe.net``.
        recipe: row of the table of recipes.
        steps: optimiser steps in the whole run, for the schedule.
        modality: of the samples; decides which views a plan may use.
        seed: with each sample's draw number it decides its views and masks, whatever the batch or process it is in.
        told: of the store, where ``pretrain.predict`` reads it.

    Attributes:
        batches: how many were trained on so far, which is where a resumed run goes on.
    """

    def __init__(
        self, net: Net, recipe: Recipe, *, steps: int, modality: str = "ecg", seed: int = 0, told: Told | None = None
    ) -> None:
        super().__init__()
        self.told = told
        self.net, self.recipe, self.params, self.steps, self.seed = net, recipe, net.params, steps, seed
        self.augmentation = augmentation(recipe, self.params, modality, crop_of(net.encoder))
        self.average = still_copy(net.encoder) if recipe.averaged else None
        self.batches = 0
        self._sums: dict[str, Tensor] = {}

    def exported(self) -> nn.Module:
        """Return the encoder to keep: the average of all iterates where the recipe says so, else the last one."""
        return self.net.encoder if self.average is None else self.average

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Seed dropout, which knows only the global generator, and read features; so early no device has to wait."""
        torch.manual_seed((self.seed * 1_000_003 + int(batch.draw[0])) % 2**63)
        return batch if self.told is None else replace(batch, told=self.told.rows(batch.row))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Draw the views on the device: as many as the recipe reads, and two at least to measure by.

        They are of the sample and its partner in turn, and so are the small crops.
        """
        self.net.draws = draws = Draws(batch.draw, seed=self.seed)
        whole, small = self.recipe.views(self.params.options)
        number = whole if self.training else max(2, whole)
        views, place = self.augmentation.draw((batch.x, batch.second.x), draws, number, small)
        return replace(batch, views=views, place=place)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        with divided():
            losses = self.recipe.step(self.net, batch)
            if self.params.regulariser is not None:
                term = self.net.regulariser(len(batch.x))
                losses |= {"loss": losses["loss"] + self.params.regulariser.weight * term, "regulariser": term}
            if self.params.predict is not None:
                term = self._prediction(batch)
                losses |= {"loss": losses["loss"] + self.params.predict.weight * term, "predict": term}
        for name, value in losses.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._sums["batches"] = self._sums.get("batches", torch.zeros(())) + 1
        self.batches += 1
        return losses["loss"]

    def _prediction(self, batch: Batch) -> Tensor:
        """Return the term ``pretrain.predict`` of a batch."""
        if batch.told is None:
            return prediction(self.net, self.augmentation.shown(batch.x, self.net.draws), self.exported())
        # A recipe that reads no views, as one that hides parts of the sample itself, has it tell of the sample.
        view = batch.views[0] if batch.views else self.augmentation.shown(batch.x, self.net.draws)
        return untold(self.net.heads["predict"](self.net.embedded(view)), batch.told)

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses since the last call, over all processes."""
        count = float(self._sums.pop("batches", torch.ones(())))
        means = {f"train/{name}": float(value) / count for name, value in self._sums.items()}
        self._sums = {}
        return averaged(means)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs besides weights: where it is and the losses since they were last asked for."""
        checkpoint["training"] = {"batches": self.batches, "step": self.net.step, "sums": self._sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was."""
        kept = checkpoint["training"]
        self.batches, self.net.step, self._sums = kept["batches"], kept["step"], dict(kept["sums"])

    def on_train_start(self) -> None:
        """Bring the sums of a checkpoint to the device."""
        self._sums = {name: value.to(self.device) for name, value in self._sums.items()}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then do what follows a step: never on a batch that only accumulates."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def after_step(self) -> None:
        """Let the recipe renormalise what it must, and move the averages."""
        self.net.step += 1
        if self.recipe.after is not None:
            self.recipe.after(self.net, self.net.step)
        momentum = self.recipe.momentum(self.params.options, min(1.0, self.net.step / self.steps))
        if momentum is not None:
            self.net.follow(momentum)
        if self.average is not None:
            # The initial weights count too, as published; the share is rounded as torch's own average does.
            approach(self.average, self.net.encoder, float(np.float32(1) / np.float32(self.net.step + 1)))

    def configure_optimizers(self) -> Any:
        """AdamW, linear warm-up, then cosine decay, a constant rate, or a tenth after each third; per step."""
        warmup = round(self.params.warmup_epochs * self.steps / self.params.epochs)

        def usual(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
            if self.params.schedule == "constant":
                return 1.0
            if self.params.schedule == "step":
                return 0.1 ** min(2, math.floor(3 * progress))
            return 0.5 * (1 + math.cos(math.pi * progress))

        groups = [group for group in self.recipe.groups(self.net, self.params) if group["params"]]
        # Functions stay out of the optimiser, whose groups are checkpointed.
        own = [group.pop("schedule", None) for group in groups]
        factors: list[Callable[[int], float]] = [
            usual if f is None else partial(lambda f, step: f(step, usual(step)), f) for f in own
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.params.lr, weight_decay=self.params.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
