"""Feature transformation: harder positives by extrapolation, new negatives by interpolation, on keys in memory.

    q' = l q + (1 - l) k,    k' = l k + (1 - l) q,    l = 1 + Beta(2, 2)
    n' = b n + (1 - b) n_other,    b = Beta(1.6, 1.6)

InfoNCE of q' with k' against all n', none of them brought back to unit length.

Source: Zhu et al. 2021; as in the released code the query is the extrapolated one against negatives too, and memory
gets the keys as they are. Deliberate differences: each pair has a number of its own, which the code draws once a batch
or once a channel, and so has each negative; a mixture with a key of the query's own patient is no negative.
"""

from __future__ import annotations

from medssl.objectives.latent import extrapolated, interpolated, symmetric_beta
from medssl.objectives.memory import memory_contrast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.mochi import anchors, memory, remember
from medssl.pretrain.recipes.recipe import Losses, Recipe


def step(net: Net, batch: Batch) -> Losses:
    """Return InfoNCE of the transformed, and the positives' mean score; then put the keys into memory."""
    options = net.options
    q, k = net.project(batch.views[0]), net.teach(batch.views[1])
    keys, ignore = net.memory.columns(batch.patient)
    held = min(net.memory.pushed, len(net.memory))  # what is empty mixes with nothing
    keys, ignore = keys[:held].clone(), ignore[:, :held]
    pulled, pulled_to = q, k
    if options.extrapolate is not None:
        factor = 1 + symmetric_beta(net.draws.fork(10).normal(2), options.extrapolate)
        pulled, pulled_to = extrapolated(q, k, factor)
    if options.interpolate is not None and held:
        normal = net.directions(3, held)  # memory is the same on all processes, and so are its mixtures
        order = normal[2].argsort()
        keys = interpolated(keys, symmetric_beta(normal[:2].T, options.interpolate), order)
        ignore = ignore | ignore[:, order]
    positive = (pulled.float() * pulled_to.float()).sum(1)
    loss = memory_contrast(
        pulled,
        k,
        keys,
        temperature=net.params.temperature,
        ignore=ignore,
        anchors=anchors(net, ignore),
        positive=positive,
    )
    remember(net, batch, k)
    return {"loss": loss, "positive": positive.mean()}


RECIPE = Recipe(
    step,
    positives="a view and the teacher's key of another, pushed apart, against mixtures of keys in memory",
    objective="InfoNCE with extrapolated positives and interpolated negatives",
    source="Zhu 2021",
    memory=memory,
    momentum=lambda options, progress: options.momentum,
    duplicates="its memory knows patients, not near-duplicates",
)
