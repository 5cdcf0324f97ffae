"""Whitening: views of a sample agree after the batch was whitened, which forbids collapse without negatives.

Source: Ermolov et al. 2021 (W-MSE: ``loss: distance``), Zhuo et al. 2023 (WhitenedCSE: ``loss: contrast``). Each
view has a random grouping of dimensions of its own. Deliberate differences: W-MSE has Cholesky factors and sub-batches
of twice as many samples as dimensions where there are ZCA and groups of dimensions. WhitenedCSE contrasts one view with
the others where all pairs of views are, and its layer whitens test batches too; here the loss alone whitens. A row that
is short even so is not brought to unit length, as it is in both: see `unit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives.rows import without_autocast
from medssl.objectives.whitening import whiten
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views

SHORT = 0.5  # of sqrt(d), the length of a whitened row; the direction of a shorter one is mostly rounding


@without_autocast
def unit(white: Tensor) -> Tensor:
    """Return whitened rows (N, d) as unit rows; those shorter than half of ``sqrt(d)`` stay in proportion shorter.

    Short are rows near the mean, and all rows of a batch that varies less than ``eps`` does.
    """
    return normalize(white, dim=1, eps=SHORT * math.sqrt(white.shape[1]))


@without_autocast
def distance(views: Sequence[Tensor]) -> Tensor:
    """Return the mean of ``2 - 2 a.b`` over pairs of views (N, d), whose rows are of length 1 or less.

    Source: Ermolov et al. 2021 (W-MSE), normalised form.
    """
    return torch.stack([2 - 2 * (a * b).sum(1).mean() for a, b in combinations(views, 2)]).mean()


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss over all pairs of views, each whitened over the batch by a grouping of its own."""
    options = net.options
    z = [net.gather(one) for one in net.project_all(batch.views, unit=False)]
    orders = net.directions(len(z), z[0].shape[1]).argsort(1)
    white = [
        unit(whiten(one, groups=options.groups, eps=options.eps, order=order))
        for one, order in zip(z, orders, strict=True)
    ]
    if options.loss == "distance":
        return {"loss": distance(white)}
    t, group = net.params.temperature, net.gather(batch.patient)
    terms = [O.nt_xent(a, b, temperature=t, group=group) for a, b in combinations(white, 2)]
    return {"loss": torch.stack(terms).mean()}


RECIPE = Recipe(
    step,
    positives="`views` views of a sample; no negatives, or other patients' windows with `loss: contrast`",
    objective="cosine distance, or NT-Xent, of whitened projections",
    source="Ermolov 2021, Zhuo 2023",
    views=lambda options: Views(options.views),
    duplicates="its covariance is of all samples, near-duplicates too",
)
