"""Heads: a projection for contrast, a linear layer for labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Projection(nn.Module):
    """A two-layer perceptron with batch normalisation; output rows have unit norm."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or inputs
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return unit rows (B, outputs)."""
        return functional.normalize(self.layers(x), dim=1)


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
