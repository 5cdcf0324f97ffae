"""From a code back to a sample: signals, images and volumes of any size."""

from __future__ import annotations

import math

from torch import Tensor, nn

LEAST = 4  # steps of the longest axis where it starts


class Decoder(nn.Module):
    """A grid of a few steps that is doubled until it is as large as the sample: (B, inputs) -> (B, C, ...).

    Args:
        inputs: channels of the code.
        shape: (C, T), (C, H, W) or (C, D, H, W) of a sample.
        width: channels inside.

    Its normalisation is over each sample alone. Nearest neighbours and a convolution double the grid, which leaves no
    checkerboard (Odena et al. 2016).
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], *, width: int = 16) -> None:
        super().__init__()
        channels, *self.size = shape
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.size) - 1]
        doublings = max(0, math.ceil(math.log2(max(self.size) / LEAST)))
        self.start = [-(-length // 2**doublings) for length in self.size]
        self.first = nn.Linear(inputs, width * math.prod(self.start))
        parts: list[nn.Module] = []
        for _ in range(doublings):
            parts += [nn.Upsample(scale_factor=2), conv(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.GELU()]
        self.layers = nn.Sequential(*parts, conv(width, channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """Return samples of the shape asked for."""
        x = self.layers(self.first(z).unflatten(1, (-1, *self.start)))
        return x[(..., *(slice(length) for length in self.size))]
