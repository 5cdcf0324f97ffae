"""Vision transformers on signals and volumes of any size, from torch's transformer layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv3d]] = {1: nn.Conv1d, 3: nn.Conv3d}
HIDDEN = {1: 256, 3: 384}
DEPTH = {1: 9, 3: 12}
PATCH = 16
HEAD = 64
MLP_RATIO = 4


def positions(grid: Sequence[int], width: int, *, device: torch.device | None = None) -> Tensor:
    """Return sine and cosine codes (tokens, width) of the places of a grid, the last axis running fastest.

    Each axis has the same number of frequencies, from 1 down to 1 / 10000 radians per token; columns left over are 0.

    Source: Vaswani et al. 2017, one code per axis.
    """
    frequencies = width // (2 * len(grid))
    rates = 10_000.0 ** (-torch.arange(frequencies, device=device) / frequencies)
    parts = []
    for axis, size in enumerate(grid):
        angles = torch.arange(size, device=device)[:, None] * rates
        shape = [1] * len(grid) + [2 * frequencies]
        shape[axis] = size
        parts.append(torch.cat([angles.sin(), angles.cos()], 1).view(shape).expand(*grid, -1))
    codes = torch.cat(parts, -1).flatten(0, -2)
    return functional.pad(codes, (0, width - codes.shape[1]))


class ViT(nn.Module):
    """A transformer on patches: (B, C, spatial...) -> (B, hidden), the mean of the tokens.

    Defaults: in 1-D hidden 256, 9 blocks and patches of 16 steps, 7,108,608 + 4,096 C parameters (7.1 M; the published
    comparison has 7.2 M); in 3-D hidden 384, 12 blocks (ViT-S) and cubes of 16 voxels, 21,294,720 + 1,572,864 C. Cubes
    of 8 suit volumes below 64 voxels a side; attention grows with the square of the number of patches.

    Args:
        spatial_dims: 1 for signals, 3 for volumes.
        in_channels: C.
        widths: hidden, one number. Heads have 64 channels, or more where hidden is no multiple of 64.
        depth: blocks.
        patch: steps or voxels per axis and patch.

    Any size is taken: zeros fill up the last patch of an axis, at its end.

    Source: Dosovitskiy et al. 2021. Deliberate differences: position codes are computed for the size at hand, not
    learnt for one; the mean of the tokens instead of a class token; no dropout. MONAI's own transformer blocks are not
    used: they need einops, and hold a normalisation that no gradient reaches.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        widths: Sequence[int] | None = None,
        depth: int | None = None,
        patch: int | None = None,
    ) -> None:
        super().__init__()
        widths = (HIDDEN[spatial_dims],) if widths is None else widths
        if len(widths) != 1 or widths[0] < 2 * spatial_dims:
            raise ValueError(
                f"encoder.widths {list(widths)}: vit{spatial_dims}d takes one, hidden, of at least {2 * spatial_dims}"
            )
        self.embedding_dim = hidden = widths[0]
        self.patch = patch or PATCH
        heads = next(h for h in range(max(1, hidden // HEAD), 0, -1) if hidden % h == 0)
        self.tokens = CONVOLUTIONS[spatial_dims](in_channels, hidden, self.patch, stride=self.patch)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    hidden, heads, MLP_RATIO * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth or DEPTH[spatial_dims])
            )
        )
        self.norm = nn.LayerNorm(hidden)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages in order, by name; each is called once in a forward pass."""
        return {f"block{k}": block for k, block in enumerate(self.blocks, 1)}

    def encode(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the tokens (B, tokens, hidden) of patches, the last axis running fastest.

        Args:
            x: samples.
            keep: (B, patches) bool, as many in each row; the others are left out, and cost nothing. None keeps all.
        """
        # functional.pad counts axes from the last one.
        fill = [side for size in reversed(x.shape[2:]) for side in (0, -size % self.patch)]
        h = self.tokens(functional.pad(x, fill))
        codes = positions(h.shape[2:], self.embedding_dim, device=h.device).to(self.norm.weight.dtype)
        tokens = h.flatten(2).transpose(1, 2) + codes
        if keep is not None:
            tokens = tokens[keep].view(len(x), -1, self.embedding_dim)
        encoded: Tensor = self.norm(self.blocks(tokens))
        return encoded

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, hidden)."""
        return self.encode(x).mean(1)
