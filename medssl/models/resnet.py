"""Residual networks in one, two or three dimensions, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import Tensor, nn


class ResNet(nn.Module):
    """A residual encoder: (B, C, spatial...) -> (B, widths[-1]) after global average pooling.

    Args:
        spatial_dims: 1 for signals, 2 for slices, 3 for volumes.
        in_channels: C.
        widths: channels of the four stages.
        depth: basic blocks per stage; 2 gives ResNet-18.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"encoder.widths {list(widths)}: a residual network has 4 stages")
        self.embedding_dim = widths[-1]
        self.body = MonaiResNet(
            block="basic",
            layers=[depth] * 4,
            block_inplanes=list(widths),
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            feed_forward=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        embedding: Tensor = self.body(x)
        return embedding.flatten(1)
