"""COMET in its order-independent form: four levels on the feature map, all four weights count.

Source: Wang et al. 2023. Differences from the published step (`comet_code` is that one):

- the identity levels take all ordered pairs in both directions;
- the encoder sees random views of the sample where the published one sees the sample twice and leaves the difference
  to dropout, which cannot stand for the noise of another recording;
- dot products of the dense levels are divided by the square root of the width, so that they do not grow with it;
- the two unmasked passes serve both identity levels and the two masked ones both dense levels. This changes which
  draws of dropout are shared and no expectation; ``share_views: false`` takes a pair of passes per level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl import objectives as O
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe
from medssl.views.masks import MASKS

Pair = tuple[Tensor, Tensor]


def masked(net: Net, batch: Batch, stream: int) -> Pair:
    """Return two passes of the sample itself under masks of their own."""
    width = int(net.encoder.inputs.out_features)  # type: ignore[union-attr, arg-type]
    first, second = (
        net.features(batch.x, MASKS[net.options.mask](net.draws.fork(stream + k), batch.x.shape[2], width))
        for k in range(2)
    )
    return first, second


def identity_levels(net: Net, batch: Batch, pairs: list[Pair], mode: str) -> Losses:
    """Return the patient and trial losses of one pair of passes, or of a pair each."""
    ids = torch.stack([net.gather(batch.patient), net.gather(batch.trial)])
    temperature, pool = net.params.temperature, net.options.pool
    values: list[Tensor] = []
    for k, pair in enumerate(pairs):
        u1, u2 = (net.gather(O.comet.flatten(z, pool)) for z in pair)
        mine = ids if len(pairs) == 1 else ids[k : k + 1]
        values += O.comet.identity(u1, u2, mine, temperature=temperature, mode=mode).unbind()  # type: ignore[arg-type, no-untyped-call]
    return {"patient": values[0], "trial": values[1]}


def dense_levels(net: Net, pairs: list[Pair]) -> Losses:
    """Return the sample and observation losses of one pair of passes, or of a pair each.

    The observation level contrasts within a sample, so only the sample level needs the whole batch of all processes.
    """
    if len(pairs) == 1 and net.whole:
        both = O.comet.pyramid(lambda a, b: torch.stack([O.comet.sample(a, b), O.comet.observation(a, b)]), *pairs[0])
        return {"sample": both[0], "observation": both[1]}
    whole = [net.gather(z) for z in pairs[0]]
    return {
        "sample": O.comet.pyramid(O.comet.sample, *whole),
        "observation": O.comet.pyramid(O.comet.observation, *pairs[-1]),
    }


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of the four levels, and each."""
    times = 1 if net.options.share_views else 2
    first, second = batch.views
    whole = [(net.features(first), net.features(second)) for _ in range(times)]
    hidden = [masked(net, batch, 10 + 2 * k) for k in range(times)]
    scale = hidden[0][0].shape[2] ** -0.25
    levels = {
        **identity_levels(net, batch, whole, "clean"),
        **dense_levels(net, [(a * scale, b * scale) for a, b in hidden]),
    }
    weights = {name: net.options.levels.get(name, 0.0) for name in levels}
    return {"loss": O.comet.total(levels, weights), **levels}


# Of both recipes.
DUPLICATES = "neighbouring, similar samples of a trial are its positives"
PARTNERS = "its levels pull to samples of the trial and the patient (pretrain.options.levels)"

RECIPE = Recipe(
    step,
    positives="same step, window, trial, patient",
    objective="four levels, all weighted, order-independent",
    source="Wang 2023",
    heads=lambda sizes, params: {},
    averaged=True,
    dense=True,
    partners=PARTNERS,
    duplicates=DUPLICATES,
)
