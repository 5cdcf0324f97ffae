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

from medssl import handcrafted
from medssl.config import MODALITIES, SIGNALS
from medssl.evaluate.baselines import scattering
from medssl.evaluate.baselines.rocket import minirocket
from medssl.handcrafted import Features
from medssl.store import Store


@dataclass(frozen=True)
class Baseline:
    """Features without an encoder."""

    modalities: tuple[str, ...]  # whose stores have them
    fit: Callable[[Store, np.ndarray, int], Features]  # of a store, the rows to fit on, and a seed
    fitted: tuple[str, ...] = ()  # the modalities in which features depend on the rows to fit on


def wavelets(store: Store, fit_on: np.ndarray, seed: int) -> Features:
    """Return wavelet scattering of images, or of the central planes of volumes; nothing of it is fitted."""
    return lambda rows: scattering.features(store.read(rows))


BASELINES = {
    "handcrafted": Baseline(MODALITIES, handcrafted.fit, fitted=handcrafted.FITTED),
    "minirocket": Baseline(SIGNALS, minirocket, fitted=SIGNALS),
    "scattering": Baseline(tuple(m for m in MODALITIES if m not in SIGNALS), wavelets),
}
