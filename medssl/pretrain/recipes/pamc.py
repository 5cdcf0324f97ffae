"""PamC: views of a sample attract each other, and patients, each one node, repel each other at a linear cost.

Source: Kulatilleke et al. 2022 (PAMC: parameter-free meta-node approximation). Deliberate differences: its graph joins
nearest neighbours and its clusters are learned; here a sample's views are joined, and the windows of a patient are the
cluster. Samples that nothing is joined to are left out, where the code adds the logarithm of 1e-10.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe

LEAST_NORM = 1e-3  # of a meta-node, whose rows may cancel; bounds the gradient there


@without_autocast
def meta_contrast(z: Tensor, edges: Tensor, cluster: Tensor, *, scale: float = 1.0) -> Tensor:
    """Return ``mean_c log sum_c' exp(scale cos(m_c, m_c')) - mean_i log sum_{j next to i} exp(scale cos(z_i, z_j))``.

    A meta-node m_c is the sum of a cluster's rows; its cosine with itself counts as 0.

    Args:
        z: (N, d) unit rows.
        edges: (2, E) rows that are joined; an edge counts for its first row.
        cluster: (N,) ids. Of one cluster alone there is nothing to tell apart, and the loss is 0.
        scale: multiplies cosines, so it is one over a temperature.

    Source: Kulatilleke et al. 2022 (PAMC), with hard clusters.
    """
    (z,) = full_precision(z)
    first, second = edges
    joined = torch.exp(scale * (z[first] * z[second]).sum(1))
    pull = torch.zeros(len(z), dtype=z.dtype, device=z.device).index_add(0, first, joined)
    some = pull > 0
    ids, place = cluster.unique(return_inverse=True)
    meta = torch.zeros(len(ids), z.shape[1], dtype=z.dtype, device=z.device).index_add(0, place, z)

    def log_sum(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        return scores.masked_fill(~found.candidate, 0).logsumexp(1), torch.ones_like(scores[:, 0])

    meta = normalize(meta, dim=1, eps=LEAST_NORM)
    push = contrast(meta, None, pairs.apart(meta), log_sum, temperature=1 / scale)
    return push - torch.where(some, pull, 1).log().sum() / some.sum().clamp_min(1) * (len(ids) > 1)


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss, in which a sample's two views are joined both ways."""
    z = torch.cat([net.gather(one) for one in net.project_all(batch.views)])
    row = torch.arange(len(z), device=z.device)
    edges = torch.stack([row, row.roll(len(z) // 2)])
    return {"loss": meta_contrast(z, edges, net.gather(batch.patient).repeat(2), scale=net.options.scale)}


RECIPE = Recipe(
    step,
    positives="two views of a sample; patients repel each other as sums of their windows",
    objective="PamC: contrast of meta-nodes",
    source="Kulatilleke 2022",
    duplicates="its meta-nodes are of patients, near-duplicates of others too",
)
