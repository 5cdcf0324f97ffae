"""AMCL: several projections, and for each pair of each a temperature of its own.

Source: Wang et al. 2024. The encoder itself is what is kept. Windows of one patient are never each other's negatives
(ours).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.models.heads import Projection
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, projection

KEY = 16  # channels of what a temperature is computed from


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return projections of different initial weights, ``projection`` the first, and what their temperatures need."""
    options: Any = params.options
    dim = params.projection_dim
    out: dict[str, nn.Module] = {}
    for k in range(options.heads):
        name = "projection" if k == 0 else f"projection{k}"
        out[name] = projection(sizes, params)
        out[f"key{k}"] = Projection(dim, KEY, hidden=dim, norm="none")
    return out


def step(net: Net, batch: Batch) -> Losses:
    """Return the mean of the heads' losses, each both ways, and each head's mean similarity of positives."""
    options, group = net.options, net.gather(batch.patient)
    both = torch.cat(batch.views)
    embedded = net.encoder(both)
    terms, out = [], {}
    for k in range(options.heads):
        z = nn.functional.normalize(net.heads["projection" if k == 0 else f"projection{k}"](embedded), dim=1)
        (z1, z2), (key1, key2) = ([net.gather(one) for one in x.chunk(2)] for x in (z, net.heads[f"key{k}"](z)))
        for rows, columns, ours, theirs in ((z1, z2, key1, key2), (z2, z1, key2, key1)):
            penalty = options.penalty / z.shape[1]
            terms.append(
                O.adaptive(rows, columns, ours, theirs, temperatures=options.temperatures, penalty=penalty, group=group)
            )
        out[f"similarity{k}"] = (z1 * z2).sum(1).mean()
    return {"loss": torch.stack(terms).mean(), **out}


RECIPE = Recipe(
    step,
    positives="two views of a sample, seen by several heads",
    objective="InfoNCE with a temperature a pair",
    source="Wang 2024",
    heads=heads,
    duplicates="its denominators know patients, not near-duplicates",
)
