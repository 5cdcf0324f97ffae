"""The deduplication page: pairs shown by id, no codes of patients or trials."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medssl.report import redundancy
from medssl.store import Store, Writer, open_store

PATIENT, TRIAL = 7_311_204_559_018_200, 8_422_315_660_129_300
NO_SWEEP = pd.DataFrame({"threshold": [], "keep_ratio": []})
SWEEP = pd.DataFrame({"threshold": [0, 2, 4], "keep_ratio": [1.0, 0.8, 0.5]})


def make(folder: Path, shape: tuple[int, ...], patients: int = 3, samples: int = 4) -> Store:
    """Write a cohort whose samples of a patient are near copies of each other."""
    rng = np.random.default_rng(0)
    signal = len(shape) == 2
    with Writer(
        folder / "store", {"modality": "toy", "shape": list(shape), "anatomy_units": {"height": "mm"}}
    ) as writer:
        for patient in range(patients):
            base = rng.random(shape)
            for index in range(samples):
                row: dict[str, Any] = {
                    "sample_id": f"id{patient:03d}x{index:03d}", "patient": PATIENT + patient, "trial": TRIAL + patient,
                    "index_in_trial": index, "modality": "toy", "source": ("a", "b")[patient % 2], "quality": 1.0,
                    "rate_hz": 20.0 if signal else float("nan"), "spacing_mm": None, "unit": "mV", "fold": 1.0,
                    "channels": [f"<lead {c}>" for c in range(shape[0])], "start_s": 0.0, "duration_s": 1.0,
                    "content": f"{patient}-{index}", "label_findings": ["af", "mi"][: 1 + patient % 2],
                    "anat_height": float(patient * samples + index),
                }  # fmt: skip
                writer.add((base + 0.05 * index * rng.random(shape)) / 2, row)
    return open_store(folder / "store")


def receipts(store: Store, *, method: str = "dhash", keep: int = 2) -> pd.DataFrame:
    """Keep the first samples of each patient and let its very first stand for the others."""
    table = store.table
    kept = (table["index_in_trial"] < keep).to_numpy()
    first = table.groupby("patient")["sample_id"].transform("first").to_numpy(dtype=object)
    stands = first if method != "every_n" else np.full(len(table), None)
    return pd.DataFrame(
        {
            "sample_id": table["sample_id"],
            "kept": kept,
            "duplicate_of": np.where(kept, None, stands),
            "distance": np.where(kept, 0.0, table["index_in_trial"].to_numpy(float)),
            "method": np.where(kept, "", method),
        }
    )


def text(page: str) -> str:
    """Return the page without pictures, whose base64 may hold any digits."""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)


@pytest.mark.parametrize("shape", [(4, 40), (1, 12, 10), (1, 6, 8, 7)])
def test_page(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = make(tmp_path, shape)
    page = redundancy.render(
        "toy <cohort>", store, receipts(store), sweep=SWEEP, method="dhash", threshold=3, unit="bits"
    )
    words = text(page)
    for patient in range(3):
        for index in (0, 2, 3):
            assert f"id{patient:03d}x{index:03d}" in words
        assert f"id{patient:03d}x001" not in words  # kept, and stands for nothing
    for code in (*store.table["patient"], *store.table["trial"]):
        assert str(code) not in words
    assert "toy &lt;cohort&gt;" in words
    assert "toy <cohort>" not in words
    for expected in (
        "50.0 %",
        "threshold 3 (bits)",
        "distance 2 (bits)",
        "removed: dhash",
        "Label: findings",
        "Anatomy: height (mm)",
        "Place in the trial",
    ):
        assert expected in words
    assert "3 patients with fewer than 3 samples kept, 0 of them with none" in words
    assert page.count("data:image/png") == 3 + 6
    assert words.index("id000x003") < words.index("id000x002")
    assert ("absolute difference" in words) == (len(shape) > 2)
    assert "http" not in words


def test_nothing_removed(tmp_path: Path) -> None:
    store = make(tmp_path, (1, 6, 6))
    page = redundancy.render(
        "toy", store, receipts(store, keep=9), sweep=NO_SWEEP, method="dhash", threshold=3, unit="bits"
    )
    for words in ("100.0 %", "No removed sample has a distance", "No other thresholds", "stands for it."):
        assert words in page


def test_nothing_stands_for_the_removed(tmp_path: Path) -> None:
    store = make(tmp_path, (2, 30))
    page = redundancy.render(
        "toy", store, receipts(store, method="every_n"), sweep=pd.DataFrame(), method="every_n", threshold=None, unit=""
    )
    assert "removed: every_n" in page
    assert "no\nthreshold" in page
    assert page.count("data:image/png") == 1


def test_exact_copies_come_last_and_ties_are_spread_over_patients(tmp_path: Path) -> None:
    store = make(tmp_path, (1, 4, 4), patients=40, samples=3)
    given = receipts(store, keep=1)
    given.loc[~given["kept"], "distance"] = 2.0
    given.loc[1, ["method", "distance"]] = ["exact", 0.0]
    shown = redundancy._shown(store.table, given)
    assert len(shown) == redundancy.PAIRS
    assert store.table.loc[shown.index, "patient"].is_unique
    assert redundancy._shown(store.table.head(3), given.head(3))["method"].tolist() == ["dhash", "exact"]


def test_receipts_must_fit(tmp_path: Path) -> None:
    store = make(tmp_path, (1, 4, 4))
    given = receipts(store)
    keywords: dict[str, Any] = {"sweep": NO_SWEEP, "method": "dhash", "threshold": 3.0, "unit": "bits"}
    with pytest.raises(ValueError, match="order"):
        redundancy.render("toy", store, given[::-1], **keywords)
    given.loc[3, "duplicate_of"] = "elsewhere"
    with pytest.raises(ValueError, match="elsewhere stands for id000x003"):
        redundancy.render("toy", store, given, **keywords)


def test_lag_against_a_known_shift() -> None:
    x = np.random.default_rng(0).standard_normal((3, 200))
    early = np.roll(x, -7, axis=1)
    assert redundancy.lag(x, early) == 7
    assert redundancy.lag(early, x) == -7
    assert redundancy.lag(x, x) == 0


def test_large_planes_shrink_by_averages() -> None:
    image = np.arange(600.0 * 300).reshape(600, 300)
    small = redundancy._shrink(image)
    assert small.shape == (200, 100)
    assert small[0, 0] == image[:3, :3].mean()
    assert redundancy._shrink(image[:1]).shape == (1, 150)


def test_difference_is_beside_the_pair() -> None:
    kept = np.full((1, 4, 5), 0.25, dtype=np.float32)
    removed = kept.copy()
    removed[0, 0, 0] = 0.375
    code = redundancy._planes(kept, removed).removeprefix("data:image/png;base64,")
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
    assert drawn.shape == (4 + 2, 3 * (5 + 2))
    assert drawn[1, [1, 8, 15]].tolist() == [64, 96, 128]  # a difference of 0.125 is half of what is drawn white
    assert drawn[1, [2, 9, 16]].tolist() == [64, 64, 0]
