"""Baselines that an encoder has to beat: features of the field, random convolutions, wavelets. No labels, no training.

``BASELINES["handcrafted"].fit(store, fit_on, seed)`` gives a function of rows, as `medssl.evaluate.tasks.pooled` takes
it: ``pooled(tasks, store.blocks(), features)``. What needs a mean or a quantile of other samples takes it from
``fit_on``, rows of training patients, once, and never from the rows asked for. NaN = unknown: whoever fits a model
replaces it by the mean of the units fitted on.

What a person says at the desk is in `demographics`, a label among the features is found by `giveaway`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medssl.config import MODALITIES, SIGNALS
from medssl.evaluate.baselines import ecg, eeg, images, ppg, scattering, spectrum, stretches
from medssl.evaluate.baselines.rocket import minirocket
from medssl.store import Store

Features = Callable[[np.ndarray], np.ndarray]  # positions in the sample table (rows,) -> (rows, d)


@dataclass(frozen=True)
class Baseline:
    """Features without an encoder."""

    modalities: tuple[str, ...]  # whose stores have them
    fit: Callable[[Store, np.ndarray, int], Features]  # of a store, the rows to fit on, and a seed
    fitted: tuple[str, ...] = ()  # the modalities in which features depend on the rows to fit on


def handcrafted(store: Store, fit_on: np.ndarray, seed: int) -> Features:
    """Return the features of the store's field; for signals moments and band powers besides.

    ECG and PPG: the windows of a trial that follow each other share the features of the stretch that they make
    (`stretches`), because rhythm and median beat need several beats. EEG: the covariances' mean is of ``fit_on``.
    """
    modality, params = store.facts["modality"], store.facts["params"]
    parts: list[Features] = []
    if modality in SIGNALS:
        channels = tuple(params["channels"])
        parts.append(lambda rows: spectrum.features(store.read(rows)))
    if modality == "ecg":
        cut = params.get("cut", "windows")
        parts.append(stretches.shared(store, lambda x, rate_hz: ecg.features(x, rate_hz, channels, cut=cut)))
    elif modality == "ppg":
        parts.append(stretches.shared(store, ppg.features))
    elif modality == "eeg":
        parts.append(lambda rows: eeg.features(store.read(rows), params["rate_hz"], channels))
        parts.append(eeg.tangent(store, fit_on, seed))
    else:
        parts.append(lambda rows: images.features(store.read(rows), params["spacing_mm"]))
    return lambda rows: np.concatenate([part(rows) for part in parts], axis=1)


def wavelets(store: Store, fit_on: np.ndarray, seed: int) -> Features:
    """Return wavelet scattering of images, or of the central planes of volumes; nothing of it is fitted."""
    return lambda rows: scattering.features(store.read(rows))


BASELINES = {
    "handcrafted": Baseline(MODALITIES, handcrafted, fitted=("eeg",)),
    "minirocket": Baseline(SIGNALS, minirocket, fitted=SIGNALS),
    "scattering": Baseline(tuple(m for m in MODALITIES if m not in SIGNALS), wavelets),
}
