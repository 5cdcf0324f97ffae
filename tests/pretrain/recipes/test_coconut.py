"""COCONUT: which samples are trained on, which are rehearsed, and what a run on a new site forgets without it."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from medssl.config import OPTIONS, Pretrain, Run
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.coconut import remembered
from medssl.store import Store
from pipeline.pretrain import foretell
from tests.pretrain.test_fit import BATCH, COMPUTE, RESNET, run_of

RECIPE = RECIPES["coconut"]
ENCODER: dict[str, Any] = RESNET


def params(**options: Any) -> Pretrain:
    return Pretrain(projection_dim=4, temperature=0.2, options=OPTIONS["coconut"](**options))


def test_new_sites_and_a_share_of_the_earlier_patients() -> None:
    site = np.repeat(["a", "b", "c"], 40)
    table = pd.DataFrame({"source": site, "patient": 1000 - np.arange(120) // 4}, index=np.arange(120) + 5)
    drawn = remembered(table, None, params(sites=["b"], before=["a"], share=0.25))
    assert drawn["source"].value_counts().to_dict() == {"b": 40, "a": 12}
    assert drawn["patient"][drawn["rehearsed"]].nunique() == 3  # whole patients, of 10
    assert set(drawn["source"][drawn["rehearsed"]]) == {"a"}
    again = remembered(table.assign(patient=table["patient"] * 7), None, params(sites=["b"], before=["a"], share=0.25))
    assert again.index.equals(drawn.index)
    assert len(remembered(table, None, params())) == 120
    assert set(remembered(table, None, params(before=["a"], share=0))["source"]) == {"b", "c"}
    state = RECIPE.state(Sizes(8, 200, (2, 64), drawn=drawn), params())["rehearsed"]
    assert np.array_equal(np.flatnonzero(state.numpy()), drawn.index[drawn["rehearsed"]])
    for options, words in (
        ({"sites": ["x"]}, r"no training sample of source \['x'\]; there are: a, b, c"),
        ({"sites": ["a"], "column": "device"}, "no 'device'; the table has: source, patient"),
    ):
        with pytest.raises(ValueError, match=words):
            remembered(table, None, params(**options))
    with pytest.raises(ValueError, match="sites and before have a in common"):
        params(sites=["a"], before=["a"])


def test_a_run_goes_on_with_another_site(signal_store: Store, tmp_path: Path) -> None:
    store = copy(signal_store)
    old = np.arange(len(store)) % 96 < 48
    store.table = signal_store.table.assign(source=np.where(old, "a", "b"))
    options = {"sites": ["b"], "before": ["a"], "share": 0.5}
    run = run_of("coconut", epochs=2, steps_per_epoch=3, monitor_label=None, options=options)
    run = run.model_copy(update={"start": "first"})
    first = build(**ENCODER, in_channels=2, seed=7)
    fitted = fit(store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path, start=first)
    chosen = remembered(store.table[(store.table["split"] == "train") & store.table["kept"]], None, run.pretrain)
    assert (fitted.samples, fitted.patients) == (len(chosen), chosen["patient"].nunique())
    assert fitted.samples < (store.table["split"] == "train").sum()
    last = fitted.history[-1]
    total = last["train/contrast"] + last["train/rehearsal"] + last["train/distillation"]
    assert last["train/loss"] == pytest.approx(total, abs=1e-5)
    assert last["train/rehearsal"] > 0
    assert last["train/distillation"] > 0


def test_sites_that_are_left_out_are_no_copies(signal_store: Store, tmp_path: Path) -> None:
    store = copy(signal_store)
    train = (signal_store.table["split"] == "train").to_numpy()
    site = np.where(signal_store.table["patient"].rank(method="dense") % 2 == 0, "a", "b")
    store.table = signal_store.table.assign(source=site, kept=True, duplicate_of=None, method="")
    options = {"sites": ["b"]}
    given = {"epochs": 1, "monitor_label": None, "batch": BATCH | {"samples": 1}, "options": options}
    lengths = {}
    for length in ("equal_epochs", "equal_steps"):
        run = run_of("coconut", **given, length=length)
        fitted = fit(store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
        lengths[length] = fitted.steps, fitted.steps_unreduced
    assert lengths["equal_epochs"] == lengths["equal_steps"]
    assert lengths["equal_steps"][0] == lengths["equal_steps"][1] == round(int((train & (site == "b")).sum()) / 8)


def test_what_a_sequel_needs(signal_store: Store, tmp_path: Path) -> None:
    raw = run_of("coconut").model_dump(exclude_unset=True) | {"start": "first"}
    with pytest.raises(ValueError, match=r"options\.before: none, so that nothing of first is rehearsed; name the"):
        Run.model_validate(raw)
    with pytest.raises(ValueError, match=r"options: no training sample of source \['mars'\]"):
        foretell(signal_store.table, run_of("coconut", options={"sites": ["mars"]}))
    for cure in ("mask", "weight"):
        with pytest.raises(ValueError, match=rf"duplicates: {cure} is not for recipe coconut: it rehearses"):
            fit(signal_store, run_of("coconut", duplicates=cure), seed=0, compute=COMPUTE, checkpoints=tmp_path)


class Linear(nn.Linear):
    """An encoder with room for two numbers."""

    embedding_dim = 2


def sites(n: int = 256) -> tuple[Tensor, Tensor]:
    """Return samples (2 n, 4), angles in the first two columns of site a and in the last two of site b, and angles."""
    angle = torch.rand(2 * n, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    plane, none = torch.stack([angle.cos(), angle.sin()], 1), torch.zeros(n, 2)
    return torch.cat([torch.cat([plane[:n], none], 1), torch.cat([none, plane[n:]], 1)]), angle


def view(x: Tensor) -> Tensor:
    """Return views in which site b's devices add noise where site a has its angle."""
    new = (x[:, 2:].abs().sum(1, keepdim=True) > 0).to(x.dtype)
    return x + torch.randn(x.shape) * torch.cat([(0.1 + 0.9 * new).expand(-1, 2), torch.full((len(x), 2), 0.1)], 1)


