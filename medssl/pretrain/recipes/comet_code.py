"""COMET as its authors' code has it, for parity: use it with ``pretrain.sampler: comet_fixed``.

Source: Wang et al. 2023, read against the released code. The sample itself twice, different only by dropout, for the
identity levels; two masked passes for the dense ones, on raw dot products; only the earlier index of a pair is an
anchor; the weights count on the two dense levels alone, and a level of weight 0 is left out. Passes are shared between
levels of a kind unless ``share_views: false`` asks for the eight of the release.
"""

from __future__ import annotations

import torch

from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.comet import DUPLICATES, PARTNERS, dense_levels, identity_levels, masked
from medssl.pretrain.recipes.recipe import Losses, Recipe, Views


def step(net: Net, batch: Batch) -> Losses:
    """Return the published sum of the four levels, and each."""
    times = 1 if net.options.share_views else 2
    whole = [(net.features(batch.x), net.features(batch.x)) for _ in range(times)]
    levels = {
        **identity_levels(net, batch, whole, "code"),
        **dense_levels(net, [masked(net, batch, 10 + 2 * k) for k in range(times)]),
    }
    weights = {name: net.options.levels.get(name, 0.0) for name in levels}
    terms = [
        value if name in ("patient", "trial") else weights[name] * value
        for name, value in levels.items()
        if weights[name] > 0
    ]
    return {"loss": torch.stack(terms).sum(), **levels}


RECIPE = Recipe(
    step,
    positives="the same, as released, for parity; with `sampler: comet_fixed` the released batches",
    objective="as released",
    source="Wang 2023",
    heads=lambda sizes, params: {},
    views=lambda options: Views(0),
    averaged=True,
    dense=True,
    partners=PARTNERS,
    duplicates=DUPLICATES,
)
