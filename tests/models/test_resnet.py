"""Residual networks in one, two and three dimensions, and the registry."""

from __future__ import annotations

import pytest
import torch

from medssl import models


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet1d", (2, 3, 128)), ("resnet2d", (2, 1, 32, 32)), ("resnet3d", (2, 1, 16, 24, 16))],
)
def test_shapes_and_gradients(name: str, shape: tuple[int, ...]) -> None:
    encoder = models.build(name, in_channels=shape[1], widths=(4, 8, 8, 12), depth=1)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    z = encoder(x)
    assert z.shape == (2, 12)
    assert encoder.embedding_dim == 12
    z.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_published_size_is_resnet18() -> None:
    encoder = models.build("resnet3d", in_channels=1)
    assert encoder.embedding_dim == 512
    assert (
        sum(p.numel() for p in encoder.parameters()) == 33_160_000 + 128 + 256 + 512
    )  # MONAI gives the projections a bias


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="encoder 'vit' is unknown; allowed: resnet1d, dilated1d, resnet2d, resnet3d"):
        models.build("vit", in_channels=1)


def test_wrong_widths() -> None:
    with pytest.raises(ValueError, match="4 stages"):
        models.build("resnet1d", in_channels=1, widths=(8, 8))


def test_depth_counts_blocks() -> None:
    sizes = [
        sum(p.numel() for p in models.build("resnet1d", in_channels=1, widths=(4, 4, 4, 4), depth=d).parameters())
        for d in (1, 2)
    ]
    assert sizes[1] > sizes[0]
