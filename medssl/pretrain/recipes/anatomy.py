"""Anatomy-weighted contrast: two views, every pair weighted by how alike the anatomy is.

Source: Dufumier et al. 2021 (y-Aware), Barbano et al. 2023 (ExpW, threshold), Barbano et al. 2024 (AnatCL: a mix of
anatomy and age). Measures are standardised on the training patients. Kernels of several factors are summed by their
shares, or multiplied with the missing ones left out (``combine: product``), or have a loss each, and the losses are
summed by their shares (``combine: losses``, the form of AnatCL).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.recipes.recipe import Losses, Recipe

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast


def step(net: Contrast, batch: Batch) -> Losses:
    """Return the weighted loss. Weights exist for one block of rows at a time."""
    params = net.params.anatomy
    z = torch.cat([net.gather(net.project(batch.v1)), net.gather(net.project(batch.v2))])
    measures = net.gather(batch.anatomy).repeat(2, 1)
    shared: Any = {"temperature": net.params.temperature, "duplicates": net.duplicates(batch.duplicate)}

    def loss(weights: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        objective = getattr(O.anatomy, params.loss)
        out: Tensor = objective(z, lambda rows: weights(measures[rows], measures), **shared)
        return out

    if params.combine != "losses":
        return {"loss": loss(net.likeness)}
    shares = [factor.share for factor in (params, *params.factors)]
    terms = [share / sum(shares) * loss(net.likeness.alone(k)) for k, share in enumerate(shares)]
    return {"loss": torch.stack(terms).sum()}


ANATOMY = Recipe(step, measures=True)
