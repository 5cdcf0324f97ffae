"""AdaInf and GenView: views of generated samples beside the real ones, by quality and in a mild proportion.

    g_i = (1 - m) v2_i + m v2_j,    m = reach * amount(cos(z2_i, z2_j))
    L = (repeat * NT-Xent(v1, v2) + weighted NT-Xent(v1, g)) / (repeat + 1)

j is the nearest other sample of the trial, else of the patient, else of the batch. A pair with a mixture that is nearer
to j than to i counts less.

Source: Wang et al. 2024 (AdaInf: ``repeat``, 10 real samples for a generated one), Li et al. 2024 (GenView: amounts and
weights). Deliberate differences: both generate by a diffusion model, and nothing is generated here: a view is mixed
with another of the batch, which has seen no patient that training has not. So an amount follows how near the two are,
where GenView's follows the share of the foreground, and the mate is the background. AdaInf weakens random views beside
generated samples: take half the strength, ``pretrain.view_strength: 0.5``.
"""

from __future__ import annotations

from medssl import objectives as O
from medssl.objectives.adainf import amount, mates, mixed_contrast, quality
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted mean, the terms of the real and of the generated, and the mean share of a mate."""
    options, t, second, shown = net.options, net.params.temperature, batch.second, batch.views[1]
    z1, z2 = net.project_all(batch.views)
    every, patient = net.gather(z2), net.gather(batch.patient)
    same = [ids[:, None] == net.gather(ids) for ids in (second.row, second.trial, second.patient)]
    cosines = (z2 @ every.T).detach().float()
    mate = mates(cosines, sample=same[0], trial=same[1], patient=same[2])
    share = options.reach * amount(cosines.gather(1, mate[:, None])[:, 0])
    m = share.to(shown.dtype).view(-1, *[1] * (shown.ndim - 1))
    g = net.gather(net.project((1 - m) * shown + m * net.gather(shown)[mate]))
    mate, first = net.gather(mate), net.gather(z1)
    real = O.nt_xent(first, every, temperature=t, group=patient)
    weight = quality(g, first, every[mate], options.gamma)
    made = mixed_contrast(first, g, temperature=t, weight=weight, patient=patient, other=patient[mate])
    loss = (options.repeat * real + made) / (options.repeat + 1)
    return {"loss": loss, "real": real, "generated": made, "mixed": share.mean()}


RECIPE = Recipe(
    step,
    positives="two views of a sample, and a mixture of a view with the nearest of its trial, patient or batch",
    objective="NT-Xent, with mixtures weighted by quality",
    source="Wang 2024, Li 2024",
    duplicates="its mixtures are of two samples, which may be of two classes",
)
