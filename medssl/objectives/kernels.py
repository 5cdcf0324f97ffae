"""Kernels that say how alike two items are: symmetric, 1 for equal items, in [0, 1], without gradient.

Every kernel compares rows ``a`` with columns ``b``, or ``a`` with itself where ``b`` is None; only then is the diagonal
set to 1, also for an item of which nothing is known. ``kernel(a[rows], a)`` is therefore ``kernel(a)[rows]`` up to that
diagonal, and a loss that walks over blocks of rows, and sets the own pair itself, never holds the whole table.

Where two items share nothing that is known, a kernel says ``missing``: 0 (unlike), or NaN for a factor of `product` or
`mix`, which then leave it out of that pair.

Letters: N rows, M columns, K measures or parts of a composition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, in which squared distances survive their subtraction; mps has float32 at most."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def finish(kernel: Tensor, like: Tensor, *, same: bool, missing: float) -> Tensor:
    """Return a kernel with ``missing`` for NaN, 1 on the diagonal where rows are columns, as precise as its input."""
    kernel = kernel.nan_to_num(nan=missing).to(torch.promote_types(like.dtype, torch.float32))
    return kernel.fill_diagonal_(1.0) if same else kernel


def _table(measures: Tensor) -> Tensor:
    """Return measures (N, ...) as a wide table (N, K)."""
    return wide(measures[:, None] if measures.ndim == 1 else measures.flatten(1))


def _squared(a: Tensor, b: Tensor | None, at_least: int) -> Tensor:
    """Return `mean_square_difference` in wide precision."""
    if at_least < 1:
        raise ValueError(f"at_least is {at_least}; a distance needs 1 shared measure or more")
    x = _table(a)
    y = x if b is None else _table(b)
    known_x, known_y = x.isfinite(), y.isfinite()
    if x.shape[1] == y.shape[1] == 1:
        # One measure (age, position) needs no product, and its plain difference loses no digits.
        return torch.where(known_x & known_y.T & (at_least == 1), (x - y.T).square(), torch.nan)
    # Products of what lies far from 0 would cancel. The centre is the median of the columns: all blocks of rows share
    # it, and one outlier does not move everybody else away from it.
    has_x, has_y = known_x.to(x.dtype), known_y.to(y.dtype)
    centre = torch.where(known_y, y, torch.nan).nanmedian(0).values.nan_to_num() if len(y) else 0
    x, y = torch.where(known_x, x - centre, 0), torch.where(known_y, y - centre, 0)
    both = has_x @ has_y.T
    cross, of_x = x @ y.T, x.square() @ has_y.T
    # A product need not be symmetric to the last bit.
    cross, of_y = ((cross + cross.T) / 2, of_x.T) if b is None else (cross, has_x @ y.square().T)
    squared = of_x + of_y - 2 * cross
    # What is left of equal rows is rounding: at most K eps of what was subtracted.
    rounding = 4 * x.shape[1] * torch.finfo(x.dtype).eps * (of_x + of_y)
    squared = torch.where(squared > rounding, squared, 0)
    return torch.where(both >= at_least, squared / both.clamp_min(1), torch.nan)


@without_autocast
def mean_square_difference(a: Tensor, b: Tensor | None = None, *, at_least: int = 1) -> Tensor:
    """Return (N, M) mean squared differences over the measures that both items have; equal rows give exactly 0.

    Memory is a few (N, M) tables: sums of products of masked values in float64 instead of an (N, M, K) table.

    Args:
        a, b: (N,) or (N, ...) and (M,) or (M, ...) measures in any unit, NaN or infinite = unknown.
        at_least: shared measures below which the result is NaN; 3 for organ volumes.

    Raises:
        ValueError: ``at_least`` below 1.
    """
    return _squared(a, b, at_least).to(torch.promote_types(a.dtype, torch.float32))


@without_autocast
def rbf(a: Tensor, b: Tensor | None = None, *, sigma: float, at_least: int = 1, missing: float = 0.0) -> Tensor:
    """Return ``exp(-d^2 / 2 sigma^2)`` (N, M) with d^2 of `mean_square_difference`. Positive definite.

    Small ``sigma`` tends to the identity (NT-Xent), large to 1 everywhere (uniform attraction).

    Args:
        a, b: (N,) or (N, ...) and (M,) or (M, ...) measures, NaN = unknown.
        sigma: width in the unit of the measures; 5 for years, 0.03 to 0.05 for a position from head (0) to foot (1),
            `median_sigma` for standardised measures.
        at_least: shared measures below which the pair is unknown.

    Raises:
        ValueError: ``sigma`` not above 0.

    Source: Dufumier et al. 2021 for a scalar; the mean over shared measures keeps one width for any number of them.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma:g}; expected a width above 0")
    # Divided twice: the square of a small width could underflow to 0 / 0.
    return finish(torch.exp(-0.5 * (_squared(a, b, at_least) / sigma / sigma)), a, same=b is None, missing=missing)


