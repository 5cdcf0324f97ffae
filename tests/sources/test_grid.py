"""Grids: straightened stacks against a slow loop, and label maps on other grids against their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.sources import grid as grids
from medssl.sources.record import BadRecord


def affine(sizes_mm: tuple[float, ...], origin: tuple[float, ...] = (5, -6, 7)) -> np.ndarray:
    out = np.diag([*sizes_mm, 1.0])
    out[:3, 3] = origin
    return out


def rotated(grid: np.ndarray, degrees: float) -> np.ndarray:
    """Return a grid turned in the plane of slices, about the origin of the world."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ grid


# --- straightened -------------------------------------------------------------------------------------------------
def test_right_angles_are_left_alone() -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for grid in (affine((3, 2, 1)), rotated(affine((3, 2, 1)), 33)):
        moved, same, tilt_deg = grids.straightened(values, grid)
        assert moved is values and same is grid and tilt_deg == 0


def test_a_tilted_stack_is_shifted_slice_by_slice() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 6, 7)).astype(np.float32)
    grid = affine((3, 2, 1))
    grid[1, 0] = 1.5  # each slice lies 1.5 mm, three quarters of a row, further back
    moved, straight, tilt_deg = grids.straightened(values, grid, fill=-9)
    expected = np.full((4, 9, 7), np.nan)
    for d in range(4):
        for h in range(9):
            at = h - 0.75 * d  # of the row in the slice
            below, share = int(np.floor(at)), at - np.floor(at)
            rows = [values[d, i] if 0 <= i < 6 else np.full(7, -9) for i in (below, below + 1)]
            expected[d, h] = (1 - share) * rows[0] + share * rows[1]
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    np.testing.assert_allclose(straight, affine((3, 2, 1)), atol=1e-12)
    assert tilt_deg == pytest.approx(np.degrees(np.arctan(1.5 / 3)))
    back = grid.copy()
    back[1, 0] *= -1  # the other way, the grid begins before the first slice's
    moved, straight, _ = grids.straightened(values, back, fill=-9)
    np.testing.assert_allclose(moved[0, 3:], values[0], atol=1e-5)
    np.testing.assert_allclose(straight[:3, 3], (5, -6 - 3 * 2, 7))


def test_every_voxel_stays_where_it_was() -> None:
    """A value that is linear in the place has, after any shear, the value of its new place."""
    shape = (5, 6, 7)
    index = np.stack([*np.indices(shape), np.ones(shape)])
    for shears in itertools.product((0, 0.4, -0.7), repeat=3):
        grid = rotated(affine((3, 2, 1)), 20)
        shear = np.eye(4)
        shear[1, 0], shear[2, 0], shear[2, 1] = shears
        grid = grid @ shear
        place = np.einsum("ij,jdhw->idhw", grid, index)
        values = (place[0] + 2 * place[1] - place[2]).astype(np.float32)
        moved, straight, tilt_deg = grids.straightened(values, grid, fill=np.nan)
        assert (tilt_deg > 0) == any(shears)
        sides = straight[:3, :3].T @ straight[:3, :3]
        np.testing.assert_allclose(sides - np.diag(np.diag(sides)), 0, atol=1e-9)
        assert np.linalg.det(straight) == pytest.approx(np.linalg.det(grid))  # as much room for each voxel
        there = np.einsum("ij,jdhw->idhw", straight, np.stack([*np.indices(moved.shape), np.ones(moved.shape)]))
        truth = there[0] + 2 * there[1] - there[2]
        known = np.isfinite(moved)
        assert known.sum() > values.size / 4
        np.testing.assert_allclose(moved[known], truth[known], atol=1e-4)


def test_absurd_tilts_are_refused() -> None:
    grid = affine((3, 2, 1))
    grid[1, 0] = 3.1
    with pytest.raises(BadRecord, match="45 degrees"):
        grids.straightened(np.zeros((9, 9, 9), np.float32), grid)
    grid[1, 0] = 2.9
    with pytest.raises(BadRecord, match="absurdly large"):
        grids.straightened(np.zeros((90, 9, 9), np.float32), grid)


