"""Random views of images (1, H, W) and volumes (1, D, H, W) with intensities in [0, 1], from MONAI.

There is no flip: left and right are different organs. A view is a function of the sample and of a seed, so that it
does not depend on which worker, rank or restart draws it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandCoarseDropout,
    RandGaussianNoise,
    RandScaleIntensity,
)


class View:
    """A random view; call with a sample and a seed.

    Args:
        size: (H, W) or (D, H, W).
    """

    def __init__(self, size: Sequence[int]) -> None:
        dims = len(size)
        hole = [max(1, n // 5) for n in size]
        self.transform = Compose(
            [
                RandAffine(
                    prob=0.9,
                    rotate_range=[math.radians(10)] * (1 if dims == 2 else 3),
                    translate_range=[n / 16 for n in size],
                    scale_range=[0.08] * dims,
                    padding_mode="zeros",
                    mode="bilinear",
                ),
                RandAdjustContrast(prob=0.5, gamma=(0.7, 1.4)),
                RandScaleIntensity(prob=0.5, factors=0.2),
                RandGaussianNoise(prob=0.7, std=0.08),
                RandCoarseDropout(prob=0.5, holes=2, spatial_size=hole, fill_value=0.0),
            ]
        )

    def __call__(self, sample: np.ndarray, seed: int) -> torch.Tensor:
        """Return one view of ``sample`` as a plain float32 tensor of the same shape."""
        self.transform.set_random_state(seed=seed % 2**32)
        out = self.transform(torch.from_numpy(sample))
        return torch.as_tensor(out, dtype=torch.float32).as_subclass(torch.Tensor)
