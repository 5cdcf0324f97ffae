"""Intensity, spacing, cropping and body measures with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from medssl.ingest import volumes
from medssl.sources.record import BadRecord, Volume

NAN = float("nan")


def volume(values: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1), **more: Any) -> Volume:
    return Volume(values.astype(np.float32), spacing, **{"unit": "HU"} | more)


def prepare(v: Volume, **options: Any) -> np.ndarray:
    base: dict[str, Any] = {"samples": "volume", "spacing_mm": None, "hu_window": (-1000, 1000), "unit": "HU"}
    return volumes.prepare(v, **base | options)


def test_hu_window() -> None:
    out = volumes.rescale(np.array([-2000.0, -1000, -500, 0, 40, 1000, 3000]), (-1000, 1000))
    assert out.tolist() == pytest.approx([0, 0, 0.25, 0.5, 0.52, 1, 1])
    assert out.dtype == np.float32


def test_percentiles_ignore_a_hot_spot() -> None:
    x = np.linspace(0, 100, 10_001)
    low, high = np.percentile(x, (1, 99.5))
    x[-1] = 1e6
    assert np.allclose(volumes.rescale(x, None)[:-1], np.clip((x[:-1] - low) / (high - low), 0, 1), atol=1e-3)


def test_blank_and_missing() -> None:
    with pytest.raises(BadRecord, match="blank"):
        volumes.rescale(np.ones((3, 3, 3)), (-1000, 1000))
    with pytest.raises(BadRecord, match="missing_values"):
        volumes.rescale(np.array([1.0, NAN]), (-1000, 1000))


@pytest.mark.parametrize(
    ("spacing", "target"), [((2, 1, 1), (1, 1, 1)), ((1, 1, 1), (2, 2, 2)), ((3, 0.7, 0.7), (2, 2, 2))]
)
def test_respacing_keeps_positions_in_mm(spacing: tuple[float, ...], target: tuple[float, ...]) -> None:
    shape = tuple(round(48 / s) for s in spacing)
    axes = np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    centre = (20.0, 26.0, 30.0)
    blob = np.exp(-sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) / (2 * 5.0**2))
    out = volumes.respace(blob, np.array(spacing), np.array(target))
    axes = np.meshgrid(*[(np.arange(n) + 0.5) * t for n, t in zip(out.shape, target, strict=True)], indexing="ij")
    found = [float((a * out).sum() / out.sum()) for a in axes]
    assert found == pytest.approx(centre, abs=0.4)
    assert out.sum() * np.prod(target) == pytest.approx(blob.sum() * np.prod(spacing), rel=0.02)


def test_respacing_to_the_same_grid_changes_nothing() -> None:
    x = np.zeros((3, 3, 3))
    assert volumes.respace(x, np.ones(3), np.ones(3)) is x


def test_crop_or_pad() -> None:
    x = np.arange(1, 26, dtype=float).reshape(5, 5)
    assert volumes.crop_or_pad(x, (3, 3)).tolist() == x[1:4, 1:4].tolist()
    padded = volumes.crop_or_pad(x, (7, 5))
    assert padded[1:6].tolist() == x.tolist()
    assert not padded[[0, 6]].any()
    mixed = volumes.crop_or_pad(x, (3, 9))
    assert mixed[:, 2:7].tolist() == x[1:4].tolist()
    assert mixed.sum() == x[1:4].sum()


def test_volume_and_slices() -> None:
    x = np.random.default_rng(0).uniform(-900, 900, (6, 10, 12))
    whole = prepare(volume(x, (2, 1, 1)), size=(8, 8, 8), spacing_mm=(2, 2, 2))
    assert whole.shape == (1, 1, 8, 8, 8)
    assert whole.dtype == np.float32
    assert not whole[0, 0, 0].any()  # 6 slices in 8: one empty at each end
    slices = prepare(volume(x, (NAN, 1, 1)), samples="slices", size=(10, 12), spacing_mm=(1, 1))
    assert slices.shape == (6, 1, 10, 12)
    assert np.allclose(slices[:, 0], (x + 1000) / 2000, atol=1e-6)
    fitted = prepare(volume(x, (NAN, NAN, NAN)), size=(3, 5, 6))
    assert fitted.shape == (1, 1, 3, 5, 6)
    assert fitted.min() > 0  # resized, nothing padded


def test_refusals() -> None:
    x = np.random.default_rng(0).uniform(-900, 900, (4, 4, 4))
    with pytest.raises(BadRecord, match="no_spacing"):
        prepare(volume(x, (NAN, NAN, NAN)), size=(4, 4, 4), spacing_mm=(1, 1, 1))
    with pytest.raises(BadRecord, match="bad_unit"):
        prepare(volume(x, unit="1"), size=(4, 4, 4))


def test_organ_volumes() -> None:
    mask = np.zeros((4, 5, 5), int)
    mask[:2, :2, :3] = 1
    mask[3, 0, 0] = 7
    v = volume(np.zeros((4, 5, 5)), (5, 2, 2), mask=mask)
    found = volumes.organ_volumes(v, {1: "liver", 2: "spleen", 7: "cyst"})
    assert found == {"liver_ml": pytest.approx(12 * 20 / 1000), "cyst_ml": pytest.approx(0.02)}  # no spleen, not 0
    assert volumes.organ_volumes(v, {}) == {}
    assert volumes.organ_volumes(volume(np.zeros((2, 2, 2))), {1: "liver"}) == {}


def test_organ_densities() -> None:
    x = np.random.default_rng(0).uniform(-900, 900, (4, 5, 5))
    mask = np.zeros((4, 5, 5), int)
    mask[:2, :2, :3] = 1
    mask[3, 0, 0] = 7
    found = volumes.organ_densities(volume(x, mask=mask), {1: "liver", 2: "spleen", 7: "cyst"})
    assert found == {
        "liver_hu": pytest.approx(x[mask == 1].mean(), abs=1e-2),
        "cyst_hu": pytest.approx(x[3, 0, 0], abs=1e-2),
    }
    assert volumes.organ_densities(volume(x, unit="1", mask=mask), {1: "liver"}) == {}
    assert volumes.organ_densities(volume(x), {1: "liver"}) == {}


def test_truncated_organs() -> None:
    mask = np.zeros((4, 5, 5), int)
    mask[:2, :2, :3] = 1
    mask[1:3, 3, 3] = 2
    mask[3, 0, 0] = 7
    found = volumes.truncated_organs(volume(mask, mask=mask), {1: "liver", 2: "spleen", 3: "lung", 7: "cyst"})
    assert found == {"liver": True, "spleen": False, "cyst": True}
    assert volumes.truncated_organs(volume(mask), {1: "liver"}) == {}


@pytest.mark.parametrize("unit", ["HU", "1"])
def test_foreground_is_the_body_without_the_table(unit: str) -> None:
    x = np.full((6, 40, 40), -1000.0) + 20 * np.random.default_rng(0).standard_normal((6, 40, 40))
    x[1:5, 8:25, 10:31] = 40
    x[2, 12, 12] = -900  # a cavity
    x[:, 35:37, 5:35] = 100  # the table
    assert volumes.foreground(x, unit) == (slice(1, 5), slice(8, 25), slice(10, 31))
    assert volumes.foreground(np.full((2, 3, 4), -1000.0), "HU") == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_crop_to_the_foreground() -> None:
    x = np.full((6, 40, 40), -1000.0)
    body = np.random.default_rng(0).uniform(-200, 200, (4, 16, 20))
    x[1:5, 20:36, 4:24] = body
    scaled = (body + 1000) / 2000
    whole = prepare(volume(x), size=(4, 16, 20), spacing_mm=(1, 1, 1), crop="foreground")
    assert np.allclose(whole[0, 0], scaled, atol=1e-6)
    slices = prepare(volume(x), samples="slices", size=(16, 20), spacing_mm=(1, 1), crop="foreground")
    assert slices.shape == (6, 1, 16, 20)  # none is left out
    assert np.allclose(slices[1:5, 0], scaled, atol=1e-6)
    assert not slices[[0, 5]].any()
    fitted = prepare(volume(x, (NAN, NAN, NAN)), size=(4, 16, 20), crop="foreground")
    assert np.allclose(fitted[0, 0], scaled, atol=1e-6)


def test_composition() -> None:
    x = np.full((3, 20, 20), -1000.0)
    x[1, 5:15, 5:15] = 40
    x[1, 5:15, 5:7] = -100
    x[1, 8:10, 10:12] = -800  # a cavity inside the body
    x[1, 14, 5:15] = 500
    rows = volumes.composition(volume(x, (3, 2, 2)))
    assert [row["position"] for row in rows] == [0, 0.5, 1]
    assert set(rows[0]) == {"position"}
    body = rows[1]
    assert body["body_cm2"] == pytest.approx(100 * 4 / 100)
    shares = {k: round(100 * body[f"{k}_share"]) for k in ("lung", "fat", "soft", "bone")}
    assert shares == {"lung": 4, "fat": 18, "soft": 68, "bone": 10}
    assert volumes.composition(volume(x[:1], unit="1")) == [{}]


def test_holes_are_filled_as_scipy_does() -> None:
    for seed in range(50):
        draw = np.random.default_rng(seed)
        body = ndimage.gaussian_filter(draw.random((20, 30)), 1.0) > draw.uniform(0.4, 0.6)
        np.testing.assert_array_equal(volumes._filled(body), ndimage.binary_fill_holes(body))


def chest() -> np.ndarray:
    """Return soft tissue with a lung in air, int HU (12, 40, 50)."""
    x = np.full((12, 40, 50), -1000.0)
    x[:, 6:34, 8:44] = np.random.default_rng(0).normal(40, 30, (12, 28, 36))
    x[:, 12:28, 14:24] = -800
    return x


@pytest.mark.parametrize(("unit", "window"), [("HU", (-1000, 1000)), ("1", None)])
def test_zscore_is_that_of_the_body(unit: str, window: tuple[float, float] | None) -> None:
    x = chest()  # the air around is a constant, as after skull stripping
    out = volumes.rescale(x, window, normalise="zscore", unit=unit)
    inside = x[x > -300]  # Otsu finds the same gap
    if window is None:
        inside = np.clip(inside, *np.percentile(x, (1, 99.5)))
    expected = (inside - inside.mean()) / inside.std()
    found = (out[x > -300] - 0.5) * 6
    assert found == pytest.approx(np.clip(expected, -3, 3), abs=1e-4)
    assert (out[x == -1000] == 0).all()
    assert out.max() <= 1
    assert out.dtype == np.float32


def test_zscore_of_a_small_head_in_noisy_air_is_that_of_the_head() -> None:
    draw = np.random.default_rng(0)
    x = np.abs(draw.normal(0, 8, (20, 40, 40)))
    x[6:14, 12:28, 12:28] = draw.normal(300, 40, (8, 16, 16))  # 6 % of the volume
    out = volumes.rescale(x, None, normalise="zscore", unit="1")
    head = out[6:14, 12:28, 12:28]
    assert head.mean() == pytest.approx(0.5, abs=0.02)
    assert (head == 1).mean() < 0.01


def test_zscore_of_skull_stripped_contrast_has_its_background_at_0() -> None:
    x = np.zeros((20, 40, 40))
    x[5:15, 10:30, 10:30] = 1 + np.random.default_rng(0).gamma(2, 50, (10, 20, 20))
    out = volumes.rescale(x, None, normalise="zscore", unit="1")
    assert (out[x == 0] == 0).all()
    assert (out[x > 100] > 0.3).all()


def test_zscore_of_a_volume_without_background_is_of_all() -> None:
    x = np.random.default_rng(0).normal(500, 50, (12, 40, 50))
    out = volumes.rescale(x, None, normalise="zscore", unit="1")
    assert out.mean() == pytest.approx(0.5, abs=1e-3)
    assert out.std() == pytest.approx(1 / 6, abs=1e-3)


@pytest.mark.parametrize("gain", [0.01, 1.0, 250.0])
def test_zscore_forgets_the_scanners_gain(gain: float) -> None:
    x = chest() + 1000
    once = volumes.rescale(x, None, normalise="zscore", unit="1")
    assert volumes.rescale(gain * x, None, normalise="zscore", unit="1") == pytest.approx(once, abs=1e-4)


def test_zscore_needs_a_body() -> None:
    x = np.full((3, 4, 4), -1000.0)
    x[0, 0, 0] = -900
    with pytest.raises(BadRecord, match="blank"):
        volumes.rescale(x, (-1000, 1000), normalise="zscore")


@pytest.mark.parametrize(("have", "want"), [(10, 4), (8, 4), (9, 4), (4, 4), (3, 4), (1, 4), (41, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_patches_cover_all_and_repeat_at_least_the_overlap(have: int, want: int, overlap: float) -> None:
    places = [box[0] for box in volumes.grid_of((have,), (want,), overlap)]
    seen = np.zeros(have, dtype=int)
    for place in places:
        assert place.stop - place.start == min(have, want)
        seen[place] += 1
    assert seen.all()
    steps = np.diff([place.start for place in places])
    assert (steps >= 1).all()
    assert (steps <= max(1, want * (1 - overlap)) + 0.5).all()
    if have % want == 0 and not overlap:
        assert (seen == 1).all()


def test_patches_are_the_volume_and_say_where_they_lie() -> None:
    x = chest()
    v = volume(x, (3, 1, 1))
    options: dict[str, Any] = {"samples": "patches", "size": (4, 16, 16), "spacing_mm": None, "unit": "HU"}
    out, boxes = volumes.located(v, hu_window=(-1000, 1000), **options)
    assert out.shape == (3 * 3 * 4, 1, 4, 16, 16)
    scaled = volumes.rescale(v.values, (-1000, 1000))
    assert all(np.array_equal(patch[0], scaled[box]) for patch, box in zip(out, boxes, strict=True))
    measures = volumes.composition_of(v, boxes)
    assert (measures[0]["position"], measures[-1]["position"]) == pytest.approx((1.5 / 11, 9.5 / 11))
    assert (measures[0]["position_back"], measures[0]["position_left"]) == pytest.approx((7.5 / 39, 7.5 / 49))
    middle = measures[boxes.index((slice(4, 8), slice(12, 28), slice(11, 27)))]
    assert middle["body_share"] == 1  # the lung is filled
    assert middle["lung_share"] == pytest.approx(10 / 16)
    corner = measures[0]
    assert corner["body_share"] == pytest.approx((10 * 8) / 256)


def test_patches_after_crop_and_respacing_are_found_in_the_volume() -> None:
    x = np.full((20, 40, 40), -1000.0)
    x[4:16, 8:32, 12:28] = np.random.default_rng(0).uniform(0, 100, (12, 24, 16))
    v = volume(x, (2, 1, 1))
    out, boxes = volumes.located(
        v, samples="patches", size=(6, 6, 4), spacing_mm=(4, 2, 2), hu_window=(-200, 300), unit="HU", crop="foreground"
    )
    assert out.shape == (1 * 2 * 2, 1, 6, 6, 4)
    assert boxes[0] == (slice(4, 16), slice(8, 20), slice(12, 20))
    assert boxes[-1] == (slice(4, 16), slice(20, 32), slice(20, 28))


def test_a_volume_smaller_than_a_patch_is_padded() -> None:
    v = volume(chest()[:2])
    out, boxes = volumes.located(
        v, samples="patches", size=(4, 64, 64), spacing_mm=None, hu_window=(-1000, 1000), unit="HU"
    )
    assert out.shape == (1, 1, 4, 64, 64)
    assert boxes == [(slice(0, 2), slice(0, 40), slice(0, 50))]
    assert (out[0, 0, [0, 3]] == 0).all()


def test_too_many_patches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MAX_VOXELS", 1000)
    with pytest.raises(BadRecord, match="less overlap"):
        prepare(volume(chest()), samples="patches", size=(4, 8, 8))
