"""Mixed statistics of batch normalisation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from medssl import models
from medssl.models.adapt import alpha_batch_norm
from medssl.models.embed import embed_samples
from medssl.store import Store


def trained(seed: int = 0) -> nn.Module:
    """Return a residual encoder whose statistics are not those of its start."""
    encoder = models.build("resnet1d", in_channels=2, widths=(4, 4, 4, 8), depth=1, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(5):
            encoder(3 + 2 * torch.randn(8, 2, 64, generator=generator))
    return encoder.eval()


def test_published_values() -> None:
    """V-26."""
    layer = nn.BatchNorm1d(1)
    layer.running_mean, layer.running_var = torch.tensor([1.0]), torch.tensor([4.0])
    mixed = alpha_batch_norm(layer, source_weight=0.9)
    found = mixed(torch.tensor([[3.0], [5.0], [7.0]]))[:, 0].tolist()
    assert found == pytest.approx([0.813675, 1.830769, 2.847863], abs=1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 10), (4, 3, 5, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0])
def test_a_layer_is_the_formula(shape: tuple[int, ...], kept: float) -> None:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    layer = kind(3).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * 3 + 1
    layer.running_mean, layer.running_var = torch.tensor([0.5, 1, 2]), torch.tensor([1.0, 2, 3])
    nn.init.normal_(layer.weight, generator=generator)
    nn.init.normal_(layer.bias, generator=generator)
    found = alpha_batch_norm(layer, source_weight=kept)(x)
    for c in range(3):
        values = x[:, c].double()
        mean = kept * layer.running_mean[c] + (1 - kept) * values.mean()
        variance = kept * layer.running_var[c] + (1 - kept) * (values - values.mean()).square().mean()
        expected = (values - mean) / (variance + layer.eps).sqrt() * layer.weight[c] + layer.bias[c]
        assert torch.allclose(found[:, c].double(), expected, atol=1e-5)


def test_all_trust_in_training_changes_nothing_and_the_module_stays() -> None:
    encoder = trained().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    x = torch.randn(6, 2, 64, generator=torch.Generator().manual_seed(1))
    same, mixed = (alpha_batch_norm(encoder, source_weight=w) for w in (1.0, 0.5))
    mixed(x)
    assert encoder.training
    assert not any(m.training for m in mixed.modules())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert torch.allclose(same(x), encoder.eval()(x), atol=1e-6)
    assert not torch.allclose(mixed(x), encoder(x), atol=1e-2)


@torch.no_grad()
def test_another_devices_gain_shows_the_less_the_less_training_is_trusted() -> None:
    encoder = trained()
    x = 3 + 2 * torch.randn(32, 2, 64, generator=torch.Generator().manual_seed(2))
    mixed = [alpha_batch_norm(encoder, source_weight=w) for w in (1.0, 0.9, 0.5, 0.0)]
    moved = [(module(5 * x) - module(x)).norm().item() for module in mixed]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-3 * moved[0]


def test_embeddings_of_a_site_come_from_embed_samples(signal_store: Store) -> None:
    mixed = alpha_batch_norm(trained(), source_weight=0.5)
    site = np.arange(12)
    whole = embed_samples(mixed, signal_store, site)
    assert np.allclose(embed_samples(mixed, signal_store, site[::-1]), whole[::-1], atol=1e-5)
    assert not np.allclose(embed_samples(mixed, signal_store, site, batch_size=3), whole, atol=1e-3)


def test_nothing_to_mix() -> None:
    encoder = models.build("dilated1d", in_channels=2, widths=(4, 8), depth=2, seed=0).eval()
    with pytest.warns(UserWarning, match="Dilated1d has no batch normalisation that keeps statistics"):
        same = alpha_batch_norm(encoder)
    x = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(same(x), encoder(x))
    with pytest.warns(UserWarning, match="it is left as it is"):
        alpha_batch_norm(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alpha_batch_norm(trained())


def test_a_share_outside() -> None:
    with pytest.raises(ValueError, match=r"source_weight 1\.5: expected a share from 0"):
        alpha_batch_norm(trained(), source_weight=1.5)
