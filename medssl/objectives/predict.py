"""Prediction of one view's embedding from the other's, without negatives, and predictors that need no training.

Letters: n rows, d embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives.rows import full_precision, without_autocast


@without_autocast
def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean of ``2 - 2 cos`` of rows (n, d) of any length; the target carries no gradient.

    Source: Grill et al. 2020 (BYOL), equation 2. SimSiam's ``-cos`` differs by a constant and a factor of 2.
    """
    p, z = full_precision(predicted, target.detach())
    return 2 - 2 * (normalize(p, dim=1) * normalize(z, dim=1)).sum(1).mean()


@torch.no_grad()
def direct(correlation: Tensor, *, eps: float) -> Tensor:
    """Return the predictor (d, d) that DirectPred sets: ``U (sqrt(s / max s) + eps) U'`` of the correlation's U s U'.

    Args:
        correlation: (d, d) moving average of ``f f'`` over inputs f of the predictor, uncentred.
        eps: added to each eigenvalue.

    Source: Tian et al. 2021 (DirectPred).
    """
    values, vectors = torch.linalg.eigh((correlation + correlation.T).double() / 2)
    values = values.clamp_min(0)
    scale = (values / values.max().clamp_min(torch.finfo(values.dtype).tiny)).sqrt() + eps
    return ((vectors * scale) @ vectors.T).to(correlation.dtype)


@torch.no_grad()
def direct_copy(correlation: Tensor, *, eps: float) -> Tensor:
    """Return the predictor ``F / |F|_2 + eps I`` of DirectCopy, which needs no eigenvectors.

    Source: Wang et al. 2021 (DirectCopy).
    """
    norm = torch.linalg.matrix_norm(correlation, 2).clamp_min(torch.finfo(correlation.dtype).tiny)
    return correlation / norm + eps * torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
