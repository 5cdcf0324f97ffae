"""Copies planted into made-up stores are found, look-alikes are not; hashes find what comparing all pairs finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import resample_poly

from medssl.curate import candidates, copies, features, neighbours
from medssl.store import Store


@dataclass
class Held:
    facts: dict[str, Any]
    samples: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.samples[rows]


def ecg(seed: int, n: int, *, seconds: float = 5, rate_hz: int = 200) -> np.ndarray:
    """Return (n, 2, T): beats of each heart's own shape at its own uneven times."""
    rng, t, out = np.random.default_rng(seed), np.arange(round(seconds * rate_hz)) / rate_hz, []
    for _ in range(n):
        beats = np.cumsum(rng.uniform(0.5, 1.1, 14)) - 0.5
        values = np.zeros((2, len(t)))
        for width, place in ((0.012, 0.0), (0.02, 0.05), (0.04, 0.25), (0.03, -0.16)):
            high = rng.standard_normal(2)[:, None] * (1 if width < 0.03 else 0.4)
            values += high * np.exp(-((t - beats[:, None] - place) ** 2) / (2 * width**2)).sum(0)
        out.append(values)
    return np.array(out, dtype=np.float32)


def signals(
    samples: np.ndarray, rate_hz: float, channels: tuple[str, ...] = ("I", "II"), modality: str = "ecg"
) -> Held:
    params = {"channels": list(channels), "rate_hz": rate_hz}
    return Held({"modality": modality, "shape": list(samples.shape[1:]), "params": params}, samples)


def slices(samples: np.ndarray, modality: str = "ct", **params: Any) -> Held:
    return Held({"modality": modality, "shape": list(samples.shape[1:]), "params": params}, samples.astype(np.float32))


def pictures(seed: int, n: int, shape: tuple[int, ...] = (60, 60)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, 1, *shape))
    x = ndimage.gaussian_filter(noise, [0, 0, *(n / 20 for n in shape)], mode="wrap")
    return (1 / (1 + np.exp(-4 * x / x.std()))).astype(np.float32)


LONG = ecg(0, 12, seconds=8)


def rows(found: Any) -> set[tuple[int, int]]:
    return set(zip(found["row_a"].tolist(), found["row_b"].tolist(), strict=True))


@pytest.mark.parametrize("exhaustive", [10**6, 0])
def test_signals_in_another_form_are_found(exhaustive: int) -> None:
    rng = np.random.default_rng(1)
    a = signals(LONG[:, :, :1000], 200)
    late = LONG[:, ::-1, 150:1150]  # 0.75 s later, channels the other way round, at 125 Hz, gain, offset and noise
    other = resample_poly(late, 5, 8, axis=2, padtype="line").astype(np.float32)
    other = -1 + 0.3 * other + 0.003 * rng.standard_normal(other.shape).astype(np.float32)
    b = signals(other[::-1], 125, ("II", "I"))
    found = copies.pairs(a, b, exhaustive=exhaustive)
    assert rows(found) == {(i, 11 - i) for i in range(12)}
    assert np.allclose(found["lag"], -0.75, atol=0.01)
    assert (found["remainder"] < 0.004).all()
    assert found.attrs["radius"] == (-1 if exhaustive else candidates.RADIUS[1])
    assert rows(copies.pairs(b, a, exhaustive=exhaustive)) == {(11 - i, i) for i in range(12)}


@pytest.mark.parametrize("exhaustive", [10**6, 0])
def test_a_shorter_window_is_found(exhaustive: int) -> None:
    a, b = signals(LONG[:, :, :1000], 200), signals(LONG[:, :, 250:850], 200)
    assert rows(copies.pairs(a, b, exhaustive=exhaustive)) == {(i, i) for i in range(12)}
    assert rows(copies.pairs(b, a, exhaustive=exhaustive)) == {(i, i) for i in range(12)}


def test_another_stretch_and_another_polarity_are_no_copies() -> None:
    a = signals(LONG[:, :, :800], 200)
    assert copies.pairs(a, signals(LONG[:, :, 800:], 200)).empty
    assert copies.pairs(a, signals(-LONG[:, :, :800], 200)).empty


@pytest.mark.parametrize("exhaustive", [10**6, 0])
def test_within_one_store(exhaustive: int) -> None:
    x = ecg(2, 10)
    x[7] = 2 * x[3] + 1
    assert rows(copies.pairs(signals(x, 200), exhaustive=exhaustive)) == {(3, 7)}
    y = pictures(2, 10)
    y[9, :, :, 8:] = 0.5 * y[2, :, :, :-8] + 0.1
    found = copies.pairs(slices(y), exhaustive=exhaustive)
    assert rows(found) == {(2, 9)}
    assert found["lag"][0] == pytest.approx((0, 8 / 60), abs=0.01)


