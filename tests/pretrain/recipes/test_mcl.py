"""MCL: batches inside one pseudo label, stages side by side, and features that one contrast suppresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from medssl.config import OPTIONS, Pretrain, Run
from medssl.models import build
from medssl.models.joined import Joined
from medssl.objectives import clusters, nt_xent
from medssl.pretrain.fit import fit
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.mcl import inside
from medssl.pretrain.sampler import HierarchicalBatches
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, RESNET, run_of, weights
from tests.pretrain.test_resume import assert_equal, killed

ENCODER: dict[str, Any] = RESNET


def sequel(recipe: str, **pretrain: Any) -> Run:
    return run_of(recipe, **pretrain).model_copy(update={"start": "first"})


def test_pseudo_labels_are_nested_and_small_ones_join_the_nearest() -> None:
    rng = np.random.default_rng(0)
    angle = np.repeat([0.0, 1.5, 3.0], 20) + rng.normal(0, 0.02, 60)
    other = np.tile([0.0, 2.0], 30)
    z = np.stack([np.c_[np.cos(a), np.sin(a)] for a in (angle, other)])
    assert len(np.unique(clusters.nested(z[:1], 3))) == 3
    label = clusters.nested(z, 3)
    pairs = {(a, b) for a, b in zip(np.repeat([0, 1, 2], 20), other, strict=True)}
    assert len(np.unique(label)) == len(pairs) == 6
    assert len({(x, *p) for x, *p in zip(label, np.repeat([0, 1, 2], 20), other, strict=True)}) == 6
    # The middle group, of two patients, joins the nearer of its neighbours.
    group, patients = np.repeat([0, 1, 2], 20), np.r_[np.arange(20), np.repeat([20, 21], 10), np.arange(22, 42)]
    near = np.c_[np.repeat([0.0, 1.0, 5.0], 20), np.zeros(60)]
    assert clusters.merged(group, near, patients, 4).tolist() == [0] * 40 + [1] * 20
    assert clusters.merged(group, near, patients, 50).tolist() == [0] * 60
    assert np.array_equal(clusters.labels(z[0] * 7, 3), clusters.labels(z[0], 3))


def merged_slowly(label: np.ndarray, z: np.ndarray, patients: np.ndarray, least: int) -> np.ndarray:
    """Join clusters as the words have it: count and average anew at each merge."""
    while True:
        label = np.unique(label, return_inverse=True)[1]
        groups = [label == k for k in range(label.max() + 1)]
        count = [len(set(patients[of])) for of in groups]
        small = int(np.argmin(count))
        if count[small] >= least or len(count) == 1:
            return label
        means = [z[of].mean(0) for of in groups]
        distance = [np.inf if k == small else np.square(mean - means[small]).sum() for k, mean in enumerate(means)]
        label = np.where(label == small, int(np.argmin(distance)), label)


@pytest.mark.parametrize("least", [1, 3, 8, 25, 40])
def test_small_clusters_join_as_in_a_slow_loop(least: int) -> None:
    rng = np.random.default_rng(least)
    label, z, patients = rng.geometric(0.05, 400) * 3, rng.normal(size=(400, 5)), rng.integers(30, size=400)
    assert np.array_equal(clusters.merged(label, z, patients, least), merged_slowly(label, z, patients, least))


def test_stages_stand_side_by_side_and_the_newest_alone_learns(signal_store: Store, tmp_path: Path) -> None:
    first = build(**ENCODER, in_channels=2, seed=7)
    run = sequel("mcl", epochs=2, steps_per_epoch=2, options={"clusters": 2})
    second = fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path / "a", start=first)
    assert isinstance(second.encoder, Joined)
    assert (len(second.encoder.parts), second.encoder.embedding_dim) == (2, 16)
    assert_equal(second.encoder.parts[0].state_dict(), first.state_dict())
    killed(signal_store, run, tmp_path / "b", after=3, start=first, seed=0)
    resumed = fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path / "b", start=first)
    assert_equal(weights(resumed), weights(second))
    third = fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path / "c", start=second.encoder)
    assert isinstance(third.encoder, Joined)
    assert third.encoder.embedding_dim == 24
    x = torch.randn(3, 2, 64)
    torch.testing.assert_close(third.encoder(x)[:, :16], second.encoder(x))
    torch.testing.assert_close(third.encoder(x).unflatten(1, (3, 8)).norm(dim=2), torch.ones(3, 3))
    again = build(**ENCODER, in_channels=2, joined=3).eval()
    again.load_state_dict(third.encoder.state_dict())  # as an encoder folder is read
    torch.testing.assert_close(again(x), third.encoder(x))
    with pytest.raises(ValueError, match="start: an encoder of several stages"):
        fit(signal_store, sequel("simclr"), seed=0, compute=COMPUTE, checkpoints=tmp_path, start=third.encoder)
    with pytest.raises(ValueError, match=r"pretrain\.within: source is not for recipe mcl"):
        run_of("mcl", within="source")
    frozen = sequel("mcl", sampler="comet_fixed")
    with pytest.raises(ValueError, match="comet_fixed has frozen batches of its own; recipe mcl, "):
        fit(signal_store, frozen, seed=0, compute=COMPUTE, checkpoints=tmp_path, start=first)


def test_views_are_crops_at_every_stage() -> None:
    encoder = {**ENCODER, "in_channels": 2, "crop": 16}
    recipe, given = RECIPES["mcl"], run_of("mcl").pretrain
    for start in (None, build(**encoder, seed=7)):
        whole = recipe.begin(build(**encoder), start)
        sizes = Sizes(int(whole.embedding_dim), 4, (2, 64), earlier=8 * (start is not None))  # type: ignore[arg-type]
        assert Training(recipe.net(whole, given, sizes, start), recipe, steps=1).augmentation.crop == 16
        with pytest.raises(ValueError, match=r"encoder\.crop 16: samples have 8 steps"):
            recipe.net(whole, given, sizes._replace(shape=(2, 8)), start)


def toy(n: int = 1200) -> tuple[Tensor, Tensor, pd.DataFrame]:
    """Return samples (n, 4) of an easy angle and of one in more noise, both angles (n, 2), and their table."""
    angles = torch.rand(n, 2, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    x = torch.cat([torch.stack([a.cos(), a.sin()], 1) for a in angles.T], 1)
    table = pd.DataFrame({"patient": np.arange(n), "trial": np.arange(n)})
    return x * torch.tensor([4.0, 4.0, 1.0, 1.0]), angles, table


class Linear(nn.Linear):
    """An encoder with room for one angle."""

    embedding_dim = 2


def trained(x: Tensor, table: pd.DataFrame, within: str | None, seed: int) -> nn.Module:
    """Return an encoder trained by the recipe's contrast on batches of the sampler."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = Linear(4, 2)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
        rows = np.arange(len(x))
        batches = HierarchicalBatches(table, rows, patients=64, trials=1, samples=1, within=within, seed=seed)
        for epoch in range(20):
            batches.set_epoch(epoch)
            for batch in batches:
                row = torch.tensor([r for r, _ in batch])
                z1, z2 = (nn.functional.normalize(encoder(x[row] + 0.3 * torch.randn(64, 4)), dim=1) for _ in range(2))
                optimizer.zero_grad()
                nt_xent(z1, z2, temperature=0.2).backward()
                optimizer.step()
    return encoder