@without_autocast
def cauchy(a: Tensor, b: Tensor | None = None, *, gamma: float, at_least: int = 1, missing: float = 0.0) -> Tensor:
    """Return ``1 / (1 + gamma d^2)`` (N, M): heavier tails than `rbf`; its other arguments are the same.

    Raises:
        ValueError: ``gamma`` below 0.

    Source: Barbano et al. 2023.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma:g}; expected 0 or more")
    return finish(1 / (1 + gamma * _squared(a, b, at_least)), a, same=b is None, missing=missing)


def equal(a: Tensor, b: Tensor | None = None, *, off: float = 0.5, missing: float = 0.0) -> Tensor:
    """Return 1 for equal codes and ``off`` for different ones (N, M), such as of sex or contrast phase.

    Scanner and site are no such codes: as positives they would teach the encoder what it should ignore.

    Args:
        a, b: (N,) and (M,) codes, integers or floats; NaN or -1 = unknown.
        off: in [0, 1], of two known codes that differ.

    Raises:
        ValueError: ``off`` outside [0, 1].
    """
    if not 0 <= off <= 1:
        raise ValueError(f"off is {off:g}; expected 0 to 1")
    same, b = b is None, a if b is None else b
    # Compared as they are: large integers would collide as floats.
    known = [(t == t) & (t != -1) for t in (a, b)]
    alike = a[:, None] == b
    kernel = wide(alike).masked_fill(~alike, off)
    return finish(torch.where(known[0][:, None] & known[1], kernel, torch.nan), a, same=same, missing=missing)


@without_autocast
def hellinger(h: Tensor, b: Tensor | None = None, *, sharpness: float = 1.0, missing: float = 0.0) -> Tensor:
    """Return the Hellinger affinity ``(sum_k sqrt(h_ik b_jk)) ^ sharpness`` (N, M) of compositions.

    Args:
        h, b: (N, K) and (M, K) parts, rows on the simplex, such as fractions of tissues; a row with NaN is unknown.
        sharpness: above 1 tells near compositions apart; positive definite for whole numbers.

    Raises:
        ValueError: ``sharpness`` not above 0.
    """
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness:g}; expected a number above 0")
    x = wide(h).sqrt()
    affinity = x @ (x if b is None else wide(b).sqrt()).T
    if b is None:
        affinity = (affinity + affinity.T) / 2
    return finish(affinity.clamp(0, 1) ** sharpness, h, same=b is None, missing=missing)


def jensen_shannon(h: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the Jensen-Shannon divergence (N, M) of compositions in nats, 0 (equal) to log 2 (nothing in common).

    A divergence, not a kernel: ``exp(-divergence / scale)`` is one. NaN where a composition is unknown. Parts are added
    one at a time, so that no (N, M, K) table exists.

    Args:
        h, b: (N, K) and (M, K) rows on the simplex; a row with NaN is unknown.
    """
    x = wide(h)
    y = x if b is None else wide(b)
    total = x.new_zeros(len(x), len(y))
    for p, q in zip(x.T[:, :, None], y.T[:, None], strict=True):
        middle = (p + q) / 2
        total += (torch.xlogy(p, p) + torch.xlogy(q, q)) / 2 - torch.xlogy(middle, middle)
    return total.clamp_min(0).to(torch.promote_types(h.dtype, torch.float32))


def centred_log_ratio(h: Tensor, *, floor: float = 1e-3) -> Tensor:
    """Return ``log h_k - mean_k log h_k`` (N, K), measures for `rbf` and `median_sigma`; rows sum to 0.

    Args:
        h: (N, K) parts of compositions, of any total; a row with NaN is unknown and stays NaN.
        floor: parts below it count as it, as zeros have no logarithm. The usual pseudo-count is added to every part
            instead, which would change compositions that have no zeros.

    Raises:
        ValueError: ``floor`` not above 0.

    Source: Aitchison 1982.
    """
    if not floor > 0:
        raise ValueError(f"floor is {floor:g}; expected a number above 0")
    (h,) = full_precision(h)
    log = h.clamp_min(floor).log()
    return log - log.mean(1, keepdim=True)


