"""Keys of earlier batches, first in, first out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """A ring of Q keys with the rows and patients they are of; checkpointed with the network.

    All processes must push the same rows, gathered from all of them, so that their memories stay equal.

    Args:
        size: Q.
        dim: d of the keys.

    Attributes:
        z: (Q, d) float32.
        row: (Q,) position in the store, -1 where nothing was pushed yet.
        patient: (Q,) int64, -1 likewise.
        pushed: how many keys were pushed in all; on the host, so that nothing waits for the device.
    """

    z: Tensor
    row: Tensor
    patient: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("z", torch.zeros(size, dim))
        self.register_buffer("row", torch.full((size,), -1))
        self.register_buffer("patient", torch.full((size,), -1))
        self.pushed = 0

    def __len__(self) -> int:
        return len(self.z)

    @property
    def full(self) -> bool:
        """Whether all places hold a key."""
        return self.pushed >= len(self)

    def get_extra_state(self) -> int:
        """Keep the count in the checkpoint."""
        return self.pushed

    def set_extra_state(self, state: int) -> None:
        """Go on with the count of the checkpoint."""
        self.pushed = state

    @torch.no_grad()
    def push(self, z: Tensor, row: Tensor, patient: Tensor) -> None:
        """Put keys (n, d) in the places of the oldest; of more than Q the last ones. Nothing happens in eval mode."""
        if not self.training:
            return
        first = max(0, len(z) - len(self))
        keep = slice(first, None)
        place = torch.arange(self.pushed + first, self.pushed + len(z), device=self.z.device) % len(self)
        self.z[place] = z[keep].to(self.z.dtype)
        self.row[place], self.patient[place] = row[keep], patient[keep]
        self.pushed += len(z)

    def columns(self, patient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys (Q, d), and which of them (n, Q) are empty or of the same patient (n,) as a row."""
        return self.z, (self.row < 0) | (patient[:, None] == self.patient)
