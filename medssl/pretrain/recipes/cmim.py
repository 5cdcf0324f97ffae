"""cMIM: an auto-encoder whose codes say much of the sample and are told apart from others, without random views.

    L = -E[log p(x|z) + (log q(z|x) + log P(z)) / 2] + weight * mean_i log(1 + mean_j e^{(s_ij - 1) / t})

z is drawn from q(z|x), a normal distribution by two heads; p(x|z) is one of deviation 1 around what the decoder makes
of z; P is standard normal; s are cosines of codes, j other patients (ours). It is the loss of mutual information
machines, -(log q + log p + log P + log P(x)) / 2, where P(x) is estimated by p(x|z). As the mean over j stands for
their sum, the contrast does not grow with the batch, and a code is its own positive.

Source: Livne 2025 (cMIM), Livne et al. 2019 (MIM); from the literature, not compared with released code. Deliberate
differences: each log-density is divided by the number of its dimensions, so that long samples outweigh codes no more
than short ones do; samples are standardised over the batch; the variance of a code is 0.01 or more, as its density has
no upper bound otherwise; the encoder is what is kept, where the paper reads embeddings inside its decoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import softplus

from medssl.config import Pretrain
from medssl.models.crops import Crops
from medssl.models.decoder import Decoder
from medssl.objectives.cmim import mutual_information, told_apart
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views, one_projection
from medssl.views.signals import part

LEAST_VARIANCE = 0.01


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the mean of the code, its variance (before it is made positive), and the decoder."""
    options: Any = params.options
    decoder = Decoder(params.projection_dim, sizes.shape, width=options.width)
    spread = nn.Linear(sizes.embedding, params.projection_dim)
    return one_projection(sizes, params) | {"spread": spread, "decoder": decoder}


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of both terms, and each, of the samples as they are, or their crops."""
    x, encoder = batch.x, net.encoder
    if isinstance(encoder, Crops):
        x = part(x, net.draws.fork(0), encoder.crop)[0]
    moments = net.gather(torch.stack([x.mean(), x.square().mean()])[None]).mean(0)
    deviation = (moments[1] - moments[0].square()).clamp_min(torch.finfo(moments.dtype).tiny).sqrt()
    embedding = net.noted("embedding", encoder(x))
    mean = net.noted("projection", net.heads["projection"](embedding)).float()
    variance = LEAST_VARIANCE + softplus(net.heads["spread"](embedding).float())
    z = mean + variance.sqrt() * net.draws.fork(10).normal(mean.shape[1])
    decoded = net.heads["decoder"](z)[..., : x.shape[-1]]  # which makes whole samples also where crops are read
    information = mutual_information((x - moments[0]) / deviation, decoded, z, mean, variance)
    apart = told_apart(net.gather(z), temperature=net.params.temperature, group=net.gather(batch.patient))
    return {"loss": information + net.options.weight * apart, "information": information, "apart": apart}


RECIPE = Recipe(
    step,
    positives="a sample and what is made again of its code; codes of other patients are told apart",
    objective="mutual information machine with a contrast of codes",
    source="Livne 2025",
    heads=heads,
    views=lambda options: Views(0),
    partners="it reads each sample as it is and pulls no two together",
    duplicates="it pulls no two samples together",
)
