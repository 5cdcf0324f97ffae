"""ConR: predict a number, and push apart samples that the prediction confuses although their numbers differ.

Source: Keramati et al. 2024; see `medssl.objectives.conr`. ``pretrain.labels`` names one number. The loss is the mean
absolute error plus ``beta`` times ConR of two views, in which a sample's weight (column ``weight``) is its rarity.
Samples without the label take no part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.objectives.conr import conr
from medssl.objectives.rows import quotient
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection


class Regressor(nn.Linear):
    """Predict a number, in its unit, by a line on the embedding; its start is the mean of the training labels.

    Args:
        inputs: the embedding's dimension.
        known: (n,) training labels, at least two for a scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int, known: Tensor) -> None:
        super().__init__(inputs, 1)
        some = len(known) > 1
        self.register_buffer("mean", known.mean() if some else torch.zeros(()))
        self.register_buffer("std", known.std().clamp_min(1e-6) if some else torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,)."""
        return self.mean + self.std * super().forward(x)[:, 0].float()


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return a projection for ConR and a line for the number.

    Raises:
        ValueError: not one label.
    """
    if len(params.labels) != 1:
        raise ValueError(f"pretrain.labels {list(params.labels)}: recipe conr reads one number; name it")
    regressor = Regressor(sizes.embedding, sizes.label[sizes.label.isfinite()])
    return one_projection(sizes, params) | {"regressor": regressor}


def step(net: Net, batch: Batch) -> Losses:
    """Return the mean absolute error plus ``beta`` ConR, and both."""
    options = net.options
    embedded = net.noted("embedding", net.encoder(torch.cat(batch.views[:2])))
    z = normalize(net.noted("projection", net.heads["projection"](embedded)), dim=1)
    z, predicted = (torch.cat([net.gather(one) for one in x.chunk(2)]) for x in (z, net.heads["regressor"](embedded)))
    y = torch.cat([net.gather(one.label[:, 0]) for one in (batch, batch.second)])
    weight = torch.cat([net.gather(one.weight) for one in (batch, batch.second)])
    known = y.isfinite()
    error = quotient(torch.where(known, (predicted - y.nan_to_num()).abs(), 0), known.float())
    apart = conr(
        z,
        y,
        predicted,
        temperature=net.params.temperature,
        omega=options.omega,
        eta=options.eta,
        weight=weight,
    )
    return {"loss": error + options.beta * apart, "error": error, "conr": apart}


RECIPE = Recipe(
    step,
    positives="samples of nearly the same number, against those of another that are predicted alike",
    objective="absolute error + ConR",
    source="Keramati 2024",
    heads=heads,
    duplicates="labels say whom it tells apart",
)
