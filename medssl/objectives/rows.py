"""Row reductions that the objectives share: precision, masks and attached zeros."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def without_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run an objective outside autocast, which would compute its products in half precision whatever their inputs."""

    @functools.wraps(function)
    def outside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return outside


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in float32, or float64 where they are: logits of +-1/temperature overflow in half precision."""
    return tuple(t if t.dtype == torch.float64 else t.float() for t in tensors)


def zero(z: Tensor) -> Tensor:
    """Return 0 attached to the graph of ``z``, so that backward and all-reduce still work."""
    return (z * 0).sum()


def off_diagonal(scores: Tensor) -> Tensor:
    """Return square ``scores`` (..., n, n) with -inf on the diagonal, so that no row sees itself."""
    eye = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill(eye, -torch.inf)


def pairs_nll(scores: Tensor, partner: Tensor) -> Tensor:
    """Return the mean over rows of ``lse_j scores[i, j] - scores[i, partner[i]]`` for scores (..., n, m)."""
    positive = scores.gather(-1, partner.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return (scores.logsumexp(-1) - positive).mean()
