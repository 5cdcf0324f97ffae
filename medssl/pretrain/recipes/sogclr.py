"""Global contrast: each sample keeps a moving average of its denominator, and with ``rho`` a temperature of its own.

Source: Yuan et al. 2022 (SogCLR), Qiu et al. 2023 (iSogCLR). Common samples get a high temperature, rare ones a low
one. ``pretrain.temperature`` is where all begin. Windows of one patient are never each other's negatives (ours). With
``pretrain.positives`` an average is also over a sample's partners, as it is over its random views.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medssl.config import Pretrain
from medssl.objectives import pairs
from medssl.objectives.pairs import Cells
from medssl.objectives.rows import contrast, each_row, full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes

CLIP = 3.0


class Global(NamedTuple):
    """What a step gives.

    Attributes:
        loss: a surrogate; only its gradient means something.
        valid: (n,) bool, samples with a negative; of the others nothing was learned.
        average: (n,) new moving averages of the samples' denominators.
        slope: (n,) gradient of each sample's objective to its temperature, less the ``rho`` of iSogCLR.
    """

    loss: Tensor
    valid: Tensor
    average: Tensor
    slope: Tensor


@without_autocast
def global_contrast(
    z1: Tensor,
    z2: Tensor,
    *,
    average: Tensor,
    seen: Tensor,
    temperature: Tensor,
    gamma: float,
    group: Tensor | None = None,
) -> Global:
    """Return ``mean_i sum_v [mean_j (exp(s_ij / t_i) / u_i) s_ij - s_ip]`` over negatives j, with u_i the average.

    Args:
        z1, z2: (n, d) unit rows, the two views.
        average: (n,) u of these samples so far.
        seen: (n,) bool, which samples have one; the others take that of this batch.
        temperature: (n,) t of each sample, 0.05 or more.
        gamma: weight of this batch in the average.
        group: (n,) ids; other samples of the same group are no negatives.

    Source: Yuan et al. 2022 (SogCLR), Qiu et al. 2023 (iSogCLR); "first time" is decided for each sample.
    """
    z = torch.cat(full_precision(z1, z2))
    t, old, known = (x.to(z.device).repeat(2) for x in (temperature.to(z.dtype), average.to(z.dtype), seen))
    cells = pairs.instance(z, group=group, decouple=True, weight=t[: len(z1)])
    scaled = z / t[:, None]

    def means(scores: Tensor, found: Cells) -> tuple[Tensor, Tensor, Tensor]:
        count = found.candidate.sum(1).to(scores.dtype)
        e = torch.where(found.candidate, scores.exp(), 0)
        return e.sum(1) / count.clamp_min(1), (e * scores).sum(1) / count.clamp_min(1), count

    now, tilt, count = each_row(scaled.detach(), z.detach(), cells, means)
    u = torch.where(known, (1 - gamma) * old + gamma * now, now)
    tiny = torch.finfo(u.dtype).tiny

    def pushed(block: slice) -> Cells:
        found = cells(block)
        return found._replace(push=(1 / (count.clamp_min(1) * u.clamp_min(tiny)))[block, None].expand_as(found.weight))

    loss = 2 * contrast(scaled, z, pushed, _surrogate)
    slope = u.clamp_min(tiny).log() - tilt / u.clamp_min(tiny)
    both = torch.stack([u, slope]).unflatten(1, (2, -1)).mean(1)
    return Global(loss, count[: len(z1)] > 0, *both)


def _surrogate(scores: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Reduce to ``t (sum_j w_ij s_ij - s_ip)`` of scores s / t, with w without gradient; t is the positive's weight."""
    assert cells.push is not None
    t = cells.weight.sum(1)
    w = torch.where(cells.candidate, cells.push * scores.detach().exp(), 0)
    return t * (w * scores).sum(1) - (cells.weight * scores).sum(1), (t > 0).to(scores.dtype)


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return average, temperature, its velocity, and whether a sample was seen, for each row of the store."""
    n = sizes.samples
    options: Any = params.options
    low, high = (0.05, math.inf) if options.rho is None else options.temperatures  # below, exponentials overflow
    if not low <= params.temperature <= high:
        raise ValueError(f"pretrain.temperature {params.temperature:g}: sogclr begins there; take {low:g} to {high:g}")
    return {
        "average": torch.zeros(n),
        "seen": torch.zeros(n, dtype=torch.bool),
        "temperature": torch.full((n,), params.temperature),
        "velocity": torch.zeros(n),
    }


def step(net: Net, batch: Batch) -> Losses:
    """Return the surrogate loss, the mean temperature and t log u; move the averages of the samples in the batch."""
    options, state = net.options, net.state
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views))
    row, group = net.gather(batch.row), net.gather(batch.patient)
    temperature = state["temperature"][row]
    found = global_contrast(
        z1,
        z2,
        average=state["average"][row],
        seen=state["seen"][row],
        temperature=temperature,
        gamma=options.gamma,
        group=group,
    )
    moved = {"average": found.average, "seen": torch.ones_like(found.valid)}
    if options.rho is not None:
        rate, (low, high) = options.temperature_rate, options.temperatures
        slope = (found.slope + options.rho).clamp(-CLIP, CLIP)
        moved["velocity"] = (1 - rate) * state["velocity"][row] + rate * slope
        moved["temperature"] = (temperature - options.temperature_lr * moved["velocity"]).clamp(low, high)
    for name, value in moved.items():
        state.put(name, torch.where(found.valid, value, state[name][row]), row)
    # The loss is a surrogate, so the averages tell how well negatives are kept apart.
    level = (temperature * found.average.clamp_min(torch.finfo(temperature.dtype).tiny).log()).mean()
    return {"loss": found.loss, "temperature": temperature.mean(), "push": level}


RECIPE = Recipe(
    step,
    positives="two views of a sample against an average over all samples",
    objective="SogCLR, or iSogCLR with `rho`",
    source="Yuan 2022, Qiu 2023",
    state=state,
    duplicates="its averages are over all samples, near-duplicates too",
)
