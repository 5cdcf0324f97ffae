"""Generated samples: which other sample is mixed in and how much of it, and how much a pair with the mixture counts.

Letters: n samples here, N in the batch, d embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, per_pair, without_autocast


@torch.no_grad()
def mates(nearness: Tensor, *, sample: Tensor, trial: Tensor, patient: Tensor) -> Tensor:
    """Return (n,) which of N samples is mixed into each of n: the nearest of its trial, else patient, else of all.

    Args:
        nearness: (n, N) cosines.
        sample, trial, patient: (n, N) bool, whether two are the same; the same sample is no mate, unless it is alone.
    """
    rank = 3.0 * patient + 3.0 * trial  # cosines differ by 2 at most
    return (nearness + rank).masked_fill(sample, -torch.inf).argmax(1)


@torch.no_grad()
def amount(nearness: Tensor) -> Tensor:
    """Return 0, 1/4, 1/2, 3/4 or 1 by the fifth of (0, 1] that a cosine lies in; 0 also below.

    Source: Li et al. 2024 (GenView), whose noise levels 0 to 400 follow the share of an image that its object fills:
    what there is less of bears less change.
    """
    return (5 * nearness).ceil().sub(1).clamp(0, 4) / 4


@torch.no_grad()
@without_autocast
def quality(generated: Tensor, own: Tensor, mate: Tensor, gamma: float) -> Tensor:
    """Return (N,) the weights ``N q_i / sum q``, with ``q = exp(gamma (cos with own - cos with mate))``.

    Args:
        generated, own, mate: (N, d) unit rows of the mixtures, of the samples, and of what was mixed in.
        gamma: 0 or more; 0 weighs all alike.

    Source: Li et al. 2024 (GenView), with the mate in place of the background.
    """
    generated, own, mate = full_precision(generated, own, mate)
    return len(own) * (gamma * ((generated * own).sum(1) - (generated * mate).sum(1))).softmax(0)


@without_autocast
def mixed_contrast(
    real: Tensor, generated: Tensor, *, temperature: float, weight: Tensor, patient: Tensor, other: Tensor
) -> Tensor:
    """Return NT-Xent of samples and their mixtures, the mean weighted over pairs.

    Args:
        real, generated: (N, d) unit rows.
        temperature: divides the cosine similarity.
        weight: (N,) of each pair, 0 or more.
        patient: (N,) of the samples.
        other: (N,) of what was mixed in. Two rows that share a patient are no negatives; a row left with none does not
            count.
    """
    z = torch.cat(full_precision(real, generated))
    number = len(z)
    of = torch.stack([patient.repeat(2), torch.cat([patient, other])])

    def cells(block: slice) -> Cells:
        column = torch.arange(number, device=z.device)
        row = column[block, None]
        positive = column == (row + number // 2) % number
        negative = (of[:, None, block, None] != of[None, :, None, :]).all(dim=1).all(dim=0)
        counted = positive & negative.any(1, keepdim=True)
        return Cells(counted * weight.to(z.dtype)[row % len(weight)], negative | positive)

    return contrast(z, None, cells, per_pair, temperature=temperature)
