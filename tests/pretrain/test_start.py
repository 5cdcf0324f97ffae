"""A run that starts from another's encoder: its weights, a copy that stays, and a state of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medssl.config import Run
from medssl.models import build
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.resume import run_hash
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, RESNET, run_of, weights
from tests.pretrain.test_resume import assert_equal, killed

ENCODER: dict[str, Any] = RESNET


def sequel(recipe: str = "simclr", **pretrain: Any) -> Run:
    return run_of(recipe, **pretrain).model_copy(update={"start": "first"})


@pytest.fixture
def first() -> nn.Module:
    return build(**ENCODER, in_channels=2, seed=7)


def test_training_starts_from_the_other_runs_weights(signal_store: Store, first: nn.Module, tmp_path: Path) -> None:
    run = sequel(epochs=1, steps_per_epoch=1, lr=1e-12)
    fitted = fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path, start=first)
    for (name, value), before in zip(fitted.encoder.named_parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(value, before, atol=1e-6, rtol=0, msg=name)
    fresh = fit(signal_store, run_of("simclr", epochs=1, steps_per_epoch=1, lr=1e-12), seed=0, compute=COMPUTE,
                checkpoints=tmp_path)  # fmt: skip
    assert not torch.allclose(next(fresh.encoder.parameters()), next(first.parameters()), atol=1e-3)


def test_other_weights_are_another_run_and_the_same_go_on(
    signal_store: Store, first: nn.Module, tmp_path: Path
) -> None:
    run, other = sequel(epochs=2, steps_per_epoch=2), build(**ENCODER, in_channels=2, seed=8)
    names = {run_hash(run, signal_store, 3, start) for start in (None, first, other)}
    assert len(names) == 3
    whole = fit(signal_store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a", start=first)
    killed(signal_store, run, tmp_path / "b", after=3, start=first)
    steps: list[int] = []
    resumed = fit(
        signal_store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b", start=first, on_step=steps.append
    )
    assert steps == [4]
    assert_equal(weights(resumed), weights(whole))


def test_a_step_can_ask_the_first_encoder_which_stays_as_it_was(first: nn.Module) -> None:
    run = sequel()
    sizes = Sizes(embedding=8, samples=4, shape=(2, 64))
    recipe = replace(RECIPES["simclr"], recalls=True)
    net = recipe.net(recipe.begin(build(**ENCODER, in_channels=2), first), run.pretrain, sizes, first).train()
    x = torch.randn(4, 2, 64)
    expected = first.eval()(x).detach()
    assert torch.equal(net.start(x), expected)
    loss = net.project(x).sum() + net.start(x).sum()
    loss.backward()
    assert all(p.grad is None for name, p in net.named_parameters() if name.startswith("_start"))
    with torch.no_grad():
        for p in net.encoder.parameters():
            p.add_(1.0)
    assert torch.equal(net.start(x), expected)
    assert any(name.startswith("_start") for name in net.state_dict())  # a checkpoint has it
    assert RECIPES["simclr"].net(build(**ENCODER, in_channels=2), run.pretrain, sizes, first).started is False


def test_run_and_encoder_go_together(signal_store: Store, first: nn.Module, tmp_path: Path) -> None:
    for run, start, words in ((sequel(), None, "first, and no encoder"), (run_of("simclr"), first, "None, and an")):
        with pytest.raises(ValueError, match=rf"runs\.<name>\.start: {words}"):
            fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path, start=start)
