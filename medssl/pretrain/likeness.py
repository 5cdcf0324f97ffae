"""How alike two patients are: kernels of one or several factors of their measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.config import Anatomy, Factor
from medssl.objectives import kernels


def measures(params: Anatomy) -> tuple[str, ...]:
    """Return the measures of all factors, in the order of the columns that `Likeness` reads."""
    return (*params.measures, *(m for factor in params.factors for m in factor.measures))


@dataclass(frozen=True)
class Likeness:
    """Weights in [0, 1] between rows of standardised measures, NaN = unknown; see `medssl.config.Anatomy`.

    Attributes:
        params: kernels, shares and how they combine.
        sigmas: width of each factor, in standard deviations.
    """

    params: Anatomy
    sigmas: tuple[float, ...]

    @classmethod
    def fit(cls, params: Anatomy, standardised: Tensor) -> Likeness:
        """Take the widths that are not given from the training rows (n, K), as the median distance between two."""
        sigmas = []
        for factor, columns in _columns(params):
            sigmas.append(factor.sigma or kernels.median_sigma(standardised[:, columns]))
        return cls(params, tuple(sigmas))

    def factors(self, a: Tensor, b: Tensor) -> list[tuple[float, Tensor]]:
        """Return share and kernel (N, M), NaN = unknown, of each factor of rows a (N, K) and b (M, K)."""
        parts = []
        for (factor, columns), sigma in zip(_columns(self.params), self.sigmas, strict=True):
            x, y = a[:, columns], b[:, columns]
            if factor.kernel == "rbf":
                kernel = kernels.rbf(x, y, sigma=sigma, missing=torch.nan)
            else:
                kernel = kernels.cauchy(x, y, gamma=1 / sigma**2, missing=torch.nan)
            parts.append((factor.share, kernel))
        return parts

    def alone(self, index: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the weights of one factor alone."""

        def weights(a: Tensor, b: Tensor) -> Tensor:
            return kernels.sparsify(torch.nan_to_num(self.factors(a, b)[index][1]), self.params.minimum)

        return weights

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return weights (N, M) of rows a (N, K) and b (M, K); what shares no measure is unlike."""
        shares, parts = zip(*self.factors(a, b), strict=True)
        combine = kernels.product if self.params.combine == "product" else kernels.mix
        return kernels.sparsify(combine(parts, shares), self.params.minimum)


def _columns(params: Anatomy) -> list[tuple[Factor, slice]]:
    out: list[tuple[Factor, slice]] = []
    start = 0
    for factor in (params, *params.factors):
        out.append((factor, slice(start, start + len(factor.measures))))
        start += len(factor.measures)
    return out
