"""What an evaluation leaves behind: predictions, metrics with intervals, subgroups, and whether to trust them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.config import BASELINES
from medssl.evaluate import compare, results, trust
from medssl.store import write_parquet

FILES = ("predictions.parquet", "metrics.json", "subgroups.parquet", "differences.parquet", "trust.json")
# What of an encoder is compared with what, on the same patients.
AGAINST = {
    "probe": ("random_init", "supervised", *BASELINES),
    "handcrafted_probe": BASELINES,
    "finetune": ("supervised",),
    "demographics_probe": ("demographics",),
}


def notes(left_out: dict[str, str], checks: Sequence[trust.Check]) -> dict[str, Any]:
    """Return what one part of an evaluation says besides its predictions: labels left out, checks."""
    return {"left_out": left_out, "checks": [list(check) for check in checks]}


def write(
    folder: Path,
    run: str,
    predictions: pd.DataFrame,
    said: Sequence[dict[str, Any]],
    table: pd.DataFrame,
    *,
    reads: Sequence[str],
    draws: int,
) -> tuple[dict[str, Any], list[trust.Check]]:
    """Write `FILES` and return metrics and checks.

    Args:
        folder: where to.
        run: name of what is evaluated.
        predictions: of all parts, such as the folds of a run.
        said: `notes` of each part.
        table: sample table of the cohort.
        reads: what pretraining read of its patients besides the recordings.
        draws: of the bootstrap.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(predictions, folder / "predictions.parquet")
    metrics = results.measure(predictions, draws=draws)
    reasons = {name: why for part in said for name, why in part["left_out"].items() if name not in metrics}
    for name, measures in trust.stated_by(list(metrics), reads, table).items():
        metrics[name]["seen"] = measures
    metrics |= {name: {"left_out": why} for name, why in reasons.items()}
    checks = trust.joined([trust.Check(*check) for check in part["checks"]] for part in said)
    checks += trust.of_results(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    (folder / "trust.json").write_text(json.dumps([check._asdict() for check in checks], indent=1) + "\n")
    compared = [
        compare.differences(run, predictions, protocol=protocol, against=against, draws=draws).assign(protocol=protocol)
        for protocol, against in AGAINST.items()
    ]
    write_parquet(pd.concat(compared, ignore_index=True), folder / "differences.parquet")
    write_parquet(results.subgroups(predictions, table, draws=draws), folder / "subgroups.parquet")
    return metrics, checks
