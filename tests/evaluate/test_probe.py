"""Probes, fine-tuning and simple features on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GroupKFold

from medssl import models
from medssl.evaluate import handcrafted, probe
from medssl.evaluate.finetune import finetune
from medssl.evaluate.tasks import Task, pooled
from medssl.store import Store


def toy(n: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table of ``n`` patients with one sample and an embedding that separates its classes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, n)
    table = pd.DataFrame(
        {
            "sample_id": [f"{i:03d}" for i in range(n)], "patient": range(n), "trial": range(n), "method": "",
            "split": np.array(["train", "train", "val", "test"])[np.arange(n) % 4],
            "label_disease": np.where(label, "sick", "healthy"), "label_age": 50.0 + 10 * label + rng.normal(0, 1, n),
            "label_signs": [["x", "y"] if v else ["y"] for v in label],
        }
    )  # fmt: skip
    z = rng.standard_normal((n, 6))
    z[:, 2] += 6 * label
    return table, z


TABLE, Z = toy()


def score(task: Task, predicted: np.ndarray) -> dict[str, float]:
    units = task.part("test")
    return {k: float(v[0]) for k, v in task.score(predicted, units, np.ones((1, len(units)))).items()}


@pytest.mark.parametrize(
    ("name", "metric", "least"), [("disease", "auroc", 0.99), ("age", "r2", 0.85), ("signs", "auroc", 0.99)]
)
def test_separable(name: str, metric: str, least: float) -> None:
    task = Task.of(TABLE, name)
    units = task.part("train")
    assert score(task, probe.linear(task, Z, units))[metric] > least
    assert score(task, probe.knn(task, Z, units))[metric] > least - 0.1


def test_permuted_labels_teach_nothing() -> None:
    task = Task.of(TABLE, "disease")
    orders = probe.permuted(task, Z)
    assert np.mean([score(task, predicted)["auroc"] for predicted in orders]) == pytest.approx(0.5, abs=0.15)
    assert all(np.array_equal(a, b) for a, b in zip(orders, probe.permuted(task, Z), strict=True))


def test_test_patients_decide_nothing() -> None:
    task = Task.of(TABLE, "disease")
    units, test = task.part("train"), task.part("test")
    moved = Z.copy()
    moved[test[1:]] = 1e3
    first = probe.linear(task, Z, units)[0]
    assert np.array_equal(probe.linear(task, moved, units)[0], first)
    assert np.array_equal(probe.knn(task, moved, units)[0], probe.knn(task, Z, units)[0])


@pytest.mark.parametrize("patients", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("name", ["disease", "age", "signs"])
def test_many_units_of_few_patients(monkeypatch: pytest.MonkeyPatch, patients: int, name: str) -> None:
    """Twenty units or more of fewer than five patients: as many folds as patients, each patient in one."""
    table = TABLE[TABLE["split"] != "val"].reset_index(drop=True)
    pooled = Z[TABLE["split"] != "val"]
    train = np.flatnonzero(table["split"] == "train")
    table.loc[train, "patient"] = 1000 + np.arange(len(train)) % patients
    # So that each of them has all values, and a label belongs to a trial.
    task, folds = Task.of(table, name), []
    assert (task.unit, len(task.part("train")), len(np.unique(task.patient[train]))) == ("trial", 60, patients)

    def counted(number: int) -> GroupKFold:
        folds.append(number)
        return GroupKFold(number)

    monkeypatch.setattr(probe, "GroupKFold", counted)
    predicted = probe.linear(task, pooled, train)
    assert folds == ([] if patients == 1 else [min(5, patients)])
    assert score(task, predicted)["r2" if name == "age" else "auroc"] > (0.4 if patients == 1 else 0.8)
    if patients == 1:
        assert np.array_equal(predicted, probe.linear(task, pooled, train, strength=probe.FALLBACK))


def test_one_validation_unit_cannot_choose() -> None:
    """Its R2 and AUROC have no value, and the strongest regularisation was taken in silence."""
    table, z = toy(24)
    table.loc[np.flatnonzero(table["split"] == "val")[1:], "split"] = "test"
    for name in ("disease", "age", "signs"):
        task = Task.of(table, name)
        assert (len(task.part("val")), len(task.part("train"))) == (1, 12)
        assert probe._choose(task, z, task.part("train")) == probe.FALLBACK


def test_one_class_in_a_subset() -> None:
    task = Task.of(TABLE, "disease")
    units = task.part("train")
    sick = units[task.truth[units] == "sick"][:2]
    assert (probe.linear(task, Z, sick)[:, 1] == 1).all()
    assert (probe.knn(task, Z, sick)[:, 1] == 1).all()


def test_handcrafted_features_tell_the_toy_classes(signal_store: Store, image_store: Store) -> None:
    for store, least in ((signal_store, 0.99), (image_store, 0.7)):
        task = Task.of(store.table, "disease")
        features = handcrafted.features(store.read(np.arange(len(store))))
        assert np.isfinite(features).all()
        (means,) = pooled([task], store.blocks(), features.__getitem__)
        assert score(task, probe.linear(task, means, task.part("train")))["auroc"] >= least


def test_handcrafted_features_of_a_sample_do_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 250), (1, 24, 20), (1, 6, 7, 8)):
        samples = rng.random((37, *shape), dtype=np.float32)
        whole = handcrafted.features(samples)
        for size in (1, 5, 36):
            parts = [handcrafted.features(samples[i : i + size]) for i in range(0, 37, size)]
            assert (np.concatenate(parts) == whole).all()


def test_handcrafted_shapes() -> None:
    rng = np.random.default_rng(0)
    assert handcrafted.features(rng.standard_normal((5, 2, 1000))).shape == (5, 2 * 4 + 2 * 8)
    image = np.zeros((1, 1, 5, 9))
    image[0, 0, 4, 2] = 1
    out = handcrafted.features(image)[0]
    assert out[-2:].tolist() == [1.0, 0.25]
    assert out[:16].sum() == pytest.approx(1)
    assert handcrafted.features(rng.random((2, 1, 4, 5, 6))).shape == (2, 16 + 2 + 3)


@pytest.mark.parametrize(
    ("name", "metric", "least"), [("disease", "auroc", 0.99), ("findings", "auroc", 0.4), ("age", "mae", 0.0)]
)
def test_finetuning(signal_store: Store, name: str, metric: str, least: float) -> None:
    task = Task.of(signal_store.table, name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = models.build("dilated1d", in_channels=2, widths=(8, 16), depth=3)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    state = torch.get_rng_state()
    steps = 60 if name == "disease" else 4
    options = {"steps": steps, "batch": 16, "lr": 5e-3, "seed": 0}
    predicted = finetune(encoder, signal_store, task, task.part("train"), **options)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert predicted.shape == (len(task.part("test")), max(1, len(task.classes)))
    assert score(task, predicted)[metric] >= least
    if name == "age":
        assert 20 < predicted.mean() < 60  # in years, not in standard deviations
    else:
        assert predicted.min() >= 0
        assert predicted.max() <= 1
        again = finetune(encoder, signal_store, task, task.part("train"), **options)  # type: ignore[arg-type]
        assert np.array_equal(again, predicted)
