"""Linear models with a quadratic penalty: all strengths, labels and orders of labels from one factorisation.

Letters: n fitted units, d features, r the rank of the standardised features (at most n and d), m columns to predict
(labels, classes against the rest, orders of labels), L strengths. What is fitted lives in the r coordinates of the
singular vectors: ten thousand features of a hundred units cost what a hundred do. There ridge regression is a
division, and the curvature of the logistic loss is near enough to a diagonal for conjugate gradients to need few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit
from sklearn.preprocessing import StandardScaler

CUT = 6.0  # deviations; a feature that hardly varies among few units must not throw others far out
TOLERANCE = 1e-4  # no logit of a fitted unit moves by more in the last Newton step
NEWTON_STEPS, GRADIENT_STEPS, HALVINGS = 100, 200, 30  # limits; some 5, 10 and 0 are used
ACCURACY = 0.03  # of a Newton step, in the norm of its preconditioner
COLUMNS = 2**22  # values (units x columns) that are fitted at once: some 300 MB


def scaler_of(features: np.ndarray) -> StandardScaler:
    """Return mean and deviation of the known values of each feature (n, d); one that is never known has no mean."""
    with np.errstate(invalid="ignore"):
        return StandardScaler().fit(np.asarray(features, dtype=np.float64))


def standardised(scaler: StandardScaler, features: np.ndarray) -> np.ndarray:
    """Return features (n, d) in deviations from the mean of the fitted units, cut at `CUT`; 0 where unknown."""
    if not len(features):
        return np.zeros(features.shape)
    x = np.clip(scaler.transform(np.asarray(features, dtype=np.float64)), -CUT, CUT)
    return np.nan_to_num(x, copy=False, nan=0.0)


@dataclass(frozen=True)
class Basis:
    """Features standardised on the fitted units, in the basis of their singular vectors.

    Attributes:
        scaler: mean and deviation of each feature; a constant one stays 0.
        centre: (d,) mean of the standardised and cut features of the fitted units.
        directions: (d, r) orthonormal.
        coordinates: (n, r) of the fitted units; columns are orthogonal and have mean 0.
        squares: (r,) squared singular values, the sums of squares of those columns.
    """

    scaler: StandardScaler
    centre: np.ndarray
    directions: np.ndarray
    coordinates: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Fit on ``features`` (n, d), NaN where unknown, by the eigenvectors of the smaller of the two Gram matrices.

        Directions whose squared singular value is below 1e-12 of the largest are left out: the penalty keeps the
        model from using them.
        """
        scaler = scaler_of(features)
        x = standardised(scaler, features)
        centre = x.mean(0)
        x -= centre
        wide = x.shape[1] > len(x)
        squares, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        kept = squares > max(1e-12 * squares[-1], 1e-12)
        squares, vectors = squares[kept], vectors[:, kept]
        directions = x.T @ vectors / np.sqrt(squares) if wide else vectors
        return cls(scaler, centre, directions, x @ directions, squares)

    def of_others(self, features: np.ndarray) -> np.ndarray:
        """Return the coordinates (n', r) of other units; an unknown feature is the mean of the fitted ones."""
        return (standardised(self.scaler, features) - self.centre) @ self.directions


