"""Random views of images (1, H, W) and volumes (1, D, H, W) with intensities in [0, 1], from MONAI.

Flips are off unless asked for: left and right are different organs. A view is a function of the sample and of a seed,
so that it does not depend on which worker, rank or restart draws it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandCoarseDropout,
    RandFlip,
    RandGaussianNoise,
    RandGibbsNoise,
    RandScaleIntensity,
    RandSpatialCrop,
    Resize,
)
from torch import Tensor


@contextmanager
def _untracked() -> Iterator[None]:
    """Have MONAI keep no history of transforms, which takes it half of its time and nobody reads."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _plain(out: Any) -> Tensor:
    """Return a float32 tensor without MONAI's metadata."""
    return torch.as_tensor(out, dtype=torch.float32).as_subclass(torch.Tensor)


def _appearance(size: Sequence[int]) -> list[Any]:
    """Return the operations on intensities: what another scanner, protocol or artefact would change."""
    hole = [max(1, n // 5) for n in size]
    return [
        # Uneven coils and cut-off frequencies are faults of MRI: rarer than the rest, which any scanner shows.
        RandBiasField(prob=0.2, degree=2, coeff_range=(-0.1, 0.1)),
        RandGibbsNoise(prob=0.2, alpha=(0.0, 0.5)),
        RandAdjustContrast(prob=0.5, gamma=(0.7, 1.4)),
        RandScaleIntensity(prob=0.5, factors=0.2),
        RandGaussianNoise(prob=0.7, std=0.08),
        RandCoarseDropout(prob=0.5, holes=2, spatial_size=hole, fill_value=0.0),
    ]


class View:
    """A random view; call with a sample and a seed.

    Args:
        size: (H, W) or (D, H, W).
        flip: also swap left and right, the last axis, with probability 0.5, where laterality does not matter.
    """

    def __init__(self, size: Sequence[int], *, flip: bool = False) -> None:
        dims = len(size)
        place: list[Any] = [
            # Rotation, shift and zoom, which crops at the border, in one interpolation. Little zoom: size is anatomy.
            RandAffine(
                prob=0.9,
                rotate_range=[math.radians(10)] * (1 if dims == 2 else 3),
                translate_range=[n / 16 for n in size],
                scale_range=[0.08] * dims,
                padding_mode="zeros",
                mode="bilinear",
            )
        ]
        if flip:
            place.append(RandFlip(prob=0.5, spatial_axis=dims - 1))
        self.transform = Compose([*place, *_appearance(size)])

    def __call__(self, sample: np.ndarray, seed: int) -> Tensor:
        """Return one view of ``sample`` as a plain float32 tensor of the same shape."""
        self.transform.set_random_state(seed=seed % 2**32)
        with _untracked():
            return _plain(self.transform(torch.tensor(sample)))  # a copy: some transforms write in place


class Crops:
    """Small crops for SwAV; call with a sample and a seed.

    Args:
        size: (H, W) or (D, H, W) of the sample.
        number: crops a sample.
        share: of the area or volume, least and most.
        scale: side of a crop's output to that of the sample.

    Source: multi-crop of Caron et al. 2020 with the shares of Wolf et al. 2024.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        number: int = 6,
        share: tuple[float, float] = (0.10, 0.33),
        scale: float = 96 / 224,
    ) -> None:
        least, most = (s ** (1 / len(size)) for s in share)
        self.number = number
        self.size = [max(8, round(n * scale)) for n in size]
        self.transform = Compose(
            [
                RandSpatialCrop(
                    roi_size=[max(4, round(n * least)) for n in size],
                    max_roi_size=[max(4, round(n * most)) for n in size],
                    random_size=True,
                ),
                Resize(self.size, mode="bilinear" if len(size) == 2 else "trilinear", align_corners=True),
                *_appearance(self.size),
            ]
        )

    def __call__(self, sample: np.ndarray, seed: int) -> Tensor:
        """Return (number, 1, ...) float32, each crop from the one random state of the seed."""
        self.transform.set_random_state(seed=seed % 2**32)
        with _untracked():
            # A copy each: some transforms write in place.
            return torch.stack([_plain(self.transform(torch.tensor(sample))) for _ in range(self.number)])
