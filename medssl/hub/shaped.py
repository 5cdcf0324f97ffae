"""Recordings as other packages hold them: arrays, with what their objects say of axes, rate, names and units.

No package is imported here: who has such an object has imported its package. Letters: N recordings, C channels, T time
steps, I, J, K voxels along the axes of a file, D, H, W those towards superior, posterior, left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from medssl.sources import grid as grids
from medssl.sources.electrodes import channel_names, is_marker
from medssl.sources.fif import FIFF_UNIT_V, KINDS
from medssl.sources.record import AIR_HU, BadRecord

Told = dict[str, Any]  # arguments of `Encoder.embed`


def known(x: Any) -> bool:
    """Tell whether `opened` opens an object."""
    return _opener(x) is not None


def opened(x: Any, *, unit: str | None = None) -> tuple[Any, Told]:
    """Return the arrays in an object of mne, braindecode or torchio, and what it says of them; else ``x`` and nothing.

    Args:
        x: mne's ``Raw`` gives (C, T) and ``Epochs`` (N, C, T), in volts; a data set of braindecode, or several in one,
            (N, C, T); torchio's ``ScalarImage``, or a ``Subject`` with one of them, (D, H, W) and its spacing.
        unit: of an image, which has none of its own.

    Raises:
        BadRecord: such an object without what an encoder can take.
    """
    opener = _opener(x)
    return (x, {}) if opener is None else opener(x, unit)


def _opener(x: Any) -> Callable[[Any, str | None], tuple[np.ndarray, Told]] | None:
    mne, torchio = sys.modules.get("mne"), sys.modules.get("torchio")
    if mne and isinstance(x, mne.io.BaseRaw | mne.BaseEpochs):
        return _mne
    if mne and _sets(x):
        return _braindecode
    return _torchio if torchio and isinstance(x, torchio.Subject | torchio.Image) else None


def _mne(x: Any, _: str | None) -> tuple[np.ndarray, Told]:
    """Return the voltages of a recording, or of epochs; markers and magnetic fields are left out."""
    kinds, about = x.get_channel_types(), x.info["chs"]
    voltages = [int(c["unit"]) == FIFF_UNIT_V and not is_marker(c["ch_name"]) for c in about]
    picks = [i for i, (kind, voltage) in enumerate(zip(kinds, voltages, strict=True)) if voltage and kind in KINDS]
    if not picks:
        raise BadRecord("bad_unit", "the recording has no channel of EEG, EOG, ECG, EMG or another voltage")
    names = channel_names([x.ch_names[i] for i in picks])
    return x.get_data(picks), {"rate_hz": float(x.info["sfreq"]), "channels": names, "unit": "V"}


def _sets(x: Any) -> list[Any]:
    """Return the data sets in one of braindecode, each with the recording that its windows are of; often none."""
    parts = getattr(x, "datasets", [x])
    held = ("windows", "raw")
    return parts if parts and all(hasattr(p, "__getitem__") and any(hasattr(p, h) for h in held) for p in parts) else []


def _braindecode(x: Any, _: str | None) -> tuple[np.ndarray, Told]:
    """Return all windows, as they are handed to a network, in volts unless the caller says otherwise."""
    parts = _sets(x)
    infos = [getattr(part, "windows", None) or part.raw for part in parts]
    about = [(float(one.info["sfreq"]), tuple(channel_names(one.ch_names))) for one in infos]
    if len(set(about)) > 1:
        raise BadRecord("unsupported", "the data sets differ in rate or channels; embed them one by one")
    windows = [np.asarray(part[i][0], dtype=np.float32) for part in parts for i in range(len(part))]
    return np.stack(windows), {"rate_hz": about[0][0], "channels": list(about[0][1]), "unit": "V"}


def _torchio(x: Any, unit: str | None) -> tuple[np.ndarray, Told]:
    """Return an image on axes to superior, posterior, left, as the NIfTI reader gives it."""
    if isinstance(x, sys.modules["torchio"].Subject):
        images = x.get_images(intensity_only=True)
        if len(images) != 1:
            raise BadRecord(
                "unsupported", f"the subject has {len(images)} images of intensity; give one: subject['t1']"
            )
        x = images[0]
    values, affine = (
        np.asarray(x.data),
        np.asarray(x.affine, dtype=float),
    )  # (C, I, J, K); towards right, anterior, superior
    if len(values) != 1:
        raise BadRecord("unsupported", f"the image has {len(values)} channels or frames; give one of them")
    grid = grids.from_ras(affine)[:, [2, 1, 0, 3]]
    turned, _, spacing, _ = grids.upright(values[0].T, grid, fill=AIR_HU if unit == "HU" else None)
    return np.ascontiguousarray(turned, dtype=np.float32), {"spacing_mm": spacing}
