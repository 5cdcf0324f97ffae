"""How often a 95 % interval of `medssl.evaluate` holds the truth, and how often a difference of nothing is called one.

    python -m studies.coverage                    # all of it, tens of minutes on one core
    python -m studies.coverage --simulations 100  # a quick look

A cohort has patients with one to four units each. A unit's score is the quality of the training times its class, plus
what is hard about the patient for every training, for this training, and about the unit. Quality differs from training
to training (and fold to fold), as initial weights and label subsets make it differ. The truth is the metric expected
over patients and trainings. A line shows the coverage of the interval, its median width, and both for the interval of
earlier versions: percentiles of draws of patients, averaged over seeds.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from medssl.evaluate.compare import difference
from medssl.evaluate.replicates import Replicates
from medssl.evaluate.results import summary
from medssl.evaluate.tasks import Task

EFFECT = 1.3  # of the class on a score
PATIENT, PATIENT_RUN, UNIT, UNIT_RUN = 0.7, 0.4, 0.4, 0.4  # standard deviations of what is added
NOISE = PATIENT**2 + PATIENT_RUN**2 + UNIT**2 + UNIT_RUN**2
HARDNESS = 0.8  # of numbers: share of the noise


class Setting(NamedTuple):
    """A kind of study."""

    kind: str = "class"  # or number
    patients: int = 200
    rare: float = 0.4  # share of patients of the second class
    folds: int = 1
    repeats: int = 1
    seeds: int = 3
    quality: float = 0.25  # standard deviation between trainings
    shared: bool = False  # the trainings of one seed are alike in all folds


def truths(of: Setting) -> dict[str, float]:
    """Return the metrics expected over patients and trainings."""
    if of.kind == "number":
        return {"r2": 1 - HARDNESS**2 * NOISE - of.quality**2}
    better = of.quality * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    recalls = stats.norm.cdf((EFFECT / 2 + better) / np.sqrt(NOISE)).mean(), stats.norm.cdf(EFFECT / 2 / np.sqrt(NOISE))
    return {
        "auroc": float(stats.norm.cdf((EFFECT + better) / np.sqrt(2 * NOISE)).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
    }


def studied(of: Setting, rng: np.random.Generator, *, methods: int = 1) -> list[Replicates]:
    """Return the predictions of ``methods`` equally good methods on one simulated cohort."""
    n = of.patients
    positive = np.arange(n) < max(1, round(of.rare * n))
    level = rng.standard_normal(n)
    patient = np.repeat(np.arange(n), rng.integers(1, 5, n))
    units = len(patient)
    hard = PATIENT * rng.standard_normal(n)[patient] + UNIT * rng.standard_normal(units)
    every = np.arange(units)
    code = np.array([f"{i:06d}" for i in every])
    names = np.array(["a", "b"])
    classes, truth = (names, names[positive[patient] * 1]) if of.kind == "class" else (np.array([]), level[patient])
    task = Task("simulated", of.kind, "trial", classes, truth, patient, np.full(units, "test"), every, every, code)  # type: ignore[arg-type]
    # Folds are of patients and hold both classes.
    deals = [
        np.concatenate([rng.permutation(positive.sum()), rng.permutation(n - positive.sum())]) % of.folds
        for _ in range(of.repeats)
    ]
    out = []
    for _ in range(methods):
        keys, folds, scores = [], [], []
        for repeat, seed in itertools.product(range(of.repeats), range(of.seeds)):
            fold = deals[repeat][patient]
            quality = of.quality * rng.standard_normal(1 if of.shared else of.folds)
            quality = quality[np.zeros_like(fold) if of.shared else fold]
            noise = hard + PATIENT_RUN * rng.standard_normal(n)[patient] + UNIT_RUN * rng.standard_normal(units)
            keys.append((repeat, 0, seed))
            folds.append(fold + of.folds * repeat)
            if of.kind == "number":
                scores.append((level[patient] + HARDNESS * noise + quality)[:, None])
            else:
                p = 1 / (1 + np.exp(EFFECT / 2 - (EFFECT + quality) * positive[patient] - noise))
                scores.append(np.stack([1 - p, p], axis=1))
        out.append(Replicates(task, keys, [every] * len(keys), folds, scores))
    return out


def earlier(replicates: Replicates, draws: int, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Return the intervals of earlier versions: percentiles over draws of patients of the mean over seeds."""
    patient = replicates.task.patient
    n = patient.max() + 1
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws)[:, patient].astype(float)
    values = [replicates.value(at, weights, only_headline=False) for at in range(len(replicates.keys))]
    return {
        name: tuple(np.nanpercentile(np.mean([v[name] for v in values], axis=0), (2.5, 97.5))) for name in values[0]
    }


