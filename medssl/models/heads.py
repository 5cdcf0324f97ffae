"""Heads: a projection for contrast, prototypes for clustering, a linear layer for labels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class Projection(nn.Module):
    """A two-layer perceptron: (B, inputs) -> unit rows (B, outputs).

    Both layers have a bias, whatever the normalisation, which is what the published sizes count: 256 -> 1024 -> 128 has
    396,416 parameters with batch normalisation and 394,368 without, 512 -> 512 -> 128 without has 328,320.

    Args:
        inputs: the embedding's dimension.
        outputs: the projection's dimension.
        hidden: None for ``inputs``.
        norm: of the hidden layer. ``layer`` needs no statistics of the batch, so a row's projection does not depend on
            which process the other rows are on.

    Source: Chen et al. 2020 (SimCLR).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int | None = None,
        norm: Literal["batch", "layer", "none"] = "batch",
    ) -> None:
        super().__init__()
        hidden = hidden or inputs
        layers: list[nn.Module] = [nn.Linear(inputs, hidden)]
        if norm == "batch":
            layers.append(nn.BatchNorm1d(hidden))
        elif norm == "layer":
            layers.append(nn.LayerNorm(hidden))
        elif norm != "none":
            raise ValueError(f"norm '{norm}' of a projection is unknown; allowed: batch, layer, none")
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return unit rows (B, outputs)."""
        return functional.normalize(self.layers(x), dim=1)


class Prototypes(nn.Linear):
    """Scores of embeddings against learnt unit vectors: (B, dim) -> (B, number); cosines, if the embeddings are unit.

    The rows of ``weight`` (number, dim) are unit at the start; call `renormalise` before each step to keep them so.

    Source: Caron et al. 2020 (SwAV).
    """

    def __init__(self, dim: int, number: int) -> None:
        super().__init__(dim, number, bias=False)
        self.renormalise()

    @torch.no_grad()
    def renormalise(self) -> None:
        """Scale the prototypes back to unit norm, in place."""
        self.weight.copy_(functional.normalize(self.weight, dim=1))


class Classifier(nn.Module):
    """An encoder and a linear layer, for fine-tuning: (B, C, ...) -> (B, outputs)."""

    def __init__(self, encoder: nn.Module, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.LayerNorm(int(encoder.embedding_dim))  # type: ignore[arg-type]
        self.linear = nn.Linear(int(encoder.embedding_dim), outputs)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or predicted values."""
        out: Tensor = self.linear(self.norm(self.encoder(x)))
        return out
