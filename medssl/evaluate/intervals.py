"""How far a metric would move with other patients and with other trainings, and what follows for differences.

Letters: n test units, B bootstrap draws, F folds (those of all repeats), S runs of the same thing with other seeds.

Two things were drawn by chance: the patients that were tested and the training (initial weights, order of the batches,
which patients gave labels). Their variances are estimated apart and added:

- patients: the variance, over draws of whole patients (clustered bootstrap), of the mean over the S runs;
- trainings: the variance between the S runs on the same patients, divided by S, fold by fold.

Each part has a Student's t of its own, and the interval is that of their sum (Behrens 1929, Fisher 1935). One t with
joint degrees of freedom (Satterthwaite 1946) holds the truth of three seeds in 92 % of cases: where they happen to
agree, it takes their variance for small and for well known at once. Percentiles of a bootstrap that also draws seeds
are narrower still: a draw of three has two thirds of their variance. `studies/coverage.py` shows how often the interval
holds the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

MIDDLE = (15.866, 84.134)  # percent below one standard deviation under the mean of a normal distribution, and over it
BLOCK = 1 << 18  # weights held at once


class Variance(NamedTuple):
    """A variance and the degrees of freedom it was estimated with."""

    value: float
    freedom: float


def total(parts: Sequence[Variance]) -> Variance:
    """Return the sum of independent variances. Source: Satterthwaite 1946, equation 17."""
    value = sum(p.value for p in parts)
    spent = sum(p.value**2 / p.freedom for p in parts if p.freedom > 0)
    return Variance(value, value**2 / spent if spent > 0 else max((p.freedom for p in parts), default=1.0))


def drawn_blocks(
    patients: np.ndarray, draws: int, *, strata: np.ndarray | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield the rows of `draw_weights` in blocks of at most `BLOCK` weights."""
    member, unique = pd.factorize(patients)  # by appearance: codes depend on the project's key
    stratum = np.zeros(len(unique), dtype=int)
    if strata is not None:
        stratum = pd.factorize(np.asarray(strata)[np.unique(member, return_index=True)[1]])[0]
    sizes = np.bincount(stratum)
    # A patient alone in a stratum cannot be drawn against anyone: they share a stratum, or join the largest.
    alone = np.flatnonzero(sizes[stratum] == 1)
    stratum[alone] = len(sizes) if len(alone) > 1 else sizes.argmax()
    groups = [np.flatnonzero(stratum == h) for h in np.unique(stratum)]
    rngs = np.random.default_rng(seed).spawn(len(groups))
    yield np.ones((1, len(patients)))
    step = max(1, BLOCK // len(patients))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        counts = np.ones((len(unique), size))
        for rng, group in zip(rngs, groups, strict=True):
            m = len(group)
            if m > 1:
                counts[group] = rng.multinomial(m - 1, np.full(m, 1 / m), size=size).T * (m / (m - 1))
        yield counts[member].T  # draws lie together in memory, as metrics add them up


def draw_weights(patients: np.ndarray, draws: int, *, strata: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Return (1 + draws, n) weights of the units; row 0 is the sample itself (all ones).

    A draw takes whole patients with replacement, so units of one patient are never treated as independent. Of the m
    patients of a stratum it takes m - 1, each with the weight m / (m - 1): with m of them the variance of a mean would
    come out (m - 1) / m of what it is, which for a class of five patients is a fifth too little.

    Args:
        patients: (n,) of the units.
        draws: B.
        strata: (n,) of the units, such as their class, so that a draw has as much of a rare class as the sample; a
            patient belongs to the stratum of its first unit. None: all are of one.
        seed: of the draws.

    Source: Rao and Wu 1988, section 2 (rescaled bootstrap, m - 1 draws).
    """
    return np.concatenate(list(drawn_blocks(patients, draws, strata=strata, seed=seed)))


def of_draws(draws: np.ndarray, freedom: float) -> Variance:
    """Return the variance of a metric over draws of patients (B,); NaN where fewer than two have a value.

    The deviation is half of the range that holds the middle 68 % of the draws, as a normal metric has it: the R^2 of a
    dozen patients is far below 0 in a few draws, which would make up most of a mean square. Where that range is empty,
    as for a metric that few draws change, the mean square is all there is.
    """
    finite = draws[np.isfinite(draws)]
    if len(finite) < 2:
        return Variance(np.nan, freedom)
    low, high = np.percentile(finite, MIDDLE)
    return Variance(float(np.square((high - low) / 2) or finite.var(ddof=1)), freedom)


def spread(values: np.ndarray, runs: np.ndarray) -> Variance:
    """Return the variance of the mean over runs, summed over the rows of values (F, S).

    Args:
        values: of each run, on the same patients.
        runs: (S, 2) codes: the training of an encoder, and the seed (label subset, head). Where every training meets
            every seed, both are drawn by chance and each adds the variance of its means; else the coarser is counted,
            whose means hold the finer. Runs of one training are so never taken for independent ones.
    """
    levels = [np.unique(column, return_inverse=True)[1] for column in runs.T]
    counts = [column.max() + 1 for column in levels]
    crossed = len(runs) == len(np.unique(runs, axis=0)) == counts[0] * counts[1]
    several = [k for k in (0, 1) if counts[k] > 1]
    chosen = several if crossed else sorted(several, key=lambda k: counts[k])[:1]
    parts = []
    for k in chosen:
        means = np.stack([values[:, levels[k] == level].mean(1) for level in range(counts[k])], axis=1)
        parts.append(Variance(means.var(1, ddof=1).sum() / counts[k], len(values) * (counts[k] - 1)))
    return total(parts)


def between(whole: np.ndarray, swapped: np.ndarray, drawn: np.ndarray, runs: np.ndarray) -> Variance | None:
    """Return the variance of the mean over repeats and runs that trainings alone bring; None of a single training.

    With folds every fold has trainings of its own, and their variances are pooled: S - 1 degrees of freedom a fold.
    That holds only if the runs of two folds have nothing in common. Where the whole test sets vary more than the folds
    explain (F-test at 25 %, the level at which Bancroft pools), the variance between whole test sets stands alone.

    Two runs also differ because of these patients: one is better for some, the other for others. Draws of patients
    show that already, so it is taken off: it is what draws add to the variance between runs.

    Args:
        whole: metric (repeats, S) of each whole test set.
        swapped: metric (F, S) of a test set in which one fold alone is of run s, the others of the first run.
        drawn: metric (B, S) in draws of patients, averaged over repeats.
        runs: (S, 2), see `spread`.
    """
    repeats, number = whole.shape
    if not np.isfinite(whole).all() or whole.size == 1:
        return None
    if number == 1:
        return Variance(whole.var(ddof=1) / repeats, repeats - 1)
    found = together = spread(whole.mean(0)[None], runs)
    if len(swapped) > 1 and np.isfinite(swapped).all():
        by_fold = spread(swapped, runs)
        by_fold = Variance(by_fold.value / repeats**2, by_fold.freedom)
        if together.value <= by_fold.value * stats.f.ppf(0.75, together.freedom, by_fold.freedom):
            found = by_fold
    drawn = drawn[np.isfinite(drawn).all(1)]
    if not len(drawn) or found.value <= 0:
        return found
    patients = min(found.value, max(0.0, spread(drawn, runs).value / len(drawn) - together.value))
    return Variance(found.value - patients, found.freedom)


def beyond(size: float, patients: Variance, trainings: Variance | None = None) -> float:
    """Return the probability that a mean lies ``size`` or more from the truth, on either side.

    The trainings' t is a normal variable of each variance that theirs may have, value f / chi^2, weighted by the
    density of chi^2. The patients' variance is added to it, and the sum has the patients' degrees of freedom.

    Args:
        size: >= 0.
        patients: their variance.
        trainings: None: a single one.

    Source: Behrens 1929, Fisher 1935; exact for many patients, and otherwise wider.
    """
    variance, weight = np.array([patients.value]), np.ones(1)
    if trainings is not None and trainings.value > 0:
        half = trainings.freedom / 2
        ends = special.gammaincinv(half, 1e-12), special.gammainccinv(half, 1e-12)
        gamma = np.geomspace(*ends, 200)  # chi^2 / 2
        log = special.xlogy(half, gamma / half) - gamma + half
        weight = np.exp(log) / np.exp(log).sum()
        variance = patients.value + trainings.value * half / gamma
    return float(2 * weight @ special.stdtr(patients.freedom, -size / np.sqrt(variance)))


def reach(patients: Variance, trainings: Variance | None = None) -> float:
    """Return how far the 95 % interval of a mean reaches to either side, on the scale of the mean; see `beyond`."""
    least = float(special.stdtrit(patients.freedom, 0.975) * np.sqrt(patients.value))
    if trainings is None or trainings.value <= 0 or not np.isfinite(least):
        return least
    most = max(least, float(np.sqrt(trainings.value)))
    while beyond(most, patients, trainings) > 0.05:
        most *= 2
    return float(optimize.brentq(lambda size: beyond(size, patients, trainings) - 0.05, 0.0, most, rtol=1e-6))


def interval(
    mean: float,
    patients: Variance,
    trainings: Variance | None = None,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """Return the 95 % interval of a mean, within the bounds of the metric.

    It is symmetric on the scale on which a bounded metric may take any value: the logit between two bounds, the
    logarithm of the distance from one. A metric at its bound has no such scale, and the interval is cut there.
    """
    low, high = bounds
    far = reach(patients, trainings)
    below, above = mean - low, high - mean
    if min(below, above) <= 1e-9 or (np.isinf(below) and np.isinf(above)):
        return max(low, mean - far), min(high, mean + far)
    slope = 1 / below + 1 / above  # of the scale at the mean; an infinite distance adds nothing
    factor = np.exp(min(slope * far, 50.0))
    if np.isinf(above):
        return low + below / factor, low + below * factor
    if np.isinf(below):
        return high - above * factor, high - above / factor
    width, odds = high - low, below / above
    return low + width * odds / (odds + factor), low + width * odds * factor / (odds * factor + 1)


def never(mean: float, patients: float, *, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the 95 % interval of a metric that no draw of patients changes, such as an AUROC of 1.

    A metric at a finite bound means that none of so many patients was wrong, which happens in 2.5 % of cases where a
    share of 1 - 0.025 ^ (1 / patients) is (Clopper and Pearson 1934). Elsewhere it is certain: constant scores have
    an AUROC of 0.5.
    """
    low, high = bounds
    reach = (1 - 0.025 ** (1 / patients)) * (high - low)
    if np.isinf(reach) or low < mean < high:
        return mean, mean
    return (low, low + reach) if mean <= low else (high - reach, high)


def p_value(mean: float, patients: Variance, trainings: Variance | None = None) -> float:
    """Return the two-sided p-value of a mean difference against none; 1 where nothing differs at all."""
    if patients.value + (trainings.value if trainings else 0) <= 0:
        return float(mean == 0)
    return beyond(abs(mean), patients, trainings)


def corrected_variance(differences: np.ndarray, test_share: float) -> Variance:
    """Return the variance of the mean of differences (J,), one a fold of repeated cross-validation.

    The folds' trainings share most of their patients, so their differences are not independent and the variance of
    their mean is more than 1/J of theirs. ``test_share`` is n_test / n_train, 1 / (K - 1) of K folds.

    Source: Nadeau and Bengio 2003, section 3 (corrected resampled t-test), with repeats as Bouckaert and Frank 2004.
    """
    differences = differences[np.isfinite(differences)]
    number = len(differences)
    if number < 2:
        return Variance(np.inf, 1)
    return Variance(float((1 / number + test_share) * differences.var(ddof=1)), number - 1)


def corrected(differences: np.ndarray, test_share: float) -> dict[str, float]:
    """Return ``mean``, ``lo``, ``hi`` and ``p`` of differences (J,), see `corrected_variance`."""
    mean, variance = float(np.nanmean(differences)), corrected_variance(differences, test_share)
    low, high = interval(mean, variance)
    return {"mean": mean, "lo": low, "hi": high, "p": p_value(mean, variance)}


def paired(
    mean: float, patients: Variance, trainings: Variance | None, folds: Variance | None = None
) -> dict[str, float | str]:
    """Return ``mean``, ``lo``, ``hi``, ``p`` and ``by`` of a difference between two runs on the same patients.

    Args:
        mean: of the difference.
        patients: its variance over draws of patients, the same for both.
        trainings: between its runs; None: one run each.
        folds: `corrected_variance` of repeated cross-validation. The wider of both intervals counts.

    Returns:
        ``by`` is ``corrected folds`` where the folds' interval is the wider, else what the interval covers: ``patients
        and training``, or ``patients`` alone.
    """
    by = "patients and training" if trainings else "patients"
    if folds is not None and np.isfinite(folds.value) and reach(folds) > reach(patients, trainings):
        patients, trainings, by = folds, None, "corrected folds"
    low, high = interval(mean, patients, trainings)
    return {"mean": mean, "lo": low, "hi": high, "p": p_value(mean, patients, trainings), "by": by}


def permutation_p(observed: float, null: np.ndarray) -> float:
    """Return the one-sided p-value of a value among those of permuted labels: (1 + #{null >= observed}) / (1 + B).

    Source: Phipson and Smyth 2010: the true order is one of all orders, so p is never 0.
    """
    null = np.asarray(null)
    # Equal but for rounding is equal.
    return float((1 + (null >= observed - 1e-9).sum()) / (1 + len(null)))
