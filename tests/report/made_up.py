"""Results of two made-up runs, as stages leave them behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FEW = {"mean": 0.9, "lo": None, "hi": None, "n_patients": 4, "seeds": 2, "too_few": "n=4"}
FLOW: dict[str, Any] = {
    **{"cohort": "ecg", "source": "ptbxl", "samples": 9, "patients": 3, "rejects": {}, "kept": 9, "costs": []},
    **{"exact": 0, "near": 0, "split": {"train": 1, "val": 1, "test": 1}, "leaks": 0},
}
TRUST = [
    {"check": "no patient in two parts", "verdict": "ok", "detail": "40 patients"},
    {"check": "label in the features", "verdict": "failed", "detail": "norm: feature 3 <states> it"},
]


def value(mean: float, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "lo": mean - 0.1, "hi": mean + 0.1, "n_patients": 9, "seeds": 2, **more}


def crossfitted(mean: float) -> dict[str, Any]:
    return value(mean, n_patients=40, trainings=3, folds=5, covers="patients and training")


def write_run(folder: Path, metrics: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def predictions(n: int = 40, folds: int = 5) -> pd.DataFrame:
    """Return predictions of a binary label ``norm``, of three classes ``rhythm`` and of ``age``; 2 seeds each."""
    rng = np.random.default_rng(0)
    parts = []
    for task, kind, classes in (("norm", "class", "no|yes"), ("rhythm", "class", "a|b|c"), ("age", "number", "")):
        names = classes.split("|")
        truth = rng.integers(len(names), size=n) if kind == "class" else rng.normal(50, 9, n)
        for protocol in ("probe", "minirocket", "permuted_labels"):
            for fraction in (0.1, 1.0):
                for seed in range(2):
                    if kind == "class":
                        z = rng.normal(size=(n, len(names))) + 2 * fraction * np.eye(len(names))[truth.astype(int)]
                        scores = np.exp(z) / np.exp(z).sum(1, keepdims=True)
                    else:
                        scores = (truth + rng.normal(0, 5, n))[:, None]
                    said = np.array(names)[truth.astype(int)] if kind == "class" else truth.astype(str)
                    parts.append(
                        pd.DataFrame(
                            {
                                **{"task": task, "kind": kind, "protocol": protocol, "fraction": fraction},
                                **{"fold": np.arange(n) % folds, "repeat": 0, "seed": seed, "training": seed},
                                **{"unit": "patient", "id": np.arange(n).astype(str), "patient": np.arange(n)},
                                **{"truth": said, "classes": classes, "scores": list(scores.astype(np.float32))},
                            }
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def results() -> dict[str, Any]:
    """Return metrics of `predictions`, with values made up."""
    shares = {"1": crossfitted(0.8), "0.1": crossfitted(0.7)}
    return {
        "seen_age": {"seen": ["age_years"], "probe": {"1": {"mae": crossfitted(4), "r2": crossfitted(0.9)}}},
        "norm": {
            "probe": {f: {"auroc": v, "ece": crossfitted(0.2)} for f, v in shares.items()},
            "minirocket": {"1": {"auroc": crossfitted(0.75)}, "0.1": {"auroc": crossfitted(0.6)}},
            "demographics": {"1": {"auroc": crossfitted(0.6)}},
            "random_init": {"1": {"auroc": crossfitted(0.55)}},
            "stage_one": {"1": {"auroc": crossfitted(0.65)}},
        },
        "rhythm": {name: {"1": {"auroc": crossfitted(0.8)}} for name in ("probe", "minirocket")},
        "age": {name: {"1": {"mae": crossfitted(5), "r2": crossfitted(0.3)}} for name in ("probe", "minirocket")},
        "quality": {"left_out": "one class"},
    }


def differences() -> pd.DataFrame:
    """Return paired differences of run ``one``: within noise, better, without an interval, and to run ``two``."""
    rows = [
        ("minirocket", 0.01, -0.01, 0.03, 0.4, ""),
        ("demographics", 0.2, 0.1, 0.3, 0.001, ""),
        ("random_init", 0.25, 0.2, 0.3, 0.001, ""),
        ("supervised", -0.1, None, None, None, "too few (n=4)"),
        ("two", -0.2, -0.3, -0.1, 0.01, ""),
    ]
    return pd.DataFrame(
        [
            {"run": "one", "task": "norm", "against": against, "metric": "auroc", "mean": mean, "lo": lo, "hi": hi,
             "p": p, "n_patients": 40, "note": note}
            for against, mean, lo, hi, p, note in rows
        ]
    )  # fmt: skip


def crossfitted_run(folder: Path) -> Path:
    """Write a run with everything a page can show."""
    fixed = {"norm": {"probe": {"1": {"auroc": value(0.5)}}}}
    write_run(folder, fixed)
    write_run(folder / "crossfit", results())
    predictions().to_parquet(folder / "crossfit" / "predictions.parquet")
    (folder / "trust.json").write_text(json.dumps(TRUST))
    row = {"task": "norm", "protocol": "probe", "group": "sex", "value": "female", "metric": "auroc", "mean": 0.8}
    row["fraction"] = 1.0
    groups = [{**row, "lo": 0.7, "hi": 0.9, "n_patients": 30, "too_few": None}]
    groups.append({**row, "value": "male", "lo": None, "hi": None, "n_patients": 4, "too_few": "n=4"})
    for other in ({"protocol": "knn"}, {"fraction": 0.1}):
        groups.append({**row, **other, "value": "hidden", "lo": 0.7, "hi": 0.9, "n_patients": 30})
    pd.DataFrame(groups).to_parquet(folder / "crossfit" / "subgroups.parquet")
    return folder