# --- label maps ---------------------------------------------------------------------------------------------------
def scene(seed: int = 0) -> np.ndarray:
    labels = np.zeros((8, 20, 24), np.int32)
    labels[2:6, 5:15, 6:18] = np.random.default_rng(seed).integers(1, 4, (4, 10, 12))
    return labels


def slow(labels: np.ndarray, own: np.ndarray, shape: tuple[int, ...], grid: np.ndarray) -> np.ndarray:
    """Return the label of the voxel that each centre lies in."""
    out = np.zeros(shape, np.int32)
    for index in np.ndindex(*shape):
        at = np.floor((np.linalg.inv(own) @ grid @ (*index, 1))[:3] + 0.5).astype(int)
        if (at >= 0).all() and (at < labels.shape).all():
            out[index] = labels[tuple(at)]
    return out


GRID = affine((3, 1.5, 1.2))
OTHERS = {
    "shifted": ((8, 20, 24), affine((3, 1.5, 1.2), (8.1, -5.2, 6.1))),
    "rotated": ((8, 20, 24), rotated(GRID, 14)),
    "other spacing": ((5, 11, 30), affine((5, 2.7, 0.97))),
    "other shape": ((12, 26, 20), GRID),
    "cropped": ((5, 12, 14), affine((3, 1.5, 1.2), (5 + 2 * 3, -6 + 4 * 1.5, 7 + 5 * 1.2))),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_mask_on_another_grid_is_that_of_the_nearest_voxel(case: str) -> None:
    shape, own = OTHERS[case]
    labels = slow(scene(), GRID, shape, own)
    found, notes = grids.fitted(labels, own, (8, 20, 24), GRID)
    np.testing.assert_array_equal(found, slow(labels, own, (8, 20, 24), GRID))
    assert found.dtype == np.int32 and notes["mask_resampled"] == 1
    centres = np.linalg.inv(GRID) @ own @ np.stack([*np.nonzero(labels), np.ones((labels > 0).sum())])
    outside = [any(not -0.5 <= c <= n - 0.5 for c, n in zip(at, (8, 20, 24), strict=False)) for at in centres.T]
    assert notes["mask_outside"] == pytest.approx(np.mean(outside))
    if case == "cropped":
        np.testing.assert_array_equal(found, scene())


def test_a_mask_on_the_same_grid_is_not_touched() -> None:
    labels = scene()
    nearly = GRID + np.random.default_rng(0).normal(scale=1e-4, size=(4, 4))
    nearly[3] = 0, 0, 0, 1
    for own in (GRID, nearly, affine((3, 1.5, 1.2), (5.1, -6.1, 7.1))):
        found, notes = grids.fitted(labels, own, labels.shape, GRID)
        assert found is labels and notes == {"mask_resampled": 0, "mask_outside": 0}


@pytest.mark.parametrize(("rows", "refused"), [(4, False), (6, False), (11, True), (40, True)])
def test_a_mask_that_is_mostly_elsewhere_is_refused(rows: int, refused: bool) -> None:
    own = affine((3, 1.5, 1.2), (5, -6 + rows * 1.5, 7))
    if refused:
        with pytest.raises(BadRecord, match="of the labelled voxels lie outside"):
            grids.fitted(scene(), own, (8, 20, 24), GRID)
    else:
        assert grids.fitted(scene(), own, (8, 20, 24), GRID)[1]["mask_outside"] == pytest.approx(max(0, rows - 5) / 10)


@pytest.mark.parametrize("origin", [(0, 0, 0), (0, -19, -23), (-7, 0, -23)])
def test_the_default_place_of_programs_is_no_place(origin: tuple[float, ...]) -> None:
    default, labels = affine((1, 1, 1), origin), scene()
    for own, grid, name in ((default, GRID, "mask"), (GRID, default, "volume")):
        with pytest.raises(BadRecord, match=f"the {name}'s header holds the default place"):
            grids.fitted(labels, own, labels.shape, grid)
    assert grids.fitted(labels, default, labels.shape, default)[0] is labels  # the same in both
    near = affine((1, 1, 1), (0.5, 0.5, 0.5))  # a place that is stated
    assert grids.fitted(labels, affine((1, 1, 1), (1.5, 0.5, 0.5)), labels.shape, near)[1]["mask_resampled"] == 1


@pytest.mark.parametrize("origin", [(0, 0, 0), (0, -19 * 1.5, -23 * 1.2), (0, 0, -23 * 1.2)])
def test_the_default_place_with_the_right_spacing_is_no_place(origin: tuple[float, ...]) -> None:
    default, labels = affine((3, 1.5, 1.2), origin), scene()
    for own, grid, name in ((default, GRID, "mask"), (GRID, default, "volume")):
        with pytest.raises(BadRecord, match=f"the {name}'s header holds the default place"):
            grids.fitted(labels, own, labels.shape, grid)
    assert grids.fitted(labels, default, labels.shape, default)[0] is labels
    turned = labels.transpose(1, 0, 2)  # saved in the order of the axes of a file that was not axial
    place = affine((1.5, 3, 1.2))
    with pytest.raises(BadRecord, match="the mask's header holds the default place"):
        grids.fitted(turned, affine((1.5, 3, 1.2), (0, -7 * 3, -23 * 1.2)), labels.shape, GRID)
    near = affine((3, 1.5, 1.2), (2.4, 1.2, 0.9))  # less than a voxel off, but stated
    for grid in (near, rotated(affine((3, 1.5, 1.2), (0, 0, 0)), 30)):
        with pytest.raises(BadRecord, match="the mask's header holds the default place"):
            grids.fitted(labels, affine((3, 1.5, 1.2), (0, 0, 0)), labels.shape, grid)
    # Another size of the same place in a volume at the origin is a part of it, and is told as one.
    part = affine((3, 1.5, 1.2), (2 * 3, 4 * 1.5, 5 * 1.2))
    found, notes = grids.fitted(labels[2:7, 4:16, 5:19], part, labels.shape, affine((3, 1.5, 1.2), (0, 0, 0)))
    np.testing.assert_array_equal(found, labels)
    assert notes == {"mask_resampled": 1, "mask_outside": 0}
    assert grids.fitted(turned, place, turned.shape, place)[0] is turned


@pytest.mark.parametrize("size_mm", [1.0, 1.4])
def test_two_default_places_belong_together_where_they_span_the_same_room(size_mm: float) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (4, 10, 12)).astype(np.int32)
    fine, coarse = affine((size_mm,) * 3, (0, 0, 0)), affine((2 * size_mm,) * 3, (0, 0, 0))
    found, notes = grids.fitted(labels, coarse, (8, 20, 24), fine)
    np.testing.assert_array_equal(found, slow(labels, coarse, (8, 20, 24), fine))
    assert notes["mask_resampled"] == 1
    with pytest.raises(BadRecord, match="the mask's header holds the default place"):
        grids.fitted(labels, coarse, labels.shape, fine)  # the same array in two sizes
    far = affine((2 * size_mm,) * 3, (0, -9 * 2 * size_mm, -11 * 2 * size_mm))  # on the other side of the origin
    with pytest.raises(BadRecord, match="bad_mask"):
        grids.fitted(labels, far, (8, 20, 24), fine)


def test_without_a_place_shapes_must_match() -> None:
    labels = scene()
    for own, grid in ((None, GRID), (GRID, None), (None, None)):
        assert grids.fitted(labels, own, labels.shape, grid) == (labels, {})
        with pytest.raises(BadRecord, match="differ in shape"):
            grids.fitted(labels, own, (8, 20, 25), grid)


def test_an_empty_mask_lies_nowhere() -> None:
    found, notes = grids.fitted(0 * scene(), OTHERS["shifted"][1], (8, 20, 24), GRID)
    assert not found.any() and notes == {"mask_resampled": 1, "mask_outside": 0}


def test_labels_reach_to_the_edge_of_their_voxels() -> None:
    ones, own = np.ones((4, 10, 12), np.int32), affine((6, 3, 2.4), (5 + 1.5, -6 + 0.75, 7 + 0.6))
    found, notes = grids.fitted(ones, own, (8, 20, 24), GRID)  # twice as coarse, over the same room
    np.testing.assert_array_equal(found, np.ones((8, 20, 24)))
    assert notes == {"mask_resampled": 1, "mask_outside": 0}
