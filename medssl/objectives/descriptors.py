"""Anatomy descriptors (AnatCL): how alike two subjects are, region by region or measure by measure.

A descriptor is a table of measures (thickness, volume, area, mean HU) of named regions (parcels, organs). Local
similarity compares the measures of one region, global the regions of one measure. Raw measures are positive, so that
all their cosines lie close to 1 and the weights say nothing (`check_spread`); standardise first, by `Standardiser`:

    standard = Standardiser.fit(training_values, training_icv, corrected=[1, 2])
    z = torch.from_numpy(standard.apply(values, icv))
    w = kernels.rbf(z, sigma=kernels.median_sigma(z))     # or local_cosine(z, mapping="shifted")

`kernels.rbf` takes descriptors as they are and is the default: bounded, positive definite, and an average subject,
whose standardised vector is short and points anywhere, does not disturb it.

Source: Barbano et al. 2024, who compare by cosines; scaling is what their text leaves open.

Letters: N rows, M columns (subjects), R regions, Q measures.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medssl.objectives.kernels import finish, wide
from medssl.objectives.rows import without_autocast

Mapping = Literal["raw", "shifted", "clipped"]

# Cells of a block of groups held at once.
CELLS = 2**20


def _mean_cosine(a: Tensor, b: Tensor | None, mapping: Mapping, eps: float, missing: float, like: Tensor) -> Tensor:
    """Return the mean over groups of cosines of (G, N, L) with (G, M, L) vectors, over the entries both have."""
    x = wide(a)
    y = x if b is None else wide(b)
    total = x.new_zeros(x.shape[1], y.shape[1])
    groups = torch.zeros_like(total)
    step = max(1, CELLS // max(1, total.numel()))
    for rows, columns in zip(x.split(step), y.split(step), strict=True):
        known = rows.isfinite(), columns.isfinite()
        rows, columns = torch.where(known[0], rows, 0), torch.where(known[1], columns, 0)
        has_rows, has_columns = (k.to(rows.dtype) for k in known)
        shared = has_rows @ has_columns.mT > 0
        norms = (rows.square() @ has_columns.mT) * (has_rows @ columns.square().mT)
        total += (rows @ columns.mT / (norms.sqrt() + eps)).sum(0)
        groups += shared.sum(0)
    mean = torch.where(groups > 0, total / groups.clamp_min(1), torch.nan).clamp(-1, 1)
    if b is None:
        mean = (mean + mean.T) / 2
    if mapping == "shifted":
        mean = (mean + 1) / 2
    elif mapping == "clipped":
        mean = mean.clamp_min(0)
    elif mapping != "raw":
        raise ValueError(f"mapping is {mapping!r}; expected raw, shifted or clipped")
    return finish(mean, like, same=b is None, missing=missing)


@without_autocast
def local_cosine(
    a: Tensor, b: Tensor | None = None, *, mapping: Mapping = "raw", eps: float = 1e-8, missing: float = 0.0
) -> Tensor:
    """Return the mean over regions of the cosine between the measures of a region (N, M).

    Args:
        a: (N, R, Q) descriptors, NaN = unknown: left out of the cosines, norms and means of that pair only.
        b: (M, R, Q); None: ``a``, with 1 on the diagonal.
        mapping: "raw" cosines in [-1, 1], which the weighted losses take only if none is negative; "shifted"
            ``(cos + 1) / 2``; "clipped" ``max(cos, 0)``.
        eps: added to the product of the two norms. The default only keeps a zero vector from dividing by zero (cosine
            0); a larger one, in squared units of the measures, damps short vectors, whose direction is noise.
        missing: what a pair without a shared measure gets, after the mapping; NaN for `kernels.product` and
            `kernels.mix`.

    Raises:
        ValueError: another mapping.

    Source: Barbano et al. 2024. Their mean is over all regions; here over those with a measure in common.
    """
    return _mean_cosine(a.transpose(0, 1), None if b is None else b.transpose(0, 1), mapping, eps, missing, a)


@without_autocast
def global_cosine(
    a: Tensor, b: Tensor | None = None, *, mapping: Mapping = "raw", eps: float = 1e-8, missing: float = 0.0
) -> Tensor:
    """Return the mean over measures of the cosine between all regions of a measure (N, M), as in `local_cosine`."""
    return _mean_cosine(a.permute(2, 0, 1), None if b is None else b.permute(2, 0, 1), mapping, eps, missing, a)


def minmax_per_subject(a: Tensor) -> Tensor:
    """Return every measure of every subject scaled to [0, 1] over its known regions; NaN where they are all equal.

    For parity with re-implementations of AnatCL: the cosines stay close to 1.

    Args:
        a: (N, R, Q) descriptors, NaN = unknown.
    """
    known = a.isfinite()
    low = torch.where(known, a, torch.inf).amin(1, keepdim=True)
    high = torch.where(known, a, -torch.inf).amax(1, keepdim=True)
    return torch.where(known, (a - low) / (high - low), torch.nan)


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return means over subjects of what is known; NaN where nothing is."""
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Mean and spread of every measure of every region over training subjects, corrected for head size if asked.

    All state is in the four float64 arrays, each of the shape of one subject: ``vars(standard)`` goes into a checkpoint
    and ``Standardiser(**state)`` comes back.

    Attributes:
        mean: in the unit of the measure.
        std: population standard deviation, of the residual where corrected; NaN where training subjects do not differ.
        slope: of the measure on intracranial volume; 0 where not corrected.
        icv_mean: intracranial volume about which it was corrected; 0 where not corrected.
    """

    mean: np.ndarray
    std: np.ndarray
    slope: np.ndarray
    icv_mean: np.ndarray

    @classmethod
    def fit(cls, values: Any, icv: Any = None, *, corrected: Sequence[int] = ()) -> Standardiser:
        """Fit on training subjects, and on no others: one may not learn the scale of test subjects.

        Args:
            values: (N, R, Q) or (N, Q) measures, anything numpy reads; NaN = unknown.
            icv: (N,) intracranial volume in any unit, the same at `apply`; NaN = unknown, which leaves the subject out
                of the corrected measures.
            corrected: numbers on the last axis of the measures that grow with the head (volumes, areas; thickness does
                not) and are replaced by what is left of them after a linear fit on ``icv``.

        Raises:
            ValueError: fewer than 2 subjects; measures to correct without ``icv``; another length of ``icv``.
        """
        values = _finite(values)
        if len(values) < 2:
            raise ValueError(f"{len(values)} training subjects; a spread needs 2 or more")
        known = ~np.isnan(values)
        touched = np.zeros(values.shape[1:], dtype=bool)
        head = np.zeros_like(values)
        if len(corrected):
            touched[..., list(corrected)] = True
            head = np.where(touched, _column(icv, values), 0.0)
            known &= ~np.isnan(head)
        mean, icv_mean = _mean(values, known), _mean(head, known)
        deviation, head_deviation = values - mean, head - icv_mean
        variance = _mean(head_deviation**2, known)
        slope = np.zeros_like(mean)
        fitted = touched & (variance > 0)
        slope[fitted] = _mean(deviation * head_deviation, known)[fitted] / variance[fitted]
        residual = deviation - slope * head_deviation
        std = np.sqrt(_mean(residual**2, known))
        # What rounding leaves of a constant, relative to its size, so that units do not matter.
        rounding = 1e-12 * np.sqrt(_mean(values**2, known))
        return cls(mean, np.where(std > rounding, std, np.nan), slope, np.where(touched, icv_mean, 0.0))

    def apply(self, values: Any, icv: Any = None) -> np.ndarray:
        """Return standardised measures, float64, of the shape of ``values``.

        NaN where a value, or the head size of a corrected one, is unknown, or where training subjects did not differ:
        such a measure has no scale, and comparing raw numbers would depend on their unit.

        Raises:
            ValueError: another number of regions or measures than fitted; no ``icv`` although measures are corrected.
        """
        values = _finite(values)
        if values.shape[1:] != self.mean.shape:
            raise ValueError(f"measures of shape {values.shape[1:]} a subject; fitted on {self.mean.shape}")
        if self.slope.any():
            # Not 0 times an unknown head size, which would be unknown too.
            values = values - np.where(self.slope != 0, self.slope * (_column(icv, values) - self.icv_mean), 0.0)
        return (values - self.mean) / self.std


def _finite(values: Any) -> np.ndarray:
    """Return a float64 copy with NaN for what is not finite."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def _column(icv: Any, values: np.ndarray) -> np.ndarray:
    """Return intracranial volumes (N, 1, ...) that broadcast over measures; NaN = unknown."""
    if icv is None:
        raise ValueError("measures are corrected for intracranial volume; give icv")
    icv = _finite(icv)
    if icv.shape != values.shape[:1]:
        raise ValueError(f"icv of shape {icv.shape} for {len(values)} subjects")
    return icv.reshape(-1, *[1] * (values.ndim - 1))


