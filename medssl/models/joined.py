"""Encoders one after another: what earlier ones saw, and beside it what a new one sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Joined(nn.Module):
    """The unit embeddings of several encoders side by side: (B, C, ...) -> (B, sum of their dimensions).

    The last one is trained by whoever trains this; the others stay as they are, their normalisations too.

    Args:
        parts: encoders, the newest last; one that is joined itself gives its parts.

    Source: Zhang et al. 2024 (MCL) join the features of all stages.
    """

    parts: nn.ModuleList

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        flat: list[nn.Module] = []
        for part in parts:
            flat += part.parts if isinstance(part, Joined) else [part]
        self.parts = nn.ModuleList(flat)
        dims: list[Any] = [part.embedding_dim for part in flat]
        self.embedding_dim = int(sum(dims))
        self.parts[:-1].requires_grad_(False)
        self.train()  # parts that come from a folder are in eval mode

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        self.parts[:-1].eval()
        return torch.cat([normalize(part(x), dim=1) for part in self.parts], 1)
