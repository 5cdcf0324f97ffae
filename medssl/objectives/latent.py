"""Embeddings made from embeddings: positives and negatives that no view of a sample gave.

Letters: n keys, S made for each, P prototypes, Q rows of a set, d embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives.rows import full_precision, without_autocast


def symmetric_beta(normal: Tensor, alpha: float) -> Tensor:
    """Return numbers (...) in [0, 1] of the distribution Beta(alpha, alpha), from standard normal ones (..., 2).

    Args:
        normal: two independent numbers for each.
        alpha: above 1/2; 1 is uniform, larger is closer to 1/2.

    Raises:
        ValueError: ``alpha`` is 1/2 or less.

    Source: Ulrich 1984, with its two uniform numbers read from length and angle of two normal ones.
    """
    if not alpha > 0.5:
        raise ValueError(f"alpha is {alpha:g}; expected more than 0.5")
    x, y = normal.unbind(-1)
    length = torch.hypot(x, y).clamp_min(torch.finfo(normal.dtype).tiny)
    return (1 + (-length.square() / (2 * alpha - 1)).expm1().neg().sqrt() * x / length) / 2


@without_autocast
def extrapolated(q: Tensor, k: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a query and its key pushed apart along the line through them: ``l q + (1 - l) k``, ``l k + (1 - l) q``.

    Their product is ``2 l (1 - l) (1 - q.k) + q.k``, at most ``q.k`` for l of 1 or more: a harder positive. They are
    no unit vectors.

    Args:
        q: (n, d) unit queries.
        k: (n, d) unit keys; no gradient reaches them.
        factor: (n,) l, one number a pair: one a channel breaks the formula.

    Source: Zhu et al. 2021.
    """
    q, k = full_precision(q, k.detach())
    by = factor.to(q.dtype)[:, None]
    return by * q + (1 - by) * k, by * k + (1 - by) * q


@torch.no_grad()
def interpolated(z: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """Return rows (Q, d) mixed with each other, ``b z_i + (1 - b) z_order(i)``, not unit: negatives never seen.

    Args:
        z: (Q, d).
        share: (Q,) b of each row.
        order: (Q,) a permutation.

    Source: Zhu et al. 2021.
    """
    by = share.to(z.dtype)[:, None]
    return by * z + (1 - by) * z[order]


@without_autocast
@torch.no_grad()
def spherical_kmeans(z: Tensor, number: int, *, rounds: int = 10) -> Tensor:
    """Return unit centres (P, d) of unit rows (Q, d), without random numbers.

    It starts from rows evenly spaced in the order given. A centre that no row is nearest to stays where it was.

    Raises:
        ValueError: more centres than rows.
    """
    if not 1 <= number <= len(z):
        raise ValueError(f"{number} centres of {len(z)} rows; expected 1 to {len(z)}")
    (z,) = full_precision(z)
    centres = z[torch.arange(number, device=z.device) * len(z) // number]
    for _ in range(rounds):
        sums = torch.zeros_like(centres).index_add_(0, (z @ centres.T).argmax(1), z)
        norm, least = sums.norm(dim=1, keepdim=True), torch.finfo(z.dtype).eps
        centres = torch.where(norm > least, sums / norm.clamp_min(least), centres)
    return centres


def farthest(k: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far ``k`` may go to ``other`` until it is as near to that as to ``own``, and how far that is away.

    On the great circle, with omega the whole angle and K = (1 - own.other) / k.(own - other), the first is
    ``atan(sin omega / (K + cos omega))``; divided by omega it is the ``t_max`` of the paper.

    Args:
        k, own, other: (..., d) unit; k is at least as near to own as to other.

    Returns:
        Both angles (...), in radians.

    Source: Shah et al. 2023 (HaLP).
    """
    omega = (k * other).sum(-1).clamp(-1, 1).arccos()
    lead, apart = (k * (own - other)).sum(-1), 1 - (own * other).sum(-1)
    # K is a quotient with a denominator of 0 where k is equally near to both: multiplied out, nothing is divided.
    return torch.atan2(lead * omega.sin(), apart + lead * omega.cos()).clamp_min(0), omega


@without_autocast
@torch.no_grad()
def hallucinated(k: Tensor, prototypes: Tensor, towards: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors (n, S, d) on the way from each key to other prototypes, and which of them (n, S) to keep.

    Kept are those that are still nearest to the prototype that the key is nearest to.

    Args:
        k: (n, d) unit keys.
        prototypes: (P, d) unit, two or more.
        towards: (n, S) int64 in [0, P - 1), which of the other prototypes.
        share: (n, S) in [0, 1], of the way to the border between both prototypes.

    Source: Shah et al. 2023 (HaLP). Its code steps along the circle by sines over ``sin omega``; the
    same points are found here with the direction at ``k``, which also serves where a key is at its target.
    """
    k, prototypes = full_precision(k, prototypes)
    nearest = (k @ prototypes.T).argmax(1)
    own, other = prototypes[nearest][:, None], prototypes[(nearest[:, None] + 1 + towards) % len(prototypes)]
    start = k[:, None]
    limit, _ = farthest(start, own, other)
    angle = (share.to(k.dtype) * limit)[..., None]
    direction = normalize(other - (other * start).sum(-1, keepdim=True) * start, dim=-1)
    made = normalize(angle.cos() * start + angle.sin() * direction, dim=-1)
    return made, (made @ prototypes.T).argmax(-1) == nearest[:, None]


@without_autocast
def pull(q: Tensor, made: Tensor, kept: Tensor, *, temperature: float, number: Tensor | None = None) -> Tensor:
    """Return the mean of ``(1 - q.g) / t`` over the positives g that are kept; 0 without any.

    Args:
        q: (n, d) unit queries.
        made: (n, S, d) unit positives, which get no gradient.
        kept: (n, S) bool.
        temperature: t.
        number: () what to divide by; None: how many are kept.
    """
    q, made = full_precision(q, made.detach())
    away = (1 - torch.einsum("nd,nsd->ns", q, made.to(q.dtype))) / temperature
    count = kept.sum() if number is None else number
    return (away * kept).sum() / count.to(q.dtype).clamp_min(torch.finfo(q.dtype).tiny)
