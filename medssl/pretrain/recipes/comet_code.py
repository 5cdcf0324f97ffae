"""COMET as its authors' code has it, for parity: use it with ``pretrain.sampler: comet_fixed``.

Source: Wang et al. 2023, read against the released code. The sample itself twice, different only by dropout, for the
identity levels; two masked passes for the dense ones, on raw dot products; only the earlier index of a pair is an
anchor; the weights count on the two dense levels alone, and a level of weight 0 is left out. Passes are shared between
levels of a kind unless ``pretrain.share_views: false`` asks for the eight of the release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medssl.pretrain.data import Batch
from medssl.pretrain.recipes.comet import DUPLICATES, dense_levels, identity_levels, masked
from medssl.pretrain.recipes.recipe import Losses, Recipe

if TYPE_CHECKING:
    from medssl.pretrain.module import Contrast


def step(net: Contrast, batch: Batch) -> Losses:
    """Return the published sum of the four levels, and each."""
    times = 1 if net.params.share_views else 2
    whole = [(net.features(batch.x), net.features(batch.x)) for _ in range(times)]
    levels = {
        **identity_levels(net, batch, whole, "code"),
        **dense_levels(net, [masked(net, batch, 10 + 2 * k) for k in range(times)]),
    }
    weights = {name: net.params.levels.get(name, 0.0) for name in levels}  # type: ignore[call-overload]
    terms = [
        value if name in ("patient", "trial") else weights[name] * value
        for name, value in levels.items()
        if weights[name] > 0
    ]
    return {"loss": torch.stack(terms).sum(), **levels}


COMET_CODE = Recipe(step, averaged=True, head=False, dense=True, drawn=False, duplicates=DUPLICATES)
