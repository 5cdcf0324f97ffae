"""What the field measures in a recording, by modality: no encoder, no labels, no training.

A baseline that an encoder has to beat (`medssl.evaluate.baselines`), and something that pretraining may have it tell
(``pretrain.predict``). NaN = unknown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medssl.config import SIGNALS
from medssl.handcrafted import ecg, eeg, images, ppg, spectrum, stretches
from medssl.store import Store

Features = Callable[[np.ndarray], np.ndarray]  # positions in the sample table (rows,) -> (rows, d)
FITTED = ("eeg",)  # modalities in which features depend on the rows to fit on


def fit(store: Store, fit_on: np.ndarray, seed: int) -> Features:
    """Return the features of the store's field; for signals moments and band powers besides.

    ECG and PPG: the windows of a trial that follow each other share the features of the stretch that they make
    (`stretches`), because rhythm and median beat need several beats. EEG: the covariances' mean is of ``fit_on``.

    Args:
        store: of samples.
        fit_on: rows of training patients; what needs a mean of other samples takes it from them, once.
        seed: of the draw among them where they are many.
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
