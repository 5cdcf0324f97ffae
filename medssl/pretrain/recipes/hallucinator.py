"""Hallucinator: a second positive for each query, made beyond its key by a map that is learned.

    h = W relu(k + l (k - q)),   l uniform in [0, reach);   L = InfoNCE(q, k, memory) + weight * InfoNCE(q, h, memory)

Source: Wu et al. 2023, on He et al. 2020 (MoCo); from the literature, not compared with released code. Deliberate
differences: h moves W and the query, never the key, and is brought to unit length; both views are drawn as everywhere
here, not from the centre of the image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.objectives.memory import memory_contrast
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.mochi import anchors, memory, remember
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection


@without_autocast
def beyond(q: Tensor, k: Tensor, far: Tensor) -> Tensor:
    """Return ``relu(k + l (k - q))`` (n, d), which W maps; neither gets a gradient.

    Args:
        q: (n, d) unit queries.
        k: (n, d) unit keys.
        far: (n,) l, 0 or more.
    """
    q, k = full_precision(q.detach(), k.detach())
    return (k + far.to(k.dtype)[:, None] * (k - q)).relu()


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection, and W (d, d)."""
    dim = params.projection_dim
    return one_projection(sizes, params) | {"hallucinator": nn.Linear(dim, dim, bias=False)}


def step(net: Net, batch: Batch) -> Losses:
    """Return the sum of both terms, and the second; then put the keys into memory."""
    options: Any = net.options
    q, k = net.project(batch.views[0]), net.teach(batch.views[1])
    keys, ignore = net.memory.columns(batch.patient)
    common: dict[str, Any] = {"temperature": net.params.temperature, "ignore": ignore, "anchors": anchors(net, ignore)}
    keys = keys.clone()
    far = options.reach * net.draws.fork(10).uniform()
    h = normalize(net.heads["hallucinator"](beyond(q, k, far)).float(), dim=1)
    made = memory_contrast(q, k, keys, positive=(q.float() * h).sum(1), **common)
    loss = memory_contrast(q, k, keys, **common) + options.weight * made
    remember(net, batch, k)
    return {"loss": loss, "hallucinated": made}


RECIPE = Recipe(
    step,
    positives="a view and the teacher's key of another, and a point made beyond that key",
    objective="InfoNCE with a learned positive in latent space",
    source="Wu 2023",
    heads=heads,
    memory=memory,
    momentum=lambda options, progress: options.momentum,
    duplicates="its memory knows patients, not near-duplicates",
)
