"""CLOOB: contrast that leaves the positive out of its denominator, of rows as a Hopfield network finds them in a view.

What is found is a mixture of like rows, which keeps what they have in common. Letters: n samples, d channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells, Duplicates
from medssl.objectives.rows import contrast, decoupled, full_precision, without_autocast


@without_autocast
def retrieved(rows: Tensor, memory: Tensor, *, scale: float) -> Tensor:
    """Return ``softmax(scale rows memory') memory`` as unit rows (n, d): one step of a modern Hopfield network.

    Args:
        rows: (n, d) unit rows.
        memory: (m, d) unit rows; with fewer than 64 or a high ``scale`` a row finds little but itself.
        scale: sharpness.
    """
    q, k = (x[None, None] for x in full_precision(rows, memory))
    return normalize(scaled_dot_product_attention(q, k, k, scale=scale)[0, 0], dim=1)


@without_autocast
def info_loob(
    rows: Tensor,
    columns: Tensor,
    *,
    temperature: float,
    group: Tensor | None = None,
    duplicates: Duplicates | None = None,
) -> Tensor:
    """Return ``t mean_i ( lse_{j != i} s_ij / t  -  s_ii / t )``, without lower bound.

    Args:
        rows, columns: (n, d) unit rows of the same samples.
        temperature: t.
        group: (n,) ids; other samples of the same group do not count, and a row without any other has no loss.
        duplicates: near-duplicates, left out likewise or positives too.

    Source: Fürst et al. 2022 (CLOOB), whose code multiplies by t.
    """
    rows, columns = full_precision(rows, columns)
    others = pairs.apart(rows, group)

    def cells(block: slice) -> Cells:
        found = others(block)
        own = torch.zeros_like(found.weight)
        own.diagonal(block.start).copy_(found.candidate.any(1))
        return found._replace(weight=own)

    cured = pairs.cured(cells, duplicates, cross=True, decouple=True)
    return temperature * contrast(rows, columns, cured, decoupled, temperature=temperature)


@without_autocast
def cloob(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float,
    retrieval: float | None = 8.0,
    group: Tensor | None = None,
    duplicates: Duplicates | None = None,
) -> Tensor:
    """Return InfoLOOB of both views as found in view 1, plus that of both as found in view 2, rows of the view itself.

    Args:
        x, y: (n, d) unit rows, the two views.
        temperature, group, duplicates: as in `info_loob`.
        retrieval: ``scale`` of `retrieved`; None: the rows themselves.

    Source: Fürst et al. 2022 (CLOOB); a sum, as published.
    """
    back = duplicates and duplicates._replace(first=duplicates.second, second=duplicates.first)
    terms = []
    for own, other, cure in ((x, y, duplicates), (y, x, back)):
        rows, columns = own, other
        if retrieval is not None:
            rows, columns = (retrieved(z, own, scale=retrieval) for z in (own, other))
        terms.append(info_loob(rows, columns, temperature=temperature, group=group, duplicates=cure))
    return torch.stack(terms).sum()
