"""Energy: views of a sample are pulled together and all samples spread over the sphere, each by a term of its own.

Alignment and uniformity are what InfoNCE is made of (Wang and Isola 2020); with ``contrast`` they are added to it, and
``cross`` spreads one view's samples from the other's, as in Fahim et al. 2024 against the gap between two
encoders; there each weighs 1, after ``warmup_steps`` of contrast alone. Other samples of the same patient are never
spread (ours). The curve ``gap`` is the distance between the views' centroids.
"""

from __future__ import annotations

import torch

from medssl import objectives as O
from medssl.objectives.energy import alignment, gap, uniformity
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of terms, those that have a weight, and the gap. Of one patient alone it is 0."""
    options, t = net.options, net.options.sharpness
    x, y = (net.gather(z) for z in net.project_all(batch.views))
    group = net.gather(batch.patient)
    of = {
        "contrast": lambda: O.nt_xent(x, y, temperature=net.params.temperature, group=group),
        "alignment": lambda: alignment(x, y) * (group != group[:1]).any(),
        "uniformity": lambda: (uniformity(x, t=t, group=group) + uniformity(y, t=t, group=group)) / 2,
        "cross": lambda: uniformity(x, y, t=t, group=group),
    }
    terms = {name: term() for name, term in of.items() if getattr(options, name)}
    warm = net.step >= options.warmup_steps
    counted = [getattr(options, name) * term for name, term in terms.items() if warm or name == "contrast"]
    return {"loss": torch.stack(counted).sum(), "gap": gap(x, y), **terms}


RECIPE = Recipe(
    step,
    positives="two views of a sample; windows of one patient are not spread",
    objective="alignment + uniformity, with `contrast` and `cross` added to NT-Xent",
    source="Wang 2020, Fahim 2024",
    duplicates="its terms of uniformity know patients, not near-duplicates",
)
