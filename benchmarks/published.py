"""The published COMET step, transcribed from its specification: ordinary convolutions, full similarity tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Weights of the levels; they count on the dense two.
LEVELS = {"patient": 0.1, "trial": 0.7, "sample": 0.1, "observation": 0.1}


class PlainBlock(nn.Module):
    """The residual block with ordinary convolutions; parameter names as in the encoder under test."""

    def __init__(self, inputs: int, outputs: int, dilation: int, project: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Conv1d(inputs, outputs, 1) if project else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(functional.gelu(self.first(functional.gelu(x))))
        return h + (x if self.skip is None else self.skip(x))


class PlainEncoder(nn.Module):
    """Linear, mask, eleven blocks, dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(channels, 64)
        blocks = [PlainBlock(64, 64, 2**i, False) for i in range(10)]
        self.blocks = nn.Sequential(*blocks, PlainBlock(64, 320, 2**10, True))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        h = self.inputs(x)
        if keep is not None:
            h = h * keep[..., None]
        return self.dropout(self.blocks(h.transpose(1, 2))).transpose(1, 2)


def plain_dense(z1: Tensor, z2: Tensor) -> Tensor:
    """Contrast over the second axis, full similarity tensor."""
    n = z1.shape[1]
    z = torch.cat([z1, z2], dim=1)
    scores = torch.matmul(z, z.transpose(1, 2))
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    logs = -functional.log_softmax(scores, dim=-1)
    first = torch.arange(n)
    return (logs[:, first, first + n].mean() + logs[:, first + n, first].mean()) / 2


def plain_pyramid(z1: Tensor, z2: Tensor, over_batch: bool) -> Tensor:
    """The same at every length from T down to 2, max-pooled in between."""
    terms = []
    while z1.shape[1] > 1:
        pair = (z1.transpose(0, 1), z2.transpose(0, 1)) if over_batch else (z1, z2)
        terms.append(plain_dense(*pair))
        z1, z2 = (functional.max_pool1d(z.transpose(1, 2), 2).transpose(1, 2) for z in (z1, z2))
    return torch.stack(terms).mean()


def plain_identity(z1: Tensor, z2: Tensor, ids: Tensor) -> Tensor:
    """Same-id pairs as coded: only the earlier index of a pair is an anchor, in either direction."""
    u1, u2 = (functional.normalize(z, dim=1).reshape(len(z), -1) for z in (z1, z2))
    scores = u1 @ u2.T / z1.shape[2] / 0.1
    same = ids[:, None] == ids[None]
    rows, columns = same.triu(1), same.tril(-1)
    upper = (scores.logsumexp(1)[:, None] - scores)[rows].mean()
    lower = (scores.logsumexp(0)[None] - scores)[columns].mean()
    return (upper + lower) / 2


def plain_loss(encoder: nn.Module, x: Tensor, ids: dict[str, Tensor], keep: list[Tensor]) -> Tensor:
    """Eight passes, four losses; the weights count on the two dense levels."""
    z = {}
    for level in LEVELS:
        masks = (None, None) if level in ids else keep
        z[level] = [encoder(x, mask) for mask in masks]
    loss = plain_identity(*z["patient"], ids["patient"]) + plain_identity(*z["trial"], ids["trial"])
    loss = loss + LEVELS["sample"] * plain_pyramid(*z["sample"], over_batch=True)
    return loss + LEVELS["observation"] * plain_pyramid(*z["observation"], over_batch=False)
