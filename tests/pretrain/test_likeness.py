"""Weights of one or several factors of measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from medssl.config import Anatomy, Pretrain
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.likeness import Likeness, measures
from medssl.pretrain.module import Contrast
from medssl.pretrain.recipes import RECIPES

AGE_AND_SIZE = {
    "measures": ["size"],
    "sigma": 1.0,
    "factors": [{"measures": ["age"], "sigma": 0.5, "kernel": "rbf", "share": 3.0}],
}
ROWS = torch.tensor([[0.0, 0.0], [1.0, 0.5], [math.nan, 0.5], [math.nan, math.nan]])


def size(d: float) -> float:
    return math.exp(-(d**2) / 2)


def age(d: float) -> float:
    return math.exp(-(d**2) / 0.5)


def test_columns_follow_the_factors() -> None:
    assert measures(Anatomy.model_validate(AGE_AND_SIZE)) == ("size", "age")


def test_sum_of_two_factors_by_their_shares() -> None:
    w = Likeness.fit(Anatomy.model_validate(AGE_AND_SIZE), ROWS)(ROWS, ROWS)
    assert w[0, 1].item() == pytest.approx(0.25 * size(1) + 0.75 * age(0.5), abs=1e-6)
    assert w[0, 2].item() == pytest.approx(age(0.5), abs=1e-6)  # the size is unknown
    assert w[3, :3].tolist() == [0, 0, 0]


def test_product_of_two_factors() -> None:
    params = Anatomy.model_validate(AGE_AND_SIZE | {"combine": "product"})
    w = Likeness.fit(params, ROWS)(ROWS, ROWS)
    assert w[0, 1].item() == pytest.approx(size(1) ** 0.25 * age(0.5) ** 0.75, abs=1e-6)
    assert w[0, 2].item() == pytest.approx(age(0.5), abs=1e-6)


def test_blocks_of_rows_are_rows_of_the_whole() -> None:
    likeness = Likeness.fit(Anatomy.model_validate(AGE_AND_SIZE), ROWS)
    assert torch.allclose(likeness(ROWS[1:3], ROWS), likeness(ROWS, ROWS)[1:3])


def test_width_from_the_training_rows_cauchy_and_small_weights() -> None:
    values = torch.tensor([[0.0], [1.0], [3.0]])
    likeness = Likeness.fit(Anatomy(measures=("size",), kernel="cauchy", minimum=0.4), values)
    assert likeness.sigmas == (pytest.approx(2.0),)
    w = likeness(values, values)
    assert w[0, 1].item() == pytest.approx(1 / (1 + 1 / 4))
    assert w[1, 2].item() == pytest.approx(1 / (1 + 4 / 4))
    assert w[0, 2] == 0


def test_n5_anatomy_and_age_as_a_sum_of_losses() -> None:
    """The mixed loss of the anatomy recipe is the share-weighted sum of the losses of its factors."""
    params = {"measures": ["size"], "sigma": 1.0, "factors": [{"measures": ["age"], "sigma": 0.5, "share": 3.0}]}

    def loss(**anatomy: Any) -> float:
        run = Pretrain(projection_dim=4, projection_norm="layer", anatomy=Anatomy.model_validate(anatomy))
        encoder = build("dilated1d", in_channels=1, widths=(16, 16), depth=2, seed=0).eval()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Contrast(encoder, RECIPES["anatomy"], run, steps=1, likeness=Likeness.fit(run.anatomy, ROWS[:2]))
        columns = [["size", "age"].index(m) for m in measures(run.anatomy)]
        x = 5 * torch.randn(4, 1, 20, generator=torch.Generator().manual_seed(1))
        ids = torch.arange(4)
        batch = Batch(x, x, x + 0.1, x[:, None, :0], ids, ids, ROWS[:, columns], ids, ids)
        return float(net.eval().recipe.step(net, batch)["loss"].detach())

    one, two = loss(measures=["size"], sigma=1.0), loss(measures=["age"], sigma=0.5)
    assert loss(**params, combine="losses") == pytest.approx(0.25 * one + 0.75 * two, abs=1e-5)
    assert loss(**params, combine="sum") != pytest.approx(0.25 * one + 0.75 * two, abs=1e-3)
