"""Images of a store under another contract equal those that a caller would make from the same images by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.config import VolumeIngest
from medssl.hub import EncoderError
from medssl.hub.stores import differences, embed_store
from medssl.models.embed import embed_samples
from medssl.sources.record import Volume
from medssl.store import Store
from tests.hub.stores import ct, encoder_of, store_of

CUBE = {"samples": "volume", "size": (16, 16, 16), "spacing_mm": (2, 2, 2)}


def scans(number: int = 2, *, unit: str = "HU") -> list[Volume]:
    """Volumes of 16 x 20 x 16 voxels of 2 mm with a body of smooth tissue in air."""
    draw, out = np.random.default_rng(0), []
    for _ in range(number):
        x = np.full((16, 20, 16), -1000.0, dtype=np.float32)
        x[:, 4:15, 3:13] = draw.uniform(-200, 300, (16, 11, 10))
        out.append(Volume(x, (2.0, 2.0, 2.0), unit))
    return out


def hounsfield(store: Store, low: float = -1000, high: float = 1000) -> np.ndarray:
    return store.read(np.arange(len(store)))[:, 0] * (high - low) + low


def test_a_store_that_meets_the_contract_is_embedded_as_it_is(tmp_path: Path) -> None:
    store, encoder = store_of(tmp_path / "s", scans(), ct(), "ct"), encoder_of(ct(max_blank=0.5), "ct")
    assert np.array_equal(embed_store(encoder, store), embed_samples(encoder.module, store))
    assert differences(encoder, store) == []


@pytest.mark.parametrize(
    "want",
    [
        {"spacing_mm": (3, 2.5), "size": (10, 12)},
        {"size": (12, 14)},
        {"hu_window": (-300, 200)},
        {"spacing_mm": None, "size": (20, 20)},
        {"hu_window": (-160, 240), "normalise": "zscore"},
        {"crop": "foreground"},
    ],
)
def test_slices_as_a_caller_would_have_them(tmp_path: Path, want: dict[str, Any]) -> None:
    store, encoder = store_of(tmp_path / "s", scans(), ct(), "ct"), encoder_of(ct(**want), "ct")
    assert differences(encoder, store) == []
    expected = [encoder.embed(image, spacing_mm=(2, 2))[0] for image in hounsfield(store)]
    np.testing.assert_allclose(embed_store(encoder, store, batch_size=3), expected, atol=1e-4)
    rows = np.array([5, 1, 5])
    np.testing.assert_allclose(embed_store(encoder, store, rows), np.array(expected)[rows], atol=1e-4)


@pytest.mark.parametrize(
    "want",
    [
        {"size": (12, 12, 12), "spacing_mm": (2.5, 2.5, 2.5)},
        {"samples": "patches", "size": (8, 8, 8)},
        {"samples": "slices", "size": (16, 16), "spacing_mm": (2, 2)},
    ],
)
def test_volumes_and_the_mean_over_their_parts(tmp_path: Path, want: dict[str, Any]) -> None:
    recordings = scans()
    for scan in recordings:
        scan.values[:3] = -1000  # slices of air alone, which do not count
    store, encoder = store_of(tmp_path / "s", recordings, ct(**CUBE), "ct"), encoder_of(ct(**{**CUBE, **want}), "ct")
    assert differences(encoder, store) == []
    found = embed_store(encoder, store)
    for z, image in zip(found, hounsfield(store), strict=True):
        made = encoder.pieces(Volume(image, (2.0, 2.0, 2.0), "HU"))
        np.testing.assert_allclose(z, encoder.encode(made.samples[made.kept]).mean(0), atol=1e-4)


def test_intensities_without_a_scale_stay_as_they_are(tmp_path: Path) -> None:
    grey = ct(hu_window=None, unit="1", size=(12, 12))
    store = store_of(tmp_path / "s", scans(unit="1"), grey, "ct")
    encoder = encoder_of(ct(size=(12, 12)), "ct")
    (said,) = differences(encoder, store)
    assert said == (
        "intensities of the store are between percentiles 1 and 99.5 of a volume and stay so, "
        "the encoder's are -1000 to 1000 HU"
    )
    np.testing.assert_allclose(embed_store(encoder, store), embed_samples(encoder.module, store), atol=1e-6)


def test_an_image_without_contrast_has_no_embedding(tmp_path: Path) -> None:
    (scan,) = scans(1)
    scan.values[:, 4:15, 3:13] = 50
    scan.values[3, 5, 5] = 900
    store = store_of(tmp_path / "s", [scan], ct(), "ct")
    # In a window of bone, the soft tissue and the air of all slices but one are 0.
    found = embed_store(encoder_of(ct(hu_window=(300, 1000)), "ct"), store)
    assert np.isfinite(found[3]).all() and np.isnan(found[[i for i in range(16) if i != 3]]).all()


@pytest.mark.parametrize(
    ("want", "have", "said"),
    [
        ({}, {"crop": "foreground"}, "the store is cut to the body, the encoder's samples are not"),
        ({}, {"spacing_mm": None}, "the store says no spacing and is resized, the encoder's samples have 2 x 2 mm"),
        ({"size": (16, 24)}, {}, "the store shows 32 x 32 mm of the body, the encoder's samples 32 x 48 mm"),
        ({}, {"hu_window": (-160, 240)}, "the store holds -160 to 240 HU, the encoder's samples -1000 to 1000 HU"),
        (
            {},
            {"normalise": "zscore"},
            "intensities of the store are -1000 to 1000 HU, then by the z-score of the body a",
        ),
        ({"hu_window": None}, {}, "the store holds -1000 to 1000 HU, the encoder's samples between percentiles 1 and"),
        (CUBE, {**CUBE, "samples": "patches"}, "samples of the store are patches, the encoder's are whole volumes"),
    ],
)
def test_what_the_store_lost_is_said(tmp_path: Path, want: dict[str, Any], have: dict[str, Any], said: str) -> None:
    store, encoder = store_of(tmp_path / "s", scans(1), ct(**have), "ct"), encoder_of(ct(**want), "ct")
    (found,) = differences(encoder, store)
    assert found.startswith(said)
    assert np.isfinite(embed_store(encoder, store)).all()


@pytest.mark.parametrize(
    ("want", "modality", "sentence"),
    [
        (ct(), "mri", "holds ct, the encoder takes mri"),
        (ct(**CUBE), "ct", "holds slices, of which no volume for the encoder can be made"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, want: VolumeIngest, modality: str, sentence: str) -> None:
    store, encoder = store_of(tmp_path / "s", scans(1), ct(), "ct"), encoder_of(want, modality)
    for ask in (differences, embed_store):
        with pytest.raises(EncoderError, match=sentence):
            ask(encoder, store)
