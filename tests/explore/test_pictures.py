"""Pictures of samples: no peak is lost, and whatever there is stays within the bound."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medssl.explore import pictures
from medssl.explore.pictures import decimated, draw, quantised
from medssl.store import Store


def test_decimation_keeps_every_peak_in_order() -> None:
    x = np.zeros((2, 1000), np.float32)
    x[0, 501], x[0, 505], x[1, 700] = -3, 5, 7
    y = decimated(x, 100)
    assert y.shape == (2, 100)
    assert y[0].max() == 5
    assert y[0].min() == -3
    assert y[0].argmin() < y[0].argmax()
    assert y[1].max() == 7
    assert decimated(x, 1000) is x
    # Against a loop, also where stretches are of unequal length.
    z = np.random.default_rng(0).normal(size=(1, 37)).astype(np.float32)
    for k, part in enumerate(np.split(z[0], np.linspace(0, 37, 6).astype(int)[1:-1])):
        assert sorted(decimated(z, 10)[0, 2 * k : 2 * k + 2]) == [part.min(), part.max()]


def test_codes_give_a_signal_back_within_half_a_step() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 50)).astype(np.float32)
    x[1, 1] += 1000  # an offset takes nothing from the scale
    codes, spans = quantised(x)
    centred = x - np.median(x, axis=2, keepdims=True)
    for i in range(3):
        back = codes[i] / 255 * spans[i] + centred[i].min()
        assert np.abs(back - centred[i]).max() < 0.51 * spans[i] / 255
    assert quantised(np.ones((1, 1, 4), np.float32))[1].tolist() == [0]


def test_traces_are_those_of_the_rows_asked_for(signal_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([50, 3, 95, 4])
    drawn = draw(signal_store, rows)
    codes = np.frombuffer(drawn.blobs["traces"], np.uint8).reshape(4, 2, 64)
    spans = np.frombuffer(drawn.blobs["spans"], np.float32)
    expected, heights = quantised(signal_store.read(rows))
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(spans, heights)
    assert drawn.facts == {"channels": ["A", "B"], "points": 64, "seconds": 2.0, "unit": "SD"}
    assert drawn.words == "traces (A, B; 2 of 2 channels)"
    monkeypatch.setattr(pictures, "BYTES", 4 * 2 * 21)
    assert len(draw(signal_store, rows).blobs["traces"]) == 4 * 2 * 20


def tile(drawn: pictures.Pictures, i: int) -> np.ndarray:
    high, wide, tiles = (drawn.facts[k] for k in ("height", "width", "tiles"))
    sheet = np.asarray(Image.open(io.BytesIO(drawn.blobs[f"tiles{i // tiles**2}"])))
    row, column = divmod(i % tiles**2, tiles)
    return sheet[row * high : (row + 1) * high, column * wide : (column + 1) * wide]


def test_slices_are_tiles_in_order(image_store: Store, volume_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TILES", 3)  # several sheets
    rows = np.random.default_rng(0).permutation(48)[:20]
    for store, words in ((image_store, "slices"), (volume_store, "middle slices")):
        drawn = draw(store, rows)
        assert drawn.words == words
        assert sorted(drawn.blobs) == ["tiles0", "tiles1", "tiles2"]
        for i in (0, 8, 9, 19):
            x = store[int(rows[i])][0]
            plane = x[len(x) // 2] if x.ndim == 3 else x
            assert np.abs(tile(drawn, i) / 255 - plane.clip(0, 1)).mean() < 0.03
    monkeypatch.setattr(pictures, "BYTES", 20 * 100 * pictures.JPEG_SHARE)
    small = draw(image_store, rows)
    assert (small.facts["height"], small.facts["width"]) == (10, 10)
    whole = image_store[int(rows[7])][0, :20, :20].reshape(10, 2, 10, 2).mean((1, 3))
    assert np.corrcoef(tile(small, 7).ravel(), whole.ravel())[0, 1] > 0.5