def check_spread(w: Tensor) -> None:
    """Warn if weights say nothing: every weight between two items exceeds 0.98, next to the uniform limit 1.

    Cosines of raw measures lie at 0.99 and more, of standardised ones well below. It waits for the device.

    Args:
        w: (N, N) weights; the diagonal is ignored, NaN counts as low.

    Warns:
        UserWarning: weights nearly uniform.
    """
    other = ~torch.eye(len(w), dtype=torch.bool, device=w.device)
    weights = w[other]
    if len(weights) and bool((weights > 0.98).all()):
        warnings.warn(
            f"weights nearly uniform: {float(weights.min()):.6f} to {float(weights.max()):.6f} between different "
            "items, so that everything attracts everything alike. Standardise the measures over the training "
            "subjects, or narrow the kernel.",
            UserWarning,
            stacklevel=2,
        )


def neighbours(volume: Tensor, position: Tensor, *, within: float, rows: slice = slice(None)) -> Tensor:
    """Return which slices are neighbours in one volume (r, N), True also for a slice and itself.

    Neighbouring slices are near-copies. They may be positives (``torch.where(neighbours, 1, w)``) or no candidates at
    all, but never negatives.

    Args:
        volume: (N,) integer codes of volumes, unique over the data set; -1 = unknown, a neighbour of nothing.
        position: (N,) along the scan axis, in any unit; NaN = unknown, a neighbour of nothing.
        within: largest distance of neighbours, inclusive, in the same unit.
        rows: block of rows wanted.
    """
    same = (volume[rows, None] == volume) & (volume != -1)
    position = wide(position)
    return same & ((position[rows, None] - position).abs() <= within)
