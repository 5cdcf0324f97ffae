"""Where voxels are: the grid of an array, tilted stacks, the axes of a `Volume`, and label maps on another grid.

A grid is a matrix 4 x 4 that takes an index of the three axes of an array to mm towards superior, posterior, left.
NIfTI counts towards right, anterior, superior (`from_ras`), DICOM and MetaImage towards left, posterior, superior
(`from_lps`). None stands for an array that has no place of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medssl.sources.claims import positive
from medssl.sources.record import BadRecord

# A shift below half a voxel changes no nearest neighbour, and headers round their numbers.
MAX_SHIFT = 0.5
MAX_TILT_DEG = 45.0
MAX_ENLARGEMENT = 4  # of a tilted stack on its rectangular grid; a gantry of 30 degrees takes less than 2
# Share of a label map outside its volume. An organ may be cut off by the field of view; of one that is mostly outside
# less than half would be measured, and headers that are wrong put most of it there.
MAX_OUTSIDE = 0.5


def stated_spacing(hint: Any, depth: int = 1) -> tuple[float, float, float]:
    """Return ``(D, H, W)`` spacing in mm from ``hints["spacing_mm"]``, NaN where it is unknown.

    One number is that of all axes or, of a single slice, of rows and columns; two are those of rows and columns.
    """
    given = [float("nan")] if hint is None else [positive(mm) or 0.0 for mm in np.ravel(np.array(hint, dtype=object))]
    if 0.0 in given or not 1 <= len(given) <= 3:
        raise BadRecord("unreadable", "spacing_mm is not one to three positive numbers")
    if len(given) == 1:
        given = given * (3 if depth > 1 else 2)
    thickness, rows, columns = [float("nan")] * (3 - len(given)) + given
    return thickness, rows, columns


def from_ras(affine: np.ndarray) -> np.ndarray:
    """Return the grid of an affine towards right, anterior, superior."""
    return np.diag([1.0, -1, -1, 1]) @ affine[[2, 1, 0, 3]]


def from_lps(affine: np.ndarray) -> np.ndarray:
    """Return the grid of an affine towards left, posterior, superior."""
    return affine[[2, 1, 0, 3]]


def upright(
    values: np.ndarray, grid: np.ndarray, *, spacing_mm: tuple[float, ...] | None = None, fill: float | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], dict[str, float]]:
    """Return values on rectangular axes superior, posterior, left, their grid, the spacing in mm, and notes.

    Args:
        values: ``(slices, rows, columns)``.
        grid: of these.
        spacing_mm: of these axes, NaN where it is not known; None takes it from the grid.
        fill: see `straightened`.

    Raises:
        BadRecord: as `straightened`, or ``unreadable`` for axes that span no volume.
    """
    if not np.isfinite(grid).all():
        raise BadRecord("unreadable", "the orientation in the header is not usable")
    notes = {}
    if spacing_mm is None or np.isfinite(spacing_mm).all():
        values, grid, tilt_deg = straightened(values, grid, fill=fill)
        if tilt_deg:
            notes, spacing_mm = {"tilt_deg": tilt_deg}, None
    if spacing_mm is None:
        spacing_mm = tuple(np.linalg.norm(grid[:3, :3], axis=0))
    return *oriented(values, grid, spacing_mm), notes


def oriented(
    values: np.ndarray, grid: np.ndarray, spacing_mm: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Return a view of values, their grid and spacing with axes in the order, and the direction, of those of the world.

    Axes that span no volume are refused as ``unreadable``.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(grid)
    if np.isnan(orientation).any():
        raise BadRecord("unreadable", "the orientation in the header is not usable")
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = spacing_mm
    turned: np.ndarray = apply_orientation(values, orientation)
    place = grid @ inv_ornt_aff(orientation, values.shape)
    return turned, place, (float(spacing[0]), float(spacing[1]), float(spacing[2]))


def straightened(
    values: np.ndarray, grid: np.ndarray, *, fill: float | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return values ``(slices, rows, columns)`` on a grid with right angles, this grid, and the tilt in degrees.

    Slices that follow one another at an angle, as from a tilted CT gantry, are each shifted in their plane, by linear
    interpolation; the grid is enlarged so that nothing is cut off. Rows at an angle to columns are shifted likewise.
    The tilt is 0, and nothing is copied, where no voxel would move by half a voxel.

    Args:
        values: of any real type; shifted ones are float32.
        grid: of these values, without NaN.
        fill: value of what no slice covers; None for the lowest of the values.

    Raises:
        BadRecord: ``unsupported`` for more than 45 degrees, or an absurdly large grid.
    """
    from scipy import ndimage

    # Columns, rows, slices: the first axis stays, the second loses its part along the first, and so on.
    axes, shape = grid[:3, 2::-1], np.array(values.shape[::-1])
    directions, triangle = np.linalg.qr(axes)
    lengths = np.diag(triangle)
    if not lengths.all():
        return values, grid, 0.0  # no volume: `oriented` refuses it
    shifts = triangle / lengths[:, None] - np.eye(3)  # in voxels of axis i, for a step along axis j
    shifts[np.abs(shifts) * (shape - 1) < MAX_SHIFT] = 0
    if not shifts.any():
        return values, grid, 0.0
    cosines = np.abs(lengths) / np.linalg.norm(axes, axis=0)
    tilt_deg = float(np.degrees(np.arccos(cosines[shifts.any(axis=0)].clip(max=1)).max()))
    if tilt_deg > MAX_TILT_DEG:
        detail = "the slices follow one another at more than 45 degrees; resample to a rectangular grid"
        raise BadRecord("unsupported", detail)
    reach = shifts * (shape - 1)
    low = np.floor(np.minimum(reach, 0).sum(axis=1))
    high = np.ceil(np.maximum(reach, 0).sum(axis=1)) + shape - 1
    enlarged = (high - low + 1).astype(int)
    if np.prod(enlarged, dtype=float) > MAX_ENLARGEMENT * values.size:
        raise BadRecord("unsupported", "a rectangular grid around the tilted slices is absurdly large; check positions")
    back = np.linalg.inv(np.eye(3) + shifts)
    moved = ndimage.affine_transform(
        np.asarray(values, dtype=np.float32),
        back[::-1, ::-1],
        offset=(back @ low)[::-1],
        output_shape=tuple(enlarged[::-1]),
        order=1,
        mode="grid-constant",
        cval=float(np.nanmin(values)) if fill is None else fill,
    )
    straight = grid.copy()
    straight[:3, :3] = (directions * lengths)[:, ::-1]
    straight[:3, 3] += straight[:3, :3] @ low[::-1]
    return moved, straight, tilt_deg


