"""Anatomy-weighted contrast: two views, every pair weighted by how alike the anatomy is.

Source: Dufumier et al. 2021 (y-Aware), Barbano et al. 2023 (ExpW, threshold), Barbano et al. 2024 (AnatCL: local and
global descriptors, a mix of anatomy and age). Measures are standardised on the training patients, volumes and areas
corrected for the size of the head if asked. Kernels of several factors are summed by their shares, or multiplied with
the missing ones left out (``combine: product``), or have a loss each, and the losses are summed by their shares
(``combine: losses``, the form of AnatCL).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.pretrain.data import Batch
from medssl.pretrain.likeness import Likeness
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return a projection and the weights, which learn nothing."""
    options: Any = params.options
    return one_projection(sizes, params) | {"likeness": Likeness(options, sizes.measures, sizes.anatomy)}


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted loss, and how many positives a row has in effect. Weights exist for one block at a time."""
    options, likeness = net.options, net.heads["likeness"]
    assert isinstance(likeness, Likeness)
    z = torch.cat([net.gather(part) for part in net.project_all(batch.views)])
    pair = (batch, batch.second)
    measures, trial = (torch.cat([net.gather(getattr(one, ids)) for one in pair]) for ids in ("anatomy", "trial"))
    duplicates = net.duplicates(batch.duplicate, batch.second.duplicate)
    shared: Any = {"temperature": net.params.temperature, "duplicates": duplicates}

    def weights(rows: slice, of: Callable[[Tensor, Tensor], Tensor] = likeness) -> Tensor:
        w = of(measures[rows], measures)
        if options.neighbours_within is None:
            return w
        place = measures[:, -1]
        near = O.descriptors.neighbours(trial, place, within=options.neighbours_within, rows=rows)
        return torch.where(near, 1, w)

    def loss(of: Callable[[Tensor, Tensor], Tensor] = likeness) -> Tensor:
        objective = getattr(O.anatomy, options.loss)
        out: Tensor = objective(z, functools.partial(weights, of=of), **shared)
        return out

    with torch.no_grad():
        positives = O.kernels.effective_positives(weights(slice(0, 64))).mean()
    if options.combine != "losses":
        return {"loss": loss(), "positives": positives}
    shares = [factor.share for factor in likeness.parts]
    terms = [share / sum(shares) * loss(functools.partial(likeness.weights_of, k)) for k, share in enumerate(shares)]
    return {"loss": torch.stack(terms).sum(), "positives": positives}


RECIPE = Recipe(
    step,
    positives="every pair, weighted by age, organ volumes, position, regions of the brain",
    objective="y-Aware, threshold or ExpW",
    source="Dufumier 2021, Barbano 2023, 2024",
    heads=heads,
)
