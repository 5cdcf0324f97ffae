"""G-SimCLR: a batch holds at most one sample of each cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.config import OPTIONS, Pretrain, Run
from medssl.models import build
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.recipes.gsimclr import apart
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, RESNET, run_of, weights

ENCODER: dict[str, Any] = RESNET


def params(clusters: int) -> Pretrain:
    batch = {"patients": 2, "trials": 2, "samples": 2}
    return Pretrain(batch=batch, options=OPTIONS["gsimclr"](clusters=clusters))


def test_no_two_samples_of_a_batch_are_of_one_cluster() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(12, size=200)
    z = np.eye(12)[kind][None] + rng.normal(0, 0.01, (1, 200, 12))
    table = pd.DataFrame({"patient": np.arange(200) // 4, "trial": np.arange(200) // 2})
    drawn, composition = apart(table, z, params(12)), RECIPES["gsimclr"].batch
    assert composition is not None
    found = composition(params(12).batch)
    assert (found.patients, found.trials, found.samples) == (8, 1, 1)
    batches = HierarchicalBatches(drawn, np.arange(200), patients=8, trials=1, samples=1)
    seen = np.array([[row for row, _ in batch] for batch in batches])
    assert (np.array([len(set(kind[batch])) for batch in seen]) == 8).all()
    plain = HierarchicalBatches(table, np.arange(200), patients=8, trials=1, samples=1)
    assert min(len({kind[row] for row, _ in batch}) for batch in plain) < 8
    assert apart(table, None, params(12)) is table  # patients are the clusters


def test_a_batch_needs_as_many_clusters() -> None:
    raw = run_of("gsimclr", options={"clusters": 7}).model_dump(exclude_unset=True)
    batch = raw["pretrain"]["batch"]
    assert batch["patients"] * batch["trials"] * batch["samples"] == 16
    Run.model_validate(raw)  # without a start patients are the clusters
    with pytest.raises(
        ValueError, match="clusters: 7, and a batch holds 16 samples of different clusters; take as many"
    ):
        Run.model_validate(raw | {"start": "first"})


def test_the_first_encoder_decides_batches_and_not_weights(signal_store: Store, tmp_path: Path) -> None:
    run = run_of("gsimclr", epochs=1, steps_per_epoch=1, lr=1e-12).model_copy(update={"start": "first"})
    made = []
    for seed in (7, 8):
        first = build(**ENCODER, in_channels=2, seed=seed)
        made.append(fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path, start=first))
    one, two = (next(iter(weights(fitted).values())) for fitted in made)
    assert (one - two).abs().max() < 1e-9
    assert made[0].history[-1]["train/loss"] != made[1].history[-1]["train/loss"]
