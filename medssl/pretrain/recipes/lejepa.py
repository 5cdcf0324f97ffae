"""LeJEPA: views of a sample near their mean, and all projections like a standard Gaussian, which keeps them apart.

Source: Balestriero and LeCun 2025 (LeJEPA), algorithm 2: no teacher, no predictor, no stopped gradient, no negatives.
Deliberate differences: the small crops, where ``crops`` asks for any, are those of the other recipes, and the paper's
two whole views and six crops are not the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl import objectives as O
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


@without_autocast
def prediction(views: Sequence[Tensor], *, whole: int) -> Tensor:
    """Return the mean squared difference of projections from the mean over a sample's whole views.

    Args:
        views: V tensors (B, d), not normalised; the whole views come first.
        whole: how many these are.

    Source: Balestriero and LeCun 2025 (LeJEPA), equation of the prediction loss; the mean is over dimensions too.
    """
    z = torch.stack(full_precision(*views))
    return (z - z[:whole].mean(0)).square().mean()


def step(net: Net, batch: Batch) -> Losses:
    """Return ``(1 - lam) prediction + lam SIGReg``, and both; SIGReg is the mean over views."""
    options = net.options
    z = net.project_all(batch.views, unit=False)
    near = prediction(z, whole=options.views)
    directions = net.directions(options.directions, z[0].shape[1])
    spread = torch.stack([O.sigreg(net.gather(one), directions) for one in z]).mean()
    return {"loss": (1 - options.lam) * near + options.lam * spread, "prediction": near, "sigreg": spread}


RECIPE = Recipe(
    step,
    positives="all of `views` views of a sample, 4 by default; no negatives",
    objective="squared distance to their mean + SIGReg",
    source="Balestriero 2025",
    views=lambda options: Views(options.views, options.crops),
    duplicates="it has no negatives to take them out of",
)
