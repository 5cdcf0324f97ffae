"""Time of a grid of linear probes against scikit-learn from scratch, and memory of many windows.

    python benchmarks/evaluate.py [--units 500] [--features 256] [--seeds 5] [--rounds 1] [--windows 200000]

The grid is seeds x label fractions (1, 5, 10, 50, 100 %) x tasks (two classes, five labels, five classes, a number),
each a probe with the choice of its regularisation. scikit-learn fits a model for each strength, fold and column, with
the same folds and standardised features, and stops where it stops by default, which at weak regularisation is some
hundredths from the minimum. Whether both find the same is therefore asked with its tolerance at 1e-8, on the first
seed. Then windows of noise are embedded, averaged per patient and probed in a process of their own; its peak counts all
that it holds, libraries too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from benchmarks.embed import COHORT, RUN, build
from benchmarks.timing import ROOT, apart, in_turns, last_line, measured, ratio, table
from medssl import hub
from medssl.evaluate import probe
from medssl.evaluate.linear import CUT
from medssl.evaluate.tasks import Task, pooled
from medssl.models.embed import device_of, embed_samples
from pipeline import stage

FRACTIONS = (0.01, 0.05, 0.1, 0.5, 1.0)


def cohort(units: int, features: int) -> tuple[list[Task], np.ndarray]:
    """Return tasks of patients with one unit each, a fifth of them for testing, and features like those of an encoder.

    Twenty hidden numbers make the features, most of their spread along few of them, and, with noise, all labels.
    """
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((units, 20))
    spread = 1 / np.sqrt(1 + np.arange(20))
    z = hidden * spread @ rng.standard_normal((20, features)) + 0.3 * rng.standard_normal((units, features))
    latent = hidden @ rng.standard_normal((20, 12)) / np.sqrt(20) + 0.7 * rng.standard_normal((units, 12))
    grades = np.array(list("abcde"))
    split, rows = np.where(np.arange(units) % 5 == 4, "test", "train"), np.arange(units)

    def task(name: str, kind: str, classes: np.ndarray, truth: np.ndarray) -> Task:
        return Task(name, kind, "patient", classes, truth, rows, split, rows, rows)  # type: ignore[arg-type]

    tasks = [
        task("disease", "class", grades[:2], grades[(latent[:, 0] > 0.4).astype(int)]),
        task("findings", "multilabel", grades, latent[:, 1:6] > np.linspace(0, 1.5, 5)),
        task("grade", "class", grades, grades[latent[:, 6:11].argmax(1)]),
        task("age", "number", grades[:0], 50 + 10 * latent[:, 11]),
    ]
    return tasks, z


def scratch(
    task: Task, x: np.ndarray, targets: np.ndarray, others: np.ndarray, strength: float, tol: float
) -> np.ndarray:
    """Return values or logits (n', m) of scikit-learn's models, one a column."""
    if task.kind == "number":
        return Ridge(alpha=10 / strength).fit(x, targets).predict(others).reshape(len(others), -1)
    out = np.empty((len(others), targets.shape[1]))
    for k, column in enumerate(targets.T):
        if column.min() == column.max():
            out[:, k] = np.inf if column[0] else -np.inf
        else:
            model = LogisticRegression(C=strength, class_weight="balanced", tol=tol, max_iter=10_000)
            out[:, k] = model.fit(x, column).decision_function(others)
    return out


def reference(task: Task, features: np.ndarray, units: np.ndarray, tol: float = 1e-4) -> np.ndarray:
    """Return what `medssl.evaluate.probe.linear` does, by scikit-learn."""

    def scaled(fitted: np.ndarray, others: np.ndarray) -> list[np.ndarray]:
        scaler = StandardScaler().fit(features[fitted])
        return [np.clip(scaler.transform(features[u]), -CUT, CUT) for u in (fitted, others)]

    truth = task.truth[units]
    targets = truth.astype(float).reshape(len(units), -1) if task.kind != "class" else truth[:, None] == task.classes
    targets = (targets[:, 1:] if len(task.classes) == 2 else targets).astype(float)
    fold = probe.folds(targets, task.patient[units])
    raw = np.full((len(probe.STRENGTHS), *targets.shape), np.nan)
    for one in range(fold.max() + 1) if fold.max() else ():
        x, others = scaled(units[fold != one], units[fold == one])
        for index, strength in enumerate(probe.STRENGTHS):
            raw[index, fold == one] = scratch(task, x, targets[fold != one], others, strength, tol)
    strength = probe.best(task, raw, targets, task.patient[units])
    x, others = scaled(units, task.part("test"))
    found = scratch(task, x, targets, others, strength, tol)
    if task.kind == "number":
        return found
    p = expit(found)
    if len(task.classes) == 2:
        return np.concatenate([1 - p, p], axis=1)
    return p / p.sum(1, keepdims=True) if task.kind == "class" else p


def grid(
    method: Callable[[Task, np.ndarray, np.ndarray], np.ndarray], units: int, features: int, seeds: int
) -> list[np.ndarray]:
    """Return the test predictions of all seeds, fractions and tasks."""
    tasks, z = cohort(units, features)
    return [method(task, z, task.subset(f, seed)) for seed in range(seeds) for f in FRACTIONS for task in tasks]


def windows(home: str) -> dict[str, float]:
    """Embed, pool and probe the store of this folder, as `medssl.evaluate` does for a run."""
    os.chdir(home)
    store = stage.open_cohort(COHORT)
    module = hub.load_encoder(stage.run_folder(RUN) / "encoder").module

    def work() -> None:
        tasks = [Task.of(store.table, name) for name in ("disease", "age")]
        embedded = pooled(
            tasks, store.blocks(), lambda rows: embed_samples(module, store, rows, device=device_of("cpu"))
        )
        for task, z in zip(tasks, embedded, strict=True):
            probe.linear(task, z, task.part("train"))

    return {"seconds": measured(work).seconds}


def main() -> None:
    """Print the tables and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--windows", type=int, default=200_000)
    args = parser.parse_args()
    size = (args.units, args.features)
    sides = {"medssl": probe.linear, "scikit-learn": reference}
    runs = in_turns(
        {name: lambda m=m: measured(lambda: grid(m, *size, args.seeds)) for name, m in sides.items()}, args.rounds
    )
    exact = grid(lambda *a: reference(*a, tol=1e-8), *size, 1)

    def furthest(found: list[np.ndarray]) -> float:
        """Numbers count in deviations."""
        return max(float(np.abs(a - b).max() / max(1, b.std())) for a, b in zip(found, exact, strict=False))

    print(f"{args.seeds} seeds x {len(FRACTIONS)} fractions x 4 tasks of {args.units} units, {args.features} features")
    show = table("", "seconds", "furthest from the minimum")
    for name, measurements in runs.items():
        show(name, min(m.seconds for m in measurements), furthest(measurements[0].result))
    speed = ratio(*([m.seconds for m in runs[name]] for name in ("scikit-learn", "medssl")))
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        build(args.windows, (1, 250), {"name": "resnet1d", "widths": [4, 4, 8, 16]})
        os.chdir(ROOT)
        found = apart(windows, home)
    print(f"{args.windows} windows of 250 steps embedded, pooled and probed")
    table("", "peak GB", "seconds")("medssl", found["peak_gb"], found["seconds"])
    last_line({"speed": speed, "difference": furthest(runs["medssl"][0].result), "windows_gb": found["peak_gb"]})


if __name__ == "__main__":
    main()
