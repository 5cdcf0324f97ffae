"""Encoders by name: `build` returns a module (B, C, ...) -> (B, embedding_dim)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from medssl.models.convnet1d import ConvNet1d
from medssl.models.crops import Crops
from medssl.models.dilated1d import Dilated1d
from medssl.models.efficientnet1d import EfficientNet1d
from medssl.models.joined import Joined
from medssl.models.resnet import ResNet
from medssl.models.vit import ViT

# Name and spatial dimensions of a sample.
ENCODERS = {
    **{"resnet1d": 1, "convnet1d": 1, "dilated1d": 1, "efficientnet1d": 1, "vit1d": 1},
    **{"resnet2d": 2, "resnet3d": 3, "vit3d": 3},
}
# Options that only some encoders have, and which.
ONLY = {
    "patch": ("vit1d", "vit3d"),
    "stem": ("resnet1d", "resnet2d", "resnet3d"),
    "pool": ("resnet1d", "resnet2d", "resnet3d", "convnet1d"),
    "kernels": ("convnet1d",),
    "front": ("convnet1d",),
    "crop": tuple(name for name, dimensions in ENCODERS.items() if dimensions == 1),
}


def build(
    name: str,
    *,
    in_channels: int,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    seed: int | None = None,
    joined: int | None = None,
    ensemble: int | None = None,
    **options: Any,
) -> nn.Module:
    """Return a freshly initialised encoder.

    Args:
        name: key of `ENCODERS`.
        in_channels: channels of a sample.
        widths: channels per stage, the last = ``embedding_dim`` unless ``pool`` says otherwise; None for the published
            size. ``resnet`` and ``convnet1d`` take four, ``dilated1d`` two (hidden, output), ``vit`` one (hidden), and
            ``efficientnet1d`` seven, followed by a layer to its ``embedding_dim`` of 256.
        depth: residual blocks per stage (``resnet``, default 2; ``convnet1d`` 1) or blocks in all (``dilated1d``,
            default 10; ``vit1d`` 9; ``vit3d`` 12); ``efficientnet1d`` has 16, as its plan says.
        seed: of the weights; None takes the state of torch's generator.
        joined: how many such encoders stand side by side, as stages of one (`Joined`); None for one alone.
        ensemble: how many of them stand side by side, as they are; None for one alone.
        options: those of `ONLY`; None for the default. ``patch``: time steps or voxels per axis of a patch, 16;
            ``stem``: ``imagenet`` or ``small`` (`ResNet`); ``pool`` (`medssl.models.pool.Pool`); ``kernels`` and
            ``front`` (`ConvNet1d`); ``crop``: time steps that the encoder reads at a time (`Crops`).

    Raises:
        ValueError: an unknown name, a wrong number of widths, or an option that the encoder lacks.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder.name '{name}' is unknown; allowed: {', '.join(ENCODERS)}")
    given = {key: value for key, value in options.items() if value is not None}
    counts = {"in_channels": in_channels, "depth": depth, "patch": given.get("patch"), "crop": given.get("crop")}
    for key, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"encoder.{key} {value}: expected 1 or more")
    for key, value in given.items():
        if name not in ONLY[key]:
            raise ValueError(f"encoder.{key} {value}: only for {', '.join(ONLY[key])}; leave it out for {name}")
    if depth is not None and name == "efficientnet1d":
        raise ValueError(f"encoder.depth {depth}: efficientnet1d has 16 blocks by its plan; leave it out")
    if seed is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build(
                name, in_channels=in_channels, widths=widths, depth=depth, joined=joined, ensemble=ensemble, **given
            )
    if (number := ensemble or joined or 1) > 1:
        one = {"in_channels": in_channels, "widths": widths, "depth": depth, **given}
        return Joined([build(name, **one) for _ in range(number)], unit=ensemble is None)
    if crop := given.pop("crop", None):
        return Crops(build(name, in_channels=in_channels, widths=widths, depth=depth, **given), crop)
    if name == "dilated1d":
        return Dilated1d(in_channels, widths=(64, 320) if widths is None else widths, depth=depth or 10)
    if name == "efficientnet1d":
        return EfficientNet1d(in_channels, widths=widths)
    if name == "convnet1d":
        return ConvNet1d(in_channels, widths=widths, depth=depth, **given)
    made = ViT if name.startswith("vit") else ResNet
    return made(ENCODERS[name], in_channels, widths=widths, depth=depth, **given)


def embedding_dim(**encoder: Any) -> int:
    """Return how many numbers an encoder's embedding has, without making its weights; arguments as for `build`."""
    with torch.device("meta"):
        return int(build(**encoder).embedding_dim)  # type: ignore[arg-type]


def fresh(module: nn.Module, seed: int) -> nn.Module:
    """Return a copy of any network as before training: each layer draws its weights anew.

    Parameters that belong to no layer which can, such as positions of a transformer, are drawn with deviation 0.02.
    """
    out = copy.deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in out.modules():
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
            else:
                for parameter in layer.parameters(recurse=False):
                    nn.init.normal_(parameter, std=0.02)
    return out
