"""ColloSSL: what devices are, what is absent, what the order of a batch decides, what devices share is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import Tensor, nn

from medssl.config import OPTIONS, Pretrain
from medssl.pretrain.data import Batch
from medssl.pretrain.module import Training
from medssl.pretrain.net import Net
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.recipes.collossl import shown
from medssl.views.draws import Draws

THREE = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}


def net_of(recipe: str, options: dict[str, Any], *, seed: int = 0) -> Net:
    """Return a linear encoder (6, 8) -> 4 without a head."""
    params = Pretrain(options=OPTIONS[recipe].model_validate(options), projection_dim=4, temperature=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = RECIPES[recipe].net(nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), params, Sizes(4, 400, (6, 8)))
    net.heads["projection"] = nn.Identity()
    return net


def batch_of(x: Tensor, *, row: Tensor | None = None, views: int = 4, seed: int = 0) -> Batch:
    """Return samples (n, 6, 8), a trial and a patient each, with views that are the samples and little noise."""
    row = torch.arange(len(x)) if row is None else row
    none = x.new_zeros(len(x), 0)
    batch = Batch(x, row, row, row, row, row, none, none, x.new_ones(len(x)))
    noise = torch.Generator().manual_seed(seed)
    return replace(batch, views=tuple(x + 0.1 * torch.randn(x.shape, generator=noise) for _ in range(views)))


def test_channels_by_name_and_by_number() -> None:
    params = Pretrain(options=OPTIONS["collossl"].model_validate({"devices": {"left": ["Fp1", 2], "right": ["Fp2"]}}))
    mask = shown(Sizes(4, 1, (3, 8), channels=("Fp1", "Fp2", "ECG")), params)["shown"]
    assert mask.tolist() == [[True, False, True], [False, True, False]]
    with pytest.raises(ValueError, match=r"devices\.left: no channel Fp1; samples have: C3, C4"):
        shown(Sizes(4, 1, (3, 8), channels=("C3", "C4", "ECG")), params)
    with pytest.raises(ValueError, match=r"devices\.left: no channel Fp1; samples have: 0 to 2"):
        shown(Sizes(4, 1, (3, 8)), params)
    with pytest.raises(ValueError, match=r"pretrain\.views: leads mixes channels"):
        shown(Sizes(4, 1, (3, 8)), params.model_copy(update={"views": "leads"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": {"a": [0]}}, "at least 2"),
        ({"devices": {"a": [0], "b": []}}, "at least 1"),
        ({"devices": {"a": [0], "b": [1]}, "anchor": "c"}, "no such device; expected one of a, b"),
        ({"devices": {"a": [0], "b": [1]}, "selection": "hard"}, "hard needs three devices, not 2"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OPTIONS["collossl"].model_validate(options)


def loss_of(net: Net, batch: Batch) -> dict[str, Tensor]:
    net.draws = Draws(batch.draw, seed=0)
    return RECIPES["collossl"].step(net, batch)


@pytest.mark.parametrize("selection", ["all", "closest", "hard", "random"])
def test_the_order_of_a_batch_decides_nothing(selection: str) -> None:
    net = net_of("collossl", {"devices": THREE, "selection": selection})
    x = torch.randn(12, 6, 8, generator=torch.Generator().manual_seed(0))
    x[::4, 2:4] = 0
    batch, order = batch_of(x), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    mixed = replace(
        batch,
        **{k: v[order] for k, v in vars(batch).items() if isinstance(v, Tensor)},
        views=tuple(view[order] for view in batch.views),
    )
    one, two = loss_of(net, batch), loss_of(net, mixed)
    assert one["contrast"] > 0.1
    assert {k: v.item() for k, v in one.items()} == pytest.approx({k: v.item() for k, v in two.items()}, abs=1e-5)


@pytest.mark.parametrize("absent", [0.0, 5.0, torch.nan])
def test_what_is_absent_is_never_read(absent: float) -> None:
    net = net_of("collossl", {"devices": THREE})
    x = torch.randn(10, 6, 8, generator=torch.Generator().manual_seed(0))
    x[:4, 2:4], x[4, 0] = absent, absent
    batch = batch_of(x)
    found = loss_of(net, batch)
    found["loss"].backward()
    other = [view.clone() for view in batch.views]
    for view in other:
        view[:4, 2:4], view[4, 0] = 1e6, 1e6
    assert loss_of(net, replace(batch, views=tuple(other)))["loss"].item() == pytest.approx(found["loss"].item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.encoder.parameters())


def test_negatives_are_no_neighbours_and_may_be_of_others_alone() -> None:
    net = net_of("collossl", {"devices": THREE})
    strict = net_of("collossl", {"devices": THREE, "others": "patients"})
    x = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    batch, together = batch_of(x), torch.zeros(3, dtype=torch.int64)
    one_trial = replace(batch, trial=together, patient=together)
    # Of three windows in a row the first and the last are no neighbours.
    assert loss_of(net, one_trial)["contrast"] > 0.01
    for alone, which in ((replace(one_trial, row=torch.tensor([0, 1, 1])), net), (one_trial, strict)):
        found = loss_of(which, alone)["contrast"]
        found.backward()
        assert found.item() == 0
        assert not any(p.grad is not None and p.grad.any() for p in which.encoder.parameters())


def test_whole_samples_are_taught_what_devices_say() -> None:
    net = net_of("collossl", {"devices": THREE, "whole": 0.5})
    x = torch.randn(6, 6, 8, generator=torch.Generator().manual_seed(0))
    x[0, 2:] = 0
    batch = replace(batch_of(x), views=(x, x, x, x))
    found = loss_of(net, batch)
    assert found["loss"].item() == pytest.approx((found["contrast"] + 0.5 * found["whole"]).item())
    net.requires_grad_(False)
    expected = []
    for i in range(6):
        devices = []
        for channels in THREE.values():
            alone = torch.zeros(1, 6, 8)
            alone[0, channels] = x[i, channels]
            if alone.any():
                devices.append(net.project(alone)[0])
        mean = torch.stack(devices).mean(0)
        expected.append(1 - float(net.project(x[i : i + 1])[0] @ mean / mean.norm()))
    assert expected[0] == pytest.approx(0, abs=1e-6)
    assert found["whole"].item() == pytest.approx(np.mean(expected), abs=1e-5)
    plain = net_of("collossl", {"devices": THREE, "whole": 0})
    assert RECIPES["collossl"].views(plain.options).whole == 3
    assert loss_of(plain, replace(batch, views=batch.views[:3]))["loss"].item() == pytest.approx(
        found["contrast"].item(), abs=1e-6
    )


def worn(rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Return 400 moments of three devices (400, 6, 8) and what all devices share (400, 2).

    Each device adds to it a state of its own, three times as large, and every third one is missing.
    """
    shared, own = rng.standard_normal((400, 2)), 3 * rng.standard_normal((400, 3, 2))
    x = 0.1 * rng.standard_normal((400, 3, 16))
    for k in range(3):
        mixing = np.linalg.qr(rng.standard_normal((16, 4)))[0]
        x[:, k] += np.concatenate([shared, own[:, k]], 1) @ mixing.T
    missing = rng.random((400, 3)) < 1 / 3
    missing[missing.all(1), 0] = False
    x[missing] = 0
    return torch.from_numpy(x.reshape(400, 6, 8)).float(), shared


