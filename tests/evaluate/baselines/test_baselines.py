"""The baselines by name, on stores of every shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import SIGNALS
from medssl.evaluate import probe
from medssl.evaluate.baselines import BASELINES
from medssl.evaluate.tasks import Task, pooled
from medssl.handcrafted import ecg, images, spectrum
from medssl.store import Store, Writer, open_store


def score(task: Task, predicted: np.ndarray) -> float:
    units = task.part("test")
    return float(next(iter(task.score(predicted, units, np.ones((1, len(units)))).values()))[0])


@pytest.mark.parametrize(
    ("name", "fixture", "least"),
    [
        ("handcrafted", "signal_store", 0.99), ("minirocket", "signal_store", 0.99),
        ("handcrafted", "image_store", 0.55), ("handcrafted", "volume_store", 0.55),
        ("scattering", "image_store", 0.55), ("scattering", "volume_store", 0.55),
    ],
)  # fmt: skip
def test_the_toy_classes_are_told(name: str, fixture: str, least: float, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(fixture)
    assert store.facts["modality"] in BASELINES[name].modalities
    fit_on = np.flatnonzero(store.table["split"] == "train")
    features = BASELINES[name].fit(store, fit_on, 0)
    # A box grows with the patient's number, which is the age; a linear model of its size does not tell the class.
    task = Task.of(store.table, "disease" if store.facts["modality"] in SIGNALS else "age")
    (means,) = pooled([task], store.blocks(), lambda rows: np.nan_to_num(features(rows)))
    assert score(task, probe.linear(task, means, task.part("train"))) >= least
    # Rows asked for alone have what they have among all others.
    some = np.array([5, 17, 40])
    assert features(some) == pytest.approx(features(np.arange(len(store)))[some], abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("modality", ["ecg", "ppg", "eeg"])
def test_every_signal_has_features_of_its_field(modality: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    params = {"rate_hz": 50.0, "channels": ["A", "B"], "window_s": 4.0, "normalise": "sample", "cut": "windows"}
    facts = {"modality": modality, "shape": [2, 200], "unit": "1", "params": params, "anatomy_units": {}}
    with Writer(tmp_path / "store", facts) as writer:
        for i in range(12):
            row = {
                "sample_id": f"{i:016x}", "patient": i // 3, "trial": i // 3, "index_in_trial": i % 3, "source": "toy",
                "modality": modality, "rate_hz": 50.0, "spacing_mm": None, "unit": "1", "channels": ["A", "B"],
                "start_s": 4.0 * (i % 3), "duration_s": 4.0, "quality": 1.0, "content": str(i), "fold": float("nan"),
            }  # fmt: skip
            writer.add(rng.standard_normal((2, 200)).astype(np.float32), row)
    store = open_store(tmp_path / "store")
    got = BASELINES["handcrafted"].fit(store, np.arange(6), 0)(np.arange(12))
    simple = spectrum.features(store.read(np.arange(12)))
    assert np.array_equal(got[:, : simple.shape[1]], simple)
    assert got.shape[1] > simple.shape[1] + 20
    own = pd.DataFrame(got[:, simple.shape[1] :])
    # A trial's windows follow each other: those of a stretch share its features, those of an EEG do not.
    shared = (own.groupby(np.arange(12) // 3).nunique() <= 1).all(axis=None)
    assert shared == (modality != "eeg")


def test_windows_around_beats_are_known_as_such(signal_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(ecg, "features", lambda *_, cut: np.array([seen.append(cut) or 0.0]))
    BASELINES["handcrafted"].fit(signal_store, np.arange(3), 0)(np.arange(2))
    assert set(seen) == {"windows"}
    monkeypatch.setitem(signal_store.facts["params"], "cut", "beats")
    BASELINES["handcrafted"].fit(signal_store, np.arange(3), 0)(np.arange(2))
    assert seen[-1] == "beats"


def test_spacing_of_the_store_is_used(image_store: Store) -> None:
    got = BASELINES["handcrafted"].fit(image_store, np.arange(3), 0)(np.arange(2))
    assert np.array_equal(got, images.features(image_store.read(np.arange(2)), (2.0, 2.0)))
    assert not np.array_equal(got, images.features(image_store.read(np.arange(2)), None))
