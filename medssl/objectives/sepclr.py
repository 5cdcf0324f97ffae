"""SepCLR: one code of what everybody has, another of what only patients have, and nothing of the one in the other.

Source: Louiset et al. 2024 (Separating common from salient patterns with contrastive representation learning).
Letters: N samples, d dimensions of a code. Kernels are exp(-|x - y|² / (2 * 0.5)).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, quotient, without_autocast

TWICE_VARIANCE = 2 * 0.5


def _exponents(x: Tensor) -> Tensor:
    """Return minus the squared distances (N, N) over twice the variance."""
    length = x.square().sum(1)
    return -(length[:, None] + length - 2 * x @ x.T).clamp_min(0) / TWICE_VARIANCE


def alignment(x: Tensor, y: Tensor | None = None, counted: Tensor | None = None) -> Tensor:
    """Return A: the mean over samples, of those ``counted`` (N,), of |x - y|² / (2 * 0.5); ``y`` None: 0."""
    squared = (x if y is None else x - y).square().sum(1) / TWICE_VARIANCE
    counted = torch.ones_like(squared, dtype=torch.bool) if counted is None else counted
    return quotient(torch.where(counted, squared, 0), counted.to(squared.dtype))


def uniformity(x: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Return U: the logarithm of the mean kernel over two different samples, of those ``pairs`` (N, N) that count."""
    other = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    pairs = other if pairs is None else pairs & other
    some = pairs.any()
    exponents = _exponents(x).masked_fill(~pairs & some, -torch.inf)
    return torch.where(some, exponents.flatten().logsumexp(0) - pairs.sum().clamp_min(1).to(x.dtype).log(), 0)


def joint_entropy(c: Tensor, s: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Return k-JEM, mean_i log mean_j K(s_i, s_j) K(c_i, c_j): a kernel estimate of minus their joint entropy.

    The pair of a sample with itself counts; of others those of ``pairs`` (N, N).
    """
    own = torch.eye(len(c), dtype=torch.bool, device=c.device)
    pairs = torch.ones_like(own) if pairs is None else pairs | own
    exponents = (_exponents(c) + _exponents(s)).masked_fill(~pairs, -torch.inf)
    return (exponents.logsumexp(1) - pairs.sum(1).to(c.dtype).log()).mean()


class Terms(NamedTuple):
    """What SepCLR adds up, each unweighted."""

    common: Tensor
    salient: Tensor
    uninformed: Tensor
    joint: Tensor


@without_autocast
def sepclr(
    common: tuple[Tensor, Tensor], salient: tuple[Tensor, Tensor], sick: Tensor, *, group: Tensor | None = None
) -> Terms:
    """Return the four terms of two views.

        common       A(c1, c2) + U(c1) + U(c2)
        salient      A(s1, s2 | sick) + U(s1') + U(s2'), where s' is s of the sick and 0 of the healthy
        uninformed   [ A(0, s1 | healthy) + A(0, s2 | healthy) ] / 2
        joint        k-JEM of s and c, the mean of two views

    Args:
        common: (N, d) unit codes of either view.
        salient: (N, e) codes of either view, not unit.
        sick: (N,) 1, 0 for the healthy, NaN = unknown: such samples are in ``common`` and ``joint`` alone.
        group: (N,) ids; two samples of one group are not told apart.

    Returns:
        Zeros that carry a gradient where nobody is to be told apart.

    Source: Louiset et al. 2024, read against the released code.
    """
    c, s = full_precision(*common), full_precision(*salient)
    apart = torch.ones(len(sick), len(sick), dtype=torch.bool, device=sick.device)
    apart = apart if group is None else group[:, None] != group
    some = (apart & ~torch.eye(len(sick), dtype=torch.bool, device=sick.device)).any()
    known, patients, healthy = sick.isfinite(), sick == 1, sick == 0
    masked = [torch.where(patients[:, None], x, 0) for x in s]
    told = apart & known & known[:, None]
    terms = Terms(
        common=alignment(c[0], c[1]) + uniformity(c[0], apart) + uniformity(c[1], apart),
        salient=alignment(s[0], s[1], patients) + uniformity(masked[0], told) + uniformity(masked[1], told),
        uninformed=(alignment(s[0], counted=healthy) + alignment(s[1], counted=healthy)) / 2,
        joint=(joint_entropy(c[0], s[0], apart) + joint_entropy(c[1], s[1], apart)) / 2,
    )
    return Terms(*(term * some for term in terms))
