"""Wavelet scattering of images as a baseline: log coefficients, averaged over the whole image."""

from __future__ import annotations

import numpy as np
import torch

from medssl.models.scattering import SCALES, scatter


def features(samples: np.ndarray) -> np.ndarray:
    """Return log coefficients (n, d) of images (n, 1, H, W), or of the three central planes of volumes (n, 1, D, H, W).

    Small images have fewer scales: the coarsest wavelet is as wide as a quarter of the shorter side.
    """
    volumes = samples[:, 0]
    planes = [volumes]
    if volumes.ndim == 4:
        planes = [volumes.take(volumes.shape[axis] // 2, axis=axis) for axis in (1, 2, 3)]
    parts = []
    for plane in planes:
        scales = int(np.clip(np.log2(min(plane.shape[1:])) - 2, 1, SCALES))
        found = [scatter(torch.from_numpy(plane[i : i + 16]).float(), scales=scales) for i in range(0, len(plane), 16)]
        parts.append(torch.log(torch.cat(found) + 1e-4).numpy())
    return np.concatenate(parts, axis=1)
