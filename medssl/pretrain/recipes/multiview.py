"""Several views of a sample in one term: MV-DHEL, whose denominators stay inside one view, or MV-InfoNCE.

Source: Koromilas et al. 2025. Windows of one patient are never each other's negatives (ours).
"""

from __future__ import annotations

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss over all views."""
    z = [net.gather(one) for one in net.project_all(batch.views)]
    loss = O.mv_dhel if net.options.loss == "dhel" else O.mv_info_nce
    return {"loss": loss(z, temperature=net.params.temperature, group=net.gather(batch.patient))}


RECIPE = Recipe(
    step,
    positives="all pairs of `views` views of a sample, 4 by default",
    objective="MV-DHEL or MV-InfoNCE",
    source="Koromilas 2025",
    views=lambda options: Views(options.views),
    duplicates="its denominators know patients, not near-duplicates",
)
