"""Contrast of devices worn at one moment, and how far apart two devices' recordings are.

Letters: N moments, D devices, P and Q of them as positives and negatives, d embedding channels, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, softplus

from medssl.objectives.rows import full_precision, quotient, without_autocast

WIDTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 100.0)
STEPS, WINDOWS = 128, 128  # at most so many of each decide how near two devices are
NEAREST, FARTHEST = 1e-4, 1e6  # no two devices are nearer or farther: 1 / MMD is a weight


@without_autocast
def group_contrast(
    anchor: Tensor,
    positives: Tensor,
    negatives: Tensor,
    positive_weight: Tensor,
    negative_weight: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """Return the mean over moments of ``-log( P / (P + Q) )``, 0 where no moment has both.

        P = sum_p w_p exp(a p / t),  Q = sum_q w_q exp(a q / t)

    Args:
        anchor: (N, d) unit rows of the anchor's device.
        positives: (N, P, d) unit rows of other devices at the same moment.
        negatives: (N, Q, d) unit rows of other devices at other moments.
        positive_weight, negative_weight: (N, P) and (N, Q) of 0 or more; 0 leaves one out. A moment's common factor
            changes nothing.
        temperature: divides the dot products.

    Source: Jain et al. 2022 (ColloSSL), equation of the multi-view contrastive loss. The public code takes the loss
    class of the cosine, its negative, without turning the sign, and so pushes positives away; here they attract.
    """
    anchor, positives, negatives = full_precision(anchor, positives, negatives)
    pull, some = _log_sum(anchor, positives, positive_weight, temperature)
    push, others = _log_sum(anchor, negatives, negative_weight, temperature)
    valid = some & others
    loss = softplus(torch.where(valid, push - pull, 0))
    return quotient(torch.where(valid, loss, 0), valid.to(loss.dtype))


def _log_sum(anchor: Tensor, other: Tensor, weight: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the logarithm (N,) of the weighted sum of exponentials, and where it has any; elsewhere it is finite."""
    scores = torch.einsum("nd,nkd->nk", anchor, other) / temperature
    weight = weight.to(scores.dtype)
    some = (weight > 0).any(1)
    weight = torch.where(some[:, None], weight, 1)
    return (scores + weight.log()).logsumexp(1), some


@torch.no_grad()
@without_autocast
def mmd(windows: Tensor, present: Tensor) -> Tensor:
    """Return (D, D) squared maximum mean discrepancies of devices, at least `NEAREST`.

        mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k = sum_s exp( -|x - y|^2 / (2 s T) ),  s of `WIDTHS`

    Args:
        windows: (N, D, T) of one number a step. Standardise each device, as gains are no distance.
        present: (N, D) bool; what is absent does not count. infinite where a device is always absent.

    Source: Gretton et al. 2012, equation 5 (biased), with the kernels of ColloSSL's public code. Deliberate difference:
    squared distances are means over time, not sums, so that the widths serve windows of any length.
    """
    (windows,) = full_precision(windows)
    number, devices, steps = windows.shape
    flat = torch.where(present[..., None], windows, 0).transpose(0, 1).flatten(0, 1)  # device after device
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square() / steps
    kernel = torch.zeros_like(distance)
    for width in WIDTHS:
        kernel += torch.exp(distance / (-2 * width))
    share = present.T.to(kernel.dtype)  # (D, N)
    share = share / share.sum(1, keepdim=True).clamp_min(1)
    blocks = kernel.view(devices, number, devices, number)
    means = torch.einsum("an,anbm,bm->ab", share, blocks, share)
    own = means.diagonal()
    never = ~present.any(0)
    found = (own[:, None] + own - 2 * means).clamp_min(NEAREST)
    return found.masked_fill(never[:, None] | never, torch.inf)


def magnitudes(x: Tensor, seen: Tensor) -> Tensor:
    """Return (B, D, T): the root mean square of the channels ``seen`` (B, D, C) of samples (B, C, ...)."""
    power = x.float().nan_to_num().flatten(2).square()
    found = torch.einsum("bct,bdc->bdt", power, seen.float()) / seen.sum(2).clamp_min(1)[..., None]
    return adaptive_avg_pool1d(found.sqrt(), min(STEPS, found.shape[2]))


def distances(windows: Tensor, present: Tensor) -> Tensor:
    """Return (D, D) discrepancies of windows (N, D, T), each device standardised over those where it is ``present``.

    Of many windows `WINDOWS` are looked at, evenly spread.
    """
    some = torch.arange(min(len(windows), WINDOWS), device=windows.device) * len(windows) // min(len(windows), WINDOWS)
    windows, present = windows[some], present[some]
    share = (present / present.sum(0).clamp_min(1))[..., None]
    centred = windows - (windows.mean(2, keepdim=True) * share).sum(0, keepdim=True)
    deviation = (centred.square().mean(2, keepdim=True) * share).sum(0, keepdim=True).sqrt()
    return mmd(centred / deviation.clamp_min(1e-6), present)


def elsewhere(uniform: Tensor, allowed: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each moment and device (N, D) another moment where it is present, evenly drawn, and if there is any.

    Args:
        uniform: (N, D) random numbers in [0, 1).
        allowed: (N, N) bool, which other moments may be drawn.
        present: (N, D) bool.
    """
    moments, some = [], []
    for u, there in zip(uniform.unbind(1), present.unbind(1), strict=True):
        count = (allowed & there).cumsum(1)
        chosen = (u * count[:, -1]).long().clamp_max(count[:, -1] - 1) + 1
        moments.append(torch.searchsorted(count, chosen[:, None]).squeeze(1).clamp_max(len(u) - 1))
        some.append(count[:, -1] > 0)
    return torch.stack(moments, 1), torch.stack(some, 1)


def chosen(near: Tensor, present: Tensor, anchor: int, selection: str, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return which devices (N, D) are an anchor's positives and which its negatives, as weights; 0: neither.

    Args:
        near: (D, D) distances.
        present: (N, D) bool.
        anchor: number of its device.
        selection: see `medssl.config.recipes.devices.Collossl`.
        uniform: (N, 2, D) random numbers in [0, 1), which ``random`` orders devices by.
    """
    near = near.clamp_max(FARTHEST)  # a device that was not among those looked at comes last, but comes
    usable = present & present[:, anchor, None]
    usable[:, anchor] = False
    random = selection == "random"
    order = uniform if random else near[anchor].expand(len(present), 2, -1)
    rank = order.masked_fill(~usable[:, None], torch.inf).argsort(dim=2, stable=True).argsort(2)  # (N, 2, D)
    first, last = {"all": (0, len(near)), "hard": (1, 3)}.get(selection, (0, 1))
    negative = (rank[:, 1] >= first) & (rank[:, 1] < last) & usable
    weight = torch.ones_like(near[anchor]) if random else 1 / near[anchor]
    return ((rank[:, 0] == 0) & usable).float(), torch.where(negative, weight, 0)
