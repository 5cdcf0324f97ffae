"""The loss core: rows against columns, a chunk of rows at a time, with the gradient formed on the way.

Almost every contrastive objective is a table of similarities, a weight and a candidate flag on each of its cells
(`medssl.objectives.pairs`), and a reduction over rows:

    L = mean_i  sum_k W_ik / sum_k W_ik  ( lse_{j in D_i} s_ij - s_ik )

The table has as many cells as the batch squared. `contrast` walks over it in blocks of rows, forms the gradient of
each block at once and keeps that instead of the cells, so that memory grows linearly with the batch.

Where several processes hold the same rows and columns, gathered from all of them, each walks over its own share of the
blocks (`shared`), and values and gradients are added up: the table is computed once, not once a process.

Letters: R rows, M columns, d embedding channels, r rows of one block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medssl.objectives.pairs import Cells, Pairs

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Returns a numerator and a denominator for each row; the loss is the quotient of their sums.
Reduction = Callable[[Tensor, Cells], tuple[Tensor, Tensor]]


def without_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run an objective outside autocast, which would compute its products in half precision whatever their inputs."""

    @functools.wraps(function)
    def outside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        flat = (x for a in (*args, *kwargs.values()) for x in (a if isinstance(a, list | tuple) else (a,)))
        device = next((x.device.type for x in flat if isinstance(x, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return outside


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in float32, or float64 where they are: logits of +-1/temperature overflow in half precision."""
    return tuple(t if t.dtype == torch.float64 else t.float() for t in tensors)


def block_cells(z: Tensor) -> int:
    """Return how many cells are in hand at once: what a CPU caches; more on a GPU, where each block costs launches."""
    return 2**19 if z.device.type == "cpu" else 2**24


def zero(z: Tensor) -> Tensor:
    """Return 0 attached to the graph of ``z``, so that backward and all-reduce still work."""
    return (z * 0).sum()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` in float32 (float64 for float64): half-precision factors are exact, their sums are not halved.

    Where one factor is half precision the other is rounded to it, which serves gradients that end up there anyway.
    """
    half = next((t.dtype for t in (a, b) if t.dtype.itemsize < 4), None)
    if half is None:
        return a @ b
    if a.device.type == "cuda" and torch.version.hip is None:
        return torch.bmm(a.to(half), b.to(half), out_dtype=torch.float32)
    products: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if half != torch.bfloat16 or a.device.type != "cpu" or products is None:
        return a.float() @ b.float()
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        return a.float() @ b.float()
    finally:
        products.fp32_precision = before


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient of the sums: 0 where no row is valid. There is no branch that a device would wait for."""
    return numerator.sum() / denominator.sum().clamp_min(torch.finfo(denominator.dtype).tiny)


class Share(NamedTuple):
    """A process walks over every ``number``-th block from ``rank`` on; ``add`` adds up a tensor of all, in place."""

    rank: int
    number: int
    add: Callable[[Tensor], Any]


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def shared(share: Share) -> Iterator[None]:
    """Divide all tables computed inside among the processes; each must come here with the same rows and columns."""
    before = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(before)


def processes() -> int:
    """Return among how many processes tables are divided."""
    share = _SHARE.get()
    return 1 if share is None else share.number


def blocks(rows: int, chunk: int) -> list[slice]:
    """Return the blocks of so many rows that this process walks over: all of them, unless `shared`."""
    every = [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
    share = _SHARE.get()
    return every if share is None else every[share.rank :: share.number]


def add_up(*parts: Tensor | None) -> None:
    """Add up, in place, what each process found in its blocks."""
    if (share := _SHARE.get()) is not None:
        for part in parts:
            if part is not None:
                share.add(part)


class _Contrast(torch.autograd.Function):
    """The walk over blocks of rows; backward only scales what forward has kept."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor | None,
        pairs: Pairs,
        reduction: Reduction,
        temperature: float,
        chunk: int,
    ) -> Tensor:
        against = rows if columns is None else columns
        wanted = [ctx.needs_input_grad[0], columns is not None and ctx.needs_input_grad[1]]
        grads = [torch.zeros_like(t) if w else None for t, w in zip((rows, against), wanted, strict=True)]
        top, bottom = rows.new_zeros(()), rows.new_zeros(())
        for block in blocks(len(rows), chunk):
            with torch.enable_grad():
                fixed = against.detach().requires_grad_(wanted[1] or (columns is None and wanted[0]))
                # Rows that are columns too get both parts of their gradient from the one tensor.
                mine = fixed[block] if columns is None else rows[block].detach().requires_grad_(wanted[0])
                numerator, denominator = reduction(mine @ fixed.T / temperature, pairs(block))
                part = numerator.sum()
            top += part.detach()
            bottom += denominator.sum()
            if not part.requires_grad:
                continue
            if columns is None:
                assert grads[0] is not None
                grads[0] += torch.autograd.grad(part, fixed)[0]
                continue
            leaves = [leaf for leaf, w in zip((mine, fixed), wanted, strict=True) if w]
            found = iter(torch.autograd.grad(part, leaves))
            if grads[0] is not None:
                grads[0][block] = next(found)
            if grads[1] is not None:
                grads[1] += next(found)
        add_up(top, bottom, *grads)
        bottom = bottom.clamp_min(torch.finfo(bottom.dtype).tiny)
        ctx.save_for_backward(*(g / bottom for g in grads if g is not None))
        ctx.wanted = wanted
        return top / bottom

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)
        return (*(next(kept) * scale if w else None for w in ctx.wanted), None, None, None, None)


@torch.compiler.disable
def contrast(
    rows: Tensor,
    columns: Tensor | None,
    pairs: Pairs,
    reduction: Reduction,
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
    together: int = 1,
) -> Tensor:
    """Return a contrastive loss of rows against columns.

    Args:
        rows: (R, d) float32 or float64.
        columns: (M, d); None: the rows themselves.
        pairs: gives weights and candidates of any block of rows, see `medssl.objectives.pairs`.
        reduction: one of this module.
        temperature: divides the dot products.
        chunk: rows a block; None: see `chunk_of`. The value does not depend on it.
        together: so many rows, one after another, that a reduction needs in one block.
    """
    chunk = chunk or chunk_of(rows, len(rows if columns is None else columns))
    chunk = together * max(1, chunk // together)
    return _Contrast.apply(rows, columns, pairs, reduction, temperature, chunk)


def chunk_of(rows: Tensor, columns: int) -> int:
    """Return how many rows a block has: as many as `block_cells` says, or a process's part of either if that is less.

    So several processes hold together what one would, and walk over as many blocks together.
    """
    number = processes()
    cells = block_cells(rows) // number
    return max(1, min(cells // max(1, columns), -(-len(rows) // number)))


@torch.no_grad()
def each_row(
    rows: Tensor, columns: Tensor, pairs: Pairs, of: Callable[[Tensor, Cells], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return what ``of`` says of the scores and cells of each row, (R,) each, without gradient and block by block."""
    # Asked for no row first: a process without a block takes part in the sum all the same.
    found = tuple(value.new_zeros(len(rows)) for value in of(rows[:0] @ columns.T, pairs(slice(0, 0))))
    for block in blocks(len(rows), chunk_of(rows, len(columns))):
        for whole, value in zip(found, of(rows[block] @ columns.T, pairs(block)), strict=True):
            whole[block] = value
    add_up(*found)
    return found


def log_candidates(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp over each row's candidates and which rows have any; others hold a finite number."""
    some = cells.candidate.any(1)
    if cells.push is not None:
        scores = scores + cells.push.log()
    seen = scores.masked_fill(~(cells.candidate | ~some[:, None]), -torch.inf)
    return seen.logsumexp(1), some


def softmax(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce to the mean over anchors of the weighted mean over their positives of ``lse - s_ik``.

    With one positive it is InfoNCE; with class weights SupCon (mean outside the logarithm); with a kernel y-Aware.
    """
    lse, some = log_candidates(scores, cells)
    return _less_mean(lse, cells.weight * scores, cells, some)


def _less_mean(value: Tensor | int, terms: Tensor, cells: Cells, some: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce to ``value`` less the mean over positives of their weighted ``terms`` (r, M), where there are ``some``."""
    total = cells.weight.sum(1)
    valid = some & (total > 0)
    return torch.where(valid, value - terms.sum(1) / torch.where(valid, total, 1), 0), valid.to(terms.dtype)


def per_pair(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce to the mean over all positive pairs, so that an anchor counts as often as it has positives."""
    lse, some = log_candidates(scores, cells)
    weight = torch.where(some[:, None], cells.weight, 0)
    total = weight.sum(1)
    return lse * total - (weight * scores).sum(1), total


def decoupled(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce to ``lse - w_i s_ip``: weights scale the pull instead of being normalised (Yeh et al. 2022, DCLW)."""
    lse, some = log_candidates(scores, cells)
    return torch.where(some, lse - (cells.weight * scores).sum(1), 0), some.to(scores.dtype)


def threshold(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce like `softmax`, but a positive k competes only with candidates less alike than itself (w_ij < w_ik).

    A positive with no less-alike candidate is dropped. One sort and a cumulative log-sum-exp per row.
    """
    # What is no candidate sorts last, so that nothing is more alike than it.
    ranked = torch.where(cells.candidate, cells.weight, torch.inf)
    ordered, order = ranked.sort(1)
    cumulative = scores.gather(1, order).logcumsumexp(1)
    below = torch.searchsorted(ordered, cells.weight.contiguous())
    denominator = cumulative.gather(1, (below - 1).clamp_min(0))
    counted = torch.where((below > 0) & cells.candidate, cells.weight, 0)
    total = counted.sum(1)
    valid = total > 0
    value = (counted * torch.where(counted > 0, denominator - scores, 0)).sum(1) / torch.where(valid, total, 1)
    return torch.where(valid, value, 0), valid.to(scores.dtype)


def exp_weighted(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce like `softmax`, with repulsion discounted by likeness: ``lse_j s_ij (1 - w_ij) - s_ik``.

    The rescale comes before the stabilising shift, as in the formula.
    """
    lse, some = log_candidates(scores * (1 - cells.weight), cells)
    return _less_mean(lse, cells.weight * scores, cells, some)


def focal(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce like `softmax`, with each positive's term times one less its probability: easy ones count little.

    Source: Zhang et al. 2021 (Core-tuning), clean form: the mean over a row's positives.
    """
    lse, some = log_candidates(scores, cells)
    log = torch.where(cells.weight > 0, scores - lse[:, None], 0)
    return _less_mean(0, cells.weight * (1 - log.exp()) * log, cells, some)


def against_negatives(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce like `softmax`, but each positive competes with the candidates that are no positives, and with no other.

    Source: Chaitanya et al. 2020, equation of the pair loss.
    """
    lse, some = log_candidates(scores, cells._replace(candidate=cells.candidate & (cells.weight == 0)))
    terms = cells.weight * scores - cells.weight * torch.logaddexp(scores, lse[:, None])
    return _less_mean(0, terms, cells, some)
