"""NT-Xent and its decoupled form, with groups whose members are never each other's negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives import pairs
from medssl.objectives.pairs import Duplicates
from medssl.objectives.rows import contrast, decoupled, full_precision, softmax, without_autocast


@without_autocast
def nt_xent(
    z1: Tensor, z2: Tensor, *, temperature: float, group: Tensor | None = None, duplicates: Duplicates | None = None
) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy of two views.

    Each of the 2N rows has its other view as positive and the rest as negatives.

    Args:
        z1, z2: (N, d) unit rows, the two views of the same N samples.
        temperature: divides the cosine similarity.
        group: (N,) ids. Other samples of the same group are left out of the denominator: two windows of one patient
            are neither pulled together nor pushed apart. A row left with no negative does not count.
        duplicates: near-duplicates among the samples, left out likewise or positives too, whatever their ``group``.

    Source: Chen et al. 2020 (SimCLR), equation 1; groups are ours.
    """
    z = torch.cat(full_precision(z1, z2))
    cells = pairs.cured(pairs.instance(z, group=group), duplicates)
    return contrast(z, None, cells, softmax, temperature=temperature)


@without_autocast
def dcl(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float,
    sigma: float | None = None,
    group: Tensor | None = None,
    duplicates: Duplicates | None = None,
) -> Tensor:
    """Return NT-Xent without the positive in the denominator; may be negative.

    Args:
        z1, z2, temperature: as in `nt_xent`.
        sigma: where given, positives that are far apart weigh more: ``w_i = 2 - N softmax_i(s_i / sigma)``, mean 1,
            without gradient (DCLW).
        group, duplicates: as in `nt_xent`; the pull of a row is the weighted mean over its positives.

    Source: Yeh et al. 2022, both directions.
    """
    z1, z2 = full_precision(z1, z2)
    z = torch.cat([z1, z2])
    weight = None if sigma is None else 2 - len(z1) * ((z1 * z2).sum(1) / sigma).softmax(0).detach()
    cells = pairs.cured(pairs.instance(z, group=group, decouple=True, weight=weight), duplicates, decouple=True)
    return contrast(z, None, cells, decoupled, temperature=temperature)
