"""Recipes: which pairs are pulled together, and by which objective. A recipe is a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medssl import objectives as O
from medssl.config import Batch as BatchParams
from medssl.pretrain.data import Batch
from medssl.views.signals import continuous_mask

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast

Losses = dict[str, Tensor]


def simclr(net: Contrast, batch: Batch) -> Losses:
    """Two views of a sample against all other patients (Chen et al. 2020, with patient groups)."""
    z1, z2 = net.project(batch.v1), net.project(batch.v2)
    return {"loss": O.nt_xent(z1, z2, temperature=net.params.temperature, group=batch.patient)}


def comet(net: Contrast, batch: Batch) -> Losses:
    """Four levels on the feature map (Wang et al. 2023), in the order-independent form.

    Differences from the published step: the two unmasked passes serve both identity levels and the two masked passes
    both dense levels; all four weights count; the encoder sees random views of the sample, not the sample itself,
    because dropout alone cannot stand for the noise of other recordings.
    """
    features: Callable[..., Tensor] = net.encoder.features  # type: ignore[assignment]
    batch_size, _, steps = batch.x.shape
    whole = features(batch.v1), features(batch.v2)
    keep = [continuous_mask(batch_size, steps, net.generator) for _ in range(2)]
    masked = features(batch.x, keep[0]), features(batch.x, keep[1])
    # Dot products of the dense levels grow with the width; unit rows of the identity levels do not care.
    scale = masked[0].shape[2] ** -0.25
    dense = masked[0] * scale, masked[1] * scale
    temperature, pool = net.params.temperature, net.params.pool

    def same(ids: Tensor) -> Tensor:
        return O.comet.identity(*whole, ids, temperature=temperature, mode="clean", pool=pool)

    levels = {
        "patient": same(batch.patient),
        "trial": same(batch.trial),
        "sample": O.comet.pyramid(O.comet.sample, *dense),
        "observation": O.comet.pyramid(O.comet.observation, *dense),
    }
    weights = {name: net.params.levels.get(name, 0.0) for name in levels}  # type: ignore[call-overload]
    return {"loss": O.comet.total(levels, weights), **levels}


def wearable(net: Contrast, batch: Batch) -> Losses:
    """Two segments of a participant against the keys of a momentum branch, plus KoLeo (Abbaspourazad et al. 2024)."""
    first, second = batch.v1[0::2], batch.v1[1::2]
    q1, q2 = net.project(first), net.project(second)
    with torch.no_grad():
        k1, k2 = net.project_target(first), net.project_target(second)
    contrast = O.wearable.info_nce(q1, q2, k1, k2, temperature=net.params.temperature)
    spread = (O.koleo(q1) + O.koleo(q2)) / 2
    return {"loss": contrast + net.params.koleo * spread, "contrast": contrast, "koleo": spread}


def anatomy(net: Contrast, batch: Batch) -> Losses:
    """Two views, every pair weighted by how alike the anatomy is (Dufumier et al. 2021, Barbano et al. 2023)."""
    z = torch.cat([net.project(batch.v1), net.project(batch.v2)])
    weights = O.kernels.rbf(batch.anatomy, sigma=net.sigma)
    loss = getattr(O.anatomy, net.params.anatomy.loss)
    return {"loss": loss(z, weights, temperature=net.params.temperature)}


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        step: batch -> losses; ``loss`` is the one to minimise, others are curves.
        pairs: batches are pairs of segments of distinct participants.
        momentum: keep an exponential average of encoder and head as target.
        averaged: export the equal-weight average of all iterates instead of the last one.
        dense: needs an encoder with a feature map.
        measures: needs ``pretrain.anatomy.measures``.
    """

    step: Callable[[Contrast, Batch], Losses]
    pairs: bool = False
    momentum: bool = False
    averaged: bool = False
    dense: bool = False
    measures: bool = False

    def batch(self, batch: BatchParams) -> BatchParams:
        """Return the composition this recipe needs: pairs keep the patients and draw two segments of each."""
        return BatchParams(patients=batch.patients, trials=2, samples=1) if self.pairs else batch


RECIPES: dict[str, Recipe] = {
    "simclr": Recipe(simclr),
    "comet": Recipe(comet, averaged=True, dense=True),
    "wearable": Recipe(wearable, pairs=True, momentum=True),
    "anatomy": Recipe(anatomy, measures=True),
}
