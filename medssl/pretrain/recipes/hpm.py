"""HPM: hidden patches are told by the rest, and those are hidden that a teacher expects to be told worst.

``loss = mean squared error of hidden patches, each normalised + weight * order``, where ``order`` teaches a second
head which of two hidden patches has the larger error: the mean over pairs with ``l_i > l_j`` of ``-log sigmoid(p_i -
p_j)``. The teacher's expectation, of the whole sample, chooses a rising share of the patches that are hidden.

Source: Wang et al. 2023 (Hard Patches Mining), He et al. 2022 (MAE). Deliberate differences: the share rises over given
steps, not over the run; pairs are averaged in each sample first; decoders are one block each; encoders that are no
transformers see zeros in place of what is hidden, and tell it from their embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.config import Pretrain
from medssl.models.heads import Decoder
from medssl.models.vit import positions
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.predict import context, patches
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views, one_projection
from medssl.pretrain.recipes.selfie import number, seen


@without_autocast
def order(expected: Tensor, errors: Tensor) -> Tensor:
    """Return the mean of ``-log sigmoid(p_i - p_j)`` over pairs with ``l_i > l_j`` of each sample; 0 where all tie.

    Args:
        expected: p (B, n).
        errors: l (B, n), without gradient.

    Source: Wang et al. 2023, the relative loss of its section 3.3.
    """
    p, error = full_precision(expected, errors.detach())
    larger = error[:, :, None] > error[:, None]
    terms = torch.where(larger, -functional.logsigmoid(p[:, :, None] - p[:, None]), 0).sum((1, 2))
    return (terms / larger.sum((1, 2)).clamp_min(1)).mean()


def chosen(expected: Tensor | None, noise: Tensor, *, hide: int, hard: int) -> Tensor:
    """Return the patches to hide (B, hide): the ``hard`` ones of the largest expected errors, the rest at random.

    Args:
        expected: (B, P); None: all at random.
        noise: (B, P) in [0, 1).
        hide, hard: how many.
    """
    if expected is not None and hard > 0:
        noise = noise.scatter(1, expected.topk(hard, 1).indices, 2.0)
    return noise.topk(hide, 1).indices


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection of what is seen, the decoder of patches, and that of the errors to expect.

    Raises:
        ValueError: patches of one number.
    """
    width, size = params.projection_dim, params.options.patch  # type: ignore[attr-defined]
    outputs = sizes.shape[0] * size ** (len(sizes.shape) - 1)
    if outputs < 2:
        raise ValueError(f"pretrain.options.patch {size}: one number a patch has no form to tell; take larger ones")
    return one_projection(sizes, params) | {"decoder": Decoder(width, outputs), "errors": Decoder(width, 1)}


@torch.no_grad()
def expectation(net: Net, x: Tensor, place: Tensor) -> Tensor:
    """Return the errors (B, P) that the teacher, who sees the whole sample, expects in places (P, projection_dim)."""
    teacher: Any = net.teacher
    none = torch.zeros((len(x), len(place)), dtype=torch.bool, device=x.device)
    tokens = context(teacher["encoder"], x, none, net.options.patch)
    projected = teacher["heads"]["projection"](tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    found: Tensor = teacher["heads"]["errors"](projected, place.expand(len(x), -1, -1))
    return found[..., 0]


def step(net: Net, batch: Batch) -> Losses:
    """Return the error of what is hidden of the first view and the loss of expecting it, and both."""
    x, options = batch.views[0], net.options
    cut, grid = patches(x, options.patch)
    place = positions(grid, net.params.projection_dim, device=x.device)
    hide = number(options.share, cut.shape[1])
    hard = int(hide * options.hardest * min(1.0, net.step / options.rise))
    expected = expectation(net, x, place) if hard else None
    which = chosen(expected, net.draws.fork(10).uniform(cut.shape[1]), hide=hide, hard=hard)
    hidden = torch.zeros(cut.shape[:2], dtype=torch.bool, device=x.device).scatter(1, which, True)
    projected = seen(net, x, hidden)
    told = net.heads["decoder"](projected, place[which]).float()
    true = cut.gather(1, which[..., None].expand(-1, -1, cut.shape[2])).float()
    variance, mean = torch.var_mean(true, 2, keepdim=True)
    errors = (told - (true - mean) / (variance + 1e-6).sqrt()).square().mean(2)
    ordered = order(net.heads["errors"](projected, place[which])[..., 0], errors)
    return {"loss": errors.mean() + options.weight * ordered, "error": errors.mean(), "order": ordered}


RECIPE = Recipe(
    step,
    positives="hidden patches and the rest of the sample; no negatives",
    objective="squared error of the patches that are hardest to tell",
    source="Wang 2023, He 2022",
    heads=heads,
    momentum=lambda options, progress: float(1 - (1 - options.momentum) * (1 - 0.9 * progress)),
    views=lambda options: Views(1),
    partners="it reads one sample at a time",
    duplicates="it has no negatives to take them out of",
)
