"""Test-time calibration of batch normalisation, for recordings of another scanner, device or site."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class AlphaBatchNorm(nn.Module):
    """Batch normalisation with mixed statistics: ``source_weight`` of training's, the rest of the batch at hand.

    Args:
        source: a trained layer; its statistics, weight and bias are shared.
        source_weight: 1 is the layer itself in eval mode.
    """

    def __init__(self, source: _BatchNorm, source_weight: float) -> None:
        super().__init__()
        self.source, self.source_weight = source, source_weight

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...) normalised by channel, in eval mode as in training."""
        source, kept = self.source, self.source_weight
        assert source.running_mean is not None
        assert source.running_var is not None
        variance, mean = torch.var_mean(x.detach().float(), [0, *range(2, x.ndim)], correction=0)
        mean = kept * source.running_mean + (1 - kept) * mean
        variance = kept * source.running_var + (1 - kept) * variance
        return functional.batch_norm(x, mean, variance, source.weight, source.bias, eps=source.eps)


def alpha_batch_norm(module: nn.Module, *, source_weight: float = 0.9) -> nn.Module:
    """Return a copy of ``module`` in eval mode whose batch normalisation half-trusts the batch; nothing is trained.

    Give it the samples of one site or device at a time, in batches as large as memory allows: what a sample becomes
    depends on those it comes with. Small batches, or batches of one class, ask for a larger ``source_weight``. A module
    without batch normalisation gains nothing: its copy is as it was, with a warning.

    Args:
        module: an encoder; not changed.
        source_weight: share of the statistics of training in [0, 1]; toolboxes differ in which share their alpha is.

    Raises:
        ValueError: a share outside [0, 1].

    Source: alpha-BN (You et al. 2021), with the biased variance of the batch.
    """
    if not 0 <= source_weight <= 1:
        raise ValueError(f"source_weight {source_weight}: expected a share from 0 (the batch alone) to 1 (training's)")
    holder = nn.Sequential(copy.deepcopy(module))  # so that a layer by itself has a parent too
    found = 0
    for parent in list(holder.modules()):
        for name, child in list(parent.named_children()):
            # A layer that keeps no statistics of training has nothing to mix.
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                setattr(parent, name, AlphaBatchNorm(child, source_weight))
                found += 1
    if not found:
        warnings.warn(
            f"{type(module).__name__} has no batch normalisation that keeps statistics: it is left as it is",
            stacklevel=2,
        )
    return holder[0].eval()
