"""The scale of a cohort in evaluation: each fold's own, and none of a test patient's doing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl import config, hub, tracking
from medssl.config import Evaluate
from medssl.curate import dedup
from medssl.evaluate import frozen, standalone
from medssl.evaluate.baselines import BASELINES
from medssl.evaluate.results import Predictions
from medssl.sources.record import Signal
from medssl.store import Store, write_parquet
from pipeline import pretrain, stage
from tests.hub.stores import ecg, encoder_of, store_of

PATIENTS = [f"p{k}" for k in range(6)]
PARTS = {
    "split": ["train", "train", "train", "test", "test", "val"],
    "split@0": ["train", "train", "val", "train", "train", "test"],
    "split@1": ["test", "val", "train", "train", "train", "train"],
}
COHORT = ecg(normalise="cohort", window_s=2)
Cohorts = Callable[[float], Store]


def heart(seed: int, gain: float) -> Signal:
    """Return 8 s of beats in noise, two leads, 100 Hz, whose amplitude is ``gain``."""
    draw = np.random.default_rng(seed)
    t = np.arange(800) / 100
    pulse = np.exp(-0.5 * (((t - 0.1 * seed) % 0.8 - 0.4) / 0.02) ** 2)
    wave = np.stack([pulse, 0.6 * pulse]) + 0.02 * draw.standard_normal((2, 800))
    return Signal((gain * wave).astype(np.float32), 100, ("A", "B"), "mV")


@pytest.fixture
def cohorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cohorts:
    """Ingest, split and deduplicate ``data/ecg`` with the last patient so many times as loud; give its store."""
    monkeypatch.setattr(stage, "DATA", tmp_path / "data")

    def of(louder: float) -> Store:
        folder = stage.DATA / "ecg"
        gains = [0.1 * 2**k for k in range(5)] + [louder]
        recordings = [heart(k, gain) for k, gain in enumerate(gains)]
        store = store_of(folder / "store", recordings, COHORT, "ecg", patients=PATIENTS)
        names = dict(zip(pd.unique(store.table["patient"]), range(6), strict=True))
        parts = {name: [of[names[p]] for p in store.table["patient"]] for name, of in PARTS.items()}
        ids = store.table[["sample_id"]]
        write_parquet(ids.assign(**parts), folder / "split.parquet")
        write_parquet(dedup.receipts(store.table), folder / "dedup.parquet")
        return store

    return of


def expected(table: pd.DataFrame) -> float:
    """Return the median over training patients of the median over their windows, one patient after the other."""
    train = table[table["split"] == "train"]
    return float(np.median([np.median(train.loc[train["patient"] == p, "quality_rms"]) for p in set(train["patient"])]))


def test_a_stage_reads_in_the_scale_of_its_fold(cohorts: Cohorts) -> None:
    held = cohorts(1.0).read(np.arange(24))
    scales = {}
    for fold in (None, 0, 1):
        store = stage.open_cohort("ecg", fold)
        scales[fold] = store.scale
        assert store.scale == expected(store.table)
        assert np.array_equal(store.read(np.arange(24)), held / np.float32(store.scale))
    assert len({*scales.values(), 1.0}) == 4


def test_a_patient_who_is_tested_decides_nothing_else(cohorts: Cohorts) -> None:
    made: list[dict[str, Any]] = []
    for louder in (1.0, 100.0):
        cohorts(louder)
        store = stage.open_cohort("ecg", 0)
        train = np.flatnonzero(store.table["split"] == "train")
        every = np.arange(len(store))
        features = BASELINES["handcrafted"].fit(store, train, 0)(every)
        contract = hub.contract_of(store.facts, 5, store.scale)
        z = frozen.embed_store(encoder_of(COHORT, "ecg", store.scale), store)
        made.append({"contract": contract, "samples": store.read(every), "z": z, "features": features})
        made[-1]["other fold"] = stage.open_cohort("ecg", 1).scale
    quiet, loud = made
    own = (store.table["split"] == "test").to_numpy()
    assert own.sum() == 4
    assert quiet["contract"] == loud["contract"]
    for name in ("samples", "z", "features"):
        assert np.array_equal(quiet[name][~own], loud[name][~own], equal_nan=True), name
    np.testing.assert_allclose(loud["samples"][own], 100 * quiet["samples"][own], rtol=1e-4)
    assert quiet["other fold"] != loud["other fold"]  # which trains on them


def test_an_exported_encoder_divides_by_the_scale_of_its_fold(
    cohorts: Cohorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohorts(1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_KEY", "k" * 16)
    batch = {"patients": 2, "trials": 1, "samples": 2}
    run = {
        "modality": "ecg",
        "recipe": "simclr",
        "encoder": {"name": "dilated1d", "widths": [4, 4], "depth": 1},
        "pretrain": {"epochs": 1, "batch": batch, "projection_dim": 4, "steps_per_epoch": 1},
        "evaluate": {"labels": ["odd"]},
    }
    cohort = {
        "source": {"root": "raw"},
        "ingest": COHORT.model_dump(),
        "split": {"train": 0.5, "val": 0.1, "test": 0.4, "folds": 2},
    }
    params = config.Params.model_validate(
        {
            "compute": {"accelerator": "cpu", "progress": False},
            "modalities": {"ecg": cohort},
            "folds": {"f0": None, "f1": None},
            "runs": {"toy": run},
        }
    )
    for fold in (0, 1):
        store = stage.open_cohort("ecg", fold)
        pretrain.train(params, "toy", store, tmp_path / "e", tracking.NoRun(), number=0, fold=fold)
        encoder = hub.load_encoder(tmp_path / "e")
        assert encoder.contract["scale"] == store.scale == expected(store.table)
        assert f"- scale: {store.scale}" in encoder.card
        z = encoder.embed(heart(2, 0.4).values, rate_hz=100, channels=("A", "B"))[0]
        third = store.table["patient"] == store.table["patient"].unique()[2]
        samples = store.read(np.flatnonzero(third))
        np.testing.assert_allclose(z, encoder.encode(samples).mean(axis=0), atol=1e-5)


def test_baselines_know_the_amplitude(cohorts: Cohorts) -> None:
    cohorts(3.2)
    store = stage.open_cohort("ecg", 0)
    every = np.arange(len(store))
    got = BASELINES["handcrafted"].fit(store, every, 0)(every)
    patients = store.table.assign(height=got[:, 0]).groupby("patient", sort=False)["height"].mean().to_numpy()
    np.testing.assert_allclose(patients[1:] / patients[:-1], 2, rtol=0.1)  # their SD, as their gains
    assert 0.1 < np.median(patients) < 10


def test_folds_share_an_encoder_and_not_each_others_features(cohorts: Cohorts, tmp_path: Path) -> None:
    store = cohorts(1.0)
    encoder = encoder_of(COHORT, "ecg", 0.2)
    cache = tmp_path / "features"

    def part(fold: int) -> frozen.Part:
        return frozen.Part(stage.open_cohort("ecg", fold), [], Evaluate(), Predictions(), cache=cache)

    one, two = part(0), part(1)
    assert one.store.scale != two.store.scale
    z = encoder.encode(store.scaled_by(0.2).read(np.arange(len(store))))
    for of in (one, two):
        assert np.array_equal(of.embedded(encoder), z)
    assert len(list(cache.iterdir())) == 1
    assert not np.allclose(one.embedded(encoder_of(COHORT, "ecg", 0.4)), z)
    first = one.of_samples("handcrafted", lambda rows: one.store.read(rows)[:, 0])
    second = two.of_samples("handcrafted", lambda rows: two.store.read(rows)[:, 0])
    np.testing.assert_allclose(first * one.store.scale, second * two.store.scale, rtol=1e-5)
    assert not np.array_equal(first, second)


def test_an_evaluation_without_stages_reads_each_fold_in_its_scale(
    cohorts: Cohorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cohorts(1.0)
    seen: list[tuple[float, float]] = []
    monkeypatch.setattr(
        frozen, "evaluate", lambda part, *_, **__: seen.append((part.store.scale, expected(part.store.table)))
    )
    monkeypatch.setattr(standalone.outcome, "notes", lambda *_: {})
    monkeypatch.setattr(standalone.outcome, "write", lambda *_, **__: ({}, []))
    parts = standalone.splits(store, None)
    standalone.evaluate([encoder_of(COHORT, "ecg", 0.2)], store, parts, Evaluate(), out=tmp_path / "o", key=b"k")
    assert [scale for scale, _ in seen] == [scale for _, scale in seen]
    assert len(set(seen)) == 2
