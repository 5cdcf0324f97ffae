"""Contrast with positives by an earlier encoder: what was learned is kept while something new is."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast, zero


@without_autocast
def rehearsal(z: Tensor, other: Tensor, before: Tensor, group: Tensor, *, temperature: float) -> Tensor:
    """Return the supervised contrast of anchors and negatives of now with positives of an earlier encoder.

    For each anchor the mean over its positives p of ``-log e^{z_i p / t} / (e^{z_i p / t} + sum_n e^{z_i n / t})``.

    Args:
        z: (n, d) unit anchors by the encoder of now.
        other: (n, d) unit rows of other views by the encoder of now, whose rows of other groups are the negatives.
        before: (n, d) unit rows of those views by the earlier encoder, without gradient; those of the anchor's group
            are its positives.
        group: (n,) ids.
        temperature: divides the dot products.

    Returns:
        The mean over anchors with a negative; without any a zero that carries a gradient.

    Source: COCONUT (negative-student, positive-teacher), by its description.
    """
    z, other, before = full_precision(z, other, before)
    same = group[:, None] == group
    push = (z @ other.T / temperature).masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    pull = z @ before.detach().T / temperature
    some = (~same).any(1)
    term = torch.nn.functional.softplus(torch.where(some[:, None], push, 0) - pull) * same
    rows = term.sum(1) / same.sum(1).clamp_min(1)
    return torch.where(some, rows, 0).sum() / some.sum().clamp_min(1) + zero(z)
