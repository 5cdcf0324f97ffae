"""Whether what a search chose is better where nothing was chosen: in the inner folds that took no part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medssl.evaluate import compare
from medssl.evaluate.replicates import Replicates, completed
from medssl.tune import space
from medssl.tune.inner import FOLDS
from medssl.tune.search import Search


def confirm(search: Search, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Train the best and the run as it stands in the inner folds that chose nothing, and return the differences.

    Args:
        search: what was searched.
        values: of the best.

    Returns:
        For each label what `medssl.evaluate.compare.difference` says, with ``label`` and the values of both, ``own``
        and ``best``. None where the best is the run as it stands, or where every inner fold chose.
    """
    others = range(search.choosing, FOLDS)
    if not values or not others:
        return []
    sides = []
    for run in (search.run, space.applied(search.run, values)):
        table = completed(pd.concat([search.predictions(run, fold) for fold in others], ignore_index=True))
        sides.append({task: Replicates.of(rows) for task, rows in table.groupby("task", sort=False)})
    rows = []
    for task, one in sides[1].items():
        found = compare.difference(one, sides[0][task])
        assert found is not None, "the same patients are held out for both"
        both = (next(iter(r.measured(0, only_headline=True, trainings=False).values())) for r in (sides[0][task], one))
        rows.append({"label": task, **found, **dict(zip(("own", "best"), (m.mean for m in both), strict=True))})
    return rows
