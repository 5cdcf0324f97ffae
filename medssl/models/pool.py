"""From maps of features to one embedding: what is kept of how a feature is spread over a sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

POOLS = ("mean", "mean_std", "stages")


class Pool(nn.Module):
    """Statistics over all positions of feature maps: a list of (B, width, ...) -> (B, dim).

    ``mean`` is the average of the last map; ``mean_std`` adds the standard deviation, which tells how a feature varies
    within a sample, such as from beat to beat; ``stages`` has both of all maps, so that what a late stage no longer
    shows, such as noise or fine morphology, is there.

    Args:
        kind: of `POOLS`; None for ``mean``.
        widths: channels of the maps.

    Source: Snyder et al. 2018 (mean and deviation).
    """

    def __init__(self, kind: str | None, widths: Sequence[int]) -> None:
        super().__init__()
        self.kind = kind or "mean"
        if self.kind not in POOLS:
            raise ValueError(f"encoder.pool '{kind}' is unknown; allowed: {', '.join(POOLS)}")
        self.dim = {"mean": widths[-1], "mean_std": 2 * widths[-1], "stages": 2 * sum(widths)}[self.kind]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the statistics, those of the first map first."""
        out: list[Tensor] = []
        for x in maps if self.kind == "stages" else maps[-1:]:
            flat = x.flatten(2)
            if self.kind != "mean":
                flat = flat.float()  # squares of half precision overflow
            mean = flat.mean(2)
            out.append(mean)
            if self.kind != "mean":
                # The root has no slope at 0, where a map is constant.
                out.append((flat - mean[..., None]).square().mean(2).add(1e-6).sqrt())
        return torch.cat(out, 1) if len(out) > 1 else out[0]
