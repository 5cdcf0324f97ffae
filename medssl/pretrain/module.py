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
from medssl.models.heads import Projection
from medssl.pretrain.data import Batch
from medssl.pretrain.recipes import Recipe
from medssl.views import signals


class Contrast(L.LightningModule):
    """Trains ``encoder`` by ``recipe``.

    Args:
        encoder: (B, C, ...) -> (B, embedding_dim).
        recipe: row of the table of recipes.
        params: section ``runs.<name>.pretrain``.
        steps: optimiser steps in the whole run, for the schedule.
        sigma: kernel width of the anatomy recipe.
        seed: with each batch's draw numbers it decides views, masks and dropout, so that a resumed run draws what an
            uninterrupted one would have drawn.
    """

    def __init__(
        self, encoder: nn.Module, recipe: Recipe, params: Pretrain, *, steps: int, sigma: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        if recipe.dense and not hasattr(encoder, "features"):
            raise ValueError("recipe comet needs an encoder with a feature map; use encoder.name: dilated1d")
        self.encoder = encoder
        self.head = Projection(int(encoder.embedding_dim), params.projection_dim)  # type: ignore[arg-type]
        self.recipe, self.params, self.steps, self.sigma, self.seed = recipe, params, steps, sigma, seed
        online = nn.ModuleDict({"encoder": encoder, "head": self.head})
        self.target = (
            AveragedModel(online, multi_avg_fn=get_ema_multi_avg_fn(params.momentum), use_buffers=True)
            if recipe.momentum
            else None
        )
        if self.target is not None:
            # The first update of AveragedModel is a copy, which would skip the initial weights.
            self.target.n_averaged.fill_(1)
        self.average = AveragedModel(encoder) if recipe.averaged else None
        for branch in (self.target, self.average):
            if branch is not None:
                branch.requires_grad_(False)
        self.generator = torch.Generator()

    def exported(self) -> nn.Module:
        """Return the encoder to keep: the average of all iterates where the recipe says so, else the last one."""
        return self.average.module if self.average is not None else self.encoder

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

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Draw the views of signals on the device."""
        start = int(batch.draw[0])
        # One number decides everything random about the batch; dropout knows only the global generator.
        torch.manual_seed((self.seed * 1_000_003 + start) % 2**63)
        self.generator = torch.Generator(device=batch.x.device)
        self.generator.manual_seed((self.seed * 7_368_787 + start) % 2**63)
        if batch.x.ndim != 3:
            return batch
        return replace(batch, v1=signals.view(batch.x, self.generator), v2=signals.view(batch.x, self.generator))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        losses = self.recipe.step(self, batch)
        for name, value in losses.items():
            self.log(
                f"train/{name}",
                value.detach(),
                on_epoch=True,
                on_step=False,
                batch_size=len(batch.x),
                prog_bar=name == "loss",
            )
        return losses["loss"]

    def on_train_start(self) -> None:
        """Count the initial weights into the average, as published."""
        if self.average is not None and int(self.average.n_averaged) == 0:
            self.average.update_parameters(self.encoder)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the averages after the optimiser step."""
        if self.target is not None:
            self.target.update_parameters(nn.ModuleDict({"encoder": self.encoder, "head": self.head}))
        if self.average is not None:
            self.average.update_parameters(self.encoder)

    def configure_optimizers(self) -> Any:
        """AdamW, linear warm-up, cosine decay, per step."""
        trained = [*self.encoder.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(trained, lr=self.params.lr, weight_decay=self.params.weight_decay)
        warmup = round(self.params.warmup_epochs * self.steps / self.params.epochs)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
            return 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
