"""Residual networks in one, two and three dimensions; the registry and what all encoders promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import nn

from medssl import hub, models

# Small ones of each kind, with the shape of a batch.
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "resnet1d": ({"widths": (4, 8, 8, 12), "depth": 1}, (5, 3, 96)),
    "dilated1d": ({"widths": (8, 12), "depth": 3}, (5, 3, 96)),
    "efficientnet1d": ({"widths": (4, 4, 8, 8, 8, 12, 12)}, (5, 3, 96)),
    "convnet1d": ({"widths": (4, 8, 12), "kernels": (7, 5, 3), "pool": "stages"}, (5, 3, 100)),
    "vit1d": ({"widths": (24,), "depth": 2, "patch": 8}, (5, 3, 96)),
    "resnet2d": ({"widths": (4, 8, 8, 12), "depth": 1}, (5, 2, 32, 40)),
    "resnet3d": ({"widths": (4, 8, 8, 12), "depth": 1}, (5, 1, 16, 24, 16)),
    "vit3d": ({"widths": (24,), "depth": 2, "patch": 8}, (5, 1, 16, 24, 16)),
}


@pytest.fixture(params=models.ENCODERS)
def small(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    options, shape = SMALL[request.param]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return models.build(request.param, in_channels=shape[1], **options, seed=0), x


def test_registry_gives_the_spatial_dimensions() -> None:
    assert {name: len(shape) - 2 for name, (_, shape) in SMALL.items()} == models.ENCODERS


def test_gradient_reaches_every_parameter(small: tuple[nn.Module, torch.Tensor]) -> None:
    encoder, x = small
    z = encoder(x)
    assert z.shape == (len(x), encoder.embedding_dim)
    (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all() and weight.grad.any(), name


def test_embeddings_belong_to_their_samples(small: tuple[nn.Module, torch.Tensor]) -> None:
    encoder, x = small
    encoder(x)  # moves running statistics away from 0 and 1
    encoder.eval()
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        z = encoder(x)
        assert torch.allclose(encoder(x[order]), z[order], rtol=1e-4, atol=1e-6)
        assert torch.allclose(torch.cat([encoder(row[None]) for row in x]), z, rtol=1e-4, atol=1e-6)
    assert len(torch.unique(z, dim=0)) == len(x)


def test_permuting_a_training_batch_permutes_its_embeddings(small: tuple[nn.Module, torch.Tensor]) -> None:
    encoder, x = small
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(encoder(x[order]), encoder(x)[order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", models.ENCODERS)
def test_seed_decides_the_weights_and_leaves_the_generator(name: str) -> None:
    options, shape = SMALL[name]
    before = torch.random.get_rng_state()
    a, b, other = (models.build(name, in_channels=shape[1], **options, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], other[key]) for key in a)


@pytest.mark.parametrize("name", models.ENCODERS)
def test_an_encoder_folder_gives_the_same_embeddings(name: str, tmp_path: Path) -> None:
    options, shape = SMALL[name]
    architecture = {"name": name, "in_channels": shape[1], **options}
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    encoder = models.build(**architecture, seed=0)
    encoder(x)
    hub.save_encoder(tmp_path / "e", encoder, architecture=architecture, contract={}, provenance={}, card="")
    loaded = hub.load_encoder(tmp_path / "e").module
    with torch.inference_mode():
        assert torch.equal(loaded(x), encoder.eval()(x))


def test_n8_published_size() -> None:
    with torch.device("meta"):
        encoder = models.build("resnet3d", in_channels=1)
    assert encoder.embedding_dim == 512
    assert sum(p.numel() for p in encoder.parameters()) == 33_160_000


def test_n8_feature_maps() -> None:
    sizes = []
    with torch.device("meta"):
        encoder: Any = models.build("resnet3d", in_channels=1)
        body = encoder.body
        for part in (body.maxpool, body.layer1, body.layer2, body.layer3, body.layer4):
            part.register_forward_hook(lambda _part, _inputs, out: sizes.append(tuple(out.shape[1:])))
        assert encoder(torch.empty(1, 1, 121, 128, 121)).shape == (1, 512)
    assert sizes == [(64, 31, 32, 31), (64, 31, 32, 31), (128, 16, 16, 16), (256, 8, 8, 8), (512, 4, 4, 4)]


def test_weights_are_he_normal() -> None:
    encoder: Any = models.build("resnet2d", in_channels=1, seed=0)
    weight = encoder.body.layer3[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert (weight.abs() > 3 * weight.std()).float().mean().item() == pytest.approx(0.0027, rel=0.1)  # no uniform tails


def test_weights_of_an_earlier_version_give_the_same_output() -> None:
    earlier = MonaiResNet(
        block="basic",
        layers=[1] * 4,
        block_inplanes=[4, 8, 8, 12],
        spatial_dims=1,
        n_input_channels=2,
        conv1_t_stride=2,
        feed_forward=False,
    )
    x = torch.randn(6, 2, 128, generator=torch.Generator().manual_seed(0))
    earlier(x)
    weights = {f"body.{name}": value for name, value in earlier.state_dict().items()}
    assert "body.layer2.0.downsample.0.bias" in weights
    encoder = models.build("resnet1d", in_channels=2, widths=(4, 8, 8, 12), depth=1)
    encoder.load_state_dict(dict(weights))
    nn.ModuleDict({"encoder": encoder}).load_state_dict({f"encoder.{name}": value for name, value in weights.items()})
    with torch.inference_mode():
        assert torch.allclose(encoder.eval()(x), earlier.eval()(x).flatten(1), atol=1e-5)


def test_depth_counts_blocks() -> None:
    sizes = [
        sum(p.numel() for p in models.build("resnet1d", in_channels=1, widths=(4, 4, 4, 4), depth=d).parameters())
        for d in (1, 2)
    ]
    assert sizes[1] > sizes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "vit"},
            r"encoder.name 'vit' is unknown; allowed: resnet1d, convnet1d, dilated1d, efficientnet1d, vit1d, resnet2d, "
            "resnet3d, vit3d$",
        ),
        ({"name": "resnet1d", "widths": (8, 8)}, r"encoder.widths \[8, 8\]: a residual network has 4 stages"),
        ({"name": "resnet1d", "widths": ()}, r"encoder.widths \[\]: a residual network has 4 stages"),
        ({"name": "resnet1d", "depth": 0}, "encoder.depth 0: expected 1 or more"),
        ({"name": "resnet1d", "patch": 8}, "encoder.patch 8: only for vit1d, vit3d"),
    ],
)
def test_what_build_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(in_channels=1, **options)
