"""COMET's dilated convolutional network: a feature vector for every time step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """GELU, convolution, GELU, convolution, plus skip; kernel 3, "same" padding, no normalisation."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, project: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Conv1d(inputs, outputs, 1) if project or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, T)."""
        h = self.first(functional.gelu(x))
        h = self.second(functional.gelu(h))
        skip: Tensor = self.skip(x)
        return h + skip


class Dilated1d(nn.Module):
    """A stack of ``depth`` + 1 residual blocks with dilation 2^i; every output step sees the whole window.

    Defaults (64, 320) and 10 are the published size: 637,120 + 64 (C + 1) parameters.

    Args:
        in_channels: C.
        widths: hidden and output channels.
        depth: blocks before the last one.
        dropout: on the feature map.

    Source: Wang et al. 2023 (COMET), after TS2Vec.
    """

    def __init__(self, in_channels: int, *, widths: Sequence[int], depth: int, dropout: float = 0.1) -> None:
        super().__init__()
        if len(widths) != 2:
            raise ValueError(f"encoder.widths {list(widths)}: dilated1d takes two, hidden and output")
        hidden, self.embedding_dim = widths
        self.inputs = nn.Linear(in_channels, hidden)
        self.blocks = nn.Sequential(
            *(Block(hidden, hidden, dilation=2**i, project=False) for i in range(depth)),
            Block(hidden, self.embedding_dim, dilation=2**depth, project=True),
        )
        self.dropout = nn.Dropout(dropout)

    def features(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the feature map (B, T, embedding_dim) of x (B, C, T).

        Args:
            x: signals.
            keep: (B, T) bool; latent steps where it is False become 0 before the blocks. None keeps all: nothing is
                masked unless asked for, in training as in evaluation.
        """
        h = self.inputs(x.transpose(1, 2))
        if keep is not None:
            h = h * keep[..., None].to(h.dtype)
        out: Tensor = self.dropout(self.blocks(h.transpose(1, 2)))
        return out.transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim): the maximum over time of the feature map."""
        return self.features(x).amax(1)
