"""Global contrast: each sample keeps a moving average of its denominator, and with ``rho`` a temperature of its own.

Source: Yuan et al. 2022 (SogCLR), Qiu et al. 2023 (iSogCLR). Common samples get a high temperature, rare ones a low
one. ``pretrain.temperature`` is where all begin. Windows of one patient are never each other's negatives (ours).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes

CLIP = 3.0


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return average, temperature, its velocity, and whether a sample was seen, for each row of the store."""
    n = sizes.samples
    return {
        "average": torch.zeros(n),
        "seen": torch.zeros(n, dtype=torch.bool),
        "temperature": torch.full((n,), params.temperature),
        "velocity": torch.zeros(n),
    }


def step(net: Net, batch: Batch) -> Losses:
    """Return the surrogate loss and the mean temperature; move the averages of the samples in the batch."""
    options, state = net.options, net.state
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    row, group = net.gather(batch.row), net.gather(batch.patient)
    temperature = state["temperature"][row]
    found = O.global_contrast(
        z1,
        z2,
        average=state["average"][row],
        seen=state["seen"][row],
        temperature=temperature,
        gamma=options.gamma,
        group=group,
    )
    if options.rho is not None:
        rate, (low, high) = options.temperature_rate, options.temperatures
        slope = (found.slope + options.rho).clamp(-CLIP, CLIP)
        velocity = (1 - rate) * state["velocity"][row] + rate * slope
        state.put("velocity", velocity, row)
        state.put("temperature", (temperature - options.temperature_lr * velocity).clamp(low, high), row)
    state.put("average", found.average, row)
    state.put("seen", torch.ones_like(row, dtype=torch.bool), row)
    return {"loss": found.loss, "temperature": temperature.mean()}


RECIPE = Recipe(
    step,
    positives="two views of a sample against an average over all samples",
    objective="SogCLR, or iSogCLR with `rho`",
    source="Yuan 2022, Qiu 2023",
    state=state,
    duplicates="its averages are over all samples, near-duplicates too",
)
