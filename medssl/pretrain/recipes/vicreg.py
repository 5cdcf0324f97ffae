"""VICReg: two views agree, each dimension keeps its spread, and no two dimensions say the same.

Source: Bardes et al. 2022 (VICReg), equation 6, with the scales of the released code: the invariance is a mean over
dimensions where the paper has a sum, the variance a mean over views. Both are over the whole batch of all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.data import Batch
from medssl.pretrain.net import Net
from medssl.pretrain.recipes.recipe import Losses, Recipe

LEAST_VARIANCE = 1e-4  # added before the root, whose slope at 0 is infinite


@without_autocast
def variance_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a view's dimensions lack of a standard deviation of 1, and how much they repeat each other.

        mean_k max(0, 1 - sqrt(var_k + 1e-4)),   sum_{k != l} cov_kl² / d

    Args:
        z: (N, d) rows, not normalised, at least two.

    Source: Bardes et al. 2022 (VICReg), equations 1 to 4; both divide by N - 1.
    """
    (z,) = full_precision(z)
    covariance = torch.cov(z.T).view(z.shape[1], -1)
    variance = covariance.diagonal()
    lacking = (1 - (variance + LEAST_VARIANCE).sqrt()).relu().mean()
    return lacking, (covariance.square().sum() - variance.square().sum()) / z.shape[1]


@without_autocast
def invariance(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean squared difference of two views (N, d), over dimensions too."""
    z1, z2 = full_precision(z1, z2)
    return (z1 - z2).square().mean()


def step(net: Net, batch: Batch) -> Losses:
    """Return the weighted sum of the three terms, and each; variance is the mean over views, covariance the sum."""
    options = net.options
    z1, z2 = (net.gather(z) for z in net.project_all(batch.views, unit=False))
    (lacking1, repeated1), (lacking2, repeated2) = variance_and_covariance(z1), variance_and_covariance(z2)
    terms = {
        "invariance": invariance(z1, z2),
        "variance": (lacking1 + lacking2) / 2,
        "covariance": repeated1 + repeated2,
    }
    return {"loss": torch.stack([getattr(options, name) * term for name, term in terms.items()]).sum(), **terms}


RECIPE = Recipe(
    step,
    positives="two views of a sample; no negatives",
    objective="VICReg: invariance, variance, covariance",
    source="Bardes 2022",
    duplicates="it has no negatives to take them out of",
)
