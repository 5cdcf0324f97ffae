"""``pretrain.predict``: every recipe may have the term, stopped or not; on two processes: see `test_gather`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medssl.config import OPTIONS, Pretrain
from medssl.models import build
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.predict import BANDS, STREAM, prediction, spectrum, unpredicted
from medssl.store import Store
from medssl.views.masks import boxes
from tests.pretrain.test_fit import COMPUTE, run_of
from tests.pretrain.test_gather import ROWS, batch_of, module_of
from tests.pretrain.test_regulariser import step_of
from tests.pretrain.test_resume import assert_resumes

GIVEN: dict[str, dict[str, Any]] = {
    name: {"name": name, "weight": 0.5} for name in ("latent", "spectrum", "handcrafted")
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_recipe_has_the_term(recipe: str, name: str) -> None:
    _, _, plain = step_of(recipe)
    assert "train/predict" not in plain
    module, _, curves = step_of(recipe, predict=GIVEN[name])
    assert curves["train/predict"] > 0
    assert curves["train/loss"] == pytest.approx(plain["train/loss"] + 0.5 * curves["train/predict"], abs=1e-4)
    trained = [*module.net.encoder.parameters(), *module.net.heads["predict"].parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    if module.net.teacher is not None:
        assert all(p.grad is None for p in module.net.teacher.parameters())


def by_hand(module: Any, x: torch.Tensor, target: torch.Tensor) -> float:
    """Return the unpredicted share, one sample after the other."""
    hidden = boxes(module.net.draws.fork(STREAM), x.shape[2:], number=4, share=0.5)
    mean, deviation = target.mean(0), target.std(0, correction=0)
    values = []
    for row, mask, wanted in zip(x, hidden, target, strict=True):
        seen = torch.where(mask, 0, row)
        found = module.net.heads["predict"](module.net.encoder(seen[None]))[0]
        values.append(((found - (wanted - mean) / deviation) ** 2).mean().item())
    return float(np.mean(values))


@pytest.mark.parametrize("recipe", ["simclr", "wearable", "comet"])
def test_the_target_is_the_embedding_of_the_whole_sample(recipe: str) -> None:
    module = module_of(recipe, options=OPTIONS[recipe].examples[0], predict={}).train()
    module.on_after_batch_transfer(batch_of(slice(0, ROWS)), 0)
    x, net = batch_of(slice(0, ROWS)).x, module.net
    teacher: Any = net.teacher
    of: Any = teacher["encoder"] if recipe == "wearable" else module.average if recipe == "comet" else net.encoder
    with torch.no_grad():
        of.inputs.weight.mul_(1.5)
        target = of(x)
    found = prediction(net, x, module.exported())
    assert found.item() == pytest.approx(by_hand(module, x, target), rel=1e-4)


def test_the_spectrum_is_of_what_is_hidden() -> None:
    module, batch, curves = step_of("simclr", predict={"name": "spectrum"})
    x = batch.x
    hidden = boxes(module.net.draws.fork(STREAM), x.shape[2:], number=4, share=0.5)
    target = spectrum(torch.where(hidden[:, None], x, 0))
    assert target.shape == (ROWS, 2 * BANDS)
    assert curves["train/predict"] == pytest.approx(by_hand(module, x, target), rel=1e-4)


def test_handcrafted_features_are_told_of_a_view_and_unknown_ones_cost_nothing() -> None:
    module, batch, curves = step_of("simclr", predict={"name": "handcrafted"})
    assert batch.told is not None and batch.told.isnan().sum() == 2
    found = module.net.heads["predict"](module.net.encoder(batch.views[0]))
    terms = [
        0.0 if torch.isnan(wanted) else (told - wanted).item() ** 2
        for row, features in zip(found, batch.told, strict=True)
        for told, wanted in zip(row, features, strict=True)
    ]
    assert curves["train/predict"] == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize(("recipe", "more"), {"simclr": 0, "byol": 0, "swav": 0, "comet": 1, "wearable": 1}.items())
def test_what_the_recipe_embedded_is_not_embedded_again(recipe: str, more: int) -> None:
    passes = []
    for given in ({}, {"predict": GIVEN["handcrafted"]}):
        module = module_of(recipe, options=OPTIONS[recipe].examples[0], **given).train()
        batch = module.on_after_batch_transfer(module.on_before_batch_transfer(batch_of(slice(0, ROWS)), 0), 0)
        embedded: list[int] = []
        module.net.encoder.register_forward_hook(lambda _, inputs, out, e=embedded: e.append(len(out)))
        module.training_step(batch, 0)
        assert module.net._embedded == []
        passes.append(len(embedded))
    assert passes[1] == passes[0] + more


def test_bands_of_a_sine_and_all_frequencies() -> None:
    time = torch.arange(512) / 512
    waves = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (1, 9, 50, 255)])[:, None]
    found = spectrum(waves)
    slow = np.abs(np.fft.rfft(waves[:, 0].numpy())) ** 2
    edges = np.round(256 ** (np.arange(BANDS + 1) / BANDS)).astype(int)
    for row, power in zip(found, slow, strict=True):
        bands = [power[a : max(b, a + 1)].mean() for a, b in itertools.pairwise(edges)]
        assert np.allclose(row, np.log(np.array(bands) + 1e-4), atol=0.1)
    assert found.argmax(1).diff().gt(0).all()
    # What is added to a sample without any change is in none.
    assert torch.allclose(spectrum(waves + 3), found, atol=0.1)
    assert spectrum(torch.randn(2, 3, 8)).isfinite().all()


def test_a_guess_is_one_and_a_constant_is_nothing() -> None:
    target = torch.randn(64, 5) * 3 + 1
    target[:, 4] = 7.0
    guess = torch.zeros(64, 5)
    assert unpredicted(guess, target, target).item() == pytest.approx(4 / 5, abs=1e-5)
    known = (target - target.mean(0)) / target.std(0, correction=0).clamp_min(1e-4)
    assert unpredicted(known, target, target).item() == pytest.approx(0, abs=1e-6)


def test_statistics_of_samples_with_holes_are_not_kept(stores: dict[str, Store]) -> None:
    run = run_of("simclr", predict={})
    assert run.encoder is not None
    net = RECIPES["simclr"].net(
        build(**run.encoder.model_dump(), in_channels=2, seed=0), run.pretrain, Sizes(8, 4, (2, 64))
    )
    layer = next(layer for layer in net.encoder.modules() if isinstance(layer, nn.BatchNorm1d))
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    net.train()
    x = torch.from_numpy(stores["simclr"].read(np.arange(8)))
    net.draws = type(net.draws)(torch.arange(8), seed=0)
    prediction(net, x, net.encoder).backward()
    assert len(seen) == 2
    assert layer.running_mean is not None
    assert torch.allclose(layer.running_mean, 0.1 * seen[0].mean((0, 2)), atol=1e-5)
    assert all(layer.track_running_stats for layer in net.encoder.modules() if isinstance(layer, nn.BatchNorm1d))


def test_measuring_is_without_it() -> None:
    module, batch, _ = step_of("simclr", predict={})
    module.net.eval()
    assert module.recipe.step(module.net, batch).keys() == {"loss"}


def test_what_it_may_be_told(image_store: Store, tmp_path: Path) -> None:
    assert Pretrain().predict is None
    for wrong in ({"name": "handcrafted", "share": 0.2}, {"name": "handcrafted", "spans": 2}):
        with pytest.raises(
            ValidationError, match=r"(share|spans): name handcrafted hides nothing; remove (share|spans)"
        ):
            Pretrain.model_validate({"predict": wrong})
    told = Pretrain.model_validate({"predict": {"name": "handcrafted"}})
    assert Pretrain.model_validate(told.model_dump()).predict == told.predict
    for wrong in ({"name": "wave"}, {"share": 0}, {"share": 1}, {"weight": 0}, {"spans": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Pretrain.model_validate({"predict": wrong})
    run = run_of("anatomy", epochs=1, predict={"name": "spectrum"})
    with pytest.raises(ValueError, match=r"pretrain\.predict\.name: spectrum is for signals; take latent"):
        fit(image_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("recipe", "name"), [("simclr", "latent"), ("byol", "spectrum"), ("comet", "latent"), ("simclr", "handcrafted")]
)
def test_resumed_equals_never_stopped(recipe: str, name: str, stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of(recipe, steps_per_epoch=3, epochs=2, predict=GIVEN[name])
    assert_resumes(stores[recipe], run, tmp_path, after=4)


@pytest.mark.parametrize("recipe", ["simclr", "anatomy"])
def test_it_learns_in_mixed_precision(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    compute = COMPUTE.model_copy(update={"precision": "bf16-mixed"})
    run = run_of(recipe, epochs=4, steps_per_epoch=4, lr=5e-3, warmup_epochs=0, monitor_steps=4, predict={})
    fitted = fit(stores[recipe], run, seed=0, compute=compute, checkpoints=tmp_path)
    curves = [row["train/predict"] for row in fitted.history]
    assert np.isfinite(curves).all()
    assert curves[-1] < curves[0]
