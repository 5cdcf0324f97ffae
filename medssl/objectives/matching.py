"""Who is whom in two sets: pairs by maximum-weight matching, and how far each can be trusted.

Letters: n rows of either set, d embedding channels.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medssl.objectives.pairs import Duplicates, cured, instance
from medssl.objectives.rows import contrast, full_precision, per_pair, without_autocast


@without_autocast
@torch.no_grad()
def matched(z1: Tensor, z2: Tensor, group: Tensor, *, trust: float) -> tuple[Tensor, Tensor]:
    """Match rows of two sets one to one inside each group, such that the sum of their products is largest.

    Args:
        z1, z2: (n, d) unit rows.
        group: (n,) ids of either set, such as patients.
        trust: temperature of the reliability.

    Returns:
        match: (n,) int64, the row of set 2 that each of set 1 is paired with.
        reliability: (n,) in [0, 1], of each pair: the softmax of its score against that of the best row of set 2 that
            it was not paired with, ``1 / (1 + e^{(best - own) / trust})``; 1 where its group has no other.

    Source: specification of ISR; the matching is Kuhn's (Hungarian), as scipy has it. It waits for the device.
    """
    z1, z2 = full_precision(z1, z2)
    scores = (z1 @ z2.T).double().cpu().numpy()
    _, code = np.unique(group.cpu().numpy(), return_inverse=True)
    order = np.argsort(code, kind="stable")
    match, reliability = np.zeros(len(z1), np.int64), np.ones(len(z1))
    for rows in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        table = scores[np.ix_(rows, rows)]
        one, other = linear_sum_assignment(table, maximize=True)
        match[rows] = rows[other]
        if len(rows) > 1:
            own = table[one, other]
            table[one, other] = -np.inf
            reliability[rows] = 1 / (1 + np.exp((table.max(1) - own) / trust))
    return torch.from_numpy(match).to(z1.device), torch.from_numpy(reliability).to(z1.device, z1.dtype)


@without_autocast
def reliable(
    z1: Tensor,
    z2: Tensor,
    reliability: Tensor,
    *,
    temperature: float,
    group: Tensor | None = None,
    duplicates: Duplicates | None = None,
) -> Tensor:
    """Return InfoNCE of pairs both ways, ``sum_i r_i L_i / sum_i r_i`` over rows with a negative.

    Args:
        z1, z2: (n, d) unit rows, a pair each.
        reliability: (n,) r, 0 or more.
        temperature: divides the dot products.
        group: (n,) ids; other rows of the same group are no negatives.
        duplicates: near-duplicates among the rows, see `medssl.objectives.pairs.cured`.
    """
    (z,) = full_precision(torch.cat([z1, z2]))
    cells = cured(instance(z, group=group, weight=reliability.to(z.dtype)), duplicates)
    return contrast(z, None, cells, per_pair, temperature=temperature)
