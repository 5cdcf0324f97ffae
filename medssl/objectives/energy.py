"""Energy: how near views of a sample lie, how evenly samples lie on the sphere, and how far two views lie apart."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, without_autocast


@without_autocast
def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of ``|x_i - y_i|²`` over two views (n, d).

    Source: Wang and Isola 2020, equation of the alignment loss, alpha = 2.
    """
    x, y = full_precision(x, y)
    return (x - y).square().sum(1).mean()


@without_autocast
def uniformity(x: Tensor, y: Tensor | None = None, *, t: float = 2.0, group: Tensor | None = None) -> Tensor:
    """Return the logarithm of the mean of ``exp(-t |x_i - y_j|²)`` over pairs of different samples, -4 t to 0.

    Args:
        x: (n, d) unit rows.
        y: (n, d) unit rows of the same samples in another view; None: ``x``.
        t: sharpness, at most 20.
        group: (n,) ids; pairs of the same group do not count. Without any pair the result is 0, without gradient.

    Source: Wang and Isola 2020, equation of the uniformity loss. Up to a sharpness of 20 float32 holds the mean of
    the powers of e, so that no shift is needed.
    """
    (x,) = full_precision(x)
    columns = None if y is None else full_precision(y)[0]

    def near(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        closeness = torch.where(found.candidate, torch.exp(2 * t * (scores - 1)), 0)
        return closeness.sum(1), found.candidate.sum(1).to(scores.dtype)

    mean = contrast(x, columns, pairs.apart(x, group), near)
    return torch.where(mean > 0, mean, 1).log()


@torch.no_grad()
def gap(x: Tensor, y: Tensor) -> Tensor:
    """Return the distance between the centroids of two views (n, d), 0 to 2.

    Source: Liang et al. 2022 (modality gap).
    """
    x, y = full_precision(x, y)
    return (x.mean(0) - y.mean(0)).norm()
