"""The dilated network: published size, receptive field and pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import conv1d, gelu

from medssl import models


@pytest.mark.parametrize(("channels", "expected"), [(15, 638_144), (16, 638_208), (33, 639_296)])
def test_c8_parameters(channels: int, expected: int) -> None:
    encoder = models.build("dilated1d", in_channels=channels)
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_c8_shapes_and_pooling() -> None:
    encoder = models.build("dilated1d", in_channels=15).eval()
    x = torch.randn(2, 15, 300, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, embedding = encoder.features(x), encoder(x)  # type: ignore[operator]
    assert features.shape == (2, 300, 320)
    assert embedding.shape == (2, 320)
    assert torch.equal(embedding, features.amax(1))
    assert encoder.embedding_dim == 320


@pytest.mark.parametrize(("steps", "expected"), [(300, 262_144), (256, 278_528)])
def test_c8_weights_that_only_ever_see_padding(steps: int, expected: int) -> None:
    encoder = models.build("dilated1d", in_channels=15).eval()
    x = torch.randn(2, 15, steps, generator=torch.Generator().manual_seed(0))
    encoder.features(x).square().sum().backward()  # type: ignore[operator]
    dead = sum(int((p.grad == 0).sum()) for n, p in encoder.named_parameters() if p.grad is not None and "blocks" in n)
    assert dead == expected


def test_every_step_sees_the_whole_window() -> None:
    encoder = models.build("dilated1d", in_channels=1, widths=(8, 8)).eval()
    x = torch.randn(1, 1, 300, generator=torch.Generator().manual_seed(0), requires_grad=True)
    encoder.features(x)[0, 0].sum().backward()  # type: ignore[operator]
    assert x.grad is not None
    assert x.grad[0, 0, -1] != 0


def test_masking_hides_latent_steps() -> None:
    encoder = models.build("dilated1d", in_channels=2, widths=(8, 8), depth=2).eval()
    x = torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0))
    keep = torch.ones(2, 40, dtype=torch.bool)
    changed = x.clone()
    changed[0, :, 10:20] += 5
    with torch.inference_mode():
        assert torch.equal(encoder.features(x, keep), encoder.features(x))  # type: ignore[operator]
        keep[0, 10:20] = False
        hidden = encoder.features(x, keep)  # type: ignore[operator]
        assert torch.equal(encoder.features(changed, keep), hidden)  # type: ignore[operator]
        assert not torch.allclose(hidden[0], encoder.features(x)[0])  # type: ignore[operator]


def test_nothing_is_masked_in_training_unless_asked() -> None:
    encoder = models.build("dilated1d", in_channels=2, widths=(8, 8), depth=2)
    encoder.dropout.p = 0.0  # type: ignore[union-attr, assignment]
    x = torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder.train()(x), encoder.eval()(x))


def test_wrong_widths() -> None:
    with pytest.raises(ValueError, match="dilated1d takes two"):
        models.build("dilated1d", in_channels=2, widths=(8, 8, 8))


def plain(encoder: Any, x: torch.Tensor) -> torch.Tensor:
    """The same network with ordinary, unpruned one-dimensional convolutions."""
    h = encoder.inputs(x.transpose(1, 2)).transpose(1, 2)
    for block in encoder.blocks:
        inner = h
        for conv in (block.first, block.second):
            inner = conv1d(gelu(inner), conv.weight, conv.bias, padding=conv.dilation[0], dilation=conv.dilation[0])
        h = inner + (h if block.skip is None else conv1d(h, block.skip.weight, block.skip.bias))
    return h.transpose(1, 2)


@pytest.mark.parametrize("steps", [300, 37, 2])
def test_c8_pruned_and_recomputed_equals_plain(steps: int) -> None:
    encoder = models.build("dilated1d", in_channels=3, widths=(16, 20), seed=0).eval().double()
    x = torch.randn(2, 3, steps, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(2, steps, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parameters = [x, *encoder.parameters()]
    ours = encoder.features(x)  # type: ignore[operator]
    expected = plain(encoder, x)
    assert torch.allclose(ours, expected, atol=1e-12)
    got = torch.autograd.grad((ours * weight).sum(), parameters)
    for gradient, reference in zip(got, torch.autograd.grad((expected * weight).sum(), parameters), strict=True):
        assert torch.allclose(gradient, reference, atol=1e-9)
    single = encoder.float()
    with torch.no_grad():
        assert torch.allclose(single.features(x.float()), plain(single, x.float()), atol=1e-6)  # type: ignore[operator]


def test_mixed_precision_stays_close() -> None:
    encoder = models.build("dilated1d", in_channels=3, widths=(16, 20), seed=0).eval()
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    exact = encoder.features(x)  # type: ignore[operator]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder.features(x)  # type: ignore[operator]
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), exact, atol=0.02)
    half.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in encoder.parameters())
