"""Whitening: rows turned and scaled so that no two dimensions say the same and each has the variance 1.

Letters: N rows, d dimensions in G groups of g.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medssl.objectives.rows import full_precision, without_autocast


class _InverseRoot(torch.autograd.Function):
    """The inverse square root of symmetric matrices, whose gradient stays finite where eigenvalues are equal.

    torch's own gradient of eigenvectors divides by the differences of eigenvalues, which cancel in the root:
    ``(a^-1/2 - b^-1/2) / (a - b) = -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b)))`` (Daleckii and Krein 1965).
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, eps: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        root = (values.clamp_min(0) + eps).sqrt()
        ctx.save_for_backward(root, vectors)
        return (vectors / root[..., None, :]) @ vectors.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        root, vectors = ctx.saved_tensors
        a, b = root[..., :, None], root[..., None, :]
        inner = -(vectors.mT @ gradient @ vectors) / (a * b * (a + b))
        return vectors @ inner @ vectors.mT, None


def group_number(dim: int, rows: int) -> int:
    """Return the fewest groups of equal size, ``2 dim / rows`` or more, so that a covariance has enough rows.

    Source: Zhuo et al. 2023 (WhitenedCSE), the automatic choice; the next number that divides ``dim`` is ours.
    """
    least = max(1, min(dim, -(-2 * dim // max(1, rows))))
    return next(number for number in range(least, dim + 1) if dim % number == 0)


@without_autocast
def whiten(z: Tensor, *, groups: int | None = None, eps: float = 1e-3, order: Tensor | None = None) -> Tensor:
    """Return centred rows times the inverse square root of their covariance (ZCA), group by group of dimensions.

    Of all whitenings it is the one that moves rows least. A row depends on the rows beside it, so this is for losses
    and no layer of an encoder.

    Args:
        z: (N, d) rows of any length.
        groups: G, which divides d; 1 leaves the covariance the identity, d scales each dimension alone; None: see
            `group_number`.
        eps: added to the eigenvalues; dimensions of far less variance vanish instead of being blown up.
        order: (d,) permutation; groups are of dimensions that follow each other in it. None: as they are.

    Raises:
        ValueError: G does not divide d.

    Source: Ermolov et al. 2021 (W-MSE, with Cholesky factors instead of ZCA), Zhuo et al. 2023 (shuffled group
    whitening); the covariance divides by N. All is in float64, as small
    variances divide rounding too.
    """
    (z,) = full_precision(z)
    rows, dim = z.shape
    number = group_number(dim, rows) if groups is None else groups
    if dim % number:
        raise ValueError(f"groups {number} of {dim} dimensions are not equal; take a divisor of {dim}, or null")
    order = torch.arange(dim, device=z.device) if order is None else order
    centred = (z.double() - z.double().mean(0))[:, order].view(rows, number, -1).transpose(0, 1)
    root = _InverseRoot.apply(centred.mT @ centred / rows, eps)
    white = (centred @ root).transpose(0, 1).reshape(rows, dim)
    return white[:, order.argsort()].to(z.dtype)
