"""MoCHi: a key from a teacher against earlier keys in memory, and against mixtures of the hardest of them.

Source: Kalantidis et al. 2020, on He et al. 2020 (MoCo). Keys of the query's own patient are no negatives and are left
out before the hardest are chosen (ours). Rows need no gathering, because negatives are in memory, which is the same on
all processes.
"""

from __future__ import annotations

from typing import Any

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.pretrain.data import Batch
from medssl.pretrain.memory import Memory
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes


def memory(sizes: Sizes, params: Pretrain) -> Memory:
    """Return the queue of keys."""
    options: Any = params.options
    return Memory(options.queue, params.projection_dim)


def step(net: Net, batch: Batch) -> Losses:
    """Return InfoNCE against memory and mixtures, then put the keys into memory. The first batch has no negatives."""
    options = net.options
    q, k = net.project(batch.views[0]), net.teach(batch.views[1])
    keys, ignore = net.memory.columns(batch.patient)
    hard: dict[str, Any] = {}
    if net.step >= options.warmup_steps:
        draws = net.draws.fork(10)
        made = O.mochi.hard_negatives(
            q.detach().float(),
            keys,
            hardest=options.hardest,
            mixed=options.mixed,
            mixed_with_query=options.mixed_with_query,
            uniform=draws.uniform,
            ignore=ignore,
        )
        hard = dict(zip(("synthetic", "usable"), made, strict=True))
    loss = O.mochi.memory_contrast(q, k, keys.clone(), temperature=net.params.temperature, ignore=ignore, **hard)
    net.memory.push(net.gather(k), net.gather(batch.row), net.gather(batch.patient))
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
