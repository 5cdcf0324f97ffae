"""Contrast with degrees of likeness: every pair has a weight in [0, 1] from age, anatomy or position.

Rows z are two views of N items stacked as [view 1; view 2]. Weights carry no gradient and never count a row itself;
they are a tensor (2N, 2N) or (N, N), or a function of a block of rows, which keeps memory linear in N:

    measures = measures.repeat(2, 1)
    loss = anatomy.y_aware(z, lambda rows: kernels.rbf(measures[rows], measures, sigma=0.5), temperature=0.1)

``duplicates`` names near-duplicates among the items: pairs to leave out, or of a weight of at least so much.
"""

from __future__ import annotations

from torch import Tensor

from medssl.objectives import pairs, rows
from medssl.objectives.pairs import Duplicates, Weights


def _weighted(
    z: Tensor, w: Weights, temperature: float, duplicates: Duplicates | None, reduction: rows.Reduction
) -> Tensor:
    (z,) = rows.full_precision(z)
    if isinstance(w, Tensor):
        if w.shape not in ((len(z), len(z)), (len(z) // 2, len(z) // 2)):
            raise ValueError(f"weights of shape {tuple(w.shape)} for {len(z)} rows; expected (2N, 2N) or (N, N)")
        if not bool(((w >= 0) & (w <= 1)).all()):
            raise ValueError(f"weights from {float(w.min()):g} to {float(w.max()):g}; expected 0 to 1 without NaN")
        w = w.detach()
    return rows.contrast(z, None, pairs.cured(pairs.kernel(w, z), duplicates), reduction, temperature=temperature)


@rows.without_autocast
def y_aware(z: Tensor, w: Weights, *, temperature: float, duplicates: Duplicates | None = None) -> Tensor:
    """Return the y-Aware InfoNCE: attraction in proportion to row-normalised weights, repulsion from all.

    Source: Dufumier et al. 2021. The public code divides along the other axis and by N; this is the formula.
    """
    return _weighted(z, w, temperature, duplicates, rows.softmax)


@rows.without_autocast
def threshold(z: Tensor, w: Weights, *, temperature: float, duplicates: Duplicates | None = None) -> Tensor:
    """Return the threshold loss: a positive k competes only with items less alike than itself (w_ij < w_ik).

    Source: Barbano et al. 2023, per-positive denominators (the public code has one per anchor).
    """
    return _weighted(z, w, temperature, duplicates, rows.threshold)


@rows.without_autocast
def exp_weighted(z: Tensor, w: Weights, *, temperature: float, duplicates: Duplicates | None = None) -> Tensor:
    """Return the ExpW loss: repulsion discounted by likeness, ``lse_j s_ij (1 - w_ij) - s_ik``.

    Source: Barbano et al. 2023. The rescale comes before the stabilising shift, unlike in the public code; only
    kernels with peak 1 are meaningful here.
    """
    return _weighted(z, w, temperature, duplicates, rows.exp_weighted)
