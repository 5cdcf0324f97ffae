"""Images of an encoder from the images of a store that was cut otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from medssl.config import VolumeIngest
from medssl.hub.windows import Made
from medssl.ingest import volumes
from medssl.sources.record import BadRecord, Volume
from medssl.store import Store

AT_ONCE = 16  # stored images that are read together
TOLERANCE = 1.01  # of a field of view, for sizes in whole pixels


def lost(want: VolumeIngest, have: VolumeIngest) -> list[str]:
    """Return what the images of a store cut as ``have`` lack of those cut as ``want``, a sentence each.

    Raises:
        BadRecord: slices, of which no volume can be made.
    """
    if have.samples == "slices" and want.samples != "slices":
        raise BadRecord("unsupported", f"holds slices, of which no {want.samples} for the encoder can be made")
    said = []
    if have.samples == "patches" and want.samples == "volume":
        said.append("samples of the store are patches, the encoder's are whole volumes")
    if have.crop and not want.crop:
        said.append("the store is cut to the body, the encoder's samples are not")
    if want.spacing_mm and not have.spacing_mm:
        said.append(f"the store says no spacing and is resized, the encoder's samples have {_by(want.spacing_mm)} mm")
    elif want.spacing_mm and have.spacing_mm and want.samples != "patches":
        axes = len(want.size)
        asked = np.multiply(want.size, want.spacing_mm)
        shown = np.multiply(have.size, have.spacing_mm)[-axes:]
        if (asked > TOLERANCE * shown).any():
            said.append(f"the store shows {_by(shown)} mm of the body, the encoder's samples {_by(asked)} mm")
    if _scale(have) != _scale(want):
        if not _recovered(want, have):
            said.append(f"intensities of the store are {_told(have)} and stay so, the encoder's are {_told(want)}")
        elif want.hu_window is None or not _within(want.hu_window, have.hu_window):
            said.append(f"the store holds {_told(have)}, the encoder's samples {_told(want)}")
    return said


def _within(one: tuple[float, float], other: tuple[float, float] | None) -> bool:
    return other is not None and other[0] <= one[0] and one[1] <= other[1]


def _by(numbers: Any) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _scale(params: VolumeIngest) -> tuple[Any, ...]:
    return params.hu_window, params.normalise, params.unit


def _told(params: VolumeIngest) -> str:
    """Return the scale of intensities in words."""
    low, high = params.hu_window or (1, 99.5)
    between = f"{low:g} to {high:g} {params.unit}" if params.hu_window else "between percentiles 1 and 99.5 of a volume"
    return between + (", then by the z-score of the body" if params.normalise == "zscore" else "")


def _recovered(want: VolumeIngest, have: VolumeIngest) -> bool:
    """Tell whether intensities can be had back in the encoder's unit: from a fixed window, and nothing after it."""
    return have.hu_window is not None and have.normalise == "range" and have.unit == want.unit


def of(want: VolumeIngest, have: VolumeIngest, store: Store, rows: np.ndarray, batch_size: int) -> Iterator[Made]:
    """Yield images cut as ``want`` of the given rows of a store cut as ``have``, about a batch at a time.

    Constant ones, such as slices outside the body, are left out.
    """
    how = {name: value for name, value in want if name != "truncated" and not name.startswith("max_")}
    low, high = have.hu_window if _recovered(want, have) and have.hu_window else (0.0, 1.0)
    if not _recovered(want, have):  # or the same already: as they are, in [0, 1] and without a unit
        how |= {"hu_window": (0.0, 1.0), "normalise": "range", "unit": "1"}
    if have.crop:
        how["crop"] = None
    if have.spacing_mm is None:
        how["spacing_mm"] = None
    spacing = have.spacing_mm or (np.nan,) * len(have.size)
    full: Any = (np.nan, *spacing)[-3:]
    samples: list[np.ndarray] = []
    owner: list[int] = []
    for block in np.split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
        for row, image in zip(block, store.read(block), strict=True):
            values = image.reshape(-1, *have.size[-2:]) * np.float32(high - low) + np.float32(low)
            try:
                made = volumes.located(Volume(values, full, how["unit"]), **how)[0]
            except BadRecord:  # constant
                continue
            seen = [part for part in made if part.max() > part.min()]
            samples += seen
            owner += [int(row)] * len(seen)
        if len(samples) >= batch_size:
            yield _as_made(samples, owner)
            samples, owner = [], []
    if samples:
        yield _as_made(samples, owner)


def _as_made(samples: list[np.ndarray], owner: list[int]) -> Made:
    return Made(np.stack(samples), np.arange(len(owner)), np.array(owner), np.ones(len(owner)))
