"""Encoders by name: `build` returns a module (B, C, ...) -> (B, embedding_dim)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medssl.models.dilated1d import Dilated1d
from medssl.models.resnet import ResNet

ENCODERS: dict[str, int] = {"resnet1d": 1, "dilated1d": 1, "resnet2d": 2, "resnet3d": 3}


def build(
    name: str,
    *,
    in_channels: int,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Return a freshly initialised encoder.

    Args:
        name: key of `ENCODERS`.
        in_channels: channels of a sample.
        widths: channels per stage, last = ``embedding_dim``; None for the published size. ``dilated1d`` takes two
            (hidden, output).
        depth: residual blocks per stage (``resnet``, default 2) or in all (``dilated1d``, default 10).
        seed: of the weights; None takes the state of torch's generator.

    Raises:
        ValueError: an unknown name or a wrong number of widths.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder '{name}' is unknown; allowed: {', '.join(ENCODERS)}")
    if seed is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build(name, in_channels=in_channels, widths=widths, depth=depth)
    if name == "dilated1d":
        return Dilated1d(in_channels, widths=widths or (64, 320), depth=depth or 10)
    return ResNet(ENCODERS[name], in_channels, widths=widths or (64, 128, 256, 512), depth=depth or 2)
