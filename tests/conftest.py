"""Tiny stores written through the real writer, with labels, anatomy, receipts and a split by patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medssl import table as tables
from medssl.config import SignalIngest, VolumeIngest
from medssl.curate import dedup
from medssl.store import Store, Writer, open_store, write_parquet

PATIENTS, TRIALS, SAMPLES = 16, 2, 3
CHANNELS, STEPS = 2, 64
PARTS = ("train", "train", "val", "test")

# Toy networks are too small to share: threads that wait for each other cost more than they bring.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, and keep a file on one of several processes, as its fixtures are; so with a shared project.

    What takes longest then does not begin when the other processes have nothing left to do.
    """
    for item in items:
        shared = "project" in getattr(item, "fixturenames", ()) and item.path.parent.name == "pipeline"
        item.add_marker(pytest.mark.xdist_group("project" if shared else item.location[0]))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _row(array: np.ndarray, patient: int, trial: int, index: int) -> dict[str, Any]:
    """Return identity, labels and anatomy. The class is the patient's, the state the trial's, the findings mixed."""
    sick = (patient // 4) % 2
    content = tables.content_hash(array)
    codes = (1000 + patient, 10_000 + 10 * patient + trial)
    return {
        "sample_id": tables.sample_id(content, *codes, index),
        "patient": codes[0],
        "trial": codes[1],
        "index_in_trial": index,
        "content": content,
        "source": "toy",
        "quality": 1.0,
        "fold": float(patient % 10 + 1),
        "label_disease": "sick" if sick else "healthy",
        "label_state": ("rest", "exercise")[trial],
        "label_age": 30.0 + patient,
        "label_findings": ["af", "mi"][: 1 + sick] if patient % 3 else ["norm"],
        "anat_liver_ml": 1000.0 + 50 * patient,
        "anat_age_years": 30.0 + patient if patient % 5 else float("nan"),
    }


def _extras(folder: Path) -> Store:
    """Write ``dedup.parquet`` and ``split.parquet`` beside a store and open it with both."""
    table = open_store(folder / "store").table
    write_parquet(dedup.receipts(table), folder / "dedup.parquet")
    part = [PARTS[(patient - 1000) % 4] for patient in table["patient"]]
    write_parquet(pd.DataFrame({"sample_id": table["sample_id"], "split": part}), folder / "split.parquet")
    return open_store(folder / "store", folder / "dedup.parquet", folder / "split.parquet")


def _signal(rng: np.random.Generator, patient: int) -> np.ndarray:
    """Return a sine whose frequency tells the class, under noise: (C, T), unit variance."""
    cycles = 3 + 4 * ((patient // 4) % 2)
    phase = 2 * np.pi * (cycles * np.arange(STEPS) / STEPS + rng.random())
    values = np.stack([np.sin(phase), np.cos(phase)]) + 0.3 * rng.standard_normal((CHANNELS, STEPS))
    return ((values - values.mean(1, keepdims=True)) / values.std()).astype(np.float32)


def _image(rng: np.random.Generator, patient: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a bright box whose size grows with the patient's number, under noise: (1, ...) in [0, 1]."""
    out = 0.1 * rng.random(shape)
    half = 3 + patient // 4
    box = tuple(slice(n // 2 - half, n // 2 + half) for n in shape)
    out[box] += 0.7
    return out[None].astype(np.float32)


@pytest.fixture(scope="session")
def signal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``store``, ``dedup.parquet`` and ``split.parquet`` of a signal cohort."""
    folder = tmp_path_factory.mktemp("signals")
    params = SignalIngest(rate_hz=32, channels=("A", "B"), unit="mV", window_s=2)
    facts = {
        "modality": "ecg",
        "shape": [CHANNELS, STEPS],
        "unit": "mV",
        "params": params.model_dump(mode="json"),
        "anatomy_units": {"age_years": "year", "liver_ml": "ml"},
    }
    rng = np.random.default_rng(0)
    with Writer(folder / "store", facts, shard_bytes=20 * CHANNELS * STEPS * 4) as writer:
        for patient in range(PATIENTS):
            for trial in range(TRIALS):
                for index in range(SAMPLES):
                    x = _signal(rng, patient)
                    row = _row(x, patient, trial, index) | {
                        "modality": "ecg",
                        "rate_hz": 32.0,
                        "spacing_mm": None,
                        "unit": "mV",
                        "channels": ["A", "B"],
                        "start_s": 2.0 * index,
                        "duration_s": 2.0,
                    }
                    writer.add(x, row)
        writer.reject("abcdef012345.txt", "ingest", "too_short", "0.50 s long (entry 9 of the source's sorted list)")
    _extras(folder)
    return folder


@pytest.fixture(scope="session")
def signal_store(signal_folder: Path) -> Store:
    """A signal cohort of 16 patients x 2 trials x 3 samples (2, 64); frequency tells the class."""
    return open_store(signal_folder / "store", signal_folder / "dedup.parquet", signal_folder / "split.parquet")


def _image_store(folder: Path, params: VolumeIngest, shape: tuple[int, ...]) -> Store:
    facts = {
        "modality": "ct",
        "shape": [1, *shape],
        "unit": "HU",
        "params": params.model_dump(mode="json"),
        "anatomy_units": {"age_years": "year", "liver_ml": "ml"},
    }
    rng = np.random.default_rng(1)
    with Writer(folder / "store", facts) as writer:
        for patient in range(PATIENTS):
            for index in range(SAMPLES):
                x = _image(rng, patient, shape)
                row = _row(x, patient, 0, index) | {
                    "modality": "ct",
                    "rate_hz": float("nan"),
                    "spacing_mm": [2.0] * len(shape),
                    "unit": "HU",
                    "channels": ["HU"],
                    "start_s": float("nan"),
                    "duration_s": float("nan"),
                }
                writer.add(x, row)
    return _extras(folder)


@pytest.fixture(scope="session")
def image_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A cohort of 16 patients x 1 trial x 3 slices (1, 24, 24)."""
    params = VolumeIngest(samples="slices", size=(24, 24), spacing_mm=(2, 2), hu_window=(-1000, 1000), unit="HU")
    return _image_store(tmp_path_factory.mktemp("images"), params, (24, 24))


@pytest.fixture(scope="session")
def volume_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A cohort of 16 patients x 1 trial x 3 volumes (1, 16, 16, 16)."""
    params = VolumeIngest(size=(16, 16, 16), spacing_mm=(2, 2, 2), hu_window=(-1000, 1000), unit="HU")
    return _image_store(tmp_path_factory.mktemp("volumes"), params, (16, 16, 16))
