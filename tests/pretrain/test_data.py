"""Batches do not depend on the loader's workers; measures are scaled by the training rows."""

from __future__ import annotations

import itertools
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader

from medssl import table as tables
from medssl.config import Factor
from medssl.pretrain.data import (
    Batch,
    Loader,
    Samples,
    collate,
    columns,
    duplicate_classes,
    label_values,
    measure,
    training_rows,
)
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store
from medssl.views import signals, volumes
from medssl.views.draws import Draws

AGE_AND_LIVER = {"measures": Factor(measures=("liver_ml", "age_years"))}


def load(store: Store, workers: int) -> list[Batch]:
    rows = np.flatnonzero(store.table["split"] == "train")
    training = store.table.iloc[rows]
    sampler = HierarchicalBatches(training, rows, patients=4, trials=1, samples=2, seed=1)
    label = label_values(store.table, training, ("disease", "age"))
    samples = Samples(store, measure(store.table, training, AGE_AND_LIVER).values, label)
    return list(DataLoader(samples, batch_sampler=sampler, collate_fn=collate, num_workers=workers))


def test_batches_are_the_same_with_and_without_workers(image_store: Store) -> None:
    alone, shared = load(image_store, 0), load(image_store, 2)
    assert len(alone) == len(shared) == 3
    for a, b in zip(alone, shared, strict=True):
        for name in ("x", "patient", "trial", "draw", "row", "duplicate", "weight"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        for name in ("anatomy", "label"):
            assert torch.allclose(getattr(a, name), getattr(b, name), equal_nan=True), name


def test_views_differ_across_workers_epochs_and_ranks(image_store: Store, signal_store: Store) -> None:
    rows = np.flatnonzero(image_store.table["split"] == "train")
    seen: list[bytes] = []
    for rank, epoch in itertools.product(range(2), range(2)):
        table = image_store.table.iloc[rows]
        sampler = HierarchicalBatches(table, rows, patients=4, trials=1, samples=2, rank=rank, world_size=2, seed=1)
        sampler.set_epoch(epoch)
        for batch in Loader(Samples(image_store), batch_sampler=sampler, collate_fn=collate, num_workers=2):
            # Numbers come from the draw numbers alone, so one sample stands for all.
            draws = Draws(batch.draw, seed=5)
            x = torch.from_numpy(signal_store[0]).expand(len(batch.draw), -1, -1)
            image = torch.from_numpy(image_store[0]).expand(len(batch.draw), -1, -1, -1)
            for k in (1, 2):
                seen += [view.numpy().tobytes() for view in signals.view(x, draws.fork(k))]
                seen += [view.numpy().tobytes() for view in volumes.view(image, draws.fork(k))[0]]
    # Some views are the sample itself, or nearly so, by chance.
    assert len(seen) == 2 * 2 * 3 * 4 * 4
    assert len(set(seen)) >= 0.9 * len(seen)


def test_views_wait_for_the_device(signal_store: Store) -> None:
    batch = load(signal_store, 0)[0]
    assert batch.views == ()
    train = signal_store.table.set_index("patient")["split"]
    assert (train.loc[batch.patient.tolist()] == "train").all()


def test_batch_keeps_rows_together(image_store: Store) -> None:
    batch = load(image_store, 0)[1]
    table = image_store.table
    for k in range(len(batch.x)):
        (row,) = [i for i in range(len(image_store)) if np.array_equal(image_store[i], batch.x[k].numpy())]
        assert row == int(batch.row[k])
        assert table["label_age"].iloc[row] == float(batch.label[k, 1])
        assert ["healthy", "sick"][int(batch.label[k, 0])] == table["label_disease"].iloc[row]
        assert table["patient"].iloc[row] == int(batch.patient[k])
        assert table["trial"].iloc[row] == int(batch.trial[k])


def test_measures_are_standardised_on_the_training_rows() -> None:
    table = pd.DataFrame({"anat_a": [1.0, 3.0, np.nan, 5.0], "anat_b": [5.0, 5.0, 5.0, 6.0]})
    found = measure(table, table[:3], {"measures": Factor(measures=("a", "b"))})
    assert found.shapes == ((2,),)
    assert found.values.dtype == np.float32
    assert found.values[:, 0].tolist() == pytest.approx([-1, 1, np.nan, 3], nan_ok=True)
    assert np.isnan(found.values[:, 1]).all()  # training rows do not differ in it, so it has no scale


def test_each_factor_has_columns_and_a_scale_of_its_own() -> None:
    table = pd.DataFrame({"anat_a": [1.0, 3.0], "anat_b": [0.0, 1.0]})
    found = measure(
        table,
        table,
        {"measures": Factor(measures=("a",)), "factors.0.measures": Factor(measures=("b",), kernel="equal")},
    )
    assert found.values.tolist() == [[-1, 0], [1, 1]]
    assert measure(table, table, {}).values.shape == (2, 0)
    with pytest.raises(
        ValueError, match=r"options\.factors\.0\.measures: no measure 'spleen_ml'; the cohort has: a, b"
    ):
        measure(table, table, {"factors.0.measures": Factor(measures=("a", "spleen_ml"))})


BRAIN = pd.DataFrame(
    {
        "anat_lh_x_mm": [2.0, 2.5, 3.0, 2.2],
        "anat_lh_x_mm3": [10.0, 12.0, 15.0, 9.0],
        "anat_lh_y_mm": [1.0, 1.5, 1.2, 1.9],
        "anat_lh_y_mm3": [5.0, 5.5, 7.0, 4.0],
        "anat_rh_x_mm": [2.0, 2.1, 2.2, 2.3],
        "anat_hippocampus_mm3": [3.0, 3.1, 3.2, 3.3],
        "anat_intracranial_mm3": [100.0, 120.0, 140.0, 90.0],
    }
)


def test_regions_that_have_all_measures() -> None:
    have = tables.measures(BRAIN)
    both = Factor(measures=("mm", "mm3"), regions=("lh_*", "rh_*"))
    assert columns("measures", both, have) == ["lh_x_mm", "lh_x_mm3", "lh_y_mm", "lh_y_mm3"]
    assert columns("measures", Factor(measures=("mm",), regions=("?h_x",)), have) == ["lh_x_mm", "rh_x_mm"]
    with pytest.raises(ValueError, match=r"no region \['th_\*'\] has all of them"):
        columns("measures", Factor(measures=("mm",), regions=("th_*",)), have)


def test_volumes_are_corrected_for_the_head_and_thickness_is_not() -> None:
    factor = Factor(measures=("mm", "mm3"), regions=("lh_*",), corrected=("mm3",))
    got = measure(BRAIN, BRAIN, {"measures": factor})
    assert got.shapes == ((2, 2),)
    head = BRAIN["anat_intracranial_mm3"].to_numpy()
    for k, name in enumerate(("lh_x_mm", "lh_x_mm3", "lh_y_mm", "lh_y_mm3")):
        values = BRAIN[f"anat_{name}"].to_numpy()
        if name.endswith("mm3"):
            values = values - np.polyval(np.polyfit(head, values, 1), head)
        assert got.values[:, k].tolist() == pytest.approx(((values - values.mean()) / values.std()).tolist(), abs=1e-5)
    with pytest.raises(ValueError, match=r"options\.icv: no measure 'intracranial_mm3'"):
        columns("measures", factor, ["lh_x_mm", "lh_x_mm3"])
    # The unit of the head's size does not matter.
    other = BRAIN.assign(anat_intracranial_mm3=head / 1000)
    assert np.allclose(measure(other, other, {"measures": factor}).values, got.values, atol=1e-5)


def test_labels_are_numbers_and_codes_of_the_training_classes() -> None:
    table = pd.DataFrame(
        {"label_a": ["y", "x", None, "new"], "label_b": [1.5, np.nan, 2.0, 3.0], "label_c": [["a"], ["b"], [], []]}
    )
    got = label_values(table, table[:3], ("a", "b"))
    assert got[:, 0].tolist() == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert got[:, 1].tolist() == pytest.approx([1.5, np.nan, 2, 3], nan_ok=True)
    for name in ("c", "d"):
        with pytest.raises(ValueError, match=rf"pretrain\.labels: no class or number '{name}'"):
            label_values(table, table, (name,))
    with pytest.raises(ValueError, match=r"'a' has classes, and the recipe reads a number"):
        label_values(table, table, ("a",), numbers=True)
    assert label_values(table, table, ("b",), numbers=True)[0, 0] == 1.5


def test_weights_come_from_the_table(signal_store: Store) -> None:
    store = copy(signal_store)
    store.table = signal_store.table.assign(weight=np.where(np.arange(len(signal_store)) == 1, 0.5, np.nan))
    assert [Samples(s)[1, 0][-1].item() for s in (signal_store, store)] == [1, 0.5]
    assert Samples(store)[2, 0][-1] == 1


def test_to_moves_everything(image_store: Store) -> None:
    batch = load(image_store, 0)[0]
    moved = replace(batch, views=(batch.x, batch.x)).to("meta")
    found = [*moved.views, *(value for value in vars(moved).values() if isinstance(value, torch.Tensor))]
    assert len(found) == 11
    assert {value.device.type for value in found} == {"meta"}


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
    samples = Samples(signal_store)
    samples.duplicate = np.arange(len(samples)) + 10
    batch = collate([samples[row, draw] for row, draw in ((3, 70), (1, 71))])
    assert batch.duplicate.tolist() == [13, 11]
    assert batch.duplicate.dtype == torch.int64
    assert batch.draw.tolist() == [70, 71]
