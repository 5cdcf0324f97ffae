"""Views of slices and volumes: where their maps lead, what a view depends on, how large crops are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medssl.views import volumes
from medssl.views.draws import Draws

# Even and odd sides, one odd number of elements, so that blocks of registers end inside samples.
SIZES = [(24, 20), (15, 17), (12, 16, 14), (9, 12, 11)]

View = Callable[[Tensor, Draws], tuple[Tensor, Tensor]]
VIEWS: list[View] = [
    volumes.view,
    lambda x, draws: volumes.view(x, draws, place=False),
    volumes.crop,
    lambda x, draws: volumes.view(x, draws, strength=0.3),
    lambda x, draws: volumes.view(x, draws, strength=2.0),
    lambda x, draws: volumes.crop(x, draws, strength=2.0),
]


def samples(size: tuple[int, ...], n: int = 8, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(0))


def numbers(n: int = 8, seed: int = 0) -> Draws:
    return Draws(torch.arange(n), seed=seed)


def close(got: Tensor, expected: Any) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float32)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-4


# --- Maps -----------------------------------------------------------------------------------------------------------


def coordinates(size: tuple[int, ...]) -> Tensor:
    """Return (d, *size): x, y(, z) of each voxel's centre, -1 and 1 at the outer edges."""
    axes = torch.meshgrid(*[(2 * torch.arange(n) + 1) / n - 1 for n in size], indexing="ij")
    return torch.stack(axes[::-1])


@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("size", SIZES)
def test_maps_lead_to_the_sample(size: tuple[int, ...], make: View, placed: None) -> None:
    d, x = len(size), samples(size, n=16)
    got, where = make(x, numbers(16))
    grid = functional.affine_grid(where, list(got.shape), align_corners=False)
    close(got, functional.grid_sample(x, grid, align_corners=False))
    # What each voxel shows, if the sample's intensities are its coordinates: one channel for x, y(, z).
    shown, again = make(coordinates(size).expand(16, -1, *[-1] * d), numbers(16))
    assert torch.equal(again, where)
    points = coordinates(tuple(got.shape[2:])).flatten(1)
    for b in range(16):
        expected = torch.stack([where[b, i, :d] @ points + where[b, i, d] for i in range(d)])
        inside = (expected.abs() <= 1 - 1 / torch.tensor(size[::-1])[:, None] + 1e-5).all(0)
        assert inside.float().mean() > 0.5
        assert (shown[b].flatten(1) - expected)[:, inside].abs().max() < 1e-4


def test_where_nothing_is_drawn_the_view_is_the_sample(placed: None) -> None:
    x = samples((24, 20), n=300)
    views, where = volumes.view(x, numbers(300))
    still = (where == torch.eye(2, 3)).flatten(1).all(1)
    assert still.any()
    assert torch.equal(views[still], x[still])
    views, where = volumes.view(x, numbers(300), place=False)
    assert torch.equal(views, x)
    assert torch.equal(where, torch.eye(2, 3).expand(300, -1, -1))


# --- What a view depends on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("size", SIZES)
def test_views_belong_to_their_samples(size: tuple[int, ...], make: View) -> None:
    x = samples(size, n=64)
    kept, state = x.clone(), torch.get_rng_state()
    whole, where = make(x, numbers(64))
    assert whole.dtype == where.dtype == torch.float32
    assert whole.shape[:2] == x.shape[:2]
    assert where.shape == (64, len(size), len(size) + 1)
    assert torch.isfinite(whole).all()
    # Another batch, another place in it: the same view, bit for bit.
    for rows in ([9], [40], [9, 4], [33, 9, 60, 2, 5], list(range(50, 13, -1))):
        part, part_where = make(x[rows], Draws(torch.tensor(rows), seed=0))
        assert torch.equal(part, whole[rows])
        assert torch.equal(part_where, where[rows])
    for other in (numbers(64, seed=1), numbers(64).fork(1)):
        assert (make(x, other)[0] != whole).flatten(1).any(1).float().mean() > 0.8
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("size", SIZES)
def test_views_stay_on_the_device(size: tuple[int, ...], make: View) -> None:
    # A tensor on this device has no values: whoever asks for them, or mixes devices, raises.
    x, draw = torch.empty(4, 1, *size, device="meta"), torch.empty(4, dtype=torch.int64, device="meta")
    views, where = make(x, Draws(draw, seed=0))
    assert views.device == where.device == x.device
    assert views.shape == make(samples(size, n=4), numbers(4))[0].shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("size", SIZES)
def test_views_on_a_gpu_are_those_of_the_cpu(size: tuple[int, ...], make: View) -> None:
    x = samples(size, n=64)
    expected, expected_where = make(x, numbers(64))
    there, draw = x.cuda(), torch.arange(64, device="cuda")
    make(there, Draws(draw, seed=0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        views, where = make(there, Draws(draw, seed=0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(views.cpu(), expected, atol=1e-3)
    assert torch.allclose(where.cpu(), expected_where, atol=1e-5)


@pytest.mark.parametrize("make", VIEWS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_stay_finite(size: tuple[int, ...], make: View, value: float) -> None:
    views, _ = make(torch.full((200, 1, *size), value), numbers(200))
    assert torch.isfinite(views).all()


def test_left_stays_left_and_up_stays_up() -> None:
    x = torch.zeros(100, 1, 24, 24)
    x[..., 8:16, 2:8] = 1

    def centre(views: Tensor, axis: int) -> Tensor:
        profile = views[:, 0].clamp(min=0.3).sub(0.3).sum(3 - axis)
        return (profile * torch.arange(24)).sum(1) / profile.sum(1)

    assert (centre(volumes.view(x, numbers(100))[0], 2) < 12).all()
    assert (centre(volumes.view(x.transpose(2, 3), numbers(100))[0], 1) < 12).all()


@pytest.mark.parametrize("size", [(100, 100), (40, 40, 40)])
def test_crops_have_their_share_and_size(size: tuple[int, ...], placed: None) -> None:
    d = len(size)
    crops, where = volumes.crop(torch.zeros(500, 1, *size), numbers(500))
    assert crops.shape == (500, 1, *[round(n * 96 / 224) for n in size])
    n, m = size[0], crops.shape[-1]
    sides = (where[:, range(d), range(d)] * n / m * (m - 1) + 1) / n
    assert sides.min() == pytest.approx(0.10 ** (1 / d), abs=1 / n)
    assert sides.max() == pytest.approx(0.33 ** (1 / d), abs=1 / n)
    whole = samples((16, 16))
    assert torch.allclose(volumes.crop(whole, numbers(), share=(1.0, 1.0), scale=1.0)[0], whole, atol=1e-4)
    assert volumes.crop(samples((10, 9)), numbers())[0].shape == (8, 1, 8, 8)
