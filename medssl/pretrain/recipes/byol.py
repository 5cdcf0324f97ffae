"""BYOL, SimSiam and DirectPred: one view's embedding is predicted from the other's, without negatives.

Source: Grill et al. 2020 (BYOL: a teacher whose momentum goes to 1 by a cosine), Chen and He 2021 (SimSiam: no teacher,
``momentum: null``), Tian et al. 2021 (DirectPred: ``predictor: direct``), Wang et al. 2021 (DirectCopy: ``copy``).
There is no temperature.
``std`` is the spread of unit outputs a dimension, times the root of their number: near 1, and 0 where they collapse.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.config import Pretrain
from medssl.models.heads import Projection
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe, Sizes, groups, projection


@without_autocast
def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean of ``2 - 2 cos`` of rows (n, d) of any length; the target carries no gradient.

    Source: Grill et al. 2020 (BYOL), equation 2. SimSiam's ``-cos`` differs by a constant and a factor of 2.
    """
    p, z = full_precision(predicted, target.detach())
    return 2 - 2 * (normalize(p, dim=1) * normalize(z, dim=1)).sum(1).mean()


@without_autocast
def correlation(f: Tensor) -> Tensor:
    """Return the mean (d, d) of ``f f'`` over rows (n, d), uncentred."""
    return f.T @ f / len(f)


@torch.no_grad()
def direct(correlation: Tensor, *, eps: float) -> Tensor:
    """Return the predictor (d, d) that DirectPred sets: ``U (sqrt(s / max s) + eps) U'`` of the correlation's U s U'.

    Args:
        correlation: (d, d) moving average of ``f f'`` over inputs f of the predictor, uncentred.
        eps: added to each eigenvalue.

    Source: Tian et al. 2021 (DirectPred).
    """
    values, vectors = torch.linalg.eigh((correlation + correlation.T).double() / 2)
    values = values.clamp_min(0)
    scale = (values / values.max().clamp_min(torch.finfo(values.dtype).tiny)).sqrt() + eps
    return ((vectors * scale) @ vectors.T).to(correlation.dtype)


@torch.no_grad()
def direct_copy(correlation: Tensor, *, eps: float) -> Tensor:
    """Return the predictor ``F / |F|_2 + eps I`` of DirectCopy, which needs no eigenvectors.

    Source: Wang et al. 2021 (DirectCopy).
    """
    norm = torch.linalg.matrix_norm(correlation, 2).clamp_min(torch.finfo(correlation.dtype).tiny)
    return correlation / norm + eps * torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)


def heads(sizes: Sizes, params: Pretrain) -> dict[str, nn.Module]:
    """Return the projection, and the predictor unless it follows from the correlation."""
    options: Any = params.options
    out: dict[str, nn.Module] = {"projection": projection(sizes, params, layers=options.projection_layers)}
    if options.predictor == "mlp":
        dim, norm = params.projection_dim, params.projection_norm
        out["predictor"] = Projection(dim, dim, hidden=options.predictor_hidden, norm=norm)
    return out


def state(sizes: Sizes, params: Pretrain) -> dict[str, Tensor]:
    """Return correlation and predictor (d, d) of the forms that learn none."""
    options: Any = params.options
    if options.predictor == "mlp":
        return {}
    return {"correlation": torch.zeros([params.projection_dim] * 2), "predictor": torch.eye(params.projection_dim)}


def predicted(net: Net, z: Tensor) -> Tensor:
    """Return the prediction (B, d) from projections (B, d)."""
    if net.options.predictor == "mlp":
        out: Tensor = net.heads["predictor"](z)
        return out
    return z @ net.state["predictor"].T.to(z.dtype)


def step(net: Net, batch: Batch) -> Losses:
    """Return the distance between predictions and targets, both ways. Views pass one by one, as published."""
    first, second = (net.project(view, unit=False) for view in batch.views)
    if net.teacher is None:
        targets = [second, first]
    else:
        targets = [net.teach(view, unit=False) for view in reversed(batch.views)]
    pairs = zip((first, second), targets, strict=True)
    loss = torch.stack([cosine_distance(predicted(net, z), target) for z, target in pairs]).mean()
    with torch.no_grad():
        whole = net.gather(torch.cat([first, second], 1)).float().unflatten(1, (2, -1)).flatten(0, 1)
        if net.options.predictor != "mlp":
            rho = net.options.rho
            net.state.put("correlation", rho * net.state["correlation"] + (1 - rho) * correlation(whole))
        spread = normalize(whole, dim=1).std(0).mean() * math.sqrt(whole.shape[1])
    return {"loss": loss, "std": spread}


def momentum(options: Any, progress: float) -> float | None:
    """Return how much of the teacher stays: from ``momentum`` at the start to all at the end."""
    if options.momentum is None:
        return None
    return float(1 - (1 - options.momentum) * (1 + math.cos(math.pi * progress)) / 2)


def after(net: Net, step: int) -> None:
    """Set the predictor from the correlation."""
    options = net.options
    if options.predictor != "mlp":
        set_to = direct if options.predictor == "direct" else direct_copy
        net.state.put("predictor", set_to(net.state["correlation"], eps=options.eps))


def faster_predictor(net: Net, params: Pretrain) -> list[dict[str, Any]]:
    """Return the parameters, the predictor's with their own learning rate and schedule."""
    options = net.options
    if options.predictor != "mlp":
        return groups(net, params)
    *others, mine = groups(net, params, apart="predictor")
    mine |= {"weight_decay": params.weight_decay, "lr": params.lr * options.predictor_lr}
    return [*others, mine if options.predictor_decay else mine | {"schedule": lambda step, usual: 1.0}]


RECIPE = Recipe(
    step,
    positives="two views of a sample, one predicted from the other; no negatives",
    objective="BYOL; SimSiam with `momentum: null`; DirectPred with `predictor: direct`",
    source="Grill 2020, Chen 2021, Tian 2021",
    heads=heads,
    state=state,
    momentum=momentum,
    after=after,
    groups=faster_predictor,
    duplicates="it has no negatives to take them out of",
)
