"""Random views of slices and volumes, drawn for a whole batch at once on its device.

Letters: B batch, C channels, S the d spatial axes (H, W) or (D, H, W). Samples ``x`` (B, C, *S) are float32 with
intensities in [0, 1]. Nothing waits for a GPU, and a sample's view is the same whatever batch it is in.

A map (B, d, d + 1) sends each point of a view to the point of the sample that it shows. Its coordinates are those of
`torch.nn.functional.affine_grid` with ``align_corners=False``: -1 and 1 are the outer edges of an axis, and the last
axis comes first (x, y, z). Maps are multiplied out by hand, because a matrix product rounds by the size of the batch,
and coarsely under autocast.

``strength``, from 0 to 2, scales the ranges that numbers are drawn from, but not how many are drawn.

Given the same numbers, each operation equals MONAI's transform of that name. Source: Cardoso et al. 2022, MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from medssl.views.draws import Draws

Operation = Callable[[Tensor, Tensor], Tensor]
Parameters = Callable[[Draws, Tensor, float], Tensor]


def affine(angle: Tensor, shift: Tensor, zoom: Tensor, size: Sequence[int]) -> Tensor:
    """Return the map (B, d, d + 1) that zooms, then shifts, then turns about the centre, as MONAI's Affine.

    Args:
        angle: radians, (B, 1), or (B, 3) about the axes D, H, W, each turning with those before.
        shift: (B, d) voxels, in the order of ``size``.
        zoom: (B, d) steps in the sample for a step in the view, in the order of ``size``.
        size: S.
    """
    c, s = angle.cos().unbind(1), angle.sin().unbind(1)
    if len(size) == 2:
        turn = [[c[0], -s[0]], [s[0], c[0]]]
    else:
        turn = [
            [c[1] * c[2], -c[1] * s[2], s[1]],
            [c[0] * s[2] + s[0] * s[1] * c[2], c[0] * c[2] - s[0] * s[1] * s[2], -s[0] * c[1]],
            [s[0] * s[2] - c[0] * s[1] * c[2], s[0] * c[2] + c[0] * s[1] * s[2], c[0] * c[1]],
        ]
    axes = range(len(size) - 1, -1, -1)
    rows = []
    for i in axes:
        row = [turn[i][j] * zoom[:, j] * (size[j] / size[i]) for j in axes]
        moved = torch.stack([turn[i][j] * shift[:, j] for j in axes]).sum(0) * (2 / size[i])
        rows.append(torch.stack([*row, moved], 1))
    return torch.stack(rows, 1)


def read(x: Tensor, place: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, C, *size): ``x`` (B, C, *S) where the map ``place`` says, linearly interpolated, zero outside."""
    d = len(size)
    columns = [column.view(-1, d, *[1] * d) for column in place.unbind(2)]
    grid = columns.pop()
    for axis, (n, column) in enumerate(zip(reversed(size), columns, strict=True)):
        centres = (2 * torch.arange(n, device=x.device) + 1) / n - 1
        grid = grid + centres.view(n, *[1] * axis) * column
    return functional.grid_sample(x, grid.movedim(1, -1), mode="bilinear", padding_mode="zeros", align_corners=False)


def bias_field(x: Tensor, coefficients: Tensor) -> Tensor:
    """Multiply by the exponential of a polynomial of second degree, equal for all channels.

    Args:
        x: (B, C, *S).
        coefficients: (B, 3, ...) of products of Legendre polynomials, one axis of degrees for each of S.
            Only those that MONAI draws count: i >= j of (i, j) in a slice, i + j + k <= 2 in a volume.
    """
    degree = torch.arange(3, device=x.device)
    row = degree[:, None]
    used = row >= degree if x.ndim == 4 else row[:, None] + row + degree <= 2
    field = coefficients * used
    # Each turn puts a spatial axis at the end for an axis of degrees in front.
    for n in x.shape[2:]:
        t = torch.linspace(-1, 1, n, device=x.device)
        constant, linear, square = (part[..., None] for part in field.unbind(1))
        field = constant + linear * t + square * (1.5 * t * t - 0.5)
    return x * field.exp()[:, None]