def fitted(
    labels: np.ndarray, own: np.ndarray | None, shape: tuple[int, ...], grid: np.ndarray | None
) -> tuple[np.ndarray, dict[str, float]]:
    """Return a label map on the grid of its volume, and notes.

    A map on the volume's own grid, up to half a voxel, is returned as it is. Another is resampled: each voxel of the
    volume has the label of the nearest voxel of the map, 0 outside of it. Where one of the two has no place, the shapes
    must be the same.

    Args:
        labels: integers on axes superior, posterior, left; ``own`` is their grid.
        shape, grid: of the volume.

    Returns:
        Labels of ``shape``. Notes ``mask_resampled`` (0 or 1) and ``mask_outside``, the share of the labelled voxels of
        the map that lie outside the volume; none where places were not compared.

    Raises:
        BadRecord: ``bad_mask`` if more than half of it lies outside, or a header that differs from the other is the one
            that programs write for lack of another: axes of the world and a corner at the origin, with voxels of 1 mm,
            or of any size where both arrays have the same shape. Two such headers belong together where they span the
            same room, as of a map with coarser voxels.
    """
    from scipy import ndimage

    if own is None or grid is None:
        if labels.shape != shape:
            raise BadRecord("bad_mask", "the mask and the volume differ in shape, and one of them states no place")
        return labels, {}
    if labels.shape == shape and not apart(grid, own, shape):
        return labels, {"mask_resampled": 0.0, "mask_outside": 0.0}
    suspects = ((own, labels.shape, "mask"), (grid, shape, "volume"))
    defaults = [(place, name) for place, size, name in suspects if _is_default(place, size)]
    if len(defaults) < 2 or not _same_room(own, labels.shape, grid, shape):
        for place, name in defaults:
            # Sorted: an array saved without its place may also have lost the order of its axes.
            if sorted(labels.shape) == sorted(shape) or np.allclose(place[:3, :3], np.eye(3), atol=1e-4):
                raise BadRecord(
                    "bad_mask",
                    f"the {name}'s header holds the default place (a corner at the origin), not that of the other "
                    "file; save mask and volume with the same affine",
                )
    outside = _share_outside(labels, np.linalg.solve(grid, own), shape)
    if not outside <= MAX_OUTSIDE:
        raise BadRecord(
            "bad_mask",
            f"{outside:.0%} of the labelled voxels lie outside the volume; save the mask with the affine of its volume",
        )
    step = np.linalg.solve(own, grid)
    resampled = ndimage.affine_transform(
        labels, step[:3, :3], step[:3, 3], output_shape=shape, order=0, mode="grid-constant", cval=0
    )
    return resampled, {"mask_resampled": 1.0, "mask_outside": outside}


def apart(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Tell whether some voxel of an array of ``shape`` lies, on the second grid, beyond the same one of the first."""
    shifts = np.abs(np.linalg.solve(first, second) - np.eye(4))[:3] @ (*(n - 1 for n in shape), 1)
    return not (shifts <= MAX_SHIFT).all()


def _is_default(grid: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Tell whether a grid has the axes of the world and a corner at the origin, as arrays saved without a place."""
    sizes = np.diag(grid)[:3]
    upright = np.allclose(grid[:3, :3], np.diag(sizes), atol=1e-4)
    far = grid[:3, 3] + (np.array(shape) - 1) * sizes
    return upright and bool(((np.abs(grid[:3, 3]) < 1e-3) | (np.abs(far) < 1e-3)).all())


def _same_room(first: np.ndarray, size: tuple[int, ...], second: np.ndarray, other: tuple[int, ...]) -> bool:
    """Tell whether arrays on two grids along the axes of the world end, on all sides, within a voxel of each other."""
    ends = []
    for grid, shape in ((first, size), (second, other)):
        mm = np.diag(grid)[:3]
        ends.append(np.stack([grid[:3, 3] - mm / 2, grid[:3, 3] + (np.array(shape) - 0.5) * mm]))
    voxel = np.maximum(np.diag(first), np.diag(second))[:3]
    return bool((np.abs(ends[0] - ends[1]) <= voxel).all())


def _share_outside(labels: np.ndarray, to_volume: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the share of voxels above 0 whose centre is in no voxel of a volume; a slice at a time to save memory."""
    count = inside = 0
    last = np.array(shape)[:, None] - 0.5
    for d, image in enumerate(labels):
        rows, columns = np.nonzero(image > 0)
        at = to_volume[:3] @ np.stack([np.full(len(rows), d), rows, columns, np.ones(len(rows))])
        count += len(rows)
        inside += int(((at >= -0.5) & (at <= last)).all(axis=0).sum())
    return 1 - inside / count if count else 0.0