def known(encoder: nn.Module, x: Tensor, angle: Tensor) -> float:
    """Return the share of an angle's variance that a linear map of the embedding tells."""
    z, truth = encoder(x).detach(), torch.stack([angle.cos(), angle.sin()], 1)
    z = torch.cat([z, torch.ones(len(z), 1)], 1)
    return 1 - float((truth - z @ torch.linalg.lstsq(z, truth).solution).square().mean() / truth.var(0).mean())


def test_the_second_stage_finds_the_feature_that_contrast_suppresses() -> None:
    x, angles, table = toy()
    params = Pretrain(batch={"patients": 64}, options=OPTIONS["mcl"]())
    first = trained(x, table, None, 0)
    z = first(x).detach().numpy()[None]
    found = {
        "simclr": first,
        "mcl": Joined([first, trained(x, inside(table, z, params), RECIPES["mcl"].within, 1)]),
        "without clusters": Joined([first, trained(x, inside(table, None, params), RECIPES["mcl"].within, 1)]),
    }
    hidden = {name: known(encoder, x, angles[:, 1]) for name, encoder in found.items()}
    assert known(found["mcl"], x, angles[:, 0]) > 0.9
    assert hidden["simclr"] < 0.1
    assert hidden["without clusters"] < 0.4  # a second stage of the same contrast
    assert hidden["mcl"] > 0.95
