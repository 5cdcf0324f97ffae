"""Weights of one or several factors of measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from medssl.config import Anatomy, Pretrain
from medssl.models import build
from medssl.objectives import descriptors
from medssl.pretrain.data import Batch
from medssl.pretrain.likeness import Likeness
from medssl.pretrain.recipes import RECIPES, Sizes

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


def likeness(options: dict[str, Any], training: torch.Tensor = ROWS, shapes: Any = None) -> Likeness:
    given = Anatomy.model_validate(options)
    return Likeness(given, shapes or ((1,),) * len(given.covariates()), training)


def test_sum_of_two_factors_by_their_shares() -> None:
    w = likeness(AGE_AND_SIZE)(ROWS, ROWS)
    assert w[0, 1].item() == pytest.approx(0.25 * size(1) + 0.75 * age(0.5), abs=1e-6)
    assert w[0, 2].item() == pytest.approx(age(0.5), abs=1e-6)  # the size is unknown
    assert w[3, :3].tolist() == [0, 0, 0]


def test_product_of_two_factors() -> None:
    w = likeness(AGE_AND_SIZE | {"combine": "product"})(ROWS, ROWS)
    assert w[0, 1].item() == pytest.approx(size(1) ** 0.25 * age(0.5) ** 0.75, abs=1e-6)
    assert w[0, 2].item() == pytest.approx(age(0.5), abs=1e-6)


def test_blocks_of_rows_are_rows_of_the_whole() -> None:
    of = likeness(AGE_AND_SIZE)
    assert torch.allclose(of(ROWS[1:3], ROWS), of(ROWS, ROWS)[1:3])


def test_width_from_the_training_rows_cauchy_and_small_weights() -> None:
    values = torch.tensor([[0.0], [1.0], [3.0]])
    of = likeness({"measures": ["size"], "kernel": "cauchy", "minimum": 0.4}, values)
    assert of.sigmas == (pytest.approx(2.0),)
    w = of(values, values)
    assert w[0, 1].item() == pytest.approx(1 / (1 + 1 / 4))
    assert w[1, 2].item() == pytest.approx(1 / (1 + 4 / 4))
    assert w[0, 2] == 0


def test_n5_anatomy_and_age_as_a_sum_of_losses() -> None:
    """The mixed loss of the anatomy recipe is the share-weighted sum of the losses of its factors."""
    params = {"measures": ["size"], "sigma": 1.0, "factors": [{"measures": ["age"], "sigma": 0.5, "share": 3.0}]}

    def loss(**anatomy: Any) -> float:
        params = Pretrain(projection_dim=4, projection_norm="layer", options=Anatomy.model_validate(anatomy))
        encoder = build("dilated1d", in_channels=1, widths=(16, 16), depth=2, seed=0).eval()
        names = [name for factor in params.options.covariates().values() for name in factor.names()]
        rows = ROWS[:, [["size", "age"].index(name) for name in names]]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = Sizes(16, 4, (1, 20), ((1,),) * len(names), rows[:2])
            net = RECIPES["anatomy"].net(encoder, params, sizes).eval()
        x = 5 * torch.randn(4, 1, 20, generator=torch.Generator().manual_seed(1))
        ids = torch.arange(4)
        batch = Batch(x, ids, ids, ids, ids, ids, rows, x.new_zeros(4, 0), x.new_ones(4), views=(x, x + 0.1))
        return float(RECIPES["anatomy"].step(net, batch)["loss"].detach())

    one, two = loss(measures=["size"], sigma=1.0), loss(measures=["age"], sigma=0.5)
    assert loss(**params, combine="losses") == pytest.approx(0.25 * one + 0.75 * two, abs=1e-5)
    assert loss(**params, combine="sum") != pytest.approx(0.25 * one + 0.75 * two, abs=1e-3)


BRAIN = {"measures": ["mm", "mm3"], "regions": ["lh_*"], "corrected": ["mm3"]}


@pytest.mark.parametrize("kernel", ["local", "global"])
def test_local_and_global_descriptors(kernel: str) -> None:
    a = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0))
    of = likeness(BRAIN | {"kernel": kernel}, a.flatten(1), ((3, 2),))
    cosine = descriptors.local_cosine if kernel == "local" else descriptors.global_cosine
    assert torch.allclose(of(a.flatten(1)[:2], a.flatten(1)), cosine(a[:2], a, mapping="shifted"))


def test_kernels_of_codes_and_compositions() -> None:
    code = torch.tensor([[0.0], [0.0], [1.0], [math.nan]])
    assert likeness({"measures": ["sex"], "kernel": "equal", "off": 0.25}, code)(code, code)[0].tolist() == [
        1,
        1,
        0.25,
        0,
    ]
    parts = torch.tensor([[0.3, 0.5, 0.2], [0.1, 0.6, 0.3], [math.nan, 0.5, 0.5]])
    names = ["fat", "lung", "bone"]
    for kernel, sigma, expected in (
        ("hellinger", None, 0.965877),
        ("hellinger", 0.25, 0.965877**4),
        ("jensen_shannon", 0.1, math.exp(-0.033472 / 0.1)),
        ("aitchison", 2.0, math.exp(-(1.147872**2) / 8)),
    ):
        of = likeness({"measures": names, "kernel": kernel, "sigma": sigma}, parts[:1], ((3,),))
        w = of(parts, parts)
        assert w[0, 1].item() == pytest.approx(expected, abs=1e-5)
        assert w[0, 2] == 0
    medians = [
        likeness({"measures": names, "kernel": k}, parts, ((3,),)).sigmas for k in ("jensen_shannon", "aitchison")
    ]
    assert medians == [(pytest.approx(0.033472, abs=1e-5),), (pytest.approx(1.147872, abs=1e-5),)]


def test_too_few_measures_in_common() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, math.nan]])
    w = [
        likeness({"measures": ["a", "b", "c"], "sigma": 1, "at_least": n}, rows, ((3,),))(rows, rows)[0, 1]
        for n in (2, 3)
    ]
    assert w == [pytest.approx(math.exp(-0.5)), 0]


def test_flat_weights_are_warned_about() -> None:
    rows = 100 + torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    raw = {"measures": ["mm", "mm3"], "regions": ["*"], "kernel": "local", "scale": "raw", "mapping": "raw"}
    with pytest.warns(UserWarning, match="weights nearly uniform"):
        likeness(raw, rows, ((2, 2),))
