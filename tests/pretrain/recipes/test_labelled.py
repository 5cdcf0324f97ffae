"""Recipes that read a label: what they refuse, what they say they read, and what they make of the rest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch.nn.functional import normalize

from medssl.objectives.conr import conr as objective
from medssl.objectives.sepclr import sepclr as sepclr_terms
from medssl.pretrain.recipes import RECIPES, Sizes, conr, sepclr, supremix
from medssl.views.draws import Draws
from tests.pretrain.test_fit import run_of
from tests.pretrain.test_gather import ROWS, batch_of, module_of

SIZES = Sizes(8, 40, (2, 32), label=torch.tensor([[30.0], [41.0], [torch.nan]]))


@pytest.mark.parametrize("recipe", ["supremix", "conr", "sepclr"])
def test_it_reads_one_label_and_says_so(recipe: str) -> None:
    run = run_of(recipe)
    assert run.reads() == (("disease",) if recipe == "sepclr" else ("age",))
    for labels in ((), ("age", "state")):
        with pytest.raises(ValueError, match=rf"pretrain\.labels .*: recipe {recipe} reads one"):
            RECIPES[recipe].heads(SIZES, run.pretrain.model_copy(update={"labels": labels}))


def test_a_bin_or_a_background_that_tells_nobody_apart() -> None:
    with pytest.raises(ValueError, match=r"bin 100: all values of age, 30 to 41, fall into one bin"):
        supremix.heads(SIZES, run_of("supremix", options={"bin": 100.0}).pretrain)
    with pytest.raises(ValueError, match=r"healthy 0: disease has the values 30, 41; name one"):
        sepclr.heads(SIZES, run_of("sepclr").pretrain)


def test_shares_of_supremix_are_of_the_beta_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    net = module_of("supremix", options={"share": [2, 8]}).net
    net.draws = Draws(torch.arange(ROWS), seed=3)
    seen = {}
    monkeypatch.setattr(supremix, "supremix", lambda z, y, **given: seen.update(given, y=y) or z.sum())
    batch = batch_of(slice(0, ROWS))
    supremix.step(net, replace(batch, views=(batch.x, batch.x)))
    assert seen["share"].shape == (2 * ROWS, 2 * ROWS)
    assert stats.kstest(seen["share"].flatten().numpy(), stats.beta(2, 8).cdf).pvalue > 0.01
    assert seen["uniform"].shape == (2 * ROWS, 64)
    torch.testing.assert_close(seen["y"], torch.cat([batch.label[:, 0]] * 2), equal_nan=True)


def test_conr_is_beside_a_regression_in_the_labels_unit() -> None:
    regressor = conr.Regressor(8, SIZES.label[:2, 0])
    torch.nn.init.zeros_(regressor.weight)
    torch.nn.init.zeros_(regressor.bias)
    assert regressor(torch.randn(3, 8)).tolist() == [35.5] * 3
    net = module_of("conr", options={"omega": 4.0, "beta": 0.5}).net
    batch = batch_of(slice(0, ROWS))
    batch = replace(batch, views=(batch.x, -batch.x), weight=torch.linspace(0.5, 2, ROWS))
    found = conr.step(net, batch)
    embedded = net.encoder(torch.cat(batch.views))
    predicted, y, r = net.heads["regressor"](embedded), batch.label[:, 0].repeat(2), batch.weight.repeat(2)
    error = torch.stack([abs(predicted[i] - y[i]) for i in range(2 * ROWS) if y[i].isfinite()]).mean()
    apart = objective(
        normalize(net.heads["projection"](embedded), dim=1), y, predicted, temperature=0.2, omega=4, eta=0.01, weight=r
    )
    assert found["loss"].item() == pytest.approx((error + 0.5 * apart).item(), rel=1e-5)
    assert apart > 0


@pytest.mark.parametrize("export", ["common", "salient"])
def test_the_encoder_of_sepclr_is_that_of_the_code_it_names(export: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = module_of("sepclr", options={"export": export}).net
    assert {"projection", "other_projection", "other"} == set(net.heads)
    assert json.loads(net.params.model_dump_json())["options"]["export"] == export
    seen = {}

    def record(c: tuple[torch.Tensor, ...], s: tuple[torch.Tensor, ...], sick: torch.Tensor, **_: object) -> object:
        seen.update(c=c, s=s, sick=sick)
        return sepclr_terms(c, s, sick)

    monkeypatch.setattr(sepclr, "sepclr", record)
    batch = batch_of(slice(0, ROWS))
    sepclr.step(net, replace(batch, views=(batch.x, batch.x)))
    code = net.heads["projection"](net.encoder(batch.x))
    mine = normalize(code, dim=1) if export == "common" else code
    assert torch.allclose(seen["c" if export == "common" else "s"][0], mine, atol=1e-6)
    expected = torch.where(batch.label[:, 0] > 0, 1.0, torch.where(batch.label[:, 0] == 0, 0.0, torch.nan))
    torch.testing.assert_close(seen["sick"], expected, equal_nan=True)
