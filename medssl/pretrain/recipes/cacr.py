"""CACR: among a sample's views those count most that are far, among other samples those that are near.

Source: Zheng et al. 2021 (CACR: contrastive attraction and contrastive repulsion). The weights carry no gradient, as in
the paper's large experiments and unlike its small ones, where they do. Other samples of the same patient are never
pushed away (ours). With two views attraction is plain alignment. The loss is negative.
"""

from __future__ import annotations

from medssl.objectives.cacr import attraction, repulsion
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of both, and both. Where all are of one patient there is no attraction either."""
    options, group = net.options, net.gather(batch.patient)
    z = [net.gather(one) for one in net.project_all(batch.views)]
    pull = attraction(z, far=options.far) * (group != group[:1]).any()
    push = repulsion(z, near=options.near, group=group)
    return {"loss": options.attraction * pull + options.repulsion * push, "attraction": pull, "repulsion": push}


RECIPE = Recipe(
    step,
    positives="`views` views of a sample, 4 by default, the farther the more",
    objective="CACR: attraction and repulsion by distance",
    source="Zheng 2021",
    views=lambda options: Views(options.views),
    duplicates="its repulsion knows patients, not near-duplicates",
)
