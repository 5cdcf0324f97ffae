"""NT-Xent, with groups whose members are never each other's negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, off_diagonal, without_autocast, zero


@without_autocast
def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy of two views.

    Each of the 2N rows has its other view as positive and the rest as negatives.

    Args:
        z1, z2: (N, d) unit rows, the two views of the same N samples.
        temperature: divides the cosine similarity.
        group: (N,) ids. Other samples of the same group are left out of the denominator: two windows of one patient
            are neither pulled together nor pushed apart. A row left with no negative does not count.

    Source: Chen et al. 2020 (SimCLR), equation 1; groups are ours.
    """
    z1, z2 = full_precision(z1, z2)
    n = len(z1)
    z = torch.cat([z1, z2])
    scores = off_diagonal(z @ z.T / temperature)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    valid = torch.ones(2 * n, dtype=torch.bool, device=z.device)
    if group is not None:
        ids = torch.cat([group, group])
        ignored = ids[:, None] == ids[None, :]
        ignored.scatter_(1, partner[:, None], False)
        scores = scores.masked_fill(ignored, -torch.inf)
        valid = (ids[:, None] != ids[None, :]).any(1)
    if n < 2 or not bool(valid.any()):
        return zero(z)
    positive = scores.gather(1, partner[:, None]).squeeze(1)
    return (scores.logsumexp(1) - positive)[valid].mean()
