"""SimCLR: two views of a sample against all other patients.

Source: Chen et al. 2020. Windows of one patient are never each other's negatives (ours), so that masking
near-duplicates matters only where they are of different patients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.recipes.recipe import Losses, Recipe

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast


def step(net: Contrast, batch: Batch) -> Losses:
    """Return the NT-Xent of the batch, or its decoupled form where ``pretrain.decoupled`` says so."""
    z1, z2 = (net.gather(net.project(v)) for v in (batch.v1, batch.v2))
    loss = O.dcl if net.params.decoupled else O.nt_xent
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate)
    return {"loss": loss(z1, z2, temperature=net.params.temperature, group=group, duplicates=duplicates)}


SIMCLR = Recipe(step)
