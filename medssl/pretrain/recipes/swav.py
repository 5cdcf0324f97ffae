"""SwAV with multi-crop: the code of one view is predicted from every other crop.

Source: Caron et al. 2020, as used by Wolf et al. 2024: 2 whole views and 6 small crops, 500 prototypes, temperature
0.1, Sinkhorn with eps 0.05 and 3 rounds, no queue. Prototypes are held fixed for the first
``pretrain.swav.freeze_steps`` *steps* (the public code counts epochs by mistake).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.recipes.recipe import Losses, Recipe

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast


def step(net: Contrast, batch: Batch) -> Losses:
    """Return the swapped prediction over all crops."""
    assert net.prototypes is not None
    if net.training:
        net.prototypes.renormalise()
    params = net.params.swav
    views = [batch.v1, batch.v2, *batch.crops.unbind(1)]
    scores = [net.gather(net.prototypes(net.project(view))) for view in views]
    loss = O.multi_crop(
        scores, targets=2, temperature=net.params.temperature, eps=params.eps, iterations=params.iterations
    )
    return {"loss": loss}


SWAV = Recipe(step, prototypes=True, duplicates="it predicts codes and has no negatives to take them out of")
