"""Embeddings of stored samples and the heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl import models
from medssl.models.embed import embed_samples
from medssl.models.heads import Classifier, Projection
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


def test_projection_gives_unit_rows() -> None:
    z = Projection(8, 4)(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(z.norm(dim=1), torch.ones(5), atol=1e-6)


def test_classifier_shape(encoder: torch.nn.Module) -> None:
    assert Classifier(encoder, 3)(torch.zeros(2, 2, 64)).shape == (2, 3)
