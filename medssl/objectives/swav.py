"""SwAV: predict from one crop of an item the prototypes that another crop of it was assigned to.

Scores are dot products of unit embeddings with unit prototypes, which the caller normalises again before each step;
they lie in [-1, 1]. Source: Caron et al. 2020.

Letters: N items, K prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from medssl.objectives.rows import full_precision, without_autocast, zero


@without_autocast
@torch.no_grad()
def sinkhorn(scores: Tensor, *, eps: float, iterations: int) -> Tensor:
    """Return codes (N, K) that spread the items evenly over the prototypes, without gradient.

    Each round scales prototypes to N/K items and then items to 1, so that rows sum to 1 exactly and prototypes only
    nearly; many rounds with small ``eps`` balance both. It works on logarithms, where no ``exp`` of scores / ``eps``
    overflows and no prototype that nobody is near divides by zero.

    Args:
        scores: (N, K); N should be K/4 or more, or an even spread means nothing.
        eps: sharpness, smaller is closer to one prototype an item.
        iterations: rounds, 1 or more.

    Raises:
        ValueError: ``eps`` or ``iterations`` too small.
    """
    if not eps > 0 or iterations < 1:
        raise ValueError(f"eps is {eps:g} and iterations {iterations}; expected eps above 0 and 1 round or more")
    (scores,) = full_precision(scores)
    # Totals of N/K instead of 1 would shift all logarithms alike, which the next step over items undoes.
    log = scores / eps
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()


@without_autocast
def swav(
    scores1: Tensor,
    scores2: Tensor,
    *,
    temperature: float = 0.1,
    eps: float = 0.05,
    iterations: int = 3,
    queue: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of each view's codes with the other view's prediction: `multi_crop` of two views."""
    return multi_crop([scores1, scores2], temperature=temperature, eps=eps, iterations=iterations, queue=queue)


@without_autocast
def multi_crop(
    scores: Sequence[Tensor],
    *,
    targets: int = 2,
    temperature: float = 0.1,
    eps: float = 0.05,
    iterations: int = 3,
    queue: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of every target crop's codes with the prediction of every other crop.

        L = mean_{c < targets, v != c}  mean_i  - sum_k q_c,ik log softmax(scores_v / temperature)_ik

    Two targets and six small crops have 2 x 7 = 14 terms. Codes carry no gradient; each crop's prediction does.

    Args:
        scores: (N, K) each, of crops of the same items, those that give codes first.
        targets: how many crops give codes.
        temperature: of the prediction.
        eps, iterations: of `sinkhorn`.
        queue: scores of further items that take part in the assignment only, for batches small against K: (Q, K) for
            all targets or (targets, Q, K). Keep embeddings and score them with the prototypes of the moment; rows
            gathered from other processes serve as well. None: the batch alone (Wolf et al. 2024).

    Raises:
        ValueError: fewer than 2 crops, crops of different shapes, or no or too many targets.
    """
    shapes = [tuple(s.shape) for s in scores]
    if len(shapes) < 2 or len(set(shapes)) > 1 or not 1 <= targets <= len(shapes):
        raise ValueError(
            f"{targets} targets of crops {shapes}; expected 2 or more (N, K) of one shape, 1 target or more"
        )
    crops = full_precision(*scores)
    if not len(crops[0]):
        return torch.stack([zero(crop) for crop in crops]).sum()
    codes = []
    for c, crop in enumerate(crops[:targets]):
        extra = None if queue is None else queue if queue.ndim == 2 else queue[c]
        rows = crop.detach() if extra is None else torch.cat([*full_precision(extra.detach()), crop.detach()])
        codes.append(sinkhorn(rows, eps=eps, iterations=iterations)[-len(crop) :])
    # Terms of one crop share its prediction: their codes are added first.
    total = torch.stack(codes).sum(0)
    terms = []
    for v, crop in enumerate(crops):
        others = total - codes[v] if v < targets else total
        terms.append(-(others * log_softmax(crop / temperature, dim=1)).sum(1).mean())
    return torch.stack(terms).sum() / (targets * (len(crops) - 1))
