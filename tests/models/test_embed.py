"""Embeddings of stored samples, inner stages and the heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl import models
from medssl.models.dilated1d import Dilated1d
from medssl.models.embed import device_of, embed_samples, embed_stages, stages
from medssl.models.heads import Classifier
from medssl.models.resnet import ResNet
from medssl.models.vit import ViT, positions
from medssl.store import Store


@pytest.fixture
def encoder() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build("dilated1d", in_channels=2, widths=(4, 8), depth=2)


def test_batches_do_not_matter_and_the_mode_comes_back(encoder: torch.nn.Module, signal_store: Store) -> None:
    encoder.train()
    rows = np.array([40, 3, 95])
    whole = embed_samples(encoder, signal_store)
    assert encoder.training
    assert whole.shape == (len(signal_store), 8)
    assert whole.dtype == np.float32
    some = embed_samples(encoder, signal_store, rows, batch_size=2)
    assert np.allclose(some, whole[rows], atol=1e-6)
    assert embed_samples(encoder, signal_store, rows[:0]).shape == (0, 8)


@pytest.mark.parametrize(
    ("there", "accelerator", "chosen"),
    [
        (None, "auto", "cpu"), ("cuda", "auto", "cuda"), ("mps", "auto", "mps"), ("cuda", "cpu", "cpu"),
        ("cuda", "gpu", "cuda"), ("mps", "gpu", "mps"), ("cuda", "cuda", "cuda"), ("mps", "mps", "mps"),
    ],
)  # fmt: skip
def test_the_device_is_the_one_that_compute_names(
    monkeypatch: pytest.MonkeyPatch, there: str | None, accelerator: str, chosen: str
) -> None:
    device = None if there is None else torch.device(there)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    assert device_of(accelerator) == torch.device(chosen)


@pytest.mark.parametrize(("there", "accelerator"), [(None, "gpu"), (None, "cuda"), ("mps", "cuda"), ("cuda", "tpu")])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, there: str | None, accelerator: str) -> None:
    device = None if there is None else torch.device(there)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    with pytest.raises(ValueError, match=rf"compute.accelerator is {accelerator}; on this machine it can be auto, cpu"):
        device_of(accelerator)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_embeddings_of_the_cpu(encoder: torch.nn.Module, signal_store: Store) -> None:
    whole = embed_samples(encoder, signal_store)
    assert np.allclose(embed_samples(encoder, signal_store, device=device_of("gpu")), whole, atol=1e-3)


def test_classifier_shape(encoder: torch.nn.Module) -> None:
    assert Classifier(encoder, 3)(torch.zeros(2, 2, 64)).shape == (2, 3)


SMALL: dict[str, dict[str, Any]] = {
    "resnet1d": {"widths": (4, 8, 12, 16), "depth": 1}, "dilated1d": {"widths": (4, 8), "depth": 5},
    "efficientnet1d": {}, "vit1d": {"widths": (16,), "depth": 3, "patch": 8},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet1d", {"stage1": 4, "stage2": 8, "stage3": 12, "stage4": 16}),
        ("dilated1d", {"block1": 4, "block3": 4, "block4": 4, "block6": 8}),
        ("efficientnet1d", {"stage1": 16, "stage3": 40, "stage5": 112, "stage7": 256}),
        ("vit1d", {"block1": 16, "block2": 16, "block3": 16}),
    ],
)
def test_stages_of_the_encoders(signal_store: Store, name: str, expected: dict[str, int]) -> None:
    module = models.build(name, in_channels=2, seed=0, **SMALL[name]).train()
    weights = list(module.state_dict())
    rows = np.array([70, 2, 31])
    found = embed_stages(module, signal_store, rows, batch_size=2)
    assert {stage: values.shape for stage, values in found.items()} == {s: (3, d) for s, d in expected.items()}
    assert all(values.dtype == np.float32 for values in found.values())
    assert module.training
    assert list(module.state_dict()) == weights
    assert not any(part._forward_hooks for part in module.modules())
    # By hand, one sample after the other.
    module.eval()
    last = list(expected)[-1]
    for row, values in zip(rows, found[last], strict=True):
        x = torch.from_numpy(signal_store[row][None])
        with torch.inference_mode():
            if isinstance(module, ViT):
                h = module.tokens(x)
                h = h.flatten(2).transpose(1, 2) + positions(h.shape[2:], 16)
                by_hand = module.blocks(h).mean(1)
            elif isinstance(module, Dilated1d):
                by_hand = module.features(x).mean(1)
            elif isinstance(module, ResNet):
                by_hand = module(x)  # its embedding is the mean of the last stage
            else:
                continue
        assert np.allclose(values, by_hand[0], atol=1e-5)


def test_positions_may_be_as_many_as_channels(signal_store: Store) -> None:
    """Then shapes alone cannot tell the two apart."""
    conv = nn.Sequential(nn.Conv1d(2, 64, 3, padding=1), nn.BatchNorm1d(64), nn.Conv1d(64, 8, 1)).eval()
    x = torch.from_numpy(signal_store.read(np.arange(4)))
    with torch.inference_mode():
        h = conv[0](x)
    assert h.shape == (4, 64, 64)
    assert np.allclose(embed_stages(conv, signal_store, np.arange(4))["0"], h.mean(2), atol=1e-6)


def test_stages_of_a_foreign_module(signal_store: Store) -> None:
    """The children with weights, inside wrappers; a list counts as its parts, and a pair as its first."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv1d(2, 5, 3)
            self.act = nn.ReLU()
            self.layers = nn.ModuleList([nn.Conv1d(5, 6, 3), nn.Conv1d(6, 7, 3)])
            self.memory = nn.GRU(7, 3, batch_first=True)
            self.unused = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.stem(x))
            for layer in self.layers:
                x = layer(x)
            return self.memory(x.transpose(1, 2))[0].mean(1)

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Inner()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    module = Wrapper()
    assert list(stages(module)) == ["stem", "layers.0", "layers.1", "memory", "unused"]
    found = embed_stages(module, signal_store, names=["layers.1", "stem"])
    assert {name: values.shape[1] for name, values in found.items()} == {"layers.1": 7, "stem": 5}
    with pytest.raises(ValueError, match=r"Wrapper has no stage head; it has stem, layers.0, layers.1, memory, unused"):
        embed_stages(module, signal_store, names=["head"])
    with pytest.raises(ValueError, match=r"stage 'unused' of Wrapper gives no \(B, \.\.\.\); leave it out"):
        embed_stages(module, signal_store, names=["unused"])
    with pytest.raises(ValueError, match=r"Linear has no inner stages; give it an attribute `stages`"):
        stages(nn.Linear(2, 2))
    module.stages = {"all": module.net}  # type: ignore[assignment]
    assert embed_stages(module, signal_store, np.arange(2))["all"].shape == (2, 3)
