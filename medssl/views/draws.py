"""Random numbers by counting: each sample has its own, wherever and with whomever it is drawn.

A generator hands out numbers in the order they are asked for, so a sample's view changes with its place in the batch,
with the number of ranks and with a restart. Here a number is a hash of (seed, stream, the sample's draw number, which
call it is, which element it is). Nothing is remembered but the number of calls.

The hash is the output function of splitmix64, and each call of each sample counts with its own odd step, as in
SplittableRandom. Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with the
constants of Stafford's variant 13. Bits are the same on every device; floats differ by rounding between devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Arbitrary odd numbers that keep apart what is hashed for different purposes.
FORK, STEP = 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7


def _signed(value: int) -> int:
    """Return ``value`` modulo 2^64 as the int64 with the same bits, which is all torch multiplies fast."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _mix_int(value: int) -> int:
    """Return the hash of a Python integer, in [0, 2^64)."""
    value %= 2**64
    value = (value ^ (value >> 30)) * FIRST % 2**64
    value = (value ^ (value >> 27)) * SECOND % 2**64
    return value ^ (value >> 31)


def _mix(x: Tensor) -> Tensor:
    """Hash int64 ``x`` in place. Shifts of int64 drag the sign along, hence the masks."""
    x ^= (x >> 30).bitwise_and_(2**34 - 1)
    x *= _signed(FIRST)
    x ^= (x >> 27).bitwise_and_(2**37 - 1)
    x *= _signed(SECOND)
    x ^= (x >> 31).bitwise_and_(2**33 - 1)
    return x


class Draws:
    """Random numbers for a batch; row b depends on (seed, stream, draw[b], calls made before) and on nothing else.

    Args:
        draw: (B,) int64, unique in a run; results are on its device.
        seed: of the run.
        stream: keeps uses of the same draw numbers apart.

    Raises:
        ValueError: ``draw`` is not one row of int64.
    """

    def __init__(self, draw: Tensor, *, seed: int, stream: int = 0) -> None:
        if draw.dtype != torch.int64 or draw.ndim != 1:
            raise ValueError(f"draw is {draw.dtype} of shape {tuple(draw.shape)}; expected int64 of shape (B,)")
        base = _mix_int(_mix_int(seed + GOLDEN) + _mix_int(stream * FORK + STEP))
        self._key = _mix(draw * _signed(GOLDEN) + _signed(base))
        self._calls = 0

    def __len__(self) -> int:
        return len(self._key)

    @property
    def device(self) -> torch.device:
        """The device of everything returned."""
        return self._key.device

    def fork(self, stream: int) -> Draws:
        """Return an independent stream; it does not depend on the calls made here, so equal numbers fork equally."""
        child = object.__new__(Draws)
        child._key = _mix(self._key ^ _signed(_mix_int(stream * FORK + GOLDEN)))
        child._calls = 0
        return child

    def _numbers(self, count: int, finish: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``finish`` of (B, count) int64, all 64 bits random. This is the call that is counted.

        On a CPU the rows go block by block, each small enough for the cache and for torch not to wake other threads.
        """
        self._calls += 1
        start = _mix(self._key + _signed(self._calls * GOLDEN))[:, None]
        step = _mix(start ^ _signed(STEP)) | 1
        index = torch.arange(count, device=self.device)
        rows = max(1, 2**14 // max(1, count)) if self.device.type == "cpu" else max(1, len(self))
        blocks = zip(start.split(rows), step.split(rows), strict=True)
        return torch.cat([finish(_mix(torch.addcmul(first, index, by))) for first, by in blocks])

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return (B, *shape) float32 in [low, high), on a grid of 2^-24 of the range."""
        count = math.prod(shape)
        # The sum of low and range may round up to the excluded end.
        below = float(np.nextafter(np.float32(high), np.float32(low)))

        def finish(bits: Tensor) -> Tensor:
            unit = (bits.view(torch.int32)[:, :count] & (2**24 - 1)).float().mul_(2.0**-24)
            return unit if (low, high) == (0.0, 1.0) else unit.mul_(high - low).add_(low).clamp_(max=below)

        return self._numbers((count + 1) // 2, finish).view(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32, standard normal up to 6.5 in size (Box and Muller 1958)."""
        count = math.prod(shape)
        # One hash holds two halves and makes two normal numbers. Logarithm and cosine wake all threads however small
        # the block, so they come once, at the end.
        bits = self._numbers((count + 1) // 2, lambda bits: bits)
        first, second = bits.view(torch.int32).tensor_split(2, dim=1)
        radius = (first & (2**31 - 1)).float().add_(1).mul_(2.0**-31).log_().mul_(-2).sqrt_()
        angle = second.float().mul_(math.pi / 2**31)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count].reshape(len(self), *shape)

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Return (B, *shape) int64 in [0, high); ``high`` is positive, below 2^40, broadcastable to the result."""
        if isinstance(high, int) and high < 1:
            raise ValueError(f"integers below {high}: there are none")
        bits = self._numbers(math.prod(shape), lambda bits: bits.bitwise_and_(2**63 - 1))
        return bits.view(len(self), *shape) % high

    def permutation(self, n: int, *shape: int) -> Tensor:
        """Return (B, *shape, n) int64, each row a random order of 0 ... n - 1."""
        bits = self._numbers(math.prod(shape) * n, lambda bits: bits)
        return bits.view(len(self), *shape, n).argsort(dim=-1, stable=True)
