"""An encoder of crops against a loop over crops, saved and loaded, and its inner stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl import hub, models
from medssl.config import EncoderParams
from medssl.models.crops import Crops, starts
from medssl.models.embed import embed_samples, embed_stages
from medssl.store import Store

SMALL: dict[str, dict[str, Any]] = {
    "resnet1d": {"widths": (4, 4, 6, 8), "depth": 1}, "convnet1d": {"widths": (4, 4, 6, 8), "pool": "mean_std"},
    "dilated1d": {"widths": (4, 8), "depth": 3}, "vit1d": {"widths": (16,), "depth": 2, "patch": 8},
    "efficientnet1d": {},
}  # fmt: skip


def by_hand(module: Crops, x: torch.Tensor, crop: int) -> torch.Tensor:
    """Embed one crop of one sample at a time."""
    rows = []
    for sample in x:
        first = [0, 22, 44] if crop == 20 else [0, 32]
        rows.append(sum(module.encoder(sample[None, :, k : k + crop])[0] for k in first) / len(first))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("steps", "crop", "expected"),
    [
        (64, 64, [0]), (64, 80, [0]), (64, 32, [0, 32]), (64, 20, [0, 15, 29, 44]), (1000, 250, [0, 250, 500, 750]),
        (65, 64, [0, 1]), (3, 1, [0, 1, 2]),
    ],
)  # fmt: skip
def test_as_few_crops_as_cover(steps: int, crop: int, expected: list[int]) -> None:
    assert starts(steps, crop) == expected
    assert {k + i for k in expected for i in range(crop)} >= set(range(steps))


@pytest.mark.parametrize("name", SMALL)
def test_the_mean_over_crops(name: str) -> None:
    module = models.build(name, in_channels=2, crop=32, seed=0, **SMALL[name]).eval()
    assert isinstance(module, Crops)
    x = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, whole = module(x), module.encoder(x)
        size = whole.abs().max()  # those of an untrained efficientnet1d are tiny
        assert torch.allclose(found / size, by_hand(module, x, 32) / size, atol=1e-4)
        assert torch.equal(module(x[..., :32]), module.encoder(x[..., :32]))
        assert not torch.allclose(found / size, whole / size, atol=1e-3)
        # Where a crop is as long as the sample, this is the encoder itself, with the same weights.
        assert torch.equal(models.build(name, in_channels=2, seed=0, **SMALL[name]).eval()(x), whole)
    assert (
        models.embedding_dim(name=name, in_channels=2, crop=32, **SMALL[name]) == module.embedding_dim == found.shape[1]
    )


def test_gradients_are_those_of_the_loop() -> None:
    module = models.build("convnet1d", in_channels=2, crop=32, seed=0, **SMALL["convnet1d"]).eval()
    assert isinstance(module, Crops)
    x = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(0))
    found = [torch.autograd.grad(out.square().sum(), list(module.parameters())) for out in (
        module(x), by_hand(module, x, 32)
    )]  # fmt: skip
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*found, strict=True))


def test_saved_loaded_and_its_stages(signal_store: Store, tmp_path: Path) -> None:
    encoder = EncoderParams(name="resnet1d", widths=(4, 4, 6, 8), depth=1, crop=32)
    architecture = {"in_channels": 2, **encoder.model_dump(mode="json")}
    made = models.build(**architecture, seed=0).eval()
    hub.save_encoder(tmp_path / "e", made, architecture=architecture, contract={}, provenance={}, card="")
    module = hub.load_encoder(tmp_path / "e").module
    rows = np.array([70, 2, 31])
    found = embed_samples(module, signal_store, rows, batch_size=2)
    with torch.inference_mode():
        expected = by_hand(made, torch.from_numpy(signal_store.read(rows)), 32)  # type: ignore[arg-type]
    assert np.allclose(found, expected, atol=1e-5)
    stages = embed_stages(module, signal_store, rows, batch_size=2)
    assert {name: values.shape for name, values in stages.items()} == {
        "stage1": (3, 4), "stage2": (3, 4), "stage3": (3, 6), "stage4": (3, 8)
    }  # fmt: skip
    assert np.allclose(stages["stage4"], found, atol=1e-5)  # its embedding is the mean of the last stage


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.crop 32: only for resnet1d, .*leave it out for resnet2d"):
        models.build("resnet2d", in_channels=1, crop=32)
    with pytest.raises(ValueError, match=r"encoder\.crop 0: expected 1 or more"):
        models.build("resnet1d", in_channels=1, crop=0)


def test_two_of_one_encoder_are_told_apart_by_their_text() -> None:
    """Features are found again by it, where weights are equal."""
    one, other = (models.build("resnet1d", in_channels=1, crop=crop, seed=0) for crop in (50, 100))
    assert str(one) != str(other)
