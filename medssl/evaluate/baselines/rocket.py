"""MiniRocket: 84 fixed convolutions at many dilations, and how often each is above a quantile of training windows.

Source: Dempster et al. 2021, in sktime's multivariate form. The features of a record are the means over its windows:
how often something is above a level needs no joining.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medssl.store import Store

REFERENCE = 1000  # windows at most from which quantiles are taken: each kernel draws one
SHORTEST = 9  # steps of a kernel


def minirocket(store: Store, fit_on: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of rows that gives shares of steps above a quantile, float32 (rows, 9996), in [0, 1].

    The first use on a machine compiles for half a minute.

    Args:
        store: of signals, with any number of channels.
        fit_on: rows of training patients, from whose windows the quantiles are taken.
        seed: of the windows and the channels that each kernel draws.

    Raises:
        ValueError: windows shorter than `SHORTEST` steps.
    """
    from sktime.transformations.panel.rocket import MiniRocketMultivariate  # takes seconds

    steps = store.facts["shape"][1]
    if steps < SHORTEST:
        raise ValueError(f"windows of {steps} steps; MiniRocket needs {SHORTEST}. Raise ingest.window_s or rate_hz.")
    if len(fit_on) > REFERENCE:
        fit_on = np.sort(np.random.default_rng([seed, 17]).choice(fit_on, REFERENCE, replace=False))
    transform = MiniRocketMultivariate(random_state=seed).fit(store.read(fit_on))
    return lambda rows: transform.transform(store.read(rows)).to_numpy(dtype=np.float32)
