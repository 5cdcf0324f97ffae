"""ColloSSL: devices worn at one moment are each other's positives, and devices at other moments negatives.

    -log( P / (P + Q) ),   P = sum_p exp(a p / t),   Q = sum_q exp(a q / t) / MMD(a, q)

A device is a group of channels of one store: leads, electrodes, sensors. The encoder takes samples with all channels;
of a device it sees that one's, and zeros for the others. Which device is near another is the maximum mean discrepancy
of their standardised magnitudes (root mean square over a device's channels) in the batch. A channel that is constant or
not finite is absent from its sample, and a device without channels takes no part: the next nearest stands in. Negatives
are one other moment a device and sample, drawn anew at each step, never a neighbour in the same recording.

Source: Jain et al. 2022 (ColloSSL). Deliberate differences: no device has an encoder of its own; ``whole`` pulls a
sample with all its devices to the mean of what these say alone, without gradient there, because it is such samples that
the exported encoder embeds (0: as published; then use it on one device at a time); each device has a random view of its
own, where the paper has none. The sign of the cosine is the paper's, not the public code's (`group_contrast`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.objectives import collossl as O
from medssl.objectives.rows import quotient
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, Views


def shown(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return which channels each device has, (D, C).

    Raises:
        ValueError: a channel that samples do not have, or views that mix channels.
    """
    options: Any = params.options
    if params.views in ("leads", "wearable_ppg"):
        raise ValueError(f"pretrain.views: {params.views} mixes channels, so a device would see others; take others")
    known = {name: k for k, name in enumerate(sizes.channels)} | {k: k for k in range(sizes.shape[0])}
    out = torch.zeros(len(options.devices), sizes.shape[0], dtype=torch.bool)
    for row, (device, channels) in zip(out, options.devices.items(), strict=True):
        if absent := [c for c in channels if c not in known]:
            have = ", ".join(sizes.channels) or f"0 to {sizes.shape[0] - 1}"
            raise ValueError(f"pretrain.options.devices.{device}: no channel {absent[0]}; samples have: {have}")
        row[[known[c] for c in channels]] = True
    return {"shown": out}


def step(net: Net, batch: Batch) -> Losses:
    """Return the contrast of each anchor plus what teaches the encoder whole samples, and each."""
    options, device = net.options, net.state["shown"]
    number = len(device)
    flat = batch.x.flatten(2)
    recorded = flat.isfinite().all(2) & (flat.amax(2) > flat.amin(2))  # (B, C)
    seen = torch.cat([recorded[:, None] & device, recorded[:, None] & device.any(0)], 1)  # the last: all of them
    parts = [
        torch.where(s.view(*s.shape, *[1] * (v.ndim - 2)), v, 0)
        for s, v in zip(seen.unbind(1), batch.views, strict=False)
    ]
    z = torch.stack(net.project_all(parts), 1)
    draws = net.draws.fork(10)
    local = (batch.row, batch.trial, batch.patient, z, seen.any(2), draws.uniform(3, number))
    row, trial, patient, z, present, uniform = (net.gather(t) for t in local)
    # The order of the batch decides nothing.
    order = row.argsort()
    row, trial, patient, z, present, uniform = (t[order] for t in (row, trial, patient, z, present, uniform))
    near = O.distances(net.gather(O.magnitudes(batch.x, seen[:, :number]))[order], present[:, :number])
    allowed = (trial[:, None] != trial) | ((row[:, None] - row).abs() > 1)
    if options.others == "patients":
        allowed = allowed & (patient[:, None] != patient)
    devices, present = z[:, :number], present[:, :number]
    moment, some = O.elsewhere(uniform[:, 0], allowed, present)
    negatives = devices[moment, torch.arange(number, device=z.device)]
    anchors = [k for k, name in enumerate(options.devices) if options.anchor in (None, name)]
    terms = []
    for a in anchors:
        pull, push = O.chosen(near, present, a, options.selection, uniform[:, 1:])
        given = (devices[:, a], devices, negatives, pull, push * some)
        terms.append(O.group_contrast(*given, temperature=net.params.temperature))
    contrast = torch.stack(terms).mean()
    mean = normalize((devices * present[..., None]).sum(1), dim=1).detach()
    valid = present.any(1).to(z.dtype)
    whole = quotient((1 - (z[:, -1] * mean).sum(1)) * valid, valid) if options.whole else z.new_zeros(())
    return {"loss": contrast + options.whole * whole, "contrast": contrast, "whole": whole}


RECIPE = Recipe(
    step,
    positives="the nearest other device (group of channels) of the same moment",
    objective="InfoNCE over devices, negatives weighted by nearness",
    source="Jain 2022 (ColloSSL)",
    state=shown,
    views=lambda options: Views(len(options.devices) + (options.whole > 0)),
    partners="its positives are other devices of the same moment",
    duplicates="its negatives know moments, not near-duplicates",
)
