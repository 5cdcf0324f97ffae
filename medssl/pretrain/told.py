"""Features of the field, as training samples vary in them: what ``pretrain.predict`` may have an encoder tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from medssl import features
from medssl.store import Store

CUT = 4.0  # deviations; one wild feature of one sample must not decide a batch
SEEN = 10_000  # training samples, at most, that mean and deviation are taken from
LEAST_KNOWN = 0.5  # of these samples; a feature known of fewer is left out


@dataclass(frozen=True, eq=False)
class Told:
    """Features of the samples of a store in deviations from the mean of the training samples.

    Attributes:
        values: (n, d) features of all rows of the store, in memory or on disk; NaN = unknown.
        columns: (K,) those that training samples have, and differ in.
        mean, deviation: (K,) of the training samples.
    """

    values: np.ndarray
    columns: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, store: Store, rows: np.ndarray, *, cache: Path | None = None, progress: bool = False) -> Self:
        """Compute the features of all samples, or find them again.

        Args:
            store: of the samples, in the scale that the encoder reads.
            rows: of the training samples; nothing is fitted on others.
            cache: folder of features (`medssl.features`), shared with the baseline; None computes in memory.
            progress: show a bar.

        Raises:
            ValueError: training samples have no feature in common in which they differ.
        """
        # pyriemann and scikit-image take a second to load, which other trainings need not wait for.
        from medssl import handcrafted

        compute = handcrafted.fit(store, rows, 0)
        # What depends on the rows of one fold is not worth keeping.
        kept = None if store.facts["modality"] in handcrafted.FITTED else cache
        values = features.of_samples("handcrafted", store, compute, cache=kept, progress=progress)
        some = np.sort(np.random.default_rng(0).permutation(rows)[:SEEN])
        seen = np.ma.masked_invalid(np.asarray(values[some], np.float64))
        mean, deviation = (part.filled(0) for part in (seen.mean(0), seen.std(0)))
        rounding = 1e-6 * np.maximum(np.abs(mean), 1e-6)
        columns = np.flatnonzero((deviation > rounding) & (seen.count(0) >= LEAST_KNOWN * len(some)))
        if not len(columns):
            raise ValueError(
                "pretrain.predict.name: handcrafted: no feature of the field was found in half of the training samples "
                "and differs between them; take latent"
            )
        return cls(values, columns, mean[columns], deviation[columns])

    def rows(self, rows: Tensor) -> Tensor:
        """Return the features (B, K) float32 of rows (B,) of the store, at most `CUT` from 0; NaN = unknown."""
        found = np.asarray(self.values[rows.numpy()][:, self.columns], np.float64)
        deviations = np.clip((found - self.mean) / self.deviation, -CUT, CUT)
        return torch.from_numpy(deviations.astype(np.float32))
