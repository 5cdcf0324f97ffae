"""Views of images and volumes: plain tensors that depend on the sample and the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

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


class Views(Dataset[torch.Tensor]):
    """Views whose seeds come from the run's seed and the draw number, as in pretraining."""

    def __init__(self, *, crops: bool) -> None:
        self.make = Crops((16, 16), number=2) if crops else View((16, 16))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, draw: int) -> torch.Tensor:
        return self.make(sample((1, 16, 16)), int(np.random.SeedSequence([7, draw]).generate_state(1)[0]))


@pytest.mark.parametrize("crops", [False, True])
def test_workers_neither_repeat_nor_change_views(crops: bool) -> None:
    data = Views(crops=crops)
    alone = torch.cat(list(DataLoader(data, batch_size=4)))
    two = DataLoader(data, batch_size=4, num_workers=2, persistent_workers=True)
    for _ in range(2):  # epochs: the same draw numbers give the same views, other numbers would give others
        assert torch.equal(torch.cat(list(two)), alone)
    assert len({view.numpy().tobytes() for view in alone}) == 8
    rank = torch.cat(list(DataLoader(data, batch_size=2, sampler=range(1, 8, 2))))
    assert torch.equal(rank, alone[1::2])


def test_samples_may_be_read_only_and_are_never_written() -> None:
    x = np.ones((1, 10, 10), np.float32)
    x.flags.writeable = False
    # The whole image at its own size: nothing is cut or resampled, and crops still must not share memory.
    crops = Crops((10, 10), number=3, share=(1.0, 1.0), scale=1.0)
    out = [(crops(x, seed), View((10, 10))(x, seed)) for seed in range(12)]
    assert any((views == 0).any() for views, _ in out)
    assert (x == 1).all()


def test_flips_only_where_asked() -> None:
    x = np.zeros((1, 24, 24), np.float32)
    x[0, 8:16, 2:8] = 1
    sides = set()
    for seed in range(40):
        columns = View((24, 24), flip=True)(x, seed)[0].clamp(min=0.3).sub(0.3).sum(0)
        sides.add(bool((columns * torch.arange(24)).sum() / columns.sum().clamp(min=1e-6) < 12))
    assert sides == {True, False}
    # Up stays up.
    for seed in range(40):
        rows = View((24, 24), flip=True)(x.transpose(0, 2, 1).copy(), seed)[0].clamp(min=0.3).sub(0.3).sum(1)
        assert (rows * torch.arange(24)).sum() / rows.sum().clamp(min=1e-6) < 12
