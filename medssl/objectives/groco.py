"""GroCo: sort an anchor's nearest negatives and its positives by similarity, softly; positives should come out last.

The odd-even network has as many layers as elements. Each compares neighbours and exchanges them by a share that depends
on their difference, so that what comes out is a mixture of elements, and a permutation a matrix P of shares.

Letters: V views, B samples, R anchors, k negatives, p positives, n = k + p elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, without_autocast


def _exchanged(x: Tensor, first: int, keep: Tensor) -> Tensor:
    """Mix neighbours of ``x`` (R, n) from place ``first`` on: each keeps a share (R, pairs) and takes the rest."""
    stop = first + 2 * keep.shape[1]
    a, b = x[:, first:stop].unflatten(1, (-1, 2)).unbind(2)
    mixed = torch.stack([keep * a + (1 - keep) * b, (1 - keep) * a + keep * b], 2).flatten(1)
    return torch.cat([x[:, :first], mixed, x[:, stop:]], 1)


def share_in_places(x: Tensor, places: Tensor, *, steepness: float, size: Tensor | None = None) -> Tensor:
    """Return the share (R, n) of each element of ``x`` that ends in the given places when ``x`` is sorted upwards.

    This is ``P @ places`` without P: the network's exchanges are symmetric, so that they run backwards on places.

    Args:
        x: (R, n) numbers, one row an anchor.
        places: (R, n), 1 for the places asked for, the last place that of the greatest; else 0.
        steepness: of the share that is kept, ``atan(steepness (b - a)) / pi + 1/2``.
        size: (R, 1) how many of a row's elements, the first ones, are to be sorted; None: all.

    Source: Petersen et al. 2022 (monotonic differentiable sorting networks), Cauchy relaxation of the odd-even network.
    """
    n = x.shape[1]
    place = torch.arange(n, device=x.device)
    exchanges = []
    for layer in range(n):
        first = layer % 2
        second = place[first + 1 :: 2]
        a, b = x[:, second - 1], x[:, second]
        keep = torch.atan(steepness * (b - a)) / math.pi + 0.5
        if size is not None:
            keep = torch.where((second < size) & (size > layer), keep, 1)
        x = _exchanged(x, first, keep)
        exchanges.append((first, keep))
    for first, keep in reversed(exchanges):
        places = _exchanged(places, first, keep)
    return places


def disorder(negative: Tensor, positive: Tensor, *, steepness: float) -> Tensor:
    """Return each anchor's mean cross-entropy (R,) between being a positive and the share in the positives' places.

    Args:
        negative: (R, k) similarities of the nearest negatives, ascending; those that there are not are -inf.
        positive: (R, p) similarities of the positives, ascending.
        steepness: as in `share_in_places`; the lower, the higher the least possible value.

    Source: Shvetsova et al. 2023 (GroCo). The paper has a second term, of the negatives' places; rows of P sum to 1, so
    that it equals the first.
    """
    x, k = torch.cat([negative, positive], 1), negative.shape[1]
    place = torch.arange(x.shape[1], device=x.device)
    missing = (~negative.isfinite()).sum(1, keepdim=True)
    # What is missing goes behind the others, where no exchange reaches it.
    x = x.gather(1, (place + missing) % x.shape[1])
    x = torch.where(x.isfinite(), x, 0)
    size = x.shape[1] - missing
    counted = (place < size).to(x.dtype)
    target = counted * (place >= k - missing)
    share = share_in_places(x, target, steepness=steepness, size=size).clamp(0, 1)
    return (binary_cross_entropy(share, target, reduction="none") * counted).sum(1) / size[:, 0]


@without_autocast
def groco(
    views: Sequence[Tensor], *, negatives: int = 10, steepness: float = 1.0, group: Tensor | None = None
) -> Tensor:
    """Return the mean `disorder` over all views of all samples that have a negative.

    An anchor's positives are the other views of its sample, its negatives the nearest samples in its own view. Both are
    without gradient, so that an anchor alone moves.

    Args:
        views: V >= 2 tensors (B, d) of unit rows.
        negatives: k, fewer where there are not so many.
        steepness: as in `share_in_places`.
        group: (B,) ids; other samples of the same group are no negatives.

    Source: Shvetsova et al. 2023 (GroCo); groups, and anchors with fewer than k negatives, are ours.
    """
    z = torch.cat(full_precision(*views))
    number, samples = len(views), len(z) // len(views)
    row = torch.arange(len(z), device=z.device)
    view, sample = row // samples, row % samples
    owner = sample if group is None else group[sample]

    def cells(block: slice) -> Cells:
        same = view[block, None] == view
        own = sample[block, None] == sample
        return Cells((own & ~same).to(z.dtype), same & (owner[block, None] != owner))

    def sort(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        negative = scores.masked_fill(~found.candidate, -torch.inf).topk(min(negatives, len(z))).values
        positive = scores.masked_fill(found.weight == 0, -torch.inf).topk(number - 1).values
        value = disorder(negative.flip(1), positive.flip(1), steepness=steepness)
        some = found.candidate.any(1)
        return torch.where(some, value, 0), some.to(scores.dtype)

    return contrast(z, z.detach(), cells, sort)
