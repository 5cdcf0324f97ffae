"""ScatSimCLR: SimCLR, and which change was made to a sample is told from its embedding.

``loss = NT-Xent + weight * cross-entropy`` of the change, which is one of 35 orders of the sample's pieces, or one of
four quarter-turns.

Source: Kinakh et al. 2021 (ScatSimCLR); orders far apart from each other as in Noroozi and Favaro 2016. Deliberate
differences: any encoder will do, and the fixed filters are an option of it (``encoder.front: scattering``); the change
is made to the first view; rows of one patient are no negatives. Turns and orders are told apart and never made alike:
no view turns or flips what a reader would miss.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection

ORDERS = 35
PIECES = {1: (9,), 2: (3, 3), 3: (2, 2, 2)}  # an axis, by the number of axes


@functools.lru_cache
def orders(pieces: int) -> Tensor:
    """Return `ORDERS` orders (K, pieces), the usual one first; each next one of 500 is the farthest from those before.

    Far is where few pieces are in the same place (Hamming).
    """
    generator = torch.Generator().manual_seed(0)
    some = torch.stack([torch.arange(pieces), *(torch.randperm(pieces, generator=generator) for _ in range(500))])
    apart = (some[:, None] != some).sum(2)
    chosen = [0]
    while len(chosen) < ORDERS:
        chosen.append(int(apart[chosen].amin(0).argmax()))
    return some[chosen]


def reordered(x: Tensor, which: Tensor) -> Tensor:
    """Return samples (B, C, ...) with their pieces in the orders ``which`` (B,) of `orders`.

    Pieces are equally long; steps that are left over at the end of an axis stay.
    """
    grid = PIECES[x.ndim - 2]
    sides = [size // n for size, n in zip(x.shape[2:], grid, strict=True)]
    axes, out = len(grid), x.clone()
    for axis in range(axes):
        x = x.narrow(2 + 2 * axis, 0, grid[axis] * sides[axis]).unflatten(2 + 2 * axis, (grid[axis], sides[axis]))
    # (B, C, n, side, ...) -> (B, pieces, C, side, ...)
    pieces = x.permute(0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)).flatten(1, axes)
    pieces = pieces[torch.arange(len(x), device=x.device)[:, None], orders(pieces.shape[1]).to(x.device)[which]]
    back = pieces.unflatten(1, grid).permute(0, 1 + axes, *(a for k in range(axes) for a in (1 + k, 2 + axes + k)))
    for axis in range(axes):
        back = back.flatten(2 + axis, 3 + axis)
    inside: list[slice] = [slice(None), slice(None), *(slice(size) for size in back.shape[2:])]
    out[tuple(inside)] = back
    return out


def turned(x: Tensor, which: Tensor) -> Tensor:
    """Return images (B, C, ..., W, W) after ``which`` (B,) quarter-turns in the plane of the last two axes."""
    turns = torch.stack([x.rot90(k, (-2, -1)) for k in range(4)])
    return turns[which, torch.arange(len(x), device=x.device)]


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection and a linear layer that tells the change.

    Raises:
        ValueError: turns of signals, or of images that are not square.
    """
    rotation = params.options.pretext == "rotation"  # type: ignore[attr-defined]
    if rotation and (len(sizes.shape) < 3 or sizes.shape[-1] != sizes.shape[-2]):
        raise ValueError(
            f"pretrain.options.pretext: rotation is for square images, not samples {sizes.shape}; take jigsaw"
        )
    return one_projection(sizes, params) | {"pretext": nn.Linear(sizes.embedding, 4 if rotation else ORDERS)}


def step(net: Net, batch: Batch) -> Losses:
    """Return NT-Xent and the cross-entropy of the change, and the latter; `contrast` is the former."""
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate, batch.second.duplicate)
    contrast = O.nt_xent(z1, z2, temperature=net.params.temperature, group=group, duplicates=duplicates)
    number, change = (4, turned) if net.options.pretext == "rotation" else (ORDERS, reordered)
    which = net.draws.fork(10).integers(number)
    told = net.heads["pretext"](net.encoder(change(batch.views[0], which)))
    pretext = functional.cross_entropy(told.float(), which)
    return {"loss": contrast + net.options.weight * pretext, "contrast": contrast, "pretext": pretext}


RECIPE = Recipe(
    step,
    positives="two views of a sample; windows of one patient are no negatives",
    objective="NT-Xent + which order its pieces are in, or how it is turned",
    source="Kinakh 2021",
    heads=heads,
)