@pytest.mark.parametrize("exhaustive", [10**6, 0])
def test_slices_in_another_form_are_found(exhaustive: int) -> None:
    x = pictures(3, 12)
    cropped = x[:, :, 2:-2, 1:-4]
    small = np.stack(
        [
            ndimage.zoom(v[0], [50 / n for n in v[0].shape], order=1, grid_mode=True, mode="nearest")[None]
            for v in cropped
        ]
    )
    found = copies.pairs(slices(x), slices(1 - 0.4 * (1 - small)), exhaustive=exhaustive)
    assert rows(found) == {(i, i) for i in range(12)}
    assert (found["zoom"] > 1.03).all()
    window = np.clip(2000 * x - 1000, -600, 500)
    a = slices(x, hu_window=[-1000, 1000])
    b = slices((window + 600) / 1100, hu_window=[-600, 500])
    assert rows(copies.pairs(a, b, exhaustive=exhaustive)) == {(i, i) for i in range(12)}


@pytest.mark.parametrize("exhaustive", [10**6, 0])
def test_volumes_on_another_grid_are_found(exhaustive: int) -> None:
    x = pictures(4, 5, (24, 28, 20))
    coarse = ndimage.zoom(x[:, 0], (1, 0.75, 0.75, 0.75), order=1, grid_mode=True, mode="nearest")[:, None]
    step = [24 / coarse.shape[2], 28 / coarse.shape[3], 20 / coarse.shape[4]]
    found = copies.pairs(
        slices(x, "mri", spacing_mm=[1, 1, 1]), slices(coarse, "mri", spacing_mm=step), exhaustive=exhaustive
    )
    assert rows(found) == {(i, i) for i in range(5)}


def test_hash_candidates_are_all_pairs_within_the_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    def brute(hashes: np.ndarray, queries: np.ndarray, *, radius: int) -> neighbours.Neighbours:
        bits = np.bitwise_count(queries[:, None] ^ hashes).sum(axis=2)
        query, item = np.nonzero(bits <= radius)
        return neighbours.Neighbours(query, item, bits[query, item])

    a, b = slices(pictures(5, 8)), slices(pictures(5, 8)[::-1] + 1)
    plans = features.plans(a, b)
    indexed = candidates.retrieve(a, b, *plans, same=False)[0]
    monkeypatch.setattr(neighbours, "within", brute)
    slow = candidates.retrieve(a, b, *plans, same=False)[0]
    assert np.array_equal(slow.to_numpy(float), indexed.to_numpy(float))
    assert len(slow) >= 8


def test_a_crowd_is_capped_and_counted() -> None:
    x = np.repeat(ecg(6, 1), 130, axis=0)
    found = copies.pairs(signals(x[:1], 200), signals(x, 200), exhaustive=0)
    assert len(found) == 130
    again = copies.pairs(signals(x, 200), signals(x[:1], 200), exhaustive=0)
    assert len(again) == candidates.CAP[1]
    assert again.attrs["capped"] == 1


def test_flat_and_empty_of_content() -> None:
    x = ecg(7, 4)
    x[1] = 5.0
    assert rows(copies.pairs(signals(x, 200), signals(x, 200))) == {(0, 0), (2, 2), (3, 3)}


def test_refusals() -> None:
    a = signals(ecg(8, 2), 200)
    with pytest.raises(ValueError, match="compare stores of one modality"):
        copies.pairs(a, signals(ecg(8, 2), 200, modality="ppg"))
    with pytest.raises(ValueError, match="compare stores of one modality"):
        copies.pairs(slices(pictures(8, 2)), slices(pictures(8, 2, (8, 8, 8))))
    with pytest.raises(ValueError, match="none in common"):
        copies.pairs(a, signals(ecg(8, 2), 200, ("V1", "V2")))
    with pytest.raises(ValueError, match="no threshold is known for emg"):
        copies.pairs(signals(ecg(8, 2), 200, modality="emg"))
    assert len(copies.pairs(signals(ecg(8, 2), 200, modality="emg"), threshold=0.001)) == 0


def test_a_real_store_reads(image_store: Store) -> None:
    found = copies.pairs(image_store, image_store)
    assert {(i, i) for i in range(len(image_store))} <= rows(found)
