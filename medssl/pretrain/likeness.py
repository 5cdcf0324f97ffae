"""How alike two patients are: kernels of one or several factors of their measures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.config import Anatomy, Factor
from medssl.objectives import descriptors, kernels

# Training samples that tell how wide a kernel is and whether its weights say anything.
SAMPLES = 512


class Likeness(nn.Module):
    """Weights in [0, 1] between rows of scaled measures, NaN = unknown; see `medssl.config.Anatomy`. It learns nothing.

    Args:
        options: kernels, shares and how they combine.
        shapes: of the columns of each factor, see `medssl.pretrain.data.Measures`.
        training: (n, K) scaled measures of training samples: widths that are not given are the median of their
            distances, and they are warned about if their weights are nearly uniform.

    Attributes:
        sigmas: width of each factor.
    """

    def __init__(self, options: Anatomy, shapes: tuple[tuple[int, ...], ...], training: Tensor) -> None:
        super().__init__()
        self.options, self.parts = options, (options, *options.factors)
        widths = [torch.Size(shape).numel() for shape in shapes]
        ends = torch.tensor(widths).cumsum(0).tolist()
        self.columns = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self.shapes = shapes
        some = training[:SAMPLES]
        self.sigmas = tuple(
            factor.sigma or median_width(factor, some[:, columns])
            for factor, columns in zip(self.parts, self.columns, strict=False)
        )
        descriptors.check_spread(self(some, some))

    def factor(self, index: int, a: Tensor, b: Tensor) -> Tensor:
        """Return the kernel (N, M) of one factor of rows a (N, K) and b (M, K), NaN = unknown."""
        part, sigma, columns = self.parts[index], self.sigmas[index], self.columns[index]
        x, y = a[:, columns], b[:, columns]
        if part.kernel in ("local", "global"):
            cosine = descriptors.local_cosine if part.kernel == "local" else descriptors.global_cosine
            x, y = (t.unflatten(1, self.shapes[index]) for t in (x, y))
            return cosine(x, y, mapping=part.mapping, missing=torch.nan)
        if part.kernel == "rbf":
            return kernels.rbf(x, y, sigma=sigma, at_least=part.at_least, missing=torch.nan)
        if part.kernel == "cauchy":
            return kernels.cauchy(x, y, gamma=1 / sigma**2, at_least=part.at_least, missing=torch.nan)
        if part.kernel == "equal":
            return kernels.equal(x[:, 0], y[:, 0], off=part.off, missing=torch.nan)
        if part.kernel == "hellinger":
            return kernels.hellinger(x, y, sharpness=1 / sigma, missing=torch.nan)
        if part.kernel == "jensen_shannon":
            return torch.exp(-kernels.jensen_shannon(x, y) / sigma)
        return torch.exp(-0.5 * (kernels.aitchison(x, y) / sigma).square())

    def weights_of(self, index: int, a: Tensor, b: Tensor) -> Tensor:
        """Return the weights (N, M) of one factor; what shares no measure is unlike."""
        return kernels.sparsify(torch.nan_to_num(self.factor(index, a, b)), self.options.minimum)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return weights (N, M) of rows a (N, K) and b (M, K); what shares no measure is unlike."""
        parts = [self.factor(k, a, b) for k in range(len(self.parts))]
        combine = kernels.product if self.options.combine == "product" else kernels.mix
        weights = combine(parts, [part.share for part in self.parts])
        return kernels.sparsify(weights, self.options.minimum)


def median_width(factor: Factor, training: Tensor) -> float:
    """Return the width of a factor that gives none: the median of what its kernel compares, and 1 where it has none."""
    if factor.kernel in ("rbf", "cauchy"):
        return kernels.median_sigma(training, at_least=factor.at_least)
    if factor.kernel not in ("jensen_shannon", "aitchison"):
        return 1.0
    table = getattr(kernels, factor.kernel)(training)
    upper = torch.triu_indices(len(table), len(table), 1)
    return float(table[upper[0], upper[1]].nanmedian().nan_to_num()) or 1.0
