"""ConR: push apart what a regression takes for alike although it is not.

Source: Keramati et al. 2024 (ConR: contrastive regularizer for deep imbalanced regression).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, softmax, without_autocast


@without_autocast
def conr(
    z: Tensor,
    y: Tensor,
    predicted: Tensor,
    *,
    temperature: float,
    omega: float,
    eta: float,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the mean over rows of r_i L_i, against rows of another label that have nearly the same prediction.

        L_i = -mean_{p in P} log[ exp(s_ip / t) / ( sum_{p' in P} exp(s_ip' / t) + sum_{q in N} S_iq exp(s_iq / t) ) ]

    P are other rows whose label is at most ``omega`` away. N are rows whose label is farther and whose prediction is
    not; S_iq is ``r_i exp(eta |y_i - y_q|)``.

    Args:
        z: (N, d) unit rows.
        y: (N,) labels; NaN = unknown, such rows take no part.
        predicted: (N,) what the regression says, without gradient.
        temperature: divides the dot products.
        omega: what is alike, in the unit of ``y``.
        eta: how much more a row is pushed the farther its label is, per unit of ``y``.
        weight: (N,) r, such as how rare a label is; None: 1.

    Returns:
        The mean over rows with one of P and one of N; without any a zero that carries a gradient.

    Source: Keramati et al. 2024. Deliberate difference from the released code: cells that are in neither set are left
    out, where it counts each as exp(0) in the denominator and divides by zero for a row without P.
    """
    (z,) = full_precision(z)
    y, predicted = y.to(z.dtype), predicted.detach().to(z.dtype)
    r = torch.ones_like(y) if weight is None else weight.to(z.dtype)
    number = torch.arange(len(z), device=z.device)

    def cells(block: slice) -> Cells:
        away = (y[block, None] - y).abs()
        near = (away <= omega) & (number[block, None] != number)
        confused = (away > omega) & ((predicted[block, None] - predicted).abs() <= omega)
        # What is pushed e^60 times already leaves the others no part; more would not fit into float32.
        push = (r[block, None] * (eta * away).clamp_max(60).exp()).clamp_min(torch.finfo(z.dtype).tiny)
        pulled = near & confused.any(1, keepdim=True)
        return Cells(pulled * r[block, None], near | confused, torch.where(confused, push, 1))

    def weighed(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        value, valid = softmax(scores, found)
        return value * found.weight.amax(1), valid

    return contrast(z, None, cells, weighed, temperature=temperature)