def gibbs(x: Tensor, alpha: Tensor) -> Tensor:
    """Cut off the frequencies beyond (1 - alpha) of the half diagonal of a square; ``alpha`` (B, 1, ...) in [0, 1]."""
    axes = list(range(2, x.ndim))
    square = torch.zeros((), device=x.device)
    for n in x.shape[2:]:
        # MONAI's ball is centred between the two middle frequencies of an even axis.
        square = square[..., None] + ((torch.arange(n, device=x.device) + n // 2) % n - (n - 1) / 2) ** 2
    inside = square <= ((1 - alpha) * max(x.shape[2:])) ** 2 / 2
    # Transforms for real numbers would be half the work, but round a sample otherwise when it is alone.
    return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * inside, dim=axes).real


def contrast(x: Tensor, gamma: Tensor) -> Tensor:
    """Raise intensities, as a share of their range in the sample, to the power of ``gamma`` (B, 1, ...)."""
    axes = list(range(1, x.ndim))
    least = x.amin(axes, keepdim=True)
    span = x.amax(axes, keepdim=True) - least
    return ((x - least) / (span + 1e-7)) ** gamma * span + least


def dropout(x: Tensor, boxes: Tensor) -> Tensor:
    """Set boxes to zero; ``boxes`` (B, holes, 2, d) are their first voxels and their sides."""
    hidden = torch.zeros((), dtype=torch.bool, device=x.device)
    for hole in boxes.unbind(1):
        inside = torch.ones((len(x), 1), dtype=torch.bool, device=x.device)
        for n, box in zip(x.shape[2:], hole.unbind(2), strict=True):
            after = torch.arange(n, device=x.device) - box[:, :1]
            within = (after >= 0) & (after < box[:, 1:])
            inside = inside[..., None] & within.view(len(x), *[1] * (inside.ndim - 1), n)
        hidden = hidden | inside
    return x * ~hidden


def _boxes(draws: Draws, x: Tensor, strength: float) -> Tensor:
    """Return two boxes of a fifth of each axis, one voxel at least, for `dropout`."""
    sides = [max(1, int(strength * n / 5)) for n in x.shape[2:]]
    first = [draws.integers(n - side + 1, 2) for n, side in zip(x.shape[2:], sides, strict=True)]
    return torch.stack([torch.stack([at, torch.full_like(at, k)], 2) for at, k in zip(first, sides, strict=True)], 3)


def _each(x: Tensor) -> list[int]:
    """Return the shape, behind B, of one number for each sample."""
    return [1] * (x.ndim - 1)


# What another scanner, protocol or artefact would change: probability, operation and how its numbers are drawn.
# Uneven coils and cut-off frequencies are faults of MRI: rarer than the rest, which any scanner shows.
APPEARANCE: tuple[tuple[float, Operation, Parameters], ...] = (
    (0.2, bias_field, lambda draws, x, s: draws.uniform(*[3] * (x.ndim - 2), low=-0.1 * s, high=0.1 * s)),
    (0.2, gibbs, lambda draws, x, s: draws.uniform(*_each(x), high=0.5 * s)),
    (0.5, contrast, lambda draws, x, s: draws.uniform(*_each(x), low=0.7**s, high=1.4**s)),
    (0.5, torch.mul, lambda draws, x, s: draws.uniform(*_each(x), low=1 - 0.2 * s, high=1 + 0.2 * s)),
    (0.7, torch.add, lambda draws, x, s: draws.uniform(*_each(x), high=0.08 * s) * draws.normal(*x.shape[1:])),
    (0.5, dropout, _boxes),
)
# Images have one list of operations; a plan is a share of its strengths. `mild` turns by 3 degrees at most.
PLANS = {"default": 1.0, "mild": 0.3, "none": 0.0}


def _some(operation: Operation, x: Tensor, chosen: Tensor, numbers: Tensor) -> Tensor:
    """Return ``x`` after ``operation`` on the samples that are ``chosen`` (B,); the others stay bit for bit."""
    if x.device.type != "cpu":
        # To pick the samples out, the host would have to wait for the device.
        return torch.where(chosen.view(-1, *_each(x)), operation(x, numbers), x)
    rows = chosen.nonzero()[:, 0]
    return x.index_copy(0, rows, operation(x[rows], numbers[rows])) if len(rows) else x.clone()


def appearance(x: Tensor, draws: Draws, strength: float = 1.0) -> Tensor:
    """Return ``x`` after each operation of `APPEARANCE`, on the samples that drew it; at strength 0, ``x``."""
    for probability, operation, parameters in APPEARANCE:
        x = _some(operation, x, draws.uniform() < _chance(probability, strength), parameters(draws, x, strength))
    return x


def _chance(probability: float, strength: float) -> float:
    """Return how often an operation is applied; at strength 0 never, for some round a sample they leave as it is."""
    return probability if strength else 0.0


def view(x: Tensor, draws: Draws, *, place: bool = True, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return one random view of each sample, and its map to the sample. Left stays left: sides have their own organs.

    Args:
        x: (B, C, *S).
        draws: the samples' own numbers.
        place: turn, shift and zoom, which crops at the border. False: appearance alone, the map is the identity.
        strength: of place and appearance; at 0 the view is the sample, bit for bit.

    Returns:
        (B, C, *S) and (B, d, d + 1).
    """
    size = x.shape[2:]
    d = len(size)
    where = torch.eye(d, d + 1, device=x.device).repeat(len(x), 1, 1)
    if place:
        turn, zoom, step = math.radians(10) * strength, 0.08 * strength, strength / 16
        angle = draws.uniform(1 if d == 2 else 3, low=-turn, high=turn)
        shift = torch.stack([draws.uniform(low=-n * step, high=n * step) for n in size], 1)
        # Little zoom: size is anatomy.
        drawn = affine(angle, shift, draws.uniform(d, low=1 - zoom, high=1 + zoom), size)
        chosen = draws.uniform() < _chance(0.9, strength)
        where = torch.where(chosen[:, None, None], drawn, where)
        x = _some(partial(read, size=size), x, chosen, drawn)
    return appearance(x, draws, strength), where


def crop(
    x: Tensor,
    draws: Draws,
    *,
    share: tuple[float, float] = (0.10, 0.33),
    scale: float = 96 / 224,
    strength: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return one small crop of each sample, and its map to the sample. For the small crops of SwAV.

    Args:
        x: (B, C, *S).
        draws: the samples' own numbers.
        share: of the area or volume, least and most; each side is drawn by itself, in whole voxels, at least 4.
        scale: side of the result to that of the sample; at least 8 voxels.
        strength: of the appearance. How much a crop shows is the method's own.

    Returns:
        (B, C, *S') and (B, d, d + 1).

    Source: multi-crop of Caron et al. 2020 with the shares of Wolf et al. 2024.
    """
    size = x.shape[2:]
    small = [max(8, round(n * scale)) for n in size]
    zoom, centre = [], []
    for n, m in zip(size, small, strict=True):
        least, most = (min(n, max(4, round(n * s ** (1 / len(size))))) for s in share)
        part = least + draws.integers(most - least + 1)
        first = draws.integers(n - part + 1)
        # First and last voxel of the crop are those of the part.
        zoom.append((part - 1) / (m - 1) * (m / n))
        centre.append((2 * first + part) / n - 1)
    where = torch.cat([torch.stack(zoom[::-1], 1).diag_embed(), torch.stack(centre[::-1], 1)[..., None]], 2)
    return appearance(read(x, where, small), draws, strength), where
