"""CACR: among a sample's views those count most that are far, among other samples those that are near.

The weights carry no gradient. Letters: V views, B samples, d channels, D squared distances.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, without_autocast


@without_autocast
def attraction(views: Sequence[Tensor], *, far: float) -> Tensor:
    """Return the mean over anchors of ``sum_b softmax_b(far D_b) D_b``, D_b their squared distance to another view.

    Args:
        views: V >= 2 tensors (B, d) of unit rows.
        far: 0 takes the plain mean over the other views.

    Source: Zheng et al. 2021 (CACR), the attraction.
    """
    z = torch.stack(full_precision(*views))
    distance = 2 - 2 * torch.einsum("and,bnd->abn", z, z)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)[..., None]
    weight = (far * distance).masked_fill(own, -torch.inf).softmax(1).detach()
    return (weight * distance).sum(1).mean()


@without_autocast
def repulsion(views: Sequence[Tensor], *, near: float, group: Tensor | None = None) -> Tensor:
    """Return the mean over anchors and pairs of views of ``-sum_j softmax_j(-near D_j) D_j`` over other samples j.

    Args:
        views: V >= 2 tensors (B, d) of unit rows; anchors are in the first view of a pair, the others in the second.
        near: 0 takes the plain mean over the other samples.
        group: (B,) ids; other samples of the same group do not count.

    Source: Zheng et al. 2021 (CACR), the repulsion.
    """
    z = full_precision(*views)

    def mean_distance(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        distance, some = 2 - 2 * scores, found.candidate.any(1)
        weight = (-near * distance.detach()).masked_fill(~(found.candidate | ~some[:, None]), -torch.inf).softmax(1)
        return torch.where(some, -(weight * distance).sum(1), 0), some.to(scores.dtype)

    terms = [
        contrast(z[a], z[b], pairs.apart(z[a], group), mean_distance)
        for a in range(len(z))
        for b in range(a + 1, len(z))
    ]
    return torch.stack(terms).mean()
