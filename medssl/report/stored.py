"""What a run left behind, whichever of its files there are."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

VERDICTS = ("failed", "warning", "unknown", "ok")  # of a check, the worst first


@dataclass(frozen=True)
class Stored:
    """Results of a run: cross-fitted ones where it has them, else those of its fixed split."""

    folder: Path
    crossfitted: bool
    metrics: dict[str, Any]  # metrics.json
    fixed: dict[str, Any] | None  # metrics.json of the fixed split, where the run is cross-fitted as well
    trust: list[dict[str, str]]  # check, verdict, detail; the worst first
    subgroups: pd.DataFrame | None
    differences: pd.DataFrame | None
    predictions: Path | None  # predictions.parquet; read when it is drawn, for it is large

    @property
    def split(self) -> str:
        """How patients were held out, in words."""
        return "cross-fitted" if self.crossfitted else "fixed split"


def read(folder: Path) -> Stored:
    """Read a folder such as ``data/runs/<name>``; ``crossfit`` in it holds the same files of all folds together.

    Raises:
        ValueError: no ``metrics.json``, or a verdict of ``trust.json`` that nobody knows.
    """
    crossfitted = (folder / "crossfit" / "metrics.json").is_file()
    fixed = json.loads((folder / "metrics.json").read_text()) if (folder / "metrics.json").is_file() else None
    place = folder / "crossfit" if crossfitted else folder
    if not crossfitted and fixed is None:
        raise ValueError(f"{folder}: no metrics.json; expected an evaluated run such as data/runs/<name>")
    predictions = place / "predictions.parquet"
    trust = _first(place / "trust.json", folder / "trust.json")
    return Stored(
        folder,
        crossfitted,
        json.loads((place / "metrics.json").read_text()),
        fixed if crossfitted else None,
        checks(json.loads(trust.read_text())) if trust else [],
        _table(place / "subgroups.parquet"),
        _table(place / "differences.parquet"),
        predictions if predictions.is_file() else None,
    )


def checks(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return checks with the worst verdict first."""
    for check in found:
        if check["verdict"] not in VERDICTS:
            raise ValueError(
                f"trust.json: verdict '{check['verdict']}' of '{check['check']}'; allowed: {', '.join(VERDICTS)}"
            )
    return sorted(found, key=lambda check: VERDICTS.index(check["verdict"]))


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def on_fixed_split(result: Stored) -> Stored:
    """Return the results of a cross-fitted run on its fixed split."""
    if result.fixed is None:
        return result
    return replace(result, crossfitted=False, metrics=result.fixed, fixed=None)
