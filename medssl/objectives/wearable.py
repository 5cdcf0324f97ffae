"""Participant contrast of the wearable foundation models: cross-view keys from a momentum branch."""

from __future__ import annotations

from torch import Tensor

from medssl.objectives import pairs
from medssl.objectives.pairs import Duplicates
from medssl.objectives.rows import contrast, full_precision, softmax, without_autocast


@without_autocast
def info_nce(
    q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor, *, temperature: float = 0.04, duplicates: Duplicates | None = None
) -> Tensor:
    """Return half the sum of InfoNCE of view 1 against the keys of view 2 and of view 2 against those of view 1.

    Args:
        q1, q2: (N, d) unit rows of the online branch, one participant a row.
        k1, k2: (N, d) unit rows of the momentum branch for the same views; they get no gradient.
        temperature: 0.04 in the paper.
        duplicates: near-duplicates among the segments of different participants.

    Source: Abbaspourazad et al. 2024. The key of a view comes from the *other* view: same-view keys only test how
    slowly the momentum branch moves.
    """
    q1, q2, k1, k2 = full_precision(q1, q2, k1, k2)
    back = duplicates and duplicates._replace(first=duplicates.second, second=duplicates.first)
    ahead, behind = (pairs.cured(pairs.cross(q1), d, cross=True) for d in (duplicates, back))
    forward = contrast(q1, k2.detach(), ahead, softmax, temperature=temperature)
    backward = contrast(q2, k1.detach(), behind, softmax, temperature=temperature)
    return (forward + backward) / 2
