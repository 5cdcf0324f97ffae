"""SupReMix: contrast by a number, against mixtures of embeddings whose labels lie in between.

Source: Wu et al. 2023 (Mixup your own pairs).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.objectives.pairs import Cells
from medssl.objectives.rows import full_precision, quotient, softmax, without_autocast

Magnify = Literal["none", "linear", "squared"]


def between(y: Tensor, uniform: Tensor, *, window: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns j and k with ``y_j < y_i < y_k``, both nearer than ``window``, and which count: (N, K) each.

    Where a row has no more than K such pairs it gets each of them once, else one of each K-th part of them.

    Args:
        y: (N,) labels; infinite where unknown.
        uniform: (N, K) in [0, 1), to choose by.
        window: in the unit of ``y``.
    """
    order = y.argsort()
    ordered = y[order].contiguous()
    # Labels below and above a row's, within the window, are two runs of the sorted ones.
    lower, above = (torch.searchsorted(ordered, y - window, right=True), torch.searchsorted(ordered, y, right=True))
    lowers, uppers = torch.searchsorted(ordered, y) - lower, torch.searchsorted(ordered, y + window) - above
    number, most = (lowers * uppers)[:, None], uniform.shape[1]
    nth = torch.arange(most, device=y.device)
    valid = (nth < number) & y.isfinite()[:, None]
    drawn = ((nth + uniform) * number / most).long().minimum(number - 1)
    pair, width = torch.where(number > most, drawn, nth) * valid, uppers.clamp_min(1)[:, None]
    j, k = lower[:, None] + pair // width, above[:, None] + pair % width
    return order[j * valid], order[k * valid], valid


@without_autocast
def supremix(
    z: Tensor,
    y: Tensor,
    *,
    temperature: float,
    window: float,
    share: Tensor | None,
    uniform: Tensor | None,
    magnify: Magnify = "linear",
) -> Tensor:
    """Return the supervised contrast of rows by their labels, with mixed negatives and positives of each row.

        L_i = -mean_{p in P_i} [ z_i p / t - log sum_{c in P_i u N_i} w_ic exp(z_i c / t) ]

    P_i are other rows of equal label, and mixtures of a row below and one above that have label y_i. N_i are rows of
    other labels k, and mixtures ``a z_i + (1 - a) z_k`` with label ``a y_i + (1 - a) y_k``. Mixtures carry no gradient
    and are not made unit again: being shorter, they count less.

    Args:
        z: (N, d) unit rows, such as two views of each sample.
        y: (N,) labels, binned so that some are equal; NaN = unknown, such rows take no part.
        temperature: divides the dot products.
        window: how far the two rows of a mixed positive may be from it, exclusive.
        share: (N, N) a of the mixture of row i with row k; None: no mixed negatives.
        uniform: (N, K) in [0, 1), which choose at most K mixed positives of a row; None: none.
        magnify: w of a column whose label is ``e`` away: 1, ``e + 1`` or ``e² + 1``.

    Returns:
        The mean over rows with a positive and a negative; without any a zero that carries a gradient.

    Source: Wu et al. 2023, rules read from the released code. Deliberate differences: one log-sum-exp of real and mixed
    columns, where the code takes two different maxima; the mean over |P| positives, where it divides by |P| + 1; mixed
    positives are drawn where there are many.
    """
    (z,) = full_precision(z)
    known = y.isfinite()
    y = torch.where(known, y, torch.inf).to(z.dtype)
    real, fixed = z @ z.T, z @ z.detach().T
    known_pair = known[:, None] & known & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    away = torch.where(known_pair, (y[:, None] - y).abs(), 0)
    same, other = known_pair & (away == 0), known_pair & (away > 0)
    scores, positive, candidate, distance = [real], [same], [known_pair], [away]
    if share is not None:
        share = share.to(z.dtype)
        # The dot product with a mixture is the mixture of dot products: no mixture is ever made.
        scores.append(share * fixed.diagonal()[:, None] + (1 - share) * fixed)
        positive.append(torch.zeros_like(same))
        candidate.append(other)
        distance.append((1 - share) * away)
    if uniform is not None:
        j, k, valid = between(y, uniform.to(z.dtype), window=window)
        low, high = torch.where(valid, y[j], 0), torch.where(valid, y[k], 1)
        a = torch.where(valid, (high - y.nan_to_num(posinf=0)[:, None]) / (high - low), 0)
        scores.append(a * fixed.gather(1, j) + (1 - a) * fixed.gather(1, k))
        positive.append(valid)
        candidate.append(valid)
        distance.append(torch.zeros_like(a))
    e = torch.cat(distance, 1)
    push = {"none": torch.ones_like(e), "linear": e + 1, "squared": e.square() + 1}[magnify]
    some = other.any(1, keepdim=True)
    cells = Cells((torch.cat(positive, 1) & some).to(z.dtype), torch.cat(candidate, 1), push)
    return quotient(*softmax(torch.cat(scores, 1) / temperature, cells))
