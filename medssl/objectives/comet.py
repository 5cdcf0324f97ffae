"""COMET: contrast at four levels of a medical series, observation < sample < trial < patient.

z1 and z2 are the feature maps (B, T, C) of two views. The observation and sample levels use raw dot products, no
temperature (as published); the identity levels use a cosine.

Source: Wang et al. 2023 (NeurIPS), read against the authors' code; `identity` offers both what the code does
(``mode="code"``) and its order-independent form (``mode="clean"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medssl.objectives.rows import full_precision, off_diagonal, pairs_nll, without_autocast, zero


@without_autocast
def observation(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the contrast over time: a step's positive is the same step of the other view, 2T - 1 candidates."""
    z1, z2 = full_precision(z1, z2)
    if z1.shape[1] < 2:
        return zero(z1)
    z = torch.cat([z1, z2], dim=1)
    scores = off_diagonal(z @ z.transpose(1, 2))
    partner = torch.arange(z.shape[1], device=z.device).roll(z1.shape[1])
    return pairs_nll(scores, partner)


def sample(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the contrast over the batch at each time step: 2B - 1 candidates."""
    if z1.shape[0] < 2:
        return zero(z1)
    return observation(z1.transpose(0, 1), z2.transpose(0, 1))


def pyramid(loss: Callable[[Tensor, Tensor], Tensor], z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean of ``loss`` over a temporal pyramid: max-pool by 2 while T > 1, without a term at T = 1."""
    terms = []
    while z1.shape[1] > 1:
        terms.append(loss(z1, z2))
        z1, z2 = (functional.max_pool1d(z.transpose(1, 2), 2).transpose(1, 2) for z in (z1, z2))
    return torch.stack(terms).mean() if terms else zero(z1)


def _cosine(z1: Tensor, z2: Tensor, pool: str) -> Tensor:
    """Return similarities (B, B) after the given pooling."""
    if pool == "time_cosine":
        # Unit norm along time for each channel, then the mean over channels of the time-series cosine.
        flat = [functional.normalize(z, dim=1).flatten(1) / z.shape[2] ** 0.5 for z in (z1, z2)]
    elif pool in ("max", "mean"):
        flat = [functional.normalize(z.amax(1) if pool == "max" else z.mean(1), dim=1) for z in (z1, z2)]
    else:
        raise ValueError(f"pool '{pool}'; allowed: time_cosine, max, mean")
    return flat[0] @ flat[1].T


@without_autocast
def identity(
    z1: Tensor,
    z2: Tensor,
    ids: Tensor,
    *,
    temperature: float = 0.1,
    mode: Literal["code", "clean"] = "code",
    pool: Literal["time_cosine", "max", "mean"] = "time_cosine",
    self_in_denominator: bool = True,
) -> Tensor:
    """Return the trial or patient contrast: positives are *different* samples with the same id, across views.

    Args:
        z1, z2: (B, T, C).
        ids: (B,), globally unique codes of trials or patients.
        temperature: of the cosine.
        mode: ``code`` takes only the earlier index of a pair as row anchor and the later as column anchor, so that
            the value depends on the order of the batch; ``clean`` takes all ordered pairs in both directions.
        pool: how the cosine deals with time.
        self_in_denominator: keep the sample's own other view among the candidates (as published).
    """
    z1, z2 = full_precision(z1, z2)
    scores = _cosine(z1, z2, pool) / temperature
    same = (ids[:, None] == ids[None, :]).fill_diagonal_(False)
    candidates = scores if self_in_denominator else off_diagonal(scores)
    rows = candidates.logsumexp(1)[:, None] - scores
    columns = candidates.logsumexp(0)[None, :] - scores
    chosen = (same, same) if mode == "clean" else (same.triu(1), same.tril(-1))
    terms = [loss[mask].mean() for loss, mask in zip((rows, columns), chosen, strict=True) if bool(mask.any())]
    return torch.stack(terms).mean() if terms else zero(z1) + zero(z2)


def total(levels: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the levels.

    Raises:
        ValueError: weights that do not sum to 1 or name other levels.
    """
    if set(levels) != set(weights):
        raise ValueError(f"weights for {sorted(weights)}; expected exactly {sorted(levels)}")
    if abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"weights sum to {sum(weights.values()):g}; expected 1")
    return torch.stack([levels[name] * weights[name] for name in levels]).sum()
