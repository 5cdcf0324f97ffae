"""GroCo: a sample's other views should be sorted behind its nearest negatives, by a differentiable sorting network.

Source: Shvetsova et al. 2023 (GroCo: learning by sorting), on Petersen et al. 2022. Windows of one patient are never
each other's negatives (ours). There is no temperature; at a steepness of 1 the loss cannot fall to 0.
"""

from __future__ import annotations

from medssl.objectives.groco import groco
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss over all views."""
    options = net.options
    z = [net.gather(one) for one in net.project_all(batch.views)]
    group = net.gather(batch.patient)
    return {"loss": groco(z, negatives=options.negatives, steepness=options.steepness, group=group)}


RECIPE = Recipe(
    step,
    positives="`views` views of a sample, sorted behind its nearest negatives",
    objective="GroCo: cross-entropy of a soft sort",
    source="Shvetsova 2023, Petersen 2022",
    views=lambda options: Views(options.views),
    duplicates="it sorts negatives of other patients, near-duplicates too",
)
