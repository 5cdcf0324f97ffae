"""One batch over all processes: embeddings gathered so that loss and gradient equal those of a single process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from medssl.objectives import rows


def processes() -> int:
    """Return how many processes train together, 1 without any."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """All processes' rows in rank order; backward takes the own rows' part, times the number of processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return _all(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        start = distributed.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows] * processes()


def _all(x: Tensor) -> Tensor:
    x = x.contiguous()
    out = x.new_empty((processes() * len(x), *x.shape[1:]))
    distributed.all_gather_into_tensor(out, x)
    return out


def gather(x: Tensor) -> Tensor:
    """Return the rows of all processes in rank order, with gradient; ``x`` itself in a single process.

    Every process then computes the same loss L of the whole batch. Its gradient with respect to the process's own rows
    needs no further communication, and because DDP averages gradients over processes, it is multiplied by their number:
    the sum over processes is dL/dtheta exactly. Tables of similarities are divided among them, see `divided`.

    All processes must hold the same number of rows (the sampler sees to it).
    """
    if processes() == 1:
        return x
    if not x.requires_grad:
        return _all(x)
    out: Tensor = _Gather.apply(x)
    return out


def divided() -> AbstractContextManager[None]:
    """Divide the tables of similarities of gathered rows among the processes, see `medssl.objectives.rows.shared`."""
    if processes() == 1:
        return nullcontext()
    return rows.shared(rows.Share(distributed.get_rank(), processes(), distributed.all_reduce))


def averaged(values: dict[str, float]) -> dict[str, float]:
    """Return the mean over processes of each value."""
    if processes() == 1 or not values:
        return values
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    packed = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(packed)
    return dict(zip(values, (packed / processes()).tolist(), strict=True))
