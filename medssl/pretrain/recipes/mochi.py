"""MoCHi: a key from a teacher against earlier keys in memory, and against mixtures of the hardest of them.

Source: Kalantidis et al. 2020, on He et al. 2020 (MoCo). Keys of the query's own patient are no negatives and are left
out before the hardest are chosen (ours). Embeddings need no gathering, because negatives are in memory, which is the
same on all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.objectives.memory import memory_contrast
from medssl.pretrain.data import Batch
from medssl.pretrain.memory import Memory
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes

LEAST_NORM = 1e-3


def mixtures(a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors ``share a + (1 - share) b`` (..., d) and which of them (...) are not near zero before."""
    mixed = share[..., None] * a + (1 - share)[..., None] * b
    return normalize(mixed, dim=-1), mixed.norm(dim=-1) >= LEAST_NORM


@torch.no_grad()
def hard_negatives(
    q: Tensor,
    memory: Tensor,
    *,
    hardest: int,
    mixed: int,
    mixed_with_query: int,
    uniform: Callable[[int], Tensor],
    ignore: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return synthetic negatives (n, S, d) of each query and which of them (n, S) can be used.

    Args:
        q: (n, d) unit queries.
        memory: (Q, d) unit keys.
        hardest: keys nearest to a query, of which mixtures are made.
        mixed: mixtures of two of them, with shares uniform in [0, 1).
        mixed_with_query: mixtures of one of them with the query, whose share is uniform in [0, 0.5).
        uniform: returns (n, number) in [0, 1); called 5 times.
        ignore: (n, Q) bool, keys that are no negatives of a query, taken out *before* the hardest are chosen.

    Source: Kalantidis et al. 2020 (MoCHi).
    """
    scores = q @ memory.T
    if ignore is not None:
        scores = scores.masked_fill(ignore, -torch.inf)
    top = scores.topk(min(hardest, len(memory)), dim=1)
    there = top.values.isfinite().sum(1, keepdim=True)

    def key(number: int) -> Tensor:
        place = (uniform(number).to(q.dtype) * there).long().clamp_max(top.indices.shape[1] - 1)
        return memory[top.indices.gather(1, place)]

    pairs, whole = mixtures(key(mixed), key(mixed), uniform(mixed).to(q.dtype))
    own = q[:, None].expand(-1, mixed_with_query, -1)
    with_query, whole_too = mixtures(own, key(mixed_with_query), uniform(mixed_with_query).to(q.dtype) / 2)
    return torch.cat([pairs, with_query], 1), torch.cat([whole, whole_too], 1) & (there > 0)


def memory(sizes: Sizes, params: Pretrain) -> Memory:
    """Return the queue of keys."""
    options: Any = params.options
    return Memory(options.queue, params.projection_dim)


def anchors(net: Net, ignore: Tensor) -> Tensor:
    """Return the number of queries (n, Q) with a negative, as the mean over processes, by which all divide."""
    return net.gather((~ignore).any(1, keepdim=True).float()).mean() * len(ignore)


def remember(net: Net, batch: Batch, k: Tensor) -> None:
    """Put the keys (n, d) of all processes into memory."""
    net.memory.push(net.gather(k), net.gather(batch.second.row), net.gather(batch.patient))


def step(net: Net, batch: Batch) -> Losses:
    """Return InfoNCE against memory and mixtures, then put the keys into memory. The first batch has no negatives."""
    options = net.options
    q, k = net.project(batch.views[0]), net.teach(batch.views[1])
    keys, ignore = net.memory.columns(batch.patient)
    hard: dict[str, Any] = {}
    if net.step >= options.warmup_steps:
        draws = net.draws.fork(10)
        made = hard_negatives(
            q.detach().float(),
            keys,
            hardest=options.hardest,
            mixed=options.mixed,
            mixed_with_query=options.mixed_with_query,
            uniform=draws.uniform,
            ignore=ignore,
        )
        hard = dict(zip(("synthetic", "usable"), made, strict=True))
    loss = memory_contrast(
        q, k, keys.clone(), temperature=net.params.temperature, ignore=ignore, anchors=anchors(net, ignore), **hard
    )
    remember(net, batch, k)
    return {"loss": loss}


RECIPE = Recipe(
    step,
    positives="a view and the teacher's key of another, against keys in memory",
    objective="InfoNCE with mixed hard negatives",
    source="He 2020, Kalantidis 2020",
    memory=memory,
    momentum=lambda options, progress: options.momentum,
    duplicates="its memory knows patients, not near-duplicates",
)