def coverage(of: Setting, *, simulations: int, draws: int, seed: int = 0, old: bool = True) -> dict[str, Any]:
    """Return by metric: coverage and median width of the interval, and of that of earlier versions."""
    rngs = np.random.default_rng(seed).spawn(simulations)
    truth = truths(of)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in truth}
    for rng in rngs:
        (replicates,) = studied(of, rng)
        # Only the AUROC is needed for itself, which is many times faster.
        measured = replicates.measured(draws, only_headline=of.kind == "number")
        before = earlier(replicates, draws, rng) if old else {}
        for name, value in truth.items():
            own = summary(replicates, name, measured[name])
            ends = [(own["lo"], own["hi"]), before.get(name, (np.nan, np.nan))]
            found[name].append(tuple(x for lo, hi in ends for x in (lo <= value <= hi, hi - lo)))
    return {
        name: dict(zip(("covered", "width", "covered_before", "width_before"),
                       (np.mean(c) if i % 2 == 0 else np.median(c) for i, c in enumerate(zip(*rows, strict=True))),
                       strict=True))
        for name, rows in found.items()
    }  # fmt: skip


def false_positives(of: Setting, *, simulations: int, draws: int, seed: int = 0) -> float:
    """Return how often two equally good methods are called different at 5 %."""
    rngs = np.random.default_rng(seed).spawn(simulations)
    found = [difference(*studied(of, rng, methods=2), draws=draws) for rng in rngs]
    return float(np.mean([f is not None and f["p"] is not None and f["p"] < 0.05 for f in found]))


def main() -> None:
    """Print coverage, then false positives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200, help="of patients, of each simulated cohort")
    parser.add_argument("--patients", type=int, nargs="+", default=[60, 200, 466])
    args = parser.parse_args()
    size = {"simulations": args.simulations, "draws": args.draws}
    print(f"{args.simulations} simulations a line; a coverage of 0.95 is then read to within", end=" ")
    print(f"{1.96 * np.sqrt(0.95 * 0.05 / args.simulations):.3f}\n")
    print("metric             patients rare  folds seeds   covered (width)   before (width)")
    kinds = [("class", 0.4), ("class", 0.1), ("number", 0.0)]
    for (kind, rare), n, folds, seeds in itertools.product(kinds, args.patients, (1, 5), (1, 3, 5)):
        of = Setting(kind, n, rare, folds, seeds=seeds)
        for name, c in coverage(of, **size).items():
            print(f"{name:18} {n:8} {rare:4g} {folds:6} {seeds:5}   {c['covered']:7.3f} ({c['width']:.3f})", end="   ")
            print(f"{c['covered_before']:6.3f} ({c['width_before']:.3f})", flush=True)
    print("\nkind    patients rare  folds repeats seeds   called different at 5 %")
    designs = [(1, 1), (5, 1), (5, 3)]
    for (kind, rare), n, (folds, repeats), seeds in itertools.product(kinds, args.patients[:2], designs, (1, 3)):
        # A single training says nothing of how trainings differ: then they must not.
        of = Setting(kind, n, rare, folds, repeats, seeds, quality=0.25 if seeds > 1 else 0.0)
        rate = false_positives(of, **size)
        print(f"{kind:7} {n:8} {rare:4g} {folds:6} {repeats:7} {seeds:5}   {rate:.3f}", flush=True)


if __name__ == "__main__":
    main()
