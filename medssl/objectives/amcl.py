"""Adaptive contrast: each pair has a temperature of its own.

Letters: N rows, M columns, d embedding channels, e channels of what the temperature is computed from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast


@without_autocast
def adaptive(
    rows: Tensor,
    columns: Tensor,
    key_rows: Tensor,
    key_columns: Tensor,
    *,
    temperatures: tuple[float, float],
    penalty: float,
    group: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE of row i and column i with ``t_ij = low + (high - low) sigmoid(key_i key_j)``, regularised.

        mean_i -log( exp(s_ii / t_ii) / sum_j exp(s_ij / t_ij) )  +  penalty mean_ij ( d/2 log t_ij + 1 / t_ij )

    Args:
        rows, columns: (N, d) unit rows of two views.
        key_rows, key_columns: (N, e).
        temperatures: low and high, above 0.
        penalty: 0.1 / d is a start; alone it would have all temperatures at 2 / d.
        group: (N,) ids; other columns of the same group do not count.

    Source: Wang et al. 2024 (AMCL); the form is normative here, the public code takes positive pairs alone.
    """
    rows, columns, key_rows, key_columns = full_precision(rows, columns, key_rows, key_columns)
    low, high = temperatures
    t = low + (high - low) * torch.sigmoid(key_rows @ key_columns.T)
    scores = rows @ columns.T / t
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    counted = torch.ones_like(own) if group is None else own | (group[:, None] != group)
    valid = (counted & ~own).any(1)
    loss = scores.masked_fill(~counted, -torch.inf).logsumexp(1) - scores.diagonal()
    regular = rows.shape[1] / 2 * t.log() + 1 / t
    anchors = torch.where(valid, loss, 0).sum() / valid.sum().clamp_min(1)
    cells = counted & valid[:, None]
    return anchors + penalty * torch.where(cells, regular, 0).sum() / cells.sum().clamp_min(1)
