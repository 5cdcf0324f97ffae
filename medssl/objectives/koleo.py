"""KoLeo: spread embeddings over the sphere by the distance to the nearest neighbour."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import add_up, blocks, chunk_of, full_precision, without_autocast, zero


@without_autocast
def koleo(z: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Return ``-mean_i log(min_{j != i} |z_i - z_j| + eps)``.

    The neighbour is found by the largest dot product and the distance computed directly, which keeps precision for
    close rows. The gradient flows through both ends of the distance.

    Args:
        z: (N, d) unit rows.
        eps: inside the logarithm; duplicated rows give a large finite value.

    Source: Sablayrolles et al. 2019; Abbaspourazad et al. 2024.
    """
    (z,) = full_precision(z)
    if len(z) < 2:
        return zero(z)
    with torch.no_grad():
        # A block of rows at a time, so that memory grows linearly.
        nearest = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        for block in blocks(len(z), chunk_of(z, len(z))):
            scores = z[block] @ z.T
            scores.diagonal(block.start).fill_(-torch.inf)
            nearest[block] = scores.argmax(1)
        add_up(nearest)
    squared = (z - z[nearest]).square().sum(1)
    # sqrt has an infinite slope at 0; clamping gives duplicated rows a zero gradient.
    return -torch.log(squared.clamp_min(torch.finfo(z.dtype).tiny).sqrt() + eps).mean()
