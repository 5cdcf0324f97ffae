"""ISR: views of a patient are paired by what they show, and a pair counts as far as it can be trusted.

    L = sum_i r_i InfoNCE_i / sum_i r_i

First and second views of each patient in the batch are matched one to one by their embeddings; the reliability r of a
pair follows from its lead over the best row that it was not paired with. With ``pretrain.positives`` the second views
are of other trials or samples, so that beats, slices or visits are linked although nobody says which is which; without,
of the same samples. Windows of one patient are never each other's negatives (ours).

Source: specification of ISR (reliable pairs by matching), from the literature. For ``warmup_steps`` pairs are as they
were drawn, as early matches are random.
"""

from __future__ import annotations

import torch

from medssl.objectives.matching import matched, reliable
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted InfoNCE of matched views, their mean reliability, and how many stay paired as drawn."""
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    patient, drawn = net.gather(batch.patient), torch.arange(len(z1), device=z1.device)
    match, reliability = drawn, torch.ones(len(z1), device=z1.device)
    if net.step >= net.options.warmup_steps:
        match, reliability = matched(z1, z2, patient, trust=net.options.trust)
    duplicates = net.duplicates(batch.duplicate, batch.second.duplicate)
    if duplicates is not None:
        duplicates = duplicates._replace(second=duplicates.second[match])
    t = net.params.temperature
    loss = reliable(z1, z2[match], reliability, temperature=t, group=patient, duplicates=duplicates)
    return {"loss": loss, "reliability": reliability.mean(), "as_drawn": (match == drawn).float().mean()}


RECIPE = Recipe(
    step,
    positives="views of a patient that are matched, by how reliable the match is",
    objective="InfoNCE weighted by reliability",
    source="matching: Kuhn 1955",
)
