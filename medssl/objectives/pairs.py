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
    """

    weight: Tensor
    candidate: Tensor


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


def label_window(labels: Tensor, like: Tensor, *, omega: float) -> Pairs:
    """Pair rows whose labels (R,) differ by at most ``omega``; NaN has no positive. Rows are the columns."""

    def cells(block: slice) -> Cells:
        row, column = _numbers(block, len(labels), like.device)
        positive = ((labels[block, None] - labels[None]).abs() <= omega) & (column != row)
        return Cells(positive.to(like.dtype), column != row)

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
