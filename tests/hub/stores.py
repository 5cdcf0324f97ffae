"""Small stores and encoders for the tests of embeddings of stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl import hub, sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import contract
from medssl.ingest.build import build
from medssl.sources.record import Record, Signal, Volume
from medssl.store import Store


class Bends(nn.Module):
    """Random features that bend, so that a mean of embeddings is not the embedding of a mean."""

    embedding_dim = 5

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(int(np.prod(shape)), 5, generator=draw) / np.prod(shape) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x.flatten(1) @ self.weight)


def encoder_of(params: SignalIngest | VolumeIngest, modality: str, scale: float = 1.0) -> hub.Encoder:
    more = {"scale": scale} if params.normalise == "cohort" else {}
    facts = contract.facts_of({"modality": modality, **params.model_dump(), **more})
    return hub.Encoder(None, {"contract": hub.contract_of(facts, 5, scale)}, Bends(facts["shape"]).eval())


def store_of(
    folder: Path,
    recordings: Sequence[Signal | Volume],
    params: SignalIngest | VolumeIngest,
    modality: str,
    patients: Sequence[str] | None = None,
) -> Store:
    """Ingest recordings, each a trial: of one patient, or of the one named."""
    names = patients or ["p"] * len(recordings)
    records = [Record(Path("x"), "none", name, f"{i:03d}", labels={"odd": str(i % 2)}) for i, name in enumerate(names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "read", lambda record: recordings[int(record.trial)])
        return build(records, folder, key=modality, params=params, secret=b"k" * 16, progress=False)


def ecg(**changes: Any) -> SignalIngest:
    usual: dict[str, Any] = {"rate_hz": 100, "channels": ("A", "B"), "unit": "mV", "window_s": 1, "normalise": "none"}
    return SignalIngest(**usual | changes)


def ct(**changes: Any) -> VolumeIngest:
    usual: dict[str, Any] = {
        "samples": "slices", "size": (16, 16), "spacing_mm": (2, 2), "hu_window": (-1000, 1000), "unit": "HU",
    }  # fmt: skip
    return VolumeIngest(**usual | changes)
