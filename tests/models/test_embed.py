"""Embeddings of stored samples and the heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl import models
from medssl.models.embed import device_of, embed_samples
from medssl.models.heads import Classifier
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
