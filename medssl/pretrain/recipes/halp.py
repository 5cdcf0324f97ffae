"""HaLP: positives made in latent space, on the way from a key to other prototypes, next to a key in memory.

    L = InfoNCE(q, k, memory) + weight * mean_g (1 - q.g) / t

The g lie on great circles from k to prototypes of recent keys, short of the border where another prototype is nearer.

Source: Shah et al. 2023 (HaLP), on He et al. 2020 (MoCo). Deliberate differences: 1 keeps the second term from being
negative and has no gradient; the target is any other prototype, near or not; prototypes come every ``refresh`` steps
from a k-means without random numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medssl.config import Pretrain
from medssl.objectives.latent import hallucinated, pull, spherical_kmeans
from medssl.objectives.memory import memory_contrast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.mochi import anchors, memory, remember
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return the prototypes (P, d), zeros until there are enough keys."""
    options: Any = params.options
    return {"prototypes": torch.zeros(options.prototypes, params.projection_dim)}


def step(net: Net, batch: Batch) -> Losses:
    """Return InfoNCE and the pull to what was made, which starts with the first prototypes; then remember the keys."""
    options, t = net.options, net.params.temperature
    q, k = net.project(batch.views[0]), net.teach(batch.views[1])
    keys, ignore = net.memory.columns(batch.patient)
    loss = memory_contrast(q, k, keys.clone(), temperature=t, ignore=ignore, anchors=anchors(net, ignore))
    draws, prototypes = net.draws.fork(10), net.state["prototypes"]
    towards = draws.integers(options.prototypes - 1, options.made)
    made, kept = hallucinated(k, prototypes, towards, 1 - options.spread * draws.uniform(options.made))
    kept = kept & prototypes.any()
    number = net.gather(kept.sum()[None]).float().mean()  # processes may keep different numbers
    term = pull(q, made, kept, temperature=t, number=number)
    remember(net, batch, k)
    return {"loss": loss + options.weight * term, "pull": term, "kept": kept.float().mean()}


def after(net: Net, step: int) -> None:
    """Find the prototypes of the newest keys."""
    options, memory = net.options, net.memory
    if step % options.refresh == 0 and memory.pushed >= options.newest:
        newest = torch.arange(memory.pushed - options.newest, memory.pushed, device=memory.z.device) % len(memory)
        net.state.put("prototypes", spherical_kmeans(memory.z[newest], options.prototypes))


RECIPE = Recipe(
    step,
    positives="a view and the teacher's key of another, and points made between that key and prototypes",
    objective="InfoNCE with hallucinated latent positives",
    source="Shah 2023",
    state=state,
    memory=memory,
    momentum=lambda options, progress: options.momentum,
    after=after,
    duplicates="its memory knows patients, not near-duplicates",
)
