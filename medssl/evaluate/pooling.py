"""Features of a unit from those of its samples, beside their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medssl.evaluate.tasks import Task, pooled


def mean_deviation(
    tasks: Sequence[Task], blocks: Iterable[np.ndarray], features: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """Return, for each task, mean and then standard deviation (n, 2 d) of the features of each unit's samples.

    How much a patient's windows differ may say what their mean does not, such as an irregular rhythm. A unit of one
    sample has the deviation 0. Arguments are those of `pooled`, and of a block no more is held than there, twice.
    """

    def moments(block: np.ndarray) -> np.ndarray:
        values = np.asarray(features(block), dtype=np.float64)
        return np.concatenate([values, np.square(values)], axis=1)

    out = []
    for both in pooled(tasks, blocks, moments):
        mean, square = np.split(both, 2, axis=1)
        out.append(np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))], axis=1))
    return out
