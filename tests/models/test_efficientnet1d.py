"""The 1-D EfficientNet: published sizes, short windows and what it refuses."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.efficientnet import MBConvBlock
from torch import nn

from medssl import models
from medssl.models.heads import Projection

B0 = (16, 24, 40, 80, 112, 192, 320)


@pytest.mark.parametrize(
    ("channels", "widths", "expected"),
    [
        (4, None, 3_350_268),
        (4, (16, 24, 40, 80, 112, 160, 256), 3_350_268),
        (1, None, 2_490_128),
        (1, (16, 24, 40, 80, 96, 128, 192), 2_490_128),
        (4, B0, 4_192_540),
        (1, B0, 4_192_252),
    ],
)
def test_w12_parameters(channels: int, widths: tuple[int, ...] | None, expected: int) -> None:
    encoder = models.build("efficientnet1d", in_channels=channels, widths=widths)
    assert sum(p.numel() for p in encoder.parameters()) == expected
    assert sum(isinstance(part, MBConvBlock) for part in encoder.modules()) == 16


@pytest.mark.parametrize("channels", [4, 1])
def test_w12_shapes(channels: int) -> None:
    encoder = models.build("efficientnet1d", in_channels=channels, seed=0).eval()
    x = torch.randn(2, channels, 3840, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        z = encoder(x)
        q = Projection(256, 128, hidden=1024).eval()(z)
    assert encoder.embedding_dim == 256
    assert z.shape == (2, 256)
    assert q.shape == (2, 128)
    assert torch.allclose(torch.nn.functional.normalize(q, dim=1).norm(dim=1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 31, 64, 65, 300])
def test_any_length(steps: int) -> None:
    encoder = models.build("efficientnet1d", in_channels=2, widths=(4,) * 7, seed=0)
    z = encoder(torch.randn(3, 2, steps, generator=torch.Generator().manual_seed(0)))
    assert z.shape == (3, 256)
    assert torch.isfinite(z).all()


def test_padding_is_the_same_on_both_sides() -> None:
    encoder = models.build("efficientnet1d", in_channels=1, widths=(4,) * 7)
    pads = [part.padding for part in encoder.modules() if isinstance(part, nn.ConstantPad1d)]
    assert len(pads) == 1 + 16
    assert all(left == right for left, right in pads)


def test_training_draws_nothing() -> None:
    encoder = models.build("efficientnet1d", in_channels=2, widths=(4,) * 7, seed=0)
    x = torch.randn(4, 2, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder(x), encoder(x))


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"encoder.widths \[8, 8\]: efficientnet1d takes 7, one per stage"):
        models.build("efficientnet1d", in_channels=1, widths=(8, 8))
    with pytest.raises(ValueError, match=r"encoder.depth 2: efficientnet1d has 16 blocks"):
        models.build("efficientnet1d", in_channels=1, depth=2)
