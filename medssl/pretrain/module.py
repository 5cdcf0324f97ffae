"""The Lightning module: an encoder, a head, a recipe, and nothing global."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medssl.config import Pretrain
from medssl.models.heads import Projection, Prototypes
from medssl.objectives.pairs import Duplicates
from medssl.pretrain.data import Batch
from medssl.pretrain.gather import averaged, gather, processes
from medssl.pretrain.likeness import Likeness
from medssl.pretrain.recipes import Recipe
from medssl.views import signals
from medssl.views.draws import Draws

# Small crops of a signal keep this share of the window, at this length.
CROP_SHARE, CROP_LENGTH = (0.3, 0.6), 96 / 224


class Contrast(L.LightningModule):
    """Trains ``encoder`` by ``recipe``.

    Args:
        encoder: (B, C, ...) -> (B, embedding_dim).
        recipe: row of the table of recipes.
        params: section ``runs.<name>.pretrain``.
        steps: optimiser steps in the whole run, for the schedule.
        modality: of the samples; decides which views a plan may use.
        likeness: weights of the anatomy recipe.
        seed: with each sample's draw number it decides its views and masks, whatever the batch or process it is in.

    Attributes:
        seen: batches trained on so far, which is where a resumed run goes on.
    """

    def __init__(
        self,
        encoder: nn.Module,
        recipe: Recipe,
        params: Pretrain,
        *,
        steps: int,
        modality: str = "ecg",
        likeness: Likeness | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if recipe.dense and not hasattr(encoder, "features"):
            raise ValueError("recipe comet needs an encoder with a feature map; use encoder.name: dilated1d")
        self.encoder = encoder
        width = int(encoder.embedding_dim)  # type: ignore[arg-type]
        self.head: nn.Module = nn.Identity()
        if recipe.head:
            self.head = Projection(
                width, params.projection_dim, hidden=params.projection_hidden, norm=params.projection_norm
            )
        self.prototypes = Prototypes(params.projection_dim, params.swav.prototypes) if recipe.prototypes else None
        self.recipe, self.params, self.steps, self.seed = recipe, params, steps, seed
        self.plan = signals.PLANS[recipe.plan(params.views, modality)]
        self.likeness: Any = likeness
        self.target = None
        if recipe.momentum and params.momentum is not None:
            # Running statistics of batch normalisation are averaged like weights; its own passes move them too.
            self.target = AveragedModel(
                self._online(), multi_avg_fn=get_ema_multi_avg_fn(params.momentum), use_buffers=True
            )
            # The first update of AveragedModel is a copy, which would skip the initial weights.
            self.target.n_averaged.fill_(1)
        self.average = AveragedModel(encoder) if recipe.averaged else None
        for branch in (self.target, self.average):
            if branch is not None:
                branch.requires_grad_(False)
        self.draws = Draws(torch.zeros(1, dtype=torch.int64), seed=seed)
        self.seen = 0
        self._sums: dict[str, Tensor] = {}

    def _online(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "head": self.head})

    def compile_encoder(self) -> None:
        """Compile the encoder's forward and feature map in place; names of weights stay."""
        self.encoder.compile()
        if self.recipe.dense:
            self.encoder.features = torch.compile(self.encoder.features)  # type: ignore[assignment, arg-type]

    @property
    def alone(self) -> bool:
        """Whether the batch in hand is the whole batch: one process, or measuring outside training."""
        return not self.training or processes() == 1

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all processes, see `medssl.pretrain.gather`."""
        return x if self.alone else gather(x)

    def duplicates(self, first: Tensor, second: Tensor | None = None) -> Duplicates | None:
        """Return what ``pretrain.duplicates`` makes of near-duplicates in the batch of all processes; None: nothing.

        Args:
            first: (B,) class of each item in view 1.
            second: in view 2; None: the same.
        """
        if self.params.duplicates == "remove":
            return None
        first, second = (self.gather(ids) for ids in (first, first if second is None else second))
        return Duplicates(first, second, self.params.duplicate_weight if self.params.duplicates == "weight" else None)

    def exported(self) -> nn.Module:
        """Return the encoder to keep: the average of all iterates where the recipe says so, else the last one."""
        return self.average.module if self.average is not None else self.encoder

    def features(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the feature map (B, T, embedding_dim) of a dense encoder."""
        out: Tensor = self.encoder.features(x, keep)  # type: ignore[operator]
        return out

    def project(self, x: Tensor) -> Tensor:
        """Return unit projections (B, projection_dim)."""
        out: Tensor = self.head(self.encoder(x))
        return out

    def project_target(self, x: Tensor) -> Tensor:
        """Return the momentum branch's unit projections."""
        assert self.target is not None
        branch: Any = self.target.module
        out: Tensor = branch["head"](branch["encoder"](x))
        return out

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Seed dropout, which knows only the global generator; before the transfer no device has to wait."""
        torch.manual_seed((self.seed * 1_000_003 + int(batch.draw[0])) % 2**63)
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Draw the views of signals on the device."""
        self.draws = Draws(batch.draw, seed=self.seed)
        if batch.x.ndim != 3:
            return batch
        first = second = batch.x
        if self.recipe.drawn or not self.training:
            first, second = (signals.view(batch.x, self.draws.fork(k), self.plan) for k in (1, 2))
        crops = batch.crops
        if self.recipe.prototypes and self.params.swav.crops:
            length = max(8, round(batch.x.shape[2] * CROP_LENGTH))
            made = []
            for k in range(self.params.swav.crops):
                small = signals.crop(batch.x, self.draws.fork(100 + 2 * k), share=CROP_SHARE, length=length)
                made.append(signals.view(small, self.draws.fork(101 + 2 * k), self.plan))
            crops = torch.stack(made, 1)
        return replace(batch, v1=first, v2=second, crops=crops)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        losses = self.recipe.step(self, batch)
        for name, value in losses.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._sums["batches"] = self._sums.get("batches", torch.zeros(())) + 1
        self.seen += 1
        return losses["loss"]

    def epoch_means(self) -> dict[str, float]:
        """Return the mean losses since the last call, over all processes."""
        count = float(self._sums.pop("batches", torch.ones(())))
        means = {f"train/{name}": float(value) / count for name, value in self._sums.items()}
        self._sums = {}
        return averaged(means)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs besides weights: where it is in the data and the losses of the epoch so far."""
        checkpoint["contrast"] = {"seen": self.seen, "sums": self._sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was."""
        self.seen, self._sums = checkpoint["contrast"]["seen"], dict(checkpoint["contrast"]["sums"])

    def on_train_start(self) -> None:
        """Count the initial weights into the average, as published."""
        self._sums = {name: value.to(self.device) for name, value in self._sums.items()}
        if self.average is not None and int(self.average.n_averaged) == 0:
            self.average.update_parameters(self.encoder)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Hold the prototypes for the first steps, so that codes mean something before they move."""
        if self.prototypes is not None and self.global_step < self.params.swav.freeze_steps:
            self.prototypes.zero_grad(set_to_none=True)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the averages: never on a batch that only accumulates."""
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def after_step(self) -> None:
        """Move the averages."""
        if self.target is not None:
            self.target.update_parameters(self._online())
        if self.average is not None:
            self.average.update_parameters(self.encoder)

    def configure_optimizers(self) -> Any:
        """AdamW, linear warm-up, then cosine decay, a constant rate, or a tenth after each third; per step."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.params.lr, weight_decay=self.params.weight_decay)
        warmup = round(self.params.warmup_epochs * self.steps / self.params.epochs)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
            if self.params.schedule == "constant":
                return 1.0
            if self.params.schedule == "step":
                return 0.1 ** min(2, math.floor(3 * progress))
            return 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
