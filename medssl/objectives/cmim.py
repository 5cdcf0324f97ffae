"""cMIM: what codes and samples say of each other, and codes told apart without random views."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, log_candidates, without_autocast


@without_autocast
def mutual_information(x: Tensor, decoded: Tensor, z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return ``-(log p(x|z) + (log q(z|x) + log P(z)) / 2)``, each a mean over dimensions and samples.

    Args:
        x, decoded: (B, C, ...) samples and what was made of their codes.
        z: (B, d) codes.
        mean, variance: (B, d) of the distribution that they were drawn from.

    Source: Livne et al. 2019 (MIM).
    """
    x, decoded, z, mean, variance = full_precision(x, decoded, z, mean, variance)
    sample = (x - decoded).square().mean()
    code = ((z - mean).square() / variance + variance.log() + z.square()).mean()
    return (sample + code / 2) / 2 + math.log(2 * math.pi)


def _beside_mean(scores: Tensor, cells: Cells, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Reduce to ``log(1 + mean_j e^{(s_ij - 1) / t})`` over the candidates j."""
    lse, some = log_candidates(scores, cells)
    value = softplus(lse - cells.candidate.sum(1).clamp_min(1).log() - 1 / temperature)
    return torch.where(some, value, 0), some.to(scores.dtype)


@without_autocast
def told_apart(z: Tensor, *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Return the contrast of codes (n, d) of any length with those of another ``group`` (n,); 0 without any.

    Source: Livne 2025 (cMIM).
    """
    (z,) = full_precision(z)
    z = normalize(z, dim=1)
    reduction = partial(_beside_mean, temperature=temperature)
    return contrast(z, None, pairs.apart(z, group), reduction, temperature=temperature)
