"""COMET: contrast at four levels of a medical series, observation < sample < trial < patient.

z1 and z2 are the feature maps (B, T, C) of two views. The observation and sample levels use raw dot products, no
temperature (as published); the identity levels use a cosine.

Source: Wang et al. 2023 (NeurIPS), read against the authors' code; `identity` offers both what the code does
(``mode="code"``) and its order-independent form (``mode="clean"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medssl.objectives import pairs, rows


class _Partners(torch.autograd.Function):
    """Contrast of each row of ``[z1; z2]`` with its partner in the other view, within each group.

    The scores are symmetric, so the gradient is ``(P + P') z - 2 partner`` with P the row softmax: two products in all
    where autograd takes three and keeps the scores. Where a group does not fit, its scores are computed twice.
    """

    @staticmethod
    def forward(ctx: Any, z1: Tensor, z2: Tensor, cells: int, divided: bool) -> Tensor:
        groups, n, _ = z1.shape
        kind = torch.promote_types(z1.dtype, torch.float32)
        new = torch.zeros_like if divided else torch.empty_like
        g1, g2 = (new(z1), new(z2)) if any(ctx.needs_input_grad[:2]) else (None, None)
        total = z1.new_zeros((), dtype=kind)
        # So many groups, and so many rows of a group, are in hand at once.
        several, some = max(1, cells // (2 * n) ** 2), max(1, min(2 * n, cells // (2 * n)))
        if divided:
            several = min(several, -(-groups // rows.processes()))
        every = [slice(start, start + several) for start in range(0, groups, several)]
        for part in rows.blocks(groups, several) if divided else every:
            z = torch.cat([z1[part], z2[part]], dim=1)
            across = z.transpose(1, 2)
            lse = z.new_empty(z.shape[:2], dtype=kind)
            scores = z.new_empty(0)
            for first in range(0, 2 * n, some):
                scores = _others(z, across, first, some)
                lse[:, first : first + some] = scores.logsumexp(2)
            total += lse.sum() - 2 * (z1[part].to(kind) * z2[part].to(kind)).sum()
            if g1 is None or g2 is None:
                continue
            pull = torch.cat([z2[part], z1[part]], dim=1)
            for first in range(0, 2 * n, some):
                block = slice(first, first + some)
                if some < 2 * n:
                    scores = _others(z, across, first, some)
                push = torch.exp(scores - lse[:, block, None])
                push += torch.exp(scores.sub_(lse[:, None]))
                step = rows.product(push, z) - 2 * pull[:, block]
                cut = max(0, min(n - first, step.shape[1]))
                g1[part, first : first + cut] = step[:, :cut]
                g2[part, max(0, first - n) : max(0, first - n) + step.shape[1] - cut] = step[:, cut:]
        if divided:
            rows.add_up(total, g1, g2)
        ctx.save_for_backward(g1, g2)
        ctx.count = groups * 2 * n
        return total / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g1, g2 = ctx.saved_tensors
        scale = scale / ctx.count
        return g1 * scale, g2 * scale, None, None


def _others(z: Tensor, across: Tensor, first: int, some: int) -> Tensor:
    """Return the scores of so many rows of each group from the first on, -inf with themselves."""
    scores = rows.product(z[:, first : first + some], across)
    scores.diagonal(first, 1, 2).fill_(-torch.inf)
    return scores


@torch.compiler.disable
@rows.without_autocast
def observation(z1: Tensor, z2: Tensor, *, cells: int | None = None) -> Tensor:
    """Return the contrast over time: a step's positive is the same step of the other view, 2T - 1 candidates.

    Args:
        z1, z2: (B, T, C). Half precision keeps its products but sums them, and everything after, in float32.
        cells: scores in hand at once, None for `block_cells`; the value does not depend on it.
    """
    return _partners(z1, z2, cells, divided=False)


@torch.compiler.disable
@rows.without_autocast
def sample(z1: Tensor, z2: Tensor, *, cells: int | None = None) -> Tensor:
    """Return the contrast over the batch at each time step: 2B - 1 candidates. Arguments as in `observation`."""
    return _partners(z1.transpose(0, 1), z2.transpose(0, 1), cells, divided=rows.processes() > 1)


def _partners(z1: Tensor, z2: Tensor, cells: int | None, *, divided: bool) -> Tensor:
    """Return the contrast over the second axis; ``divided`` among processes that hold the same rows."""
    if z1.shape[0] == 0 or z1.shape[1] < 2:
        return rows.zero(z1) + rows.zero(z2)
    return _Partners.apply(z1, z2, cells or rows.block_cells(z1) // (rows.processes() if divided else 1), divided)


class _Halve(torch.autograd.Function):
    """Max-pool by 2 along time; the gradient is written in one pass, to the first of two equal steps."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        even = z.shape[1] // 2 * 2
        first, second = z[:, 0:even:2], z[:, 1:even:2]
        ctx.save_for_backward(first >= second)
        ctx.shape = z.shape
        return torch.maximum(first, second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (ahead,) = ctx.saved_tensors
        out = gradient.new_empty(ctx.shape)
        even = ctx.shape[1] // 2 * 2
        torch.mul(gradient, ahead, out=out[:, 0:even:2])
        torch.mul(gradient, ~ahead, out=out[:, 1:even:2])
        out[:, even:] = 0
        return out


def pyramid(loss: Callable[[Tensor, Tensor], Tensor], z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean of ``loss`` over a temporal pyramid: max-pool by 2 while T > 1, without a term at T = 1.

    ``loss`` may return several values at once, which then share the pooling.
    """
    terms = []
    while z1.shape[1] > 1:
        terms.append(loss(z1, z2))
        z1, z2 = _Halve.apply(z1), _Halve.apply(z2)
    return torch.stack(terms).mean(0) if terms else loss(z1, z2) * 0


class _UnitInTime(torch.autograd.Function):
    """Rows (B, T C) of unit norm in which each channel has unit norm along time; few passes over a large map."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        (wide,) = rows.full_precision(z)
        inverse = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12).reciprocal()
        ctx.save_for_backward(z, inverse)
        return (wide * (inverse * z.shape[2] ** -0.5)).flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        z, inverse = ctx.saved_tensors
        gradient = gradient.view(z.shape)
        unit = z * inverse
        along = torch.einsum("btc,btc->bc", gradient, unit)[:, None]
        out = torch.addcmul(gradient, unit, along, value=-1).mul_(inverse * z.shape[2] ** -0.5)
        return out.to(z.dtype)


def flatten(z: Tensor, pool: Literal["time_cosine", "max", "mean"]) -> Tensor:
    """Return unit rows (B, d) whose dot products are the similarities of the identity levels.

    ``time_cosine`` is the mean over channels of the cosine over time: it sees whether two samples run in step.
    """
    if pool == "time_cosine":
        return _UnitInTime.apply(z)
    if pool not in ("max", "mean"):
        raise ValueError(f"pool '{pool}'; allowed: time_cosine, max, mean")
    (wide,) = rows.full_precision(z)
    return functional.normalize(wide.amax(1) if pool == "max" else wide.mean(1), dim=1)


@rows.without_autocast
def identity(
    z1: Tensor,
    z2: Tensor,
    ids: Tensor,
    *,
    temperature: float = 0.1,
    mode: Literal["code", "clean"] = "code",
    pool: Literal["time_cosine", "max", "mean"] = "time_cosine",
    self_in_denominator: bool = True,
) -> Tensor:
    """Return the trial or patient contrast: positives are *different* samples with the same id, across views.

    Args:
        z1, z2: (B, T, C), or (B, d) unit rows that `flatten` made of them.
        ids: (B,), globally unique codes of trials or patients; or (L, B), several kinds of ids that share the
            similarities and give (L,) losses.
        temperature: of the cosine.
        mode: ``code`` takes only the earlier index of a pair as row anchor and the later as column anchor, so that
            the value depends on the order of the batch; ``clean`` takes all ordered pairs in both directions.
        pool: how the cosine deals with time.
        self_in_denominator: keep the sample's own other view among the candidates (as published).
    """
    u1, u2 = (flatten(z, pool) if z.ndim == 3 else z for z in (z1, z2))
    kinds = [pairs.group(one, u1, own=self_in_denominator, later=mode == "code") for one in torch.atleast_2d(ids)]
    if u1.shape[1] < len(u1):
        ways = [
            [rows.contrast(a, b, kind, rows.per_pair, temperature=temperature) for a, b in ((u1, u2), (u2, u1))]
            for kind in kinds
        ]
    else:
        # The scores take less room than the embeddings: all kinds and both directions share them.
        scores = u1 @ u2.T / temperature
        whole = slice(0, len(u1))
        ways = [[rows.quotient(*rows.per_pair(s, kind(whole))) for s in (scores, scores.T)] for kind in kinds]
    # Both directions have as many pairs, so either both exist or none.
    losses = torch.stack([(forward + backward) / 2 for forward, backward in ways])
    return losses[0] if ids.ndim == 1 else losses


def total(levels: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the levels.

    Raises:
        ValueError: weights that do not sum to 1 or name other levels.
    """
    if set(levels) != set(weights):
        raise ValueError(f"weights for {sorted(weights)}; expected exactly {sorted(levels)}")
    if abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"weights sum to {sum(weights.values()):g}; expected 1")
    return torch.stack([levels[name] * weights[name] for name in levels]).sum()
