"""BECLR: each view is pulled to the teacher's key of the other and to that key's neighbours in a memory of partitions.

    L = mean over both ways of (1 - cos(p, keys)) + repulsion * log mean e^{cos(z, z') / 2}

Keys are the teacher's and its nearest ones in memory, inside the partition that Sinkhorn assigned it to; z are the
projections, z' those of other patients (ours).

Source: Poulakakis-Daktylidis and Jamali-Rad 2024 (BECLR). Deliberate differences: one memory, of keys, where the code
keeps one of the student too and pairs neighbours with neighbours; prototypes are unit and move by ``inertia``; k-means
draws no random numbers; neighbours come as soon as the memory is full, not after 50 epochs, unless ``warmup_steps``
says so; what the paper does at inference for a few labelled samples is no part of pretraining.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.config import Pretrain
from medssl.models.heads import Projection
from medssl.objectives import beclr as O
from medssl.objectives.latent import spherical_kmeans
from medssl.objectives.swav import sinkhorn
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.byol import momentum
from medssl.pretrain.recipes.mochi import memory
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection and the predictor, a quarter as wide inside."""
    dim = params.projection_dim
    predictor = Projection(dim, dim, hidden=max(1, dim // 4), norm=params.projection_norm)
    return one_projection(sizes, params) | {"predictor": predictor}


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return the prototypes (P, d), and the partition (Q,) of each key in memory."""
    options: Any = params.options
    return {
        "prototypes": torch.zeros(options.partitions, params.projection_dim),
        "partition": torch.zeros(options.queue, dtype=torch.int64),
    }


def remember(net: Net, batch: Batch, keys: Tensor, own: Tensor | None) -> None:
    """Put keys (2n, d) of both views and their partitions (2n,) into memory, and move the prototypes.

    When the memory gets full for the first time, all of it is divided by k-means.
    """
    options, memory, state = net.options, net.memory, net.state
    place = torch.arange(memory.pushed, memory.pushed + len(keys), device=keys.device)[-len(memory) :] % len(memory)
    rows = torch.cat([net.gather(batch.row), net.gather(batch.second.row)])
    memory.push(keys, rows, net.gather(batch.patient).repeat(2))
    if own is not None:
        state.put("partition", own[-len(memory) :], place)
        moved = O.recentred(state["prototypes"], memory.z, state["partition"], inertia=options.inertia)
        state.put("prototypes", moved)
    elif memory.full:
        state.put("prototypes", spherical_kmeans(memory.z, options.partitions))
        state.put("partition", (memory.z @ state["prototypes"].T).argmax(1))


def step(net: Net, batch: Batch) -> Losses:
    """Return the pull and the repulsion of both views, and how many neighbours a view has."""
    options, full = net.options, net.memory.full
    z = [net.gather(one) for one in net.project_all(batch.views)]
    keys = torch.cat([net.gather(net.teach(view)) for view in batch.views]).float()
    own, near, there = None, None, torch.zeros(len(keys), 1, dtype=torch.bool, device=keys.device)
    if full:
        scores = keys @ net.state["prototypes"].T
        own = sinkhorn(scores, eps=options.eps, iterations=options.iterations).argmax(1)
        if net.step >= options.warmup_steps:
            place = net.state["partition"]
            near, there = O.neighbours(keys, own, net.memory.z, place, number=options.neighbours)
    p = torch.cat([net.heads["predictor"](one) for one in z])
    other = torch.arange(len(keys), device=keys.device).roll(len(z[0]))
    pull = O.attraction(p, keys[other], None if near is None else near[other], there[other])
    push = O.repulsion(*z, group=net.gather(batch.patient))
    remember(net, batch, keys, own)
    return {"loss": pull + options.repulsion * push, "pull": pull, "neighbours": there.sum(1).float().mean()}


RECIPE = Recipe(
    step,
    positives="a view and the teacher's key of another, with that key's neighbours in memory",
    objective="BECLR: cosine to keys and neighbours, repulsion of others",
    source="Poulakakis-Daktylidis 2024",
    heads=heads,
    state=state,
    memory=memory,
    momentum=momentum,
    duplicates="its memory knows patients, not near-duplicates",
)
