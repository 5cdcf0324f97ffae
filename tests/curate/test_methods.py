"""One interface: every method finds what it should; sweep and calibration; parts equal the whole."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from medssl.config import Dedup
from medssl.curate import dedup, methods
from medssl.curate.fingerprint import dhash


class Fake:
    """As much of a store as signatures need."""

    def __init__(self, samples: np.ndarray, **facts: Any) -> None:
        self.samples = samples.astype(np.float32)
        self.facts = {"shape": list(samples.shape[1:]), **facts}
        n = len(samples)
        self.table = pd.DataFrame(
            {"start_s": np.arange(n) * 1.0, "duration_s": np.full(n, 2.0), "trial": np.zeros(n, int)}
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.samples[i]


def pictures(*axes: int) -> np.ndarray:
    """Return six smooth random pictures or volumes in [0, 1] and a brighter, slightly noisy copy of each."""
    rng = np.random.default_rng(0)
    coarse = rng.random((6, 1, *(8 for _ in axes)))
    for axis, n in enumerate(axes, start=2):
        coarse = np.repeat(coarse, n // 8, axis=axis)
    base = gaussian_filter(coarse, (0, 0, *(1 for _ in axes)))
    base = (base - base.min()) / (base.max() - base.min())
    return np.concatenate([base * 0.9, np.clip(base * 0.9 + 0.02 + rng.normal(0, 0.001, base.shape), 0, 1)])


def beating(shift_s: float, *, gap_s: float = 0.8, turn: float = 1.0) -> np.ndarray:
    """Return 10 s of an ECG-like trace at 100 Hz, (1, 1000)."""
    t = np.arange(1000) / 100
    out = np.zeros(1000)
    for k in range(-1, 14):
        for height, at, width in ((0.15, -0.2, 0.025), (1.0, 0, 0.012), (-0.2, 0.03, 0.012), (0.3 * turn, 0.25, 0.05)):
            out += height * np.exp(-0.5 * ((t - shift_s - k * gap_s - at) / width) ** 2)
    return out[None]


@pytest.mark.parametrize("name", ["dhash", "ahash", "phash", "ssim", "mutual_information"])
@pytest.mark.parametrize("axes", [(32, 32), (24, 24, 24)])
def test_copies_of_images_go_and_others_stay(name: str, axes: tuple[int, ...]) -> None:
    store = Fake(pictures(*axes), modality="ct")
    values = methods.signatures(name, store, progress=False)  # type: ignore[arg-type]
    made = methods.choose(name, values, threshold=methods.METHODS[name].threshold)
    assert made.representative.tolist() == [*range(6), *range(6)]


@pytest.mark.parametrize("name", ["slices", "dhash3d"])
def test_copies_of_volumes_go_and_others_stay(name: str) -> None:
    values = methods.signatures(name, Fake(pictures(24, 24, 24), modality="mri"), progress=False)  # type: ignore[arg-type]
    made = methods.choose(name, values, threshold=methods.METHODS[name].threshold)
    assert made.representative.tolist() == [*range(6), *range(6)]


def test_beats_go_by_shape_and_rhythm() -> None:
    samples = np.stack(
        [beating(0.1), beating(0.47), beating(0.1, turn=-1.0), 3 * beating(0.1) + 2, beating(0.1, gap_s=1.2)]
    )
    values = methods.signatures("beats", Fake(samples, modality="ecg", params={"rate_hz": 100.0}), progress=False)  # type: ignore[arg-type]
    made = methods.choose("beats", values, threshold=1)
    assert made.representative.tolist() == [0, 0, 2, 0, 4]


@pytest.mark.parametrize("name", [n for n, m in methods.METHODS.items() if n != "embedding"])
def test_every_method_reads_a_store_as_ingest_writes_it(name: str, request: pytest.FixtureRequest) -> None:
    axes = methods.METHODS[name].axes
    kind = {1: "signal", 2: "image", 3: "volume"}[axes[0]]
    made = request.getfixturevalue(f"{kind}_store")
    if name == "bands":
        made = Fake(made.read(np.arange(4)), **{**made.facts, "modality": "eeg"})
    assert len(methods.signatures(name, made, progress=False)) == len(made)


def test_embeddings_and_overlaps() -> None:
    z = np.array([[1.0, 0], [1, 0.01], [0, 1], [2, 0]])
    assert methods.choose("embedding", z, threshold=0.01).representative.tolist() == [0, 0, 2, 0]
    store = Fake(np.zeros((4, 1, 10)), modality="ecg")  # two seconds long, a second apart
    values = methods.signatures("overlap", store, progress=False)  # type: ignore[arg-type]
    assert methods.choose("overlap", values, threshold=0.5).representative.tolist() == [0, 0, 2, 2]
    assert methods.choose("overlap", values, threshold=0.4).kept.all()
    store.table["trial"] = [0, 1, 2, 2]  # clocks of different trials say nothing about each other
    values = methods.signatures("overlap", store, progress=False)  # type: ignore[arg-type]
    assert methods.choose("overlap", values, threshold=0.5).representative.tolist() == [0, 1, 2, 2]


def test_published_scaling_hashes_each_slice_by_itself() -> None:
    sample = pictures(32, 32)[:2]
    dim = Fake(sample * 1e-3, modality="ct")
    scaled = methods.signatures("dhash", dim, published=True, progress=False)  # type: ignore[arg-type]
    eight_bits = np.stack([np.round(255 * (s - s.min()) / (s.max() - s.min())).astype(np.uint8) for s in sample[:, 0]])
    np.testing.assert_array_equal(scaled, [dhash(s) for s in eight_bits])


def test_a_method_for_other_samples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dedup.method = dhash is not for signals; for those: .*beats"):
        methods.signatures("dhash", Fake(np.zeros((2, 1, 100)), modality="ecg"))  # type: ignore[arg-type]


def test_sweep_and_calibration_agree_with_the_choice() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (30, 8), dtype=np.uint8)[np.repeat(np.arange(30), 10)]
    bits = np.unpackbits(values, axis=1)
    for k in range(8):
        rows = np.flatnonzero(rng.integers(0, 9, 300) > k)
        bits[rows, rng.integers(0, 64, len(rows))] ^= 1
    values = np.packbits(bits, axis=1)

    def keep(threshold: float) -> dedup.Greedy:
        return methods.choose("dhash", values, threshold=threshold)

    table = methods.sweep("dhash", 6, keep)
    assert 6 in table["threshold"].to_numpy()
    for threshold, ratio in table.itertuples(index=False):
        assert ratio == dedup.greedy(values, radius=int(threshold)).kept.mean()
    for wanted in (0.1, 0.4, 0.9):
        found = methods.calibrate("dhash", wanted, keep)
        ratios = {t: keep(t).kept.mean() for t in range(21)}
        assert abs(ratios[int(found)] - wanted) == min(abs(r - wanted) for r in ratios.values())


@pytest.mark.parametrize("executor", ["process", "dask"])
def test_groups_spread_over_workers_give_the_same(executor: Any) -> None:
    rng = np.random.default_rng(1)
    z, groups, order = rng.normal(size=(200, 3)), rng.integers(0, 17, 200), rng.permutation(200)
    whole = methods.choose("embedding", z, threshold=0.2, groups=groups, order=order)
    spread = methods.choose("embedding", z, threshold=0.2, groups=groups, order=order, executor=executor, workers=2)
    for one, other in zip(whole, spread, strict=True):
        np.testing.assert_array_equal(one, other)


def test_settings_are_named_like_the_methods() -> None:
    assert {*get_args(Dedup.model_fields["method"].annotation)} == {*methods.METHODS, "none", "every_n", "copies"}
