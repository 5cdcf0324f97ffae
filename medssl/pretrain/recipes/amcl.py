"""AMCL: several projections, and for each pair of each a temperature of its own.

Source: Wang et al. 2024. The encoder itself is what is kept. Windows of one patient are never each other's negatives
(ours). Temperatures are the options' own; ``pretrain.temperature`` is not used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.models.heads import Projection
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, projection

KEY = 16  # channels of what a temperature is computed from


@without_autocast
def adaptive(
    rows: Tensor,
    columns: Tensor,
    key_rows: Tensor,
    key_columns: Tensor,
    *,
    temperatures: tuple[float, float],
    penalty: float,
    group: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE of row i and column i with ``t_ij = low + (high - low) sigmoid(key_i key_j)``, regularised.

        mean_i -log( exp(s_ii / t_ii) / sum_j exp(s_ij / t_ij) )  +  penalty mean_ij ( d/2 log t_ij + 1 / t_ij )

    Args:
        rows, columns: (N, d) unit rows of two views.
        key_rows, key_columns: (N, e).
        temperatures: low and high, above 0.
        penalty: 0.1 / d is a start; alone it would have all temperatures at 2 / d.
        group: (N,) ids; other columns of the same group do not count.

    Source: Wang et al. 2024 (AMCL); the form is normative here, the public code takes positive pairs alone.
    """
    rows, columns, key_rows, key_columns = full_precision(rows, columns, key_rows, key_columns)
    low, high = temperatures
    t = low + (high - low) * torch.sigmoid(key_rows @ key_columns.T)
    scores = rows @ columns.T / t
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    counted = torch.ones_like(own) if group is None else own | (group[:, None] != group)
    valid = (counted & ~own).any(1)
    loss = scores.masked_fill(~counted, -torch.inf).logsumexp(1) - scores.diagonal()
    regular = rows.shape[1] / 2 * t.log() + 1 / t
    anchors = torch.where(valid, loss, 0).sum() / valid.sum().clamp_min(1)
    cells = counted & valid[:, None]
    return anchors + penalty * torch.where(cells, regular, 0).sum() / cells.sum().clamp_min(1)


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
    embedded = net.noted("embedding", net.encoder(both))
    terms, out = [], {}
    for k in range(options.heads):
        name = "projection" if k == 0 else f"projection{k}"
        z = normalize(net.noted("projection", net.heads[name](embedded)), dim=1)
        (z1, z2), (key1, key2) = ([net.gather(one) for one in x.chunk(2)] for x in (z, net.heads[f"key{k}"](z)))
        for rows, columns, ours, theirs in ((z1, z2, key1, key2), (z2, z1, key2, key1)):
            penalty = options.penalty / z.shape[1]
            terms.append(
                adaptive(rows, columns, ours, theirs, temperatures=options.temperatures, penalty=penalty, group=group)
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
