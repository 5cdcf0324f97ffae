"""How alike two patients are: kernels of one or several factors of their measures."""

from __future__ import annotations

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

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return weights (N, M) of rows a (N, K) and b (M, K); what shares no measure is unlike."""
        parts = []
        for (factor, columns), sigma in zip(_columns(self.params), self.sigmas, strict=True):
            x, y = a[:, columns], b[:, columns]
            if factor.kernel == "rbf":
                parts.append(kernels.rbf(x, y, sigma=sigma, missing=torch.nan))
            else:
                parts.append(kernels.cauchy(x, y, gamma=1 / sigma**2, missing=torch.nan))
        shares = [factor.share for factor, _ in _columns(self.params)]
        combine = kernels.product if self.params.combine == "product" else kernels.mix
        return kernels.sparsify(combine(parts, shares), self.params.minimum)


def _columns(params: Anatomy) -> list[tuple[Factor, slice]]:
    out: list[tuple[Factor, slice]] = []
    start = 0
    for factor in (params, *params.factors):
        out.append((factor, slice(start, start + len(factor.measures))))
        start += len(factor.measures)
    return out
