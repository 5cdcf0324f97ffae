"""Several views of a sample in one term: MV-DHEL, whose denominators stay inside one view, or MV-InfoNCE.

Source: Koromilas et al. 2025. Windows of one patient are never each other's negatives (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, decoupled, full_precision, log_candidates, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


@without_autocast
def mv_dhel(views: Sequence[Tensor], *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Return the mean over samples of ``-log P_i + sum_a lse_{j != i} z_i^a z_j^a / t``; may be negative.

    P_i is the sum of exp(z_i^a z_i^b / t) over the pairs a < b of a sample's views. Denominators stay inside one view.

    Args:
        views: V >= 2 tensors (B, d) of unit rows.
        temperature: divides the dot products.
        group: (B,) ids; other samples of the same group are left out of the denominators.

    Source: Koromilas et al. 2025 (Multi-View CL), with log-sum-exps added where the public code multiplies raw sums.
    """
    z = full_precision(*views)
    whole = torch.stack(z)
    first, second = torch.triu_indices(len(z), len(z), 1, device=whole.device)
    agree = ((whole[first] * whole[second]).sum(-1) / temperature).logsumexp(0)
    spread = [contrast(one, None, pairs.apart(one, group), decoupled, temperature=temperature) for one in z]
    # Either all samples have somebody to be told apart from, or none has.
    some = len(agree) > 1 if group is None else (group != group[:1]).any()
    return torch.stack(spread).sum() - agree.mean() * some


@without_autocast
def mv_info_nce(views: Sequence[Tensor], *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Return the mean over samples of ``-log 2 P_i + log sum_a sum_{(j, b) != (i, a)} exp(z_i^a z_j^b / t)``.

    Arguments as in `mv_dhel`. The denominator skips the cell itself alone, as the public code does.
    """
    number = len(views)
    # The views of a sample are rows one after another, so that a block holds all of them.
    z = torch.stack(full_precision(*views), 1).flatten(0, 1)
    ids = torch.arange(len(z), device=z.device) // number
    owner = ids if group is None else group[ids]

    def cells(block: slice) -> Cells:
        own = ids[block, None] == ids
        other = torch.ones_like(own)
        other.diagonal(block.start).fill_(False)
        return Cells((own & other).to(z.dtype), other & (own | (owner[block, None] != owner)))

    def joint(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor]:
        scores, weight, candidate = (t.unflatten(0, (-1, number)).flatten(1) for t in (scores, *found[:2]))
        pull, _ = log_candidates(scores, Cells(weight, weight > 0))
        push, _ = log_candidates(scores, Cells(weight, candidate))
        valid = (candidate & (weight == 0)).any(1)
        return torch.where(valid, push - pull, 0), valid.to(scores.dtype)

    return contrast(z, None, cells, joint, temperature=temperature, together=number)


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss over all views."""
    z = [net.gather(one) for one in net.project_all(batch.views)]
    loss = mv_dhel if net.options.loss == "dhel" else mv_info_nce
    return {"loss": loss(z, temperature=net.params.temperature, group=net.gather(batch.patient))}


RECIPE = Recipe(
    step,
    positives="all pairs of `views` views of a sample, 4 by default",
    objective="MV-DHEL or MV-InfoNCE",
    source="Koromilas 2025",
    views=lambda options: Views(options.views),
    duplicates="its denominators know patients, not near-duplicates",
)
