"""What the limits on quality cost: how much each refuses, and how much it would at other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medssl.config import SignalIngest, VolumeIngest

REASONS = {"blank": "mostly_blank"}  # of a reject row, where it is not the limit's own name
AT = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)  # values of a limit whose costs are told


@dataclass(frozen=True)
class Cost:
    """A limit, its ``value`` (None: off), how many samples it ``refused``, and the share it would at each of `AT`.

    None where that is not known: beyond a limit nothing was kept whose measure could be asked.
    """

    limit: str
    value: float | None
    refused: int
    shares: dict[str, float | None]


def of_measures(measures: Mapping[str, np.ndarray]) -> list[Cost]:
    """Return the costs from the measures of all samples, by name, none refused yet; NaN is never refused."""
    return [_cost(name, values, None, 0, len(values)) for name, values in measures.items() if np.isfinite(values).any()]


def of_store(table: pd.DataFrame, rejects: pd.DataFrame, params: SignalIngest | VolumeIngest) -> list[Cost]:
    """Return the costs from what a store kept and refused.

    A refused sample counts for the reason it was refused for alone, as its other measures were not kept.
    """
    refused = rejects.loc[rejects["stage"] == "ingest", "reason"].value_counts()
    limits = {name.removeprefix("max_"): value for name, value in params if name.startswith("max_")}
    kept = {name: table[f"quality_{name}"].to_numpy(dtype=float) for name in limits if f"quality_{name}" in table}
    counts = {name: int(refused.get(REASONS.get(name, name), 0)) for name in kept}
    total = len(table) + sum(counts.values())
    return [
        _cost(name, values, limits[name], counts[name], total)
        for name, values in kept.items()
        if np.isfinite(values).any()
    ]


def _cost(name: str, values: np.ndarray, limit: float | None, refused: int, total: int) -> Cost:
    """Return the cost of a limit from the measures of what was kept, and how many of all were refused for it."""
    unknown = [at for at in AT if refused and limit is not None and at > limit]
    shares = {f"{at:g}": None if at in unknown else (refused + int((values > at).sum())) / total for at in AT}
    return Cost(f"max_{name}", limit, refused, shares)
