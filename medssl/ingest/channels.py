"""Which rows of a recording are the channels that a cohort asks for; limb leads that follow from two others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from medssl.sources.electrodes import clean_name
from medssl.sources.record import BadRecord, Signal

# Sites of the 10-20 system that the 10-10 system renamed (Nuwer et al. 1998, IFCN standards for digital EEG). Names of
# ECG leads differ in case alone; MLII is a lead of another place, not II.
RENAMED = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
# Leads that two limb leads determine, as factors of I and II. Einthoven: III = II - I. Goldberger: each augmented lead
# is one electrode against the mean of the two others: aVR = -(I + II)/2, aVL = (I - III)/2, aVF = (II + III)/2.
DERIVED = {"iii": (-1.0, 1.0), "avr": (-0.5, -0.5), "avl": (1.0, -0.5), "avf": (-0.5, 1.0)}


def pick_channels(signal: Signal, channels: tuple[str, ...], absent: str = "refuse") -> np.ndarray:
    """Return the rows of ``signal`` in the order of ``channels``, float32 (C, T); no copy if they have it already.

    Names are compared without case and as `clean_name` reads them, EEG sites by their old or new name too (T3 = T7,
    T4 = T8, T5 = P7, T6 = P8); an exact match wins. ``absent="derive"`` computes III, aVR, aVL and aVF from I and II
    where they are absent; the result is exact.

    Raises:
        BadRecord: ``missing_channel``: a channel is absent (it is never filled with zeros), or two different rows may
            be meant.
    """
    have, several = _places(signal.channels)
    names = [c if c in have else c.lower() if c.lower() in have else clean_name(c).lower() for c in channels]
    # Rows that are equal are one channel, written twice.
    unsure = {
        name
        for name in several.keys() & {*names, "i", "ii"}
        for row in several[name][1:]
        if not np.array_equal(signal.values[several[name][0]], signal.values[row], equal_nan=True)
    }
    limbs = absent == "derive" and {"i", "ii"} <= have.keys()
    known = have.keys() | (DERIVED.keys() if limbs else set())
    missing = [c for c, name in zip(channels, names, strict=True) if name not in known]
    derived = any(name not in have for name in names)
    asked = [*zip(channels, names, strict=True), *[("I", "i"), ("II", "ii")] * derived]
    if either := [c for c, name in asked if name in unsure]:
        raise BadRecord("missing_channel", f"channels {either}: two of the recording may be meant; rename one of them")
    if missing:
        raise BadRecord(
            "missing_channel",
            f"channels {missing} are absent; needed: {list(channels)} (the manifest's columns names those of the file)",
        )
    if not derived:
        rows = [have[name] for name in names]
        return signal.values if rows == list(range(len(signal.values))) else signal.values[rows]

    def lead(name: str) -> np.ndarray:
        if name in have:
            return signal.values[have[name]]
        one, two = map(np.float32, DERIVED[name])
        return one * signal.values[have["i"]] + two * signal.values[have["ii"]]

    return np.stack([lead(name) for name in names])


@lru_cache(maxsize=256)
def _places(channels: tuple[str, ...]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return the row of each name: as it is, in lower case, as `clean_name` reads it, by the other name of its site.

    The closest kind of name wins. Names that several rows have at that closeness are in the second result.
    """
    places: dict[str, list[int]] = {}
    for spell in (str, str.lower, lambda name: clean_name(name).lower()):
        found: dict[str, list[int]] = {}
        for i, name in enumerate(channels):
            found.setdefault(spell(name), []).append(i)
        places = found | places
    for old, new in RENAMED.items():
        for name, other in ((old, new), (new, old)):
            if other in places:
                places.setdefault(name, places[other])
    have = {name: rows[0] for name, rows in places.items()}
    return have, {name: rows for name, rows in places.items() if len(rows) > 1}
