"""Long samples by short crops: an encoder of crops, whose embeddings of a sample are averaged."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def starts(steps: int, crop: int) -> list[int]:
    """Return the first steps of the crops that cover a sample: as few as can, evenly spaced, from its start to its end.

    They overlap where the crop does not divide the sample. A sample of a crop's length, or shorter, is one.
    """
    number = max(1, -(-steps // crop))
    return [round(k * (steps - crop) / (number - 1)) for k in range(number)] if number > 1 else [0]


class Crops(nn.Module):
    """The mean embedding of a sample's crops, in one pass: (B, C, T) -> (B, embedding_dim).

    A sample of a crop's length is embedded as it is, so that in pretraining, where views are random crops, this is the
    encoder itself; so is a shorter one, such as the small crops of some recipes.

    Args:
        encoder: (B, C, T) -> (B, embedding_dim), for signals.
        crop: steps.

    Source: own; random crops of 2.5 s of an ECG of 10 s as in Strodthoff et al. 2021, who aggregate predictions.
    """

    def __init__(self, encoder: nn.Module, crop: int) -> None:
        super().__init__()
        self.encoder, self.crop = encoder, crop
        self.embedding_dim = int(encoder.embedding_dim)  # type: ignore[arg-type]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages of the encoder, in order, by name; each is called once, with all crops, sample by sample."""
        found: dict[str, nn.Module] = self.encoder.stages  # type: ignore[assignment]
        return found

    def extra_repr(self) -> str:
        """Say what tells two of the same encoder apart."""
        return f"crop={self.crop}"

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        first = starts(x.shape[2], self.crop)
        if len(first) == 1:
            out: Tensor = self.encoder(x)
            return out
        step = torch.tensor(first, device=x.device)[:, None] + torch.arange(self.crop, device=x.device)
        crops = x[:, :, step].transpose(1, 2).flatten(0, 1)  # (B, C, k, crop) -> (B k, C, crop)
        return self.encoder(crops).unflatten(0, (x.shape[0], len(first))).mean(1)
