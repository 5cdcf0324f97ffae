"""Heads: a projection for contrast, prototypes for clustering, a small one for labels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

NORMS: dict[str, type[nn.Module] | None] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": None}


class Projection(nn.Module):
    """A perceptron of two layers or more: (B, inputs) -> (B, outputs).

    All layers have a bias, whatever the normalisation, which is what the published sizes count: 256 -> 1024 -> 128 has
    396,416 parameters with batch normalisation and 394,368 without, 512 -> 512 -> 128 without has 328,320.

    Args:
        inputs: the embedding's dimension.
        outputs: the projection's dimension.
        hidden: None for ``inputs``.
        layers: linear ones.
        norm: of the hidden layers. ``layer`` needs no statistics of the batch, so a row's projection does not depend on
            which process the other rows are on.

    Source: Chen et al. 2020 (SimCLR).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int | None = None,
        layers: int = 2,
        norm: Literal["batch", "layer", "none"] = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm '{norm}' of a projection is unknown; allowed: {', '.join(NORMS)}")
        hidden = hidden or inputs
        parts: list[nn.Module] = []
        for k in range(layers - 1):
            parts.append(nn.Linear(inputs if k == 0 else hidden, hidden))
            if (made := NORMS[norm]) is not None:
                parts.append(made(hidden))
            parts.append(nn.ReLU())
        self.layers = nn.Sequential(*parts, nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return rows (B, outputs), not normalised."""
        return self.layers(x)


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


class Decoder(nn.Module):
    """Tell something of places from what is seen elsewhere: (B, M, width), (B, P, width) -> (B, P, outputs).

    Each place is a learnt blank and its code; it looks at the other places and at what is seen.

    Args:
        width: of codes and of what is seen.
        outputs: numbers a place.

    Source: a block of the decoder of Vaswani et al. 2017, as the decoder of He et al. 2022 (MAE) has many. Difference:
    what is seen is looked at and not changed any more.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        number = next(n for n in range(max(1, width // 64), 0, -1) if width % n == 0)
        self.blank = nn.Parameter(torch.zeros(width))
        self.block = nn.TransformerDecoderLayer(
            width, number, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, seen: Tensor, places: Tensor) -> Tensor:
        """Return (B, P, outputs)."""
        return self.out(self.norm(self.block(self.blank + places, seen)))


class Classifier(nn.Module):
    """An encoder and a small head of one hidden layer, for fine-tuning: (B, C, ...) -> (B, outputs).

    Source: the size of the head is COMET's (Wang et al. 2023). Deliberate differences: embeddings are normalised each
    by itself, so that no sample depends on its batch, and dropout is before the last layer, not on the logits.
    """

    def __init__(self, encoder: nn.Module, outputs: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = int(encoder.embedding_dim)  # type: ignore[arg-type]
        self.head = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or predicted values."""
        return self.head(self.encoder(x))
