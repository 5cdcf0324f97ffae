"""Who is a positive of whom, and who stands in the denominator: pair builders for the loss core.

A builder returns a function of a block of rows, so that only the cells in hand exist. A row is never its own candidate,
and a cell that is neither positive nor candidate is ignored.

Letters: n instances, R rows, M columns, r rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Cells(NamedTuple):
    """A block of rows against all columns.

    Attributes:
        weight: (r, M) float, how much of a positive each column is; 0 for no positive.
        candidate: (r, M) bool, the columns in the row's denominator.
        push: (r, M) float above 0, how often each candidate counts in the denominator; None: once.
    """

    weight: Tensor
    candidate: Tensor
    push: Tensor | None = None


class Duplicates(NamedTuple):
    """Which of n items are near-duplicates of each other, and what becomes of such a pair, see `cured`.

    Attributes:
        first, second: (n,) class of each item in view 1 and in view 2, unique over the data set; equal unless the views
            are of different samples. Items of one class are near-duplicates.
        weight: of such a pair as a positive, next to 1 of an item's own other view; None: neither positive nor
            negative.
    """

    first: Tensor
    second: Tensor
    weight: float | None = None


Pairs = Callable[[slice], Cells]
Weights = Tensor | Callable[[slice], Tensor]


def _numbers(block: slice, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return row numbers (r, 1) and column numbers (1, M)."""
    return torch.arange(block.start, block.stop, device=device)[:, None], torch.arange(columns, device=device)[None]


def instance(
    like: Tensor, *, group: Tensor | None = None, decouple: bool = False, weight: Tensor | None = None
) -> Pairs:
    """Pair the two views of an instance; rows and columns are [view 1; view 2] of n instances.

    Args:
        like: (2n, d) rows, for their number, type and device.
        group: (n,) ids; other instances of the same group are ignored cells. A row left without negatives has no
            positive either.
        decouple: leave the positive out of the denominator.
        weight: (n,) of the positive of each instance; None: 1.
    """
    rows, device = len(like), like.device
    n = rows // 2
    ids = None if group is None else torch.cat([group, group])

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, rows, device)
        partner = (row + n) % rows
        positive = column == partner
        negative = ~positive & (column != row)
        if ids is not None:
            negative &= ids[block, None] != ids[None]
        scale = 1 if weight is None else weight[row[:, 0] % n, None]
        some = negative.any(1, keepdim=True)
        return Cells((positive & some).to(like.dtype) * scale, negative if decouple else negative | positive)

    return cells


def cross(like: Tensor) -> Pairs:
    """Pair row i with column i of another set, such as the keys of a momentum branch; every column is a candidate."""

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, len(like), like.device)
        positive = column == row
        return Cells(positive.to(like.dtype), torch.ones_like(positive))

    return cells


def given(weights: Tensor, like: Tensor) -> Pairs:
    """Pair rows with the columns of another set by soft targets (R, M) of 0 or more; every column is a candidate."""

    def cells(block: slice) -> Cells:
        weight = weights[block].to(like.dtype).detach()
        return Cells(weight, torch.ones_like(weight, dtype=torch.bool))

    return cells


def appended(pairs: Pairs, extra: int, *, ignore: Tensor | None = None) -> Pairs:
    """Add columns that are nobody's positive, such as keys of a memory, behind those of ``pairs``.

    Args:
        pairs: of the rows and columns without the extra ones.
        extra: their number E.
        ignore: (R, E) bool, extra cells that are no candidates either, such as earlier keys of the row's patient.
    """

    def cells(block: slice) -> Cells:
        weight, candidate, push = pairs(block)
        none = weight.new_zeros((len(weight), extra))
        more = none == 0 if ignore is None else ~ignore[block]
        return Cells(
            torch.cat([weight, none], 1),
            torch.cat([candidate, more], 1),
            None if push is None else torch.cat([push, none + 1], 1),
        )

    return cells


def group(ids: Tensor, like: Tensor, *, own: bool = True, later: bool = False) -> Pairs:
    """Pair row i with every *other* column of the same id; rows and columns are the same items in two views.

    Args:
        ids: (n,), unique over the data set.
        like: tensor of the type and device of the scores.
        own: keep the item's own other view among the candidates.
        later: only columns after the row count as positives (COMET as published).
    """

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, len(ids), like.device)
        positive = (ids[block, None] == ids[None]) & ((column > row) if later else (column != row))
        candidate = torch.ones_like(positive) if own else column != row
        return Cells(positive.to(like.dtype), candidate.expand_as(positive))

    return cells


def apart(like: Tensor, group: Tensor | None = None) -> Pairs:
    """Pair nothing: row i has all columns as candidates but i and those of its ``group`` (R,).

    Columns are the rows, or the same items in another view.
    """

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, len(like), like.device)
        other = (column != row) if group is None else group[block, None] != group[None]
        return Cells(like.new_zeros(()).expand(other.shape), other)

    return cells


def kernel(weights: Weights, like: Tensor) -> Pairs:
    """Weight every pair by how alike it is; rows are [view 1; view 2] of n items and also the columns.

    Args:
        weights: (2n, 2n), or (n, n) for both views, or a function of a block of the 2n rows that returns (r, 2n); what
            the function says of an item and its own other view is replaced by 1, also where nothing is known of it.
        like: (2n, d) rows.
    """
    rows = len(like)
    n = rows // 2

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, rows, like.device)
        if not isinstance(weights, Tensor):
            weight = torch.where(column == (row + n) % rows, 1, weights(block).to(like.dtype))
        elif len(weights) == rows:
            weight = weights[block].to(like.dtype)
        else:
            weight = weights[row[:, 0] % n].to(like.dtype).repeat(1, 2)
        other = column != row
        return Cells(torch.where(other, weight, 0).detach(), other)

    return cells


def cured(pairs: Pairs, duplicates: Duplicates | None, *, cross: bool = False, decouple: bool = False) -> Pairs:
    """Change cells of two different items of a class of near-duplicates: ignored, or positives too.

    An item and its own other view stay what they are, also where both are of one class. A row without a candidate
    other than these and its duplicates has nothing to be told apart from, and no positive.

    Args:
        pairs: rows and columns are [view 1; view 2] of n items, or n items of either view (``cross``).
        duplicates: None changes nothing. A pair that weighs more already keeps its weight.
        cross: rows are view 1 and columns are view 2.
        decouple: positives are no candidates, and those of a row share its weight.
    """
    if duplicates is None:
        return pairs
    first, second, share = duplicates
    items = len(first)
    rows, columns = (first, second) if cross else [torch.cat([first, second])] * 2

    def cells(block: slice) -> Cells:
        weight, candidate, push = pairs(block)
        row, column = _numbers(block, len(columns), columns.device)
        own = row % items == column % items
        same = (rows[block, None] == columns[None]) & ~own
        some = (candidate & ~same & ~own).any(1, keepdim=True)
        if share is None:
            weight = torch.where(same, 0, weight)
        elif decouple:
            total = weight.sum(1, keepdim=True)
            weight = (weight + share * total * same) / (1 + share * same.sum(1, keepdim=True))
        else:
            weight = torch.where(same, weight.clamp_min(share), weight)
        candidate = candidate & ~same if share is None or decouple else candidate | same
        return Cells(torch.where(some, weight, 0), candidate, push)

    return cells
