"""BECLR: a memory in partitions, from which each view gets neighbours to be pulled to.

Letters: n rows, Q keys in memory, P partitions, K neighbours, d embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, without_autocast


@without_autocast
@torch.no_grad()
def recentred(prototypes: Tensor, z: Tensor, partition: Tensor, *, inertia: float) -> Tensor:
    """Return unit prototypes (P, d) moved to the mean of their members; those without any stay.

    Args:
        prototypes: (P, d) unit.
        z: (Q, d) unit keys.
        partition: (Q,) int64, the prototype that each key is of.
        inertia: how much of a prototype stays.

    Source: Poulakakis-Daktylidis and Jamali-Rad 2024 (BECLR, DyCE).
    """
    (z,) = full_precision(z)
    sums = torch.zeros_like(prototypes).index_add_(0, partition, z.to(prototypes.dtype))
    number = torch.bincount(partition, minlength=len(prototypes)).to(prototypes.dtype)[:, None]
    moved = normalize(inertia * prototypes + (1 - inertia) * sums / number.clamp_min(1), dim=1)
    return torch.where(number > 0, moved, prototypes)


@without_autocast
@torch.no_grad()
def neighbours(z: Tensor, own: Tensor, memory: Tensor, partition: Tensor, *, number: int) -> tuple[Tensor, Tensor]:
    """Return the nearest keys (n, K, d) inside each row's partition, and which (n, K) there are.

    Args:
        z: (n, d) unit rows.
        own: (n,) int64, the partition of each.
        memory: (Q, d) unit keys.
        partition: (Q,) int64 of each key.
        number: K, if the memory has so many.

    Source: Poulakakis-Daktylidis and Jamali-Rad 2024 (BECLR).
    """
    z, memory = full_precision(z, memory)
    scores = (z @ memory.T).masked_fill(own[:, None] != partition, -torch.inf)
    top = scores.topk(min(number, len(memory)), dim=1)
    return memory[top.indices], top.values.isfinite()


@without_autocast
def attraction(p: Tensor, target: Tensor, near: Tensor | None = None, there: Tensor | None = None) -> Tensor:
    """Return the mean of ``1 - cos`` of predictions with their targets, those of a row sharing its weight.

    Args:
        p: (n, d) predictions of any length.
        target: (n, d) unit, without gradient.
        near: (n, K, d) unit, further targets.
        there: (n, K) bool, which of them count.

    Source: Poulakakis-Daktylidis and Jamali-Rad 2024 (BECLR); 1 keeps it from being negative.
    """
    p, target = full_precision(p, target.detach())
    p = normalize(p, dim=1)
    away = 1 - (p * target).sum(1)
    if near is None or there is None:
        return away.mean()
    more = (1 - torch.einsum("nd,nkd->nk", p, near.detach().to(p.dtype))) * there
    return ((away + more.sum(1)) / (1 + there.sum(1))).mean()


def _mean_exponential(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce to the mean over candidates of ``e^s``, over rows with any."""
    count = cells.candidate.sum(1)
    value = torch.where(cells.candidate, scores.exp(), 0).sum(1) / count.clamp_min(1)
    return value, (count > 0).to(scores.dtype)


@without_autocast
def repulsion(z1: Tensor, z2: Tensor, *, group: Tensor | None = None, temperature: float = 2.0) -> Tensor:
    """Return ``log mean e^{cos / t}``, the mean over rows of that over each row's other samples; 0 without any.

    Args:
        z1, z2: (n, d) unit rows, two views.
        group: (n,) ids; rows of the same group are no pairs.
        temperature: t. The released code feeds distances, with a plus sign, into the same formula elsewhere.

    Source: Poulakakis-Daktylidis and Jamali-Rad 2024 (BECLR).
    """
    z = torch.cat(full_precision(z1, z2))
    cells = pairs.instance(z, group=group, decouple=True)
    mean = contrast(z, None, cells, _mean_exponential, temperature=temperature)
    return torch.where(mean > 0, mean, 1).log()
