"""Batches do not depend on the loader's workers; anatomy is standardised on the training rows."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader

from medssl.pretrain.data import Batch, Loader, Samples, Standard, collate, duplicate_classes, training_rows
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store
from medssl.views import signals
from medssl.views.draws import Draws

MEASURES = ("liver_ml", "age_years")


def load(store: Store, workers: int, seed: int = 5) -> list[Batch]:
    rows = np.flatnonzero(store.table["split"] == "train")
    training = store.table.iloc[rows]
    sampler = HierarchicalBatches(training, rows, patients=4, trials=1, samples=2, seed=1)
    samples = Samples(store, Standard.fit(training, MEASURES), seed=seed)
    return list(DataLoader(samples, batch_sampler=sampler, collate_fn=collate, num_workers=workers))


def test_images_are_the_same_with_and_without_workers(image_store: Store) -> None:
    alone, shared = load(image_store, 0), load(image_store, 2)
    assert len(alone) == len(shared) == 3
    for a, b in zip(alone, shared, strict=True):
        for name in ("x", "v1", "v2", "patient", "trial", "draw"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert torch.allclose(a.anatomy, b.anatomy, equal_nan=True)


def test_views_differ_from_each_other_and_between_seeds(image_store: Store) -> None:
    first, other = load(image_store, 0)[0], load(image_store, 0, seed=6)[0]
    assert first.v1.shape == first.x.shape == (8, 1, 24, 24)
    assert not torch.equal(first.v1, first.v2)
    assert torch.equal(first.x, other.x)
    assert not torch.equal(first.v1, other.v1)
    # A sample drawn again gets other views.
    assert len({view.numpy().tobytes() for batch in load(image_store, 0) for view in batch.v1}) == 24


def test_views_differ_across_workers_epochs_and_ranks(image_store: Store, signal_store: Store) -> None:
    rows = np.flatnonzero(image_store.table["split"] == "train")
    seen: list[bytes] = []
    for rank, epoch in itertools.product(range(2), range(2)):
        table = image_store.table.iloc[rows]
        sampler = HierarchicalBatches(table, rows, patients=4, trials=1, samples=2, rank=rank, world_size=2, seed=1)
        sampler.set_epoch(epoch)
        samples = Samples(image_store, Standard.fit(table, ()), seed=5)
        for batch in Loader(samples, batch_sampler=sampler, collate_fn=collate, num_workers=2):
            seen += [view.numpy().tobytes() for view in [*batch.v1, *batch.v2]]
            # A signal's numbers come from the same draw numbers, so one sample stands for all.
            x = torch.from_numpy(signal_store[0]).expand(len(batch.draw), -1, -1)
            draws = Draws(batch.draw, seed=5)
            seen += [view.numpy().tobytes() for k in (1, 2) for view in signals.view(x, draws.fork(k))]
    # Some views are the sample itself, or nearly so, by chance.
    assert len(seen) == 2 * 2 * 3 * 4 * 4
    assert len(set(seen)) >= 0.9 * len(seen)


def test_signals_wait_for_the_device(signal_store: Store) -> None:
    batch = load(signal_store, 0)[0]
    assert batch.v1.numel() == batch.v2.numel() == 0
    train = signal_store.table.set_index("patient")["split"]
    assert (train.loc[batch.patient.tolist()] == "train").all()


def test_batch_keeps_rows_together(image_store: Store) -> None:
    batch = load(image_store, 0)[1]
    table = image_store.table
    for k in range(len(batch.x)):
        (row,) = [i for i in range(len(image_store)) if np.array_equal(image_store[i], batch.x[k].numpy())]
        assert table["patient"].iloc[row] == int(batch.patient[k])
        assert table["trial"].iloc[row] == int(batch.trial[k])


def test_standard_ignores_unknown_values_and_constant_measures() -> None:
    table = pd.DataFrame({"anat_a": [1.0, 3.0, np.nan], "anat_b": [5.0, 5.0, 5.0]})
    standard = Standard.fit(table, ("a", "b"))
    out = standard.apply(table)
    assert out[:, 0].tolist() == pytest.approx([-1, 1, np.nan], nan_ok=True)
    assert out[:, 1].tolist() == [0, 0, 0]
    assert out.dtype == np.float32
    other = pd.DataFrame({"anat_a": [5.0], "anat_b": [6.0]})
    assert standard.apply(other).tolist() == [[3.0, 1.0]]


def test_standard_without_measures_and_with_an_unknown_one() -> None:
    table = pd.DataFrame({"anat_a": [1.0, 2.0]})
    assert Standard.fit(table, ()).apply(table).shape == (2, 0)
    with pytest.raises(ValueError, match=r"\['spleen_ml'\] not in the cohort; it has: a"):
        Standard.fit(table, ("a", "spleen_ml"))


def test_to_moves_everything(image_store: Store) -> None:
    batch = load(image_store, 0)[0].to("meta")
    assert {value.device.type for value in batch.__dict__.values()} == {"meta"}


RECEIPTS = pd.DataFrame(
    [
        ("a", True, None, "", "train"),
        ("b", False, "a", "dhash", "train"),
        ("c", False, "a", "dhash", "train"),
        ("d", False, "b", "exact", "train"),  # a copy of what is a near-duplicate of a
        ("e", False, None, "every_n", "train"),
        ("f", True, None, "", "test"),
        ("g", False, "f", "dhash", "train"),  # like a test sample: to train on it would leak
        ("h", False, "a", "dhash", "test"),
        ("i", True, None, "", "train"),
    ],
    columns=["sample_id", "kept", "duplicate_of", "method", "split"],
)


def test_which_samples_a_cure_trains_on() -> None:
    assert duplicate_classes(RECEIPTS).tolist() == [0, 0, 0, 0, 4, 5, 5, 0, 8]
    assert training_rows(RECEIPTS, "remove").tolist() == [0, 8]
    assert training_rows(RECEIPTS, "mask").tolist() == training_rows(RECEIPTS, "weight").tolist() == [0, 1, 2, 8]
    turned = RECEIPTS[::-1].reset_index(drop=True)
    assert duplicate_classes(turned).tolist() == [0, 8, 3, 3, 4, 8, 8, 8, 8]
    assert duplicate_classes(RECEIPTS[["sample_id"]]).tolist() == list(range(9))
    assert duplicate_classes(RECEIPTS.assign(duplicate_of=None)).tolist() == list(range(9))


def test_a_batch_carries_the_classes(signal_store: Store) -> None:
    samples = Samples(signal_store, Standard.fit(signal_store.table, ()), seed=0)
    samples.duplicate = np.arange(len(samples)) + 10
    batch = collate([samples[row, draw] for row, draw in ((3, 70), (1, 71))])
    assert batch.duplicate.tolist() == [13, 11]
    assert batch.duplicate.dtype == torch.int64
    assert batch.draw.tolist() == [70, 71]
