"""CLOOB: each view's embeddings are replaced by what a Hopfield network finds of them in the batch, then contrasted.

What is found is a mixture of like embeddings, which keeps what they have in common. InfoLOOB leaves the positive out of
its denominator and does not saturate as InfoNCE does; it has no lower bound, so the temperature stays fixed.
Source: Fürst et al. 2022 (CLOOB), InfoLOOB after Poole et al. 2019; ``retrieval: null`` is InfoLOOB alone. Deliberate
differences: views of a sample take the place of image and text; ``temperature`` is ours (paper 1/30, code 0.07), the
retrieval's sharpness is the paper's (code 14.3). Windows of one patient are never each other's negatives (ours).
"""

from __future__ import annotations

from medssl.objectives.cloob import cloob
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss of the two views."""
    x, y = (net.gather(z) for z in net.project_all(batch.views))
    group, duplicates = net.gather(batch.patient), net.duplicates(batch.duplicate, batch.second.duplicate)
    t, retrieval = net.params.temperature, net.options.retrieval
    return {"loss": cloob(x, y, temperature=t, retrieval=retrieval, group=group, duplicates=duplicates)}


RECIPE = Recipe(
    step,
    positives="two views of a sample, each as found among the batch's; windows of one patient are no negatives",
    objective="CLOOB; InfoLOOB with `retrieval: null`",
    source="Fürst 2022, Poole 2019",
)
