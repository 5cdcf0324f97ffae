"""Kernels that say how alike two items are: symmetric, 1 for equal items, in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast


@without_autocast
def mean_square_difference(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Return (N, M) mean squared differences over the measures that both items have; NaN where they share none.

    Args:
        a: (N, K) or (N,) measures, NaN = unknown.
        b: (M, K) or (M,); None: ``a``.
    """
    a = a[:, None] if a.ndim == 1 else a
    b = a if b is None else (b[:, None] if b.ndim == 1 else b)
    a, b = full_precision(a, b)
    known_a, known_b = ~a.isnan(), ~b.isnan()
    both = known_a.to(a.dtype) @ known_b.to(a.dtype).T
    difference = torch.nan_to_num(a)[:, None] - torch.nan_to_num(b)[None]
    squared = (difference.square() * (known_a[:, None] & known_b[None])).sum(-1)
    return torch.where(both > 0, squared / both.clamp_min(1), torch.nan)


def _bounded(kernel: Tensor, same: bool) -> Tensor:
    """Return the kernel without NaN: items that share no measure are unlike (0), an item is like itself (1)."""
    kernel = torch.nan_to_num(kernel, nan=0.0)
    return kernel.fill_diagonal_(1.0) if same else kernel


def rbf(a: Tensor, b: Tensor | None = None, *, sigma: float) -> Tensor:
    """Return ``exp(-d^2 / 2 sigma^2)`` (N, M) with d^2 the mean squared difference over shared measures."""
    return _bounded(torch.exp(-mean_square_difference(a, b) / (2 * sigma**2)), b is None)


def cauchy(a: Tensor, b: Tensor | None = None, *, gamma: float) -> Tensor:
    """Return ``1 / (1 + gamma d^2)`` (N, M)."""
    return _bounded(1 / (1 + gamma * mean_square_difference(a, b)), b is None)


@without_autocast
def hellinger(h: Tensor) -> Tensor:
    """Return the Hellinger affinity ``sum_k sqrt(h_ik h_jk)`` (N, N) of compositions (N, K), rows on the simplex."""
    (h,) = full_precision(h)
    root = h.sqrt()
    return (root @ root.T).clamp(0, 1).fill_diagonal_(1.0)


def median_sigma(a: Tensor) -> float:
    """Return the median pairwise distance of (N, K) measures, the usual width of `rbf` (median heuristic)."""
    squared = mean_square_difference(a)
    upper = torch.triu_indices(len(squared), len(squared), 1, device=squared.device)
    distances = squared[upper[0], upper[1]].sqrt()
    distances = distances[~distances.isnan()]
    if len(distances) == 0 or float(distances.median()) == 0:
        return 1.0
    return float(distances.median())
