"""SimCLR: two views of a sample against all other patients.

Source: Chen et al. 2020. Windows of one patient are never each other's negatives (ours), so that masking
near-duplicates matters only where they are of different patients.
"""

from __future__ import annotations

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return the NT-Xent of the batch, or its decoupled form where ``decoupled`` says so."""
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    loss = O.dcl if net.options.decoupled else O.nt_xent
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate, batch.second.duplicate)
    return {"loss": loss(z1, z2, temperature=net.params.temperature, group=group, duplicates=duplicates)}


RECIPE = Recipe(
    step,
    positives="two views of a sample; windows of one patient are no negatives",
    objective="NT-Xent, or DCL with `decoupled: true`",
    source="Chen 2020, Yeh 2022",
)