def shared_r2(recipe: str, seed: int, *, options: dict[str, Any], term: str = "loss") -> float:
    rng = np.random.default_rng(seed)
    x, shared = worn(rng)
    net = net_of(recipe, options, seed=seed)
    module = Training(net, RECIPES[recipe], steps=150).train()
    optimizer = torch.optim.Adam(net.encoder.parameters(), lr=3e-2)
    for step in range(150):
        rows = torch.from_numpy(rng.permutation(300)[:64])
        batch = batch_of(x[rows], row=3 * rows, views=4 if recipe == "collossl" else 2, seed=step)
        net.draws = Draws(batch.draw + 1000 * step, seed=seed)
        optimizer.zero_grad()
        module.recipe.step(net, batch)[term].backward()
        optimizer.step()
    with torch.no_grad():
        z = net.eval().encoder(x).numpy()
    return float(r2_score(shared[300:], Ridge(1.0).fit(z[:300], shared[:300]).predict(z[300:])))


@pytest.mark.parametrize(
    ("recipe", "given", "least", "most"),
    [
        ("collossl", {"options": {"devices": THREE}}, 0.7, 1),
        ("collossl", {"options": {"devices": THREE}, "term": "whole"}, -1, 0.3),
        ("simclr", {"options": {}}, -1, 0.3),
    ],
    ids=["collossl", "without-contrast", "simclr"],
)
def test_what_devices_share_is_found_although_some_are_missing(
    recipe: str, given: dict[str, Any], least: float, most: float
) -> None:
    found = shared_r2(recipe, 0, **given)
    assert least <= found <= most, found
