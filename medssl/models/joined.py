"""Encoders side by side: stages, each of which saw what earlier ones had not, or an ensemble, each trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.models.crops import Crops


class Joined(nn.Module):
    """The embeddings of several encoders side by side: (B, C, ...) -> (B, sum of their dimensions).

    Parts whose parameters need no gradient stay as they are, their normalisations too, whatever this is set to; the
    others are trained by whoever trains this.

    Args:
        parts: encoders, the newest last; one that is joined itself gives its parts.
        unit: each embedding is made unit, so that all stages count the same, whatever their recipes. Those of an
            ensemble have one scale, and their lengths tell something (of EEG more than of ECG).

    Source: Zhang et al. 2024 (MCL) join the features of all stages; ensembles, Lakshminarayanan et al. 2017.
    """

    parts: nn.ModuleList

    def __init__(self, parts: Sequence[nn.Module], *, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        flat: list[nn.Module] = []
        for part in parts:
            flat += part.parts if isinstance(part, Joined) else [part]
        self.parts = nn.ModuleList(flat)
        dims: list[Any] = [part.embedding_dim for part in flat]
        self.embedding_dim = int(sum(dims))
        self.train()  # parts that come from a folder are in eval mode

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages of the newest part."""
        found: dict[str, nn.Module] = self.parts[-1].stages  # type: ignore[assignment]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        for part in self.parts:
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        found = [part(x) for part in self.parts]
        return torch.cat([normalize(z, dim=1) for z in found] if self.unit else found, 1)


def crop_of(encoder: nn.Module) -> int | None:
    """Return how many steps an encoder reads at a time, the newest of several; None: all of a sample."""
    newest = encoder.parts[-1] if isinstance(encoder, Joined) else encoder
    return newest.crop if isinstance(newest, Crops) else None
