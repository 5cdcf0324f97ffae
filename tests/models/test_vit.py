"""Transformers: sizes, patches, position codes and pooling."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from medssl import models
from medssl.models.vit import positions


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("vit1d", 4, 7_108_608 + 4 * 4_096),
        ("vit1d", 1, 7_108_608 + 4_096),
        ("vit3d", 1, 21_294_720 + 1_572_864),
    ],
)
def test_default_sizes(name: str, channels: int, expected: int) -> None:
    with torch.device("meta"):
        encoder = models.build(name, in_channels=channels)
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_codes_agree_with_a_loop() -> None:
    grid, width = (2, 3, 4), 20
    codes = positions(grid, width)
    assert codes.shape == (24, 20)
    for token, places in enumerate(itertools.product(*map(range, grid))):
        expected = []
        for place in places:
            angles = [place * 10_000 ** (-f / 3) for f in range(3)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert codes[token].tolist() == pytest.approx([*expected, 0, 0], abs=1e-5)
    assert len(torch.unique(codes, dim=0)) == 24


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("vit1d", [(2, 2, 5), (2, 2, 64), (2, 2, 77)]), ("vit3d", [(2, 2, 3, 4, 5), (2, 2, 16, 8, 11)])],
)
def test_one_encoder_takes_every_size(name: str, shapes: list[tuple[int, ...]]) -> None:
    encoder = models.build(name, in_channels=2, widths=(12,), depth=1, patch=8, seed=0).eval()
    assert encoder.embedding_dim == 12
    for shape in shapes:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        fill = [side for size in reversed(shape[2:]) for side in (0, -size % 8)]
        with torch.inference_mode():
            z = encoder(x)
            assert torch.equal(encoder(functional.pad(x, fill)), z)
        assert z.shape == (2, 12)


def test_embedding_is_the_mean_of_the_tokens() -> None:
    encoder: Any = models.build("vit1d", in_channels=2, widths=(12,), depth=2, patch=8, seed=0).eval()
    seen = []
    encoder.norm.register_forward_hook(lambda _part, _inputs, out: seen.append(out))
    x = torch.randn(3, 2, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        z = encoder(x)
    assert seen[0].shape == (3, 5, 12)
    assert torch.allclose(z, seen[0].mean(1))


def test_order_of_the_patches_matters() -> None:
    encoder = models.build("vit1d", in_channels=1, widths=(16,), depth=2, patch=8, seed=0).eval()
    x = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.allclose(encoder(x), encoder(x.roll(16, 2)), atol=1e-3)


@pytest.mark.parametrize(("hidden", "heads"), [(16, 1), (64, 1), (100, 1), (200, 2), (256, 4), (384, 6)])
def test_heads_divide_the_hidden_size(hidden: int, heads: int) -> None:
    with torch.device("meta"):
        encoder: Any = models.build("vit1d", in_channels=1, widths=(hidden,), depth=1)
    assert encoder.blocks[0].self_attn.num_heads == heads


def test_training_and_evaluation_agree() -> None:
    # torch takes another path through its layers in evaluation.
    encoder = models.build("vit1d", in_channels=1, widths=(16,), depth=2, patch=8, seed=0)
    x = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    z = encoder(x).detach()
    with torch.inference_mode():
        assert torch.allclose(encoder.eval()(x), z, atol=1e-5)


@pytest.mark.parametrize("widths", [(8, 8), (), (5,)])
def test_wrong_widths(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"encoder.widths \[.*\]: vit3d takes one, hidden, of at least 6"):
        models.build("vit3d", in_channels=1, widths=widths)
