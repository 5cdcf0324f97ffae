"""Selfie: which of the hidden patches of a sample belongs in this place?

The rest of the sample and the place make a query, each hidden patch a key; the loss is the cross-entropy of the true
one among those of the same sample. Other samples have no part in it.

Source: Trinh et al. 2019 (Selfie). Deliberate differences: keys are made by a perceptron, not by the first stages of
the encoder, so that any encoder will do; scores are cosines over a temperature; a patch that equals the true one is no
wrong answer, so that silence and air ask for nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.models.heads import Decoder, Projection
from medssl.models.vit import positions
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.predict import context, patches
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views, one_projection


@without_autocast
def which_patch(query: Tensor, key: Tensor, *, alike: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of key n for query n among the keys of its sample, and the share that is told right.

    Args:
        query, key: (B, n, d) of any length.
        alike: (B, n, n) bool, patches that are equal, each to itself.
        temperature: divides cosines.
    """
    q, k = full_precision(query, key)
    scores = normalize(q, dim=2) @ normalize(k, dim=2).transpose(1, 2) / temperature
    own = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)
    scores = scores.masked_fill(alike & ~own, -torch.inf)
    log = scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(2)
    right = scores.argmax(2) == torch.arange(q.shape[1], device=q.device)
    return torch.stack([-log.mean(), right.to(log.dtype).mean()])


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection of what is seen, what asks for a place, and what makes a key of a patch."""
    width, size = params.projection_dim, params.options.patch  # type: ignore[attr-defined]
    patch = Projection(sizes.shape[0] * size ** (len(sizes.shape) - 1), width, hidden=2 * width, norm="layer")
    return one_projection(sizes, params) | {"decoder": Decoder(width, width), "patch": patch}


def seen(net: Net, x: Tensor, hidden: Tensor) -> Tensor:
    """Return what the encoder makes of what is not hidden, projected: (B, M, projection_dim)."""
    tokens = net.noted("embedding", context(net.encoder, x, hidden, net.options.patch))
    return net.noted("projection", net.heads["projection"](tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2]))


def number(share: float, total: int) -> int:
    """Return how many patches are hidden: two at least, and one is seen.

    Raises:
        ValueError: fewer than three patches.
    """
    if total < 3:
        raise ValueError(f"pretrain.options.patch: {total} patches a sample; expected 3 or more, take smaller ones")
    return min(max(2, math.floor(share * total + 0.5)), total - 1)


def step(net: Net, batch: Batch) -> Losses:
    """Return the cross-entropy of the first view, and the share of places whose patch is told."""
    x = batch.views[0]
    cut, grid = patches(x, net.options.patch)
    order = net.draws.fork(10).permutation(cut.shape[1])[:, : number(net.options.share, cut.shape[1])]
    hidden = torch.zeros(cut.shape[:2], dtype=torch.bool, device=x.device).scatter(1, order, True)
    context_of = seen(net, x, hidden)
    place = positions(grid, context_of.shape[2], device=x.device)[order]
    query = net.heads["decoder"](context_of, place)
    true = cut.gather(1, order[..., None].expand(-1, -1, cut.shape[2]))
    key = net.heads["patch"](true.flatten(0, 1)).unflatten(0, order.shape)
    alike = torch.cdist(true.float(), true.float(), compute_mode="donot_use_mm_for_euclid_dist") == 0
    loss, right = which_patch(query, key, alike=alike, temperature=net.params.temperature)
    return {"loss": loss, "right": right.detach()}


RECIPE = Recipe(
    step,
    positives="a place and the patch that was there; hidden patches of the sample are negatives",
    objective="cross-entropy of the true patch",
    source="Trinh 2019",
    heads=heads,
    views=lambda options: Views(1),
    partners="it reads one sample at a time",
    duplicates="other samples are no negatives",
)
