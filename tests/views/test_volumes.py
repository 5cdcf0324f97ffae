"""Views of images and volumes: plain tensors that depend on the sample and the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.views.volumes import Crops, View

SHAPES = [(1, 24, 20), (1, 12, 16, 14)]


def sample(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_finite_and_same_shape(shape: tuple[int, ...]) -> None:
    x = sample(shape)
    kept = x.copy()
    for seed in range(10):
        out = View(shape[1:])(x, seed)
        assert type(out) is torch.Tensor
        assert out.dtype == torch.float32
        assert out.shape == shape
        assert torch.isfinite(out).all()
    assert np.array_equal(x, kept)


@pytest.mark.parametrize("shape", SHAPES)
def test_seed_decides(shape: tuple[int, ...]) -> None:
    x, view = sample(shape), View(shape[1:])
    first = view(x, 5)
    view(x, 6)
    assert torch.equal(view(x, 5), first)
    assert torch.equal(View(shape[1:])(x, 5), first)
    assert len({view(x, seed).numpy().tobytes() for seed in range(10)}) >= 9


def test_global_state_does_not_matter() -> None:
    x, view = sample(SHAPES[0]), View(SHAPES[0][1:])
    first = view(x, 2**40 + 3)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(view(x, 2**40 + 3), first)


def test_left_stays_left() -> None:
    x = np.zeros((1, 24, 24), np.float32)
    x[0, 8:16, 2:8] = 1
    for seed in range(40):
        columns = View((24, 24))(x, seed)[0].clamp(min=0.3).sub(0.3).sum(0)
        centre = (columns * torch.arange(24)).sum() / columns.sum().clamp(min=1e-6)
        assert centre < 12


@pytest.mark.parametrize("shape", SHAPES)
def test_small_crops(shape: tuple[int, ...]) -> None:
    x, crops = sample(shape), Crops(shape[1:], number=5)
    kept = x.copy()
    out = crops(x, 3)
    small = tuple(max(8, round(n * 96 / 224)) for n in shape[1:])
    assert out.shape == (5, 1, *small)
    assert type(out) is torch.Tensor
    assert torch.equal(crops(x, 3), out)
    assert not torch.equal(crops(x, 4), out)
    assert len({crop.numpy().tobytes() for crop in out}) == 5
    assert torch.isfinite(out).all()
    assert np.array_equal(x, kept)


def test_crops_are_parts() -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None, None].repeat(100, 1)
    crops = Crops((100, 100), number=20)
    crops.transform.transforms = crops.transform.transforms[:2]  # without the intensities
    spans = [float(c[0, 0, -1] - c[0, 0, 0]) for c in crops(ramp, 0)]
    assert min(spans) > 0.10**0.5 - 0.03
    assert max(spans) < 0.33**0.5 + 0.03


def test_flips_only_where_asked() -> None:
    x = np.zeros((1, 24, 24), np.float32)
    x[0, 8:16, 2:8] = 1
    sides = set()
    for seed in range(40):
        columns = View((24, 24), flip=True)(x, seed)[0].clamp(min=0.3).sub(0.3).sum(0)
        sides.add(bool((columns * torch.arange(24)).sum() / columns.sum().clamp(min=1e-6) < 12))
    assert sides == {True, False}