def predict(coordinates: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return values or logits (..., n', m) for coordinates (n', r) and weights (..., r + 1, m), the last the offset."""
    return coordinates @ weights[..., :-1, :] + weights[..., -1:, :]


def ridge(basis: Basis, targets: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Return weights (L, r + 1, m) of least squares with penalty alpha |w|^2 to ``targets`` (n, m), as `Ridge` does."""
    moments = basis.coordinates.T @ (targets - targets.mean(0))
    slopes = moments / (basis.squares[:, None] + np.asarray(alphas)[:, None, None])
    offsets = np.broadcast_to(targets.mean(0), (len(alphas), 1, targets.shape[1]))
    return np.concatenate([slopes, offsets], axis=1)


def logistic(basis: Basis, positive: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Return weights (L, r + 1, m) of logistic regressions, one a column and strength, both classes weighing the same.

    The minimum of C sum_i s_i log(1 + exp(-y_i z_i)) + |w|^2 / 2, where s_i is n / (2 n_c) for the n_c units of a class
    and the offset is free: `LogisticRegression(C, class_weight="balanced")`. Each strength begins where the next
    stronger regularisation ended.

    Args:
        basis: of the fitted units.
        positive: (n, m) bool, both values in each column.
        strengths: C, any order.

    Raises:
        ValueError: a column of one class, which has no finite offset.
    """
    count = positive.sum(0)
    if ((count == 0) | (count == len(positive))).any():
        raise ValueError("logistic: a column holds one class alone; predict that class instead")
    x = np.column_stack([basis.coordinates, np.ones(len(positive))])
    squares = np.append(basis.squares, len(x))[:, None]
    out = np.zeros((len(strengths), x.shape[1], positive.shape[1]))
    size = max(1, COLUMNS // len(x))
    for columns in (slice(i, i + size) for i in range(0, positive.shape[1], size)):
        y = positive[:, columns]
        share = np.where(y, 0.5 / y.mean(0), 0.5 / (1 - y.mean(0)))
        w = np.zeros((x.shape[1], y.shape[1]))
        for index in np.argsort(strengths):
            penalty = np.full((x.shape[1], 1), 1 / strengths[index])
            penalty[-1] = 0
            w = out[index][:, columns] = _newton(x, squares, y, share, penalty, w)
    return out


def _newton(
    x: np.ndarray, squares: np.ndarray, y: np.ndarray, share: np.ndarray, penalty: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return the minimum (r + 1, m) by Newton's method, each column until it stands still."""
    w, z, left = start.copy(), x @ start, np.arange(y.shape[1])

    def loss(z: np.ndarray, w: np.ndarray) -> np.ndarray:
        return (s * (np.logaddexp(0, z) - t * z)).sum(0) + (penalty * w * w).sum(0) / 2

    for _ in range(NEWTON_STEPS):
        s, t, at, before = share[:, left], y[:, left], z[:, left], w[:, left]
        p = expit(at)
        curvature = s * p * (1 - p)
        step = _solved(x, squares, curvature, penalty, x.T @ (s * (t - p)) - penalty * before)
        along, now = x @ step, loss(at, before)
        for _ in range(HALVINGS):  # far from the minimum a whole step may go too far
            worse = loss(at + along, before + step) > now * (1 + 1e-12)
            if not worse.any():
                break
            step, along = np.where(worse, step / 2, step), np.where(worse, along / 2, along)
        w[:, left], z[:, left] = before + step, at + along
        left = left[np.abs(along).max(0) > TOLERANCE]
        if not len(left):
            break
    return w


def _solved(
    x: np.ndarray, squares: np.ndarray, curvature: np.ndarray, penalty: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Return (x' diag(curvature) x + penalty)^-1 right for each column by preconditioned conjugate gradients.

    The preconditioner is that matrix with the mean curvature of all units, a diagonal, as columns of x are orthogonal.
    """
    tiny = np.finfo(float).tiny
    diagonal = penalty + squares * curvature.mean(0)
    out, residual = np.zeros_like(right), right.copy()
    towards = residual / diagonal
    size = (residual * towards).sum(0)
    enough = ACCURACY**2 * size
    for _ in range(GRADIENT_STEPS):
        moved = x.T @ (curvature * (x @ towards)) + penalty * towards
        length = size / np.maximum((towards * moved).sum(0), tiny)
        out += length * towards
        residual -= length * moved
        rest = residual / diagonal
        size, last = (residual * rest).sum(0), size
        if (size <= enough).all():
            break
        towards = rest + size / np.maximum(last, tiny) * towards
    return out