def trained(x: Tensor, rows: np.ndarray, start: nn.Module | None, drawn: pd.DataFrame, given: Pretrain) -> nn.Module:
    """Return an encoder trained by the recipe's step on some rows."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = RECIPE.begin(Linear(4, 2), start)
        net = RECIPE.net(encoder, given, Sizes(2, len(x), (4,), drawn=drawn), start).train()
        optimizer = torch.optim.AdamW(net.encoder.parameters(), lr=0.05)
        optimizer.add_param_group({"params": list(net.heads.parameters())})
        order = np.random.default_rng(0)
        for _ in range(120):
            row = torch.from_numpy(order.choice(rows, 64, replace=False))
            views, none = (view(x[row]), view(x[row])), torch.zeros(64, 0)
            batch = Batch(x[row], row, row, row, row, row, none, none, torch.ones(64), views=views)
            optimizer.zero_grad()
            RECIPE.step(net, batch)["loss"].backward()
            optimizer.step()
    return net.encoder


def known(encoder: nn.Module, x: Tensor, angle: Tensor) -> float:
    """Return the share of an angle's variance that a linear map of the unit embedding tells."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        z, truth = nn.functional.normalize(encoder(view(x)), dim=1), torch.stack([angle.cos(), angle.sin()], 1)
    return 1 - float((truth - z @ torch.linalg.lstsq(z, truth).solution).square().mean() / truth.var(0).mean())


def test_a_few_rehearsed_patients_keep_what_a_new_site_would_have_forgotten() -> None:
    x, angle = sites()
    old, table = slice(0, 256), pd.DataFrame({"patient": np.arange(512), "source": np.repeat(["a", "b"], 256)})
    first = trained(x, np.arange(256), None, table[:0], params())
    found: dict[str, tuple[float, float]] = {}
    for name, options in {
        "simclr": {"share": 0.0},
        "coconut": {"share": 0.2},
        "terms off": {"share": 0.2, "rehearse": 0.0, "distil": 0.0},
    }.items():
        given = params(sites=["b"], before=["a"], **options)
        drawn = remembered(table, None, given)
        encoder = trained(x, drawn.index.to_numpy(), first, drawn, given)
        found[name] = known(encoder, x[old], angle[old]), known(encoder, x[256:], angle[256:])
    assert known(first, x[old], angle[old]) > 0.9
    assert found["coconut"][0] > found["terms off"][0] + 0.2
    assert found["coconut"][0] > found["simclr"][0] + 0.2
