"""Fine-tuning in part, as a whole and from scratch, on data whose answer is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl import models
from medssl.evaluate import finetune as module
from medssl.evaluate.finetune import finetune
from medssl.evaluate.tasks import Task
from medssl.models.embed import embed_samples
from medssl.models.heads import Classifier
from medssl.store import Store

SMALL: dict[str, Any] = {"batch": 16, "lr": 5e-3, "seed": 0}


@pytest.fixture
def encoder() -> nn.Module:
    return models.build("dilated1d", in_channels=2, widths=(8, 16), depth=3, seed=0)


def score(task: Task, predicted: np.ndarray) -> dict[str, float]:
    units = task.part("test")
    return {k: float(v[0]) for k, v in task.score(predicted, units, np.ones((1, len(units)))).items()}


@pytest.mark.parametrize(
    ("name", "metric", "least"), [("disease", "auroc", 0.99), ("findings", "auroc", 0.4), ("age", "mae", 0.0)]
)
def test_it_learns_and_leaves_everything_as_it_was(
    encoder: nn.Module, signal_store: Store, name: str, metric: str, least: float
) -> None:
    task = Task.of(signal_store.table, name)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    state = torch.get_rng_state()
    options = {**SMALL, "max_steps": 40 if name == "disease" else 5}
    predicted, kept = finetune(encoder, signal_store, task, task.part("train"), **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert 1 <= kept <= options["max_steps"]
    assert predicted.shape == (len(task.part("test")), max(1, len(task.classes)))
    assert score(task, predicted)[metric] >= least
    if name == "age":
        assert 20 < predicted.mean() < 60  # in years, not in standard deviations
    else:
        assert predicted.min() >= 0
        assert predicted.max() <= 1
    again, length = finetune(encoder, signal_store, task, task.part("train"), **options)
    assert np.array_equal(again, predicted)
    assert length == kept


def test_slices_and_volumes(image_store: Store, volume_store: Store) -> None:
    for store, name in ((image_store, "resnet2d"), (volume_store, "resnet3d")):
        task = Task.of(store.table, "disease")
        start = models.build(name, in_channels=1, widths=(4, 4, 4, 8), depth=1, seed=0)
        for depth in ("partial", "full"):
            predicted, _ = finetune(
                start, store, task, task.part("train"), depth=depth, augment=True, max_steps=3, **SMALL
            )  # type: ignore[arg-type]
            assert np.allclose(predicted.sum(1), 1)


@pytest.mark.parametrize("name", ["resnet1d", "dilated1d", "vit1d", "efficientnet1d"])
def test_what_is_frozen_stays(monkeypatch: pytest.MonkeyPatch, signal_store: Store, name: str) -> None:
    """Its weights and its running statistics; with all of it trained, all weights and statistics move."""
    sizes: dict[str, Any] = {"resnet1d": (4, 4, 4, 8), "dilated1d": (4, 8), "vit1d": (16,), "efficientnet1d": None}
    deep = None if name == "efficientnet1d" else 2
    start = models.build(name, in_channels=2, widths=sizes[name], depth=deep, seed=0)
    task = Task.of(signal_store.table, "disease")
    made: list[Classifier] = []

    def seen(*args: Any) -> Classifier:
        made.append(Classifier(*args))
        return made[-1]

    monkeypatch.setattr(module, "Classifier", seen)
    last = list(start.stages)[-1]  # type: ignore[arg-type]
    inside = {f"{name}." for name, m in start.named_modules() if m is start.stages[last]}  # type: ignore[index]
    for depth in ("head", "partial", "full"):
        finetune(start, signal_store, task, task.part("train"), depth=depth, max_steps=2, **SMALL)  # type: ignore[arg-type]
        after = made[-1].encoder.state_dict()
        moved = {key for key, value in start.state_dict().items() if not torch.equal(value, after[key])}
        if depth == "head":
            assert not moved
        elif depth == "partial":
            assert any(key.startswith(tuple(inside)) for key in moved)
            first = next(key for key in after if key.startswith(tuple(inside)))
            assert moved <= set(list(after)[list(after).index(first) :])
        else:
            assert len(moved) > 0.9 * len(after)


def tellable(task: Task, predicted: list[float]) -> Any:
    """Return a stand-in of `finetune._quality` that says one number after another."""
    numbers = iter(predicted)
    return lambda *_: next(numbers)


@pytest.mark.parametrize(
    ("measured", "kept", "steps"),
    [
        ([0.5, 0.9, 0.8, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7], 2, 10),  # of equals the earliest
        ([0.5, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9], 2, 10),  # patience ends it before the best comes
        ([float("nan")] * 20, 20, 20),  # nothing can be told: the last
        ([float("nan"), 0.1] + [float("nan")] * 18, 2, 10),
    ],
)
def test_validation_chooses_the_length(
    monkeypatch: pytest.MonkeyPatch,
    encoder: nn.Module,
    signal_store: Store,
    measured: list[float],
    kept: int,
    steps: int,
) -> None:
    task = Task.of(signal_store.table, "disease")
    monkeypatch.setattr(module, "_quality", tellable(task, measured))
    taken: list[int] = []
    rate = module._rate

    def counted(step: int, most: int) -> float:
        taken.append(step)
        return rate(step, most)

    monkeypatch.setattr(module, "_rate", counted)
    options = {**SMALL, "max_steps": 20}
    predicted, found = finetune(encoder, signal_store, task, task.part("train"), **options)
    assert (found, max(taken)) == (kept, steps)
    # The state is the one of that step: the same as without validation and with the schedule cut there.
    nobody = np.array([], dtype=int)
    monkeypatch.setattr(module, "_rate", lambda step, most: rate(step, 20))
    alone, last = finetune(
        encoder, signal_store, task, task.part("train"), validation=nobody, **{**options, "max_steps": kept}
    )
    assert last == kept
    assert np.array_equal(alone, predicted)


def test_without_validation_the_last_state_counts(encoder: nn.Module, signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    options = {**SMALL, "max_steps": 6}
    nobody = np.array([], dtype=int)
    predicted, kept = finetune(encoder, signal_store, task, task.part("train"), validation=nobody, **options)
    assert kept == 6
    lone = dataclasses.replace(task, split=np.where(task.split == "val", "none", task.split))
    assert np.array_equal(finetune(encoder, signal_store, lone, task.part("train"), **options)[0], predicted)


def test_test_labels_and_other_units_decide_nothing(encoder: nn.Module, signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    units = task.part("train")[:4]
    used = np.concatenate([units, task.part("val")])
    other = np.setdiff1d(np.arange(len(task.truth)), used)
    truth = task.truth.copy()
    truth[other] = np.where(truth[other] == "sick", "healthy", "sick")
    swapped = dataclasses.replace(task, truth=truth)
    options = {**SMALL, "max_steps": 20}
    predicted, kept = finetune(encoder, signal_store, task, units, **options)
    found, length = finetune(encoder, signal_store, swapped, units, **options)
    assert np.array_equal(found, predicted)
    assert length == kept


@pytest.mark.parametrize("depth", ["head", "full"])
def test_streamed_samples_are_those_in_memory(
    monkeypatch: pytest.MonkeyPatch, encoder: nn.Module, signal_store: Store, depth: Any
) -> None:
    task = Task.of(signal_store.table, "findings")
    options = {**SMALL, "max_steps": 5, "depth": depth}
    held = finetune(encoder, signal_store, task, task.part("train"), **options)[0]
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    assert np.array_equal(finetune(encoder, signal_store, task, task.part("train"), **options)[0], held)


def test_known_embeddings_serve_a_head(encoder: nn.Module, signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    units = task.part("train")
    options = {**SMALL, "max_steps": 5, "depth": "head"}
    known = embed_samples(encoder, signal_store)
    expected = finetune(encoder, signal_store, task, units, **options)[0]
    assert np.allclose(
        finetune(encoder, signal_store, task, units, embeddings=known, **options)[0], expected, atol=1e-4
    )
    other = np.random.default_rng(0).standard_normal(known.shape).astype(np.float32)
    assert not np.allclose(
        finetune(encoder, signal_store, task, units, embeddings=other, **options)[0], expected, atol=1e-2
    )


def test_units_and_classes_are_drawn_equally(signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    part = module._Part.of(signal_store, task, task.part("train")[:5])
    chances = module._chances(task, part)
    assert chances.sum() == pytest.approx(1)
    for name in task.classes:
        of_class = task.truth[part.units][part.owner] == name
        assert chances[of_class].sum() == pytest.approx(0.5)
        per_unit = np.bincount(part.owner[of_class], chances[of_class])
        assert np.ptp(per_unit[per_unit > 0]) < 1e-12


def test_rates() -> None:
    """A rise within the warm-up, a fall to 0; less for the encoder; no decay of biases and normalisations."""
    rates = [module._rate(step, 100) for step in range(101)]
    assert np.all(np.diff(rates[:10]) > 0)
    assert max(rates) == rates[9] == 1
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert module._rate(0, 1) == 1
    model = Classifier(models.build("resnet1d", in_channels=2, widths=(4, 4, 4, 8), depth=1, seed=0), 3)
    optimizer = module._optimizer(model.encoder, model.head, 1e-3, 0.2)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for name, weight in model.named_parameters():
        expected = (2e-4 if name.startswith("encoder") else 1e-3, module.DECAY if weight.ndim > 1 else 0.0)
        assert found[id(weight)] == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["label_smoothing", "ldr", "aldr"])
def test_losses_by_name(encoder: nn.Module, signal_store: Store, loss: str) -> None:
    task = Task.of(signal_store.table, "disease")
    predicted, _ = finetune(encoder, signal_store, task, task.part("train"), loss=loss, max_steps=60, **SMALL)
    assert np.allclose(predicted.sum(1), 1)
    assert score(task, predicted)["auroc"] >= 0.95


def test_one_sample_one_class(encoder: nn.Module, signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    for name in ("disease", "age"):
        task = Task.of(signal_store.table, name)
        predicted, _ = finetune(encoder, signal_store, task, task.part("train")[:1], max_steps=2, **SMALL)
        assert np.isfinite(predicted).all()


def test_views_are_mild_and_have_a_shape(signal_store: Store, volume_store: Store) -> None:
    for store in (signal_store, volume_store):
        x = torch.from_numpy(store.read(np.arange(8)))
        made = module._view(x, module.Draws(torch.arange(8), seed=0))
        assert made.shape == x.shape
        assert not torch.equal(made, x)
        assert torch.equal(made, module._view(x, module.Draws(torch.arange(8), seed=0)))


def test_what_cannot_be_asked_for(encoder: nn.Module, signal_store: Store) -> None:
    task = Task.of(signal_store.table, "age")
    units = task.part("train")
    with pytest.raises(ValueError, match="depth 'deep' is unknown; allowed: head, partial, full"):
        finetune(encoder, signal_store, task, units, depth="deep", **SMALL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="augment with depth 'head'"):
        finetune(encoder, signal_store, task, units, depth="head", augment=True, **SMALL)
    with pytest.raises(ValueError, match="loss 'ldr' is not one for a number task; allowed: huber"):
        finetune(encoder, signal_store, task, units, loss="ldr", **SMALL)
