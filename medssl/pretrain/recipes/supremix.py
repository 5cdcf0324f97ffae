"""SupReMix: samples by a number, each against mixtures with others whose labels lie around its own.

Source: Wu et al. 2023 (Mixup your own pairs); see `medssl.objectives.supremix`. ``pretrain.labels`` names one number.
Two views of a sample and all samples of its bin are positives, of its own patient too. Samples without the label take
no part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.config import Pretrain
from medssl.objectives.supremix import supremix
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, one_projection


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return a projection.

    Raises:
        ValueError: not one label, or one whose values all fall into one bin.
    """
    options: Any = params.options
    if len(params.labels) != 1:
        raise ValueError(f"pretrain.labels {list(params.labels)}: recipe supremix reads one number; name it")
    known = sizes.label[sizes.label.isfinite()]
    if len(known) and len((known / options.bin).round().unique()) < 2:
        low, high = float(known.min()), float(known.max())
        raise ValueError(
            f"pretrain.options.bin {options.bin:g}: all values of {params.labels[0]}, {low:g} to {high:g}, fall into "
            "one bin, and nobody is told apart; take a smaller one"
        )
    return one_projection(sizes, params)


def step(net: Net, batch: Batch) -> Losses:
    """Return the loss of two views; what is mixed with what, each sample draws."""
    options = net.options
    z = torch.cat([net.gather(one) for one in net.project_all(batch.views)])
    y = torch.cat([net.gather(one.label[:, 0]) for one in (batch, batch.second)])
    draws = net.draws.fork(10)

    def of_rows(drawn: Tensor) -> Tensor:
        return net.gather(drawn).transpose(0, 1).flatten(0, 1)  # (B, 2, M) of samples -> (2N, M) of both views

    share = uniform = None
    if options.mixed_positives:
        uniform = of_rows(draws.uniform(2, options.mixed_positives))
    if options.share is not None:
        # Of a + b - 1 uniform numbers the a-th smallest is of Beta(a, b).
        a, b = options.share
        share = of_rows(draws.uniform(2, len(z), a + b - 1).kthvalue(a).values)
    loss = supremix(
        z,
        (y / options.bin).round(),
        temperature=net.params.temperature,
        window=options.window,
        share=share,
        uniform=uniform,
        magnify=options.magnify,
    )
    return {"loss": loss}


RECIPE = Recipe(
    step,
    positives="samples of an equal number, and mixtures of a lower and a higher one; negatives are mixed too",
    objective="SupCon, farther labels weigh more",
    source="Wu 2023",
    heads=heads,
    duplicates="labels say whom it tells apart",
)
