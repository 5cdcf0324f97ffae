"""COMET's dilated convolutional network: a feature vector for every time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class _GeluConv(torch.autograd.Function):
    """GELU, then convolution. The activation is computed again in backward instead of kept: half the memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, gelu: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation, ctx.gelu = dilation, gelu
        padding = (0, dilation * (weight.shape[3] // 2))
        return functional.conv2d(functional.gelu(x) if gelu else x, weight, bias, 1, padding, (1, dilation))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        seen, wanted = functional.gelu(x) if ctx.gelu else x, list(ctx.needs_input_grad[:3])
        padding, dilation = [0, ctx.dilation * (weight.shape[3] // 2)], [1, ctx.dilation]
        into, *weights = torch.ops.aten.convolution_backward(
            gradient, seen, weight, [len(weight)], [1, 1], padding, dilation, False, [0, 0], 1, wanted
        )
        if ctx.gelu and into is not None:
            into = torch.ops.aten.gelu_backward(into, x)
        return (into, *weights, None, None)


class Conv(nn.Conv1d):
    """A "same" dilated convolution of kernel 3 or 1 on (B, C, 1, T) in channels-last memory, after a GELU.

    Three things make it cheaper than its parent at the same values: two-dimensional convolutions have the better
    kernels for channels-last memory, which is also what the linear layers and the objectives read; taps further out
    than the window only ever read padding, so they are left out and get a gradient of exactly zero; and the GELU is
    not kept for backward.
    """

    def forward(self, x: Tensor, *, gelu: bool = True) -> Tensor:
        """Return (B, outputs, 1, T)."""
        weight, bias, dilation = self.weight, self.bias, int(self.dilation[0])
        assert bias is not None
        if torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
        if weight.shape[2] > 1 and dilation >= x.shape[3]:
            weight, dilation = weight[:, :, 1:2], 1
        return _GeluConv.apply(x, weight[:, :, None], bias, dilation, gelu)


class Block(nn.Module):
    """GELU, convolution, GELU, convolution, plus skip; kernel 3, "same" padding, no normalisation."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, project: bool) -> None:
        super().__init__()
        self.first = Conv(inputs, outputs, 3, dilation=dilation)
        self.second = Conv(outputs, outputs, 3, dilation=dilation)
        self.skip = Conv(inputs, outputs, 1) if project or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, 1, T)."""
        h = self.second(self.first(x))
        # In place: the sum needs no memory of its own.
        return h.add_(x if self.skip is None else self.skip(x, gelu=False))


class Dilated1d(nn.Module):
    """A stack of ``depth`` + 1 residual blocks with dilation 2^i; every output step sees the whole window.

    Defaults (64, 320) and 10 are the published size: 637,120 + 64 (C + 1) parameters.

    Args:
        in_channels: C.
        widths: hidden and output channels.
        depth: blocks before the last one.

    Source: Wang et al. 2023 (COMET), after TS2Vec.
    """

    def __init__(self, in_channels: int, *, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        if len(widths) != 2:
            raise ValueError(f"encoder.widths {list(widths)}: dilated1d takes two, hidden and output")
        hidden, self.embedding_dim = widths
        self.inputs = nn.Linear(in_channels, hidden)
        self.blocks = nn.Sequential(
            *(Block(hidden, hidden, dilation=2**i, project=False) for i in range(depth)),
            Block(hidden, self.embedding_dim, dilation=2**depth, project=True),
        )
        self.dropout = nn.Dropout(0.1)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages in order, by name; each is called once in a forward pass."""
        return {f"block{k}": block for k, block in enumerate(self.blocks, 1)}

    def features(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the feature map (B, T, embedding_dim) of x (B, C, T).

        Args:
            x: signals.
            keep: (B, T) bool, or (B, T, hidden) for each latent channel; where it is False the latent becomes 0
                before the blocks. None keeps all: nothing is masked unless asked for, in training as in evaluation.
        """
        h = self.inputs(x.transpose(1, 2))
        if keep is not None:
            h = h * (keep if keep.ndim == 3 else keep[..., None]).to(h.dtype)
        h = h.contiguous().transpose(1, 2)[:, :, None]
        return self.dropout(self.blocks(h))[:, :, 0].transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim): the maximum over time of the feature map."""
        return self.features(x).amax(1)
