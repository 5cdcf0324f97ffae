"""A residual network for signals: long kernels, blurred strides, statistics of all stages, on waves or spectra."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.models.pool import Pool
from medssl.models.scattering1d import Scattering

WIDTHS, KERNELS = (32, 64, 128, 256), (15, 11, 9, 7)
FRAME, BANDS = 128, 24  # steps of a spectrum's frame, and its bands


class Blur(nn.Module):
    """Halve the rate after a binomial low-pass of five taps: (B, C, T) -> (B, C, ceil(T / 2)).

    What a stride alone would fold into lower frequencies depends on where the window begins.

    Source: Zhang 2019, "Making convolutional networks shift-invariant again".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("taps", torch.tensor([1.0, 4, 6, 4, 1])[None, None] / 16, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the blurred half."""
        taps = self.get_buffer("taps").to(x.dtype).expand(self.channels, 1, -1)
        return functional.conv1d(functional.pad(x, (2, 2), mode="replicate"), taps, stride=2, groups=self.channels)


class Block(nn.Module):
    """Two convolutions with batch normalisation and a skip; the rate is halved first where it should be."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, halve: bool) -> None:
        super().__init__()
        self.blur = Blur(inputs) if halve else nn.Identity()
        self.body = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(outputs),
            nn.GELU(),
            nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(outputs),
        )
        self.skip = nn.Conv1d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, T or ceil(T / 2))."""
        x = self.blur(x)
        return functional.gelu(self.body(x) + self.skip(x))


class Spectrum(nn.Module):
    """Logarithms of the power in bands, frame after frame: (B, C, T) -> (B, C x `BANDS`, frames).

    Frames of `FRAME` steps under a Hann window, three quarters of each in the next; triangular bands, evenly spaced on
    a logarithmic scale from two cycles a frame to the Nyquist rate. Rhythms are told by it whatever their phase.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels * BANDS
        bins = torch.arange(FRAME // 2 + 1, dtype=torch.float32)
        edges = torch.logspace(1, math.log2(FRAME / 2), BANDS + 2, base=2)
        up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        bank = torch.minimum(up, down).clamp_min(0)
        # Low bands are narrower than a bin: they read the nearest one.
        nearest = (bins - edges[1:-1, None]).abs().argmin(1)
        bank[torch.arange(BANDS), nearest] += (bank.sum(1) == 0).float()
        self.register_buffer("bank", bank / bank.sum(1, keepdim=True), persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-powers.

        Raises:
            ValueError: windows shorter than a frame.
        """
        batch, channels, steps = x.shape
        if steps < FRAME:
            raise ValueError(f"encoder.front: spectrum needs windows of {FRAME} steps or more, not {steps}")
        with torch.autocast(x.device.type, enabled=False):
            frames = x.float().unfold(2, FRAME, FRAME // 4) * self.get_buffer("window")
            power = torch.fft.rfft(frames).abs().square() / FRAME  # (B, C, frames, bins)
            bands = torch.log(power @ self.get_buffer("bank").T + 1e-4)
        return bands.transpose(2, 3).reshape(batch, channels * BANDS, -1)


FRONTS: dict[str, type[Spectrum] | type[Scattering]] = {"spectrum": Spectrum, "scattering": Scattering}


class ConvNet1d(nn.Module):
    """Residual stages for signals: (B, C, T) -> (B, embedding_dim).

    Args:
        in_channels: C.
        widths: channels of the stages, as many as there are kernels.
        depth: blocks per stage.
        kernels: odd steps of the kernels of each stage.
        front: ``wave`` reads the samples themselves, ``spectrum`` the logarithms of their power in bands (`Spectrum`),
            ``scattering`` moduli of wavelets (`medssl.models.scattering1d.Scattering`).
        pool: see `medssl.models.pool.Pool`; to ``stages`` what ``spectrum`` or ``scattering`` gives is the first one.

    Source: own, from parts that are published: He et al. 2016 (residual), Zhang 2019 (blurred strides), kernels of tens
    of steps as in Ribeiro et al. 2020 for ECG, statistics pooling as in Snyder et al. 2018 (x-vectors).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int] | None = None,
        depth: int | None = None,
        kernels: Sequence[int] | None = None,
        front: str | None = None,
        pool: str | None = None,
    ) -> None:
        super().__init__()
        widths = WIDTHS if widths is None else widths
        made = FRONTS.get(front or "wave")
        kernels = (KERNELS if made is None else (5, 3, 3, 3)) if kernels is None else kernels
        if len(widths) != len(kernels) or any(k % 2 == 0 for k in kernels):
            raise ValueError(
                f"encoder.kernels {list(kernels)}: expected an odd number for each of widths {list(widths)}"
            )
        front_end = None if made is None else made(in_channels)
        self.front = nn.Identity() if front_end is None else front_end
        inputs = [in_channels if front_end is None else front_end.channels, *widths]
        self.body = nn.ModuleList(
            nn.Sequential(
                Block(inputs[k], width, kernel, halve=k > 0 and made is None),
                *(Block(width, width, kernel, halve=False) for _ in range((depth or 1) - 1)),
            )
            for k, (width, kernel) in enumerate(zip(widths, kernels, strict=True))
        )
        # Powers of bands say much as they are; samples of a wave say nothing.
        self.pool = Pool(pool, widths if made is None else inputs)
        self.embedding_dim = self.pool.dim

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages in order, by name; each is called once in a forward pass."""
        return {f"stage{k}": stage for k, stage in enumerate(self.body, 1)}

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        maps = [self.front(x)]
        for stage in self.body:
            maps.append(stage(maps[-1]))
        return self.pool(maps[1:] if isinstance(self.front, nn.Identity) else maps)