@without_autocast
def aitchison(h: Tensor, b: Tensor | None = None, *, floor: float = 1e-3) -> Tensor:
    """Return the Aitchison distance (N, M) of compositions: Euclidean between `centred_log_ratio`; NaN if unknown.

    Args:
        h, b: (N, K) and (M, K) parts; a row with NaN is unknown.
        floor: of `centred_log_ratio`.
    """
    x = centred_log_ratio(wide(h), floor=floor)
    y = None if b is None else centred_log_ratio(wide(b), floor=floor)
    return (_squared(x, y, 1) * h.shape[1]).sqrt().to(torch.promote_types(h.dtype, torch.float32))


def _sums(
    factors: Sequence[Tensor], shares: Sequence[float] | None, of: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the sum of share x of(factor) and the sum of shares, both over the factors that a pair has."""
    shares = [1.0] * len(factors) if shares is None else shares
    if len(shares) != len(factors) or not factors or not all(share > 0 for share in shares):
        raise ValueError(f"{len(factors)} factors with shares {list(shares)}; expected one share above 0 a factor")
    factors = full_precision(*factors)
    top = total = torch.zeros_like(factors[0])
    for factor, share in zip(factors, shares, strict=True):
        known = ~factor.isnan()
        top = top + share * torch.where(known, of(factor), 0)
        total = total + share * known
    return top, total


def product(factors: Sequence[Tensor], shares: Sequence[float] | None = None, *, missing: float = 0.0) -> Tensor:
    """Return the weighted geometric mean of kernels (N, M) over the factors that a pair has.

        w_ij = prod_f k_f,ij ^ (share_f o_f,ij / sum_g share_g o_g,ij),    o = 1 where observed

    One factor of 0 makes 0, unlike in `mix`. With unknown factors the table need not be positive definite.

    Args:
        factors: (N, M) each, in [0, 1]; NaN = unobserved, as from kernels with ``missing=math.nan``. A negative factor
            (raw cosines) gives NaN, which the losses refuse.
        shares: exponent of each factor, above 0, divided by their sum; None: equal.
        missing: what a pair without any factor gets.

    Raises:
        ValueError: no factor, or not one share above 0 for each.
    """
    top, total = _sums(factors, shares, torch.log)
    return torch.where(total > 0, torch.exp(top / total), missing)


def mix(factors: Sequence[Tensor], shares: Sequence[float] | None = None, *, missing: float = 0.0) -> Tensor:
    """Return the weighted mean of kernels (N, M) over the factors that a pair has, such as anatomy and age.

    Positive definite where every factor is and all are observed. Arguments and errors are those of `product`; factors
    may be negative.
    """
    top, total = _sums(factors, shares, torch.positive)
    return torch.where(total > 0, top / total, missing)


def sparsify(w: Tensor, minimum: float = 0.05) -> Tensor:
    """Return weights with 0 for what lies below ``minimum`` or is NaN: many faint positives would outweigh a few."""
    return torch.where(w >= minimum, w, 0)


def effective_positives(w: Tensor, *, first: int = 0) -> Tensor:
    """Return (N,) how many positives each row has in effect: exp of the entropy of its normalised weights.

    n equal weights give n, one dominant weight 1, none 0; useful is about 2 to 20 of a batch. The row itself is left
    out, so that (N, N) weights count other items only and (2N, 2N) weights of two views also the own other view.

    Args:
        w: (N, M) weights of 0 or more; row i is the item of column ``first + i``.
        first: column of the first row, for a block of rows.
    """
    (w,) = full_precision(w)
    w = w.clone()
    w.diagonal(first).zero_()
    total = w.sum(1)
    share = w / total.clamp_min(torch.finfo(w.dtype).tiny)[:, None]
    return torch.where(total > 0, torch.exp(-torch.xlogy(share, share).sum(1)), 0)


def median_sigma(a: Tensor, *, at_least: int = 1, most: int = 2048) -> float:
    """Return the median distance of pairs of items, the usual width of `rbf` (median heuristic).

    It is the root of `mean_square_difference`, the lower of two middle values; 1 where no pair is known or at least
    half of the pairs are equal.

    Args:
        a: (N,) or (N, ...) measures of training items, NaN = unknown.
        at_least: shared measures below which a pair is left out, as in `rbf`.
        most: items looked at, which bounds memory; of more a fixed random choice is taken.
    """
    if len(a) > most:
        chosen = torch.randperm(len(a), generator=torch.Generator().manual_seed(0))[:most]
        a = a[chosen.to(a.device)]
    squared = mean_square_difference(a, at_least=at_least)
    upper = torch.triu_indices(len(squared), len(squared), 1, device=squared.device)
    return float(squared[upper[0], upper[1]].sqrt().nanmedian().nan_to_num()) or 1.0
