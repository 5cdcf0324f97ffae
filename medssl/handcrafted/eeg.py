"""What is measured in an EEG: power per band and channel, asymmetry, and covariance between channels.

Letters: n windows, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from scipy import signal as dsp

from medssl.store import Store

BANDS_HZ = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 70)}
# Left and right of the same place; T3, T4, T5 and T6 are T7, T8, P7 and P8 by their older names.
PAIRS = (("Fp1", "Fp2"), ("F3", "F4"), ("F7", "F8"), ("C3", "C4"), ("T3", "T4"), ("T7", "T8"), ("P3", "P4"),
         ("T5", "T6"), ("P7", "P8"), ("O1", "O2"))  # fmt: skip
REFERENCE = 1000  # windows at most from which the mean covariance is taken


def features(samples: np.ndarray, rate_hz: float, channels: tuple[str, ...]) -> np.ndarray:
    """Return features (n, d) of windows (n, C, T), each of itself alone; ``d`` depends on rate and channels.

    Per channel: log power in each band up to the Nyquist frequency, absolute and as share of all, theta over alpha, the
    frequency of the alpha peak (Hz), and Hjorth's mobility and complexity (Hjorth 1970). Per pair of places left and
    right: log ratio in each band.
    """
    segment = min(samples.shape[2], round(2 * rate_hz))
    frequency, density = dsp.welch(samples, rate_hz, nperseg=segment, axis=2)
    bands = [(low, high) for low, high in BANDS_HZ.values() if low < rate_hz / 2]
    power = np.stack([density[..., (frequency >= low) & (frequency < high)].sum(axis=2) for low, high in bands], axis=2)
    absolute = np.log(power + 1e-12)
    relative = absolute - np.log(power.sum(axis=2, keepdims=True) + 1e-12)
    parts = [absolute, relative]
    if len(bands) > 2:
        alpha = (frequency >= 7) & (frequency <= 14)
        peak = frequency[alpha][density[..., alpha].argmax(axis=2)]
        parts += [absolute[..., 1:2] - absolute[..., 2:3], peak[..., None]]
    parts.append(hjorth(samples))
    at = {name.upper(): i for i, name in enumerate(channels)}
    for left, right in PAIRS:
        if {left.upper(), right.upper()} <= set(at):
            parts.append((absolute[:, at[right.upper()]] - absolute[:, at[left.upper()]])[:, None])
    return np.concatenate([part.reshape(len(samples), -1) for part in parts], axis=1)


def hjorth(samples: np.ndarray) -> np.ndarray:
    """Return mobility and complexity (n, C, 2): how fast a signal changes, and how much its change changes."""
    first = np.diff(samples, axis=2)
    spread = [np.maximum(x.std(axis=2), 1e-9) for x in (samples, first, np.diff(first, axis=2))]
    mobility = spread[1] / spread[0]
    return np.stack([mobility, spread[2] / spread[1] / mobility], axis=2)


def tangent(store: Store, fit_on: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of rows that gives covariances in tangent space, (rows, C (C + 1) / 2).

    The covariances (shrunk after Ledoit and Wolf 2004, as an average reference makes them singular) of training windows
    have a Riemannian mean; each window's is projected to the tangent space there. Source: Barachant et al. 2012.

    Args:
        store, seed: windows from which the mean is taken are drawn where there are more than `REFERENCE`.
        fit_on: rows of training patients.
    """
    if len(fit_on) > REFERENCE:
        fit_on = np.sort(np.random.default_rng([seed, 13]).choice(fit_on, REFERENCE, replace=False))
    covariance = Covariances("lwf")

    def covariances(rows: np.ndarray) -> np.ndarray:
        found = covariance.transform(store.read(rows).astype(np.float64))
        return found + 1e-9 * np.eye(found.shape[1])  # a flat window has no logarithm

    space = TangentSpace().fit(covariances(fit_on))
    return lambda rows: np.asarray(space.transform(covariances(rows)))
