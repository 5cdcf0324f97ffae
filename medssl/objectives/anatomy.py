"""Contrast with degrees of likeness: every pair has a weight in [0, 1] from age, anatomy or position.

Rows are two views of N items stacked as [view 1; view 2]. Weights carry no gradient and never count a row itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, off_diagonal, without_autocast, zero


def _prepare(z: Tensor, w: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return scores and weights (2N, 2N); (N, N) weights hold for both views, scores have -inf on the diagonal."""
    z, w = full_precision(z, w.detach())
    if len(w) * 2 == len(z):
        w = w.repeat(2, 2)
    if w.shape != (len(z), len(z)):
        raise ValueError(f"weights of shape {tuple(w.shape)} for {len(z)} rows; expected (2N, 2N) or (N, N)")
    if not bool(((w >= 0) & (w <= 1)).all()):
        raise ValueError(f"weights from {float(w.min()):g} to {float(w.max()):g}; expected 0 to 1 without NaN")
    return off_diagonal(z @ z.T / temperature), w.clone().fill_diagonal_(0)


def _weighted(loss: Tensor, w: Tensor, z: Tensor) -> Tensor:
    """Return the mean over rows of ``sum_k w_ik loss_ik / sum_k w_ik``, skipping rows without weight."""
    total = w.sum(1)
    valid = total > 0
    if not bool(valid.any()):
        return zero(z)
    loss = torch.where(w > 0, loss, 0)
    return ((w * loss).sum(1)[valid] / total[valid]).mean()


@without_autocast
def y_aware(z: Tensor, w: Tensor, *, temperature: float) -> Tensor:
    """Return the y-Aware InfoNCE: attraction in proportion to row-normalised weights, repulsion from all.

    Source: Dufumier et al. 2021. The public code divides along the other axis and by N; this is the formula.
    """
    scores, w = _prepare(z, w, temperature)
    return _weighted(scores.logsumexp(1, keepdim=True) - scores, w, z)


@without_autocast
def threshold(z: Tensor, w: Tensor, *, temperature: float) -> Tensor:
    """Return the threshold loss: a positive k competes only with items less alike than itself (w_ij < w_ik).

    A positive with no less-alike item is dropped. One sort and a cumulative log-sum-exp per row, O(n^2 log n).

    Source: Barbano et al. 2023, per-positive denominators (the public code has one per anchor).
    """
    scores, w = _prepare(z, w, temperature)
    # The row itself sorts last, so that it is less alike than nothing.
    ranked = w.clone().fill_diagonal_(torch.inf)
    ordered, order = ranked.sort(1)
    cumulative = scores.gather(1, order).logcumsumexp(1)
    below = torch.searchsorted(ordered, ranked.contiguous())
    denominator = cumulative.gather(1, (below - 1).clamp_min(0))
    counted = torch.where(below > 0, w, 0)
    return _weighted(denominator - scores, counted, z)


@without_autocast
def exp_weighted(z: Tensor, w: Tensor, *, temperature: float) -> Tensor:
    """Return the ExpW loss: repulsion discounted by likeness, ``lse_j s_ij (1 - w_ij) - s_ik``.

    Source: Barbano et al. 2023. The rescale comes before the stabilising shift, as in the formula and unlike the
    public code; only kernels with peak 1 are meaningful here.
    """
    scores, w = _prepare(z, w, temperature)
    # -inf * 0 is NaN: rescale first, mask the diagonal afterwards.
    repulsion = off_diagonal(torch.nan_to_num(scores, neginf=0.0) * (1 - w))
    return _weighted(repulsion.logsumexp(1, keepdim=True) - scores, w, z)
