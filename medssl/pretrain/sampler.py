"""Which samples meet in a batch, from the sample table alone: hierarchical batches and COMET's frozen ones.

Letters: P patients, R trials of each, M samples of each trial, B samples in a batch over all ranks, W ranks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from medssl.config import Positives


class Batches(Sampler[list[tuple[int, ...]]]):
    """What all batch samplers share: epochs, the way back into one, ranks, and numbers for the random views.

    Each element of a batch is ``(row, draw)``: a position in the store and a number, unique in the run, that seeds
    the views; or ``(row, draw, partner)``. Every rank makes the same batches and yields its own block of B / W, so the
    blocks joined in the order of the ranks are the batch of one process, in its order and with its numbers.

    A pass gives the remaining batches of an epoch, each as an uninterrupted run would have given it. It begins where
    ``start`` says, else at the first batch of `set_epoch`'s epoch.

    Args:
        table: sample table with ``patient`` and ``trial``, only the rows to train on.
        rows: position of each table row in the store.
        size: B, a multiple of ``world_size``.
        counted: samples whose number decides how many batches an epoch has, see `count`.
        rank, world_size: of this process.
        start: number of batches the run has consumed, asked whenever a pass starts. A trainer knows it even where
            it makes its iterator before it says which epoch it resumed in, and batches that loader workers fetched
            ahead do not count. None: `set_epoch` says which epoch comes.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        rows: np.ndarray,
        *,
        size: int,
        counted: int,
        rank: int,
        world_size: int,
        start: Callable[[], int] | None,
    ) -> None:
        self.size = size
        self.steps = self.count(counted)
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._rows = np.asarray(rows)
        # By order of appearance: the codes in the table depend on the key for patient names and must not decide a
        # batch.
        self._codes = {level: pd.factorize(table[level])[0] for level in ("patient", "trial")}
        self._start = start

    @abstractmethod
    def count(self, samples: int) -> int:
        """Return how many batches an epoch of so many samples has."""

    @abstractmethod
    def _epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield ``steps`` batches (B,) of positions in the table, the same whatever the rank."""

    def _partners(self, batch: np.ndarray, draw: int) -> list[np.ndarray]:
        """Return the positions (B,) of the partners of a batch whose first number is ``draw``, or nothing."""
        return []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        first = 0
        if self._start is not None:
            self.epoch, first = divmod(self._start(), self.steps)
        epoch = self.epoch
        share = self.size // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        for step, batch in enumerate(islice(self._epoch(epoch), first, None), first):
            draw = (epoch * self.steps + step) * self.size
            rows, *partners = (self._rows[some[mine]].tolist() for some in (batch, *self._partners(batch, draw)))
            yield list(zip(rows, range(draw + mine.start, draw + mine.stop), *partners, strict=True))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the same epoch gives the same batches."""
        self.epoch = epoch

    def report(self) -> dict[str, float]:
        """Return the share of anchors without a positive, by level: ``{"patient": 0.0, "trial": 0.25}``.

        An anchor is a sample in a batch over all ranks; its positives are the *other* samples of its patient or of
        its trial in that batch. The same sample again is none. Counted over the batches of epoch 0; reads no array.
        """
        n = len(self._rows)
        batches = np.stack(list(self._epoch(0))) + n * np.arange(self.steps)[:, None]
        distinct, anchors = np.unique(batches, return_inverse=True)
        step, position = np.divmod(distinct, n)
        alone = {}
        for level, codes in self._codes.items():
            _, group, members = np.unique(step * n + codes[position], return_inverse=True, return_counts=True)
            alone[level] = float((members[group] == 1)[anchors].mean())
        return alone


class HierarchicalBatches(Batches):
    """Batches of P patients x R trials x M samples, patient-major, with a new composition every epoch.

    Every batch holds P *distinct* patients. A patient with fewer than R trials gives some of them again, a trial
    with fewer than M samples likewise; a sample repeats only where its trial is drawn for more than it has (`report`
    says how often that leaves an anchor without a positive). Rank r takes the patients [r P / W, (r + 1) P / W).

    Args:
        table: see `Batches`.
        rows: see `Batches`.
        patients, trials, samples: P, R, M. P is lowered to the number of patients there are, and to a multiple of
            ``world_size``.
        within: column of the table, such as ``source``: every batch holds samples of one of its values only, so that
            the site or the device cannot tell positives from negatives. A patient is drawn under each of its values,
            with those samples alone; values are drawn in proportion to their patients. None: any samples together.
        positives: shares of samples whose partner is itself, any other sample of their trial, or any one of another
            trial of their patient (under one value of ``within``), or of a finer level where there is none. Partners
            change nothing else about a batch. None: no partners.
        steps: batches per epoch; None: as many as hold ``counted`` samples.
        counted: None: the number of rows, so that an epoch holds every sample once on average. A larger one, such as
            that of the samples before some were left out, goes round them more often.
        seed: with the epoch it decides everything.
        rank, world_size, start: see `Batches`.

    Raises:
        ValueError: fewer than 2 patients per process; ``within`` is no column, is unknown for some samples, or has
            a value with fewer than P patients.

    Source: Wang et al. 2023 (COMET) for trials that meet in a batch, here with new negatives each epoch; Abbaspourazad
    et al. 2024 for N distinct participants with two different segments each: P = N, R = 2, M = 1, where the two come
    from different trials of a patient who has several.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        rows: np.ndarray,
        *,
        patients: int,
        trials: int,
        samples: int,
        within: str | None = None,
        positives: Positives | None = None,
        steps: int | None = None,
        counted: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: Callable[[], int] | None = None,
    ) -> None:
        have = table["patient"].nunique()
        self.patients = min(patients, have) // world_size * world_size
        if self.patients < 2 * world_size:
            raise ValueError(
                f"pretrain.batch: {have} patients to train on and {patients} asked for; "
                f"contrast needs at least 2 per process ({world_size} processes): add patients, raise split.train or "
                "pretrain.batch.patients, or take fewer processes"
            )
        self.trials, self.samples, self.seed = trials, samples, seed
        self._given, self._positives = steps, positives
        size, counted = self.patients * trials * samples, counted or len(rows)
        super().__init__(table, rows, size=size, counted=counted, rank=rank, world_size=world_size, start=start)

        value, names = _values(table, within)
        # A unit is a patient under one value. Sorted by unit and trial, a trial is a run of rows, a unit a run of
        # trials; all of them numbered by appearance.
        unit = pd.factorize(value * len(table) + self._codes["patient"])[0]
        self._order = np.lexsort((self._codes["trial"], unit))
        self._place = np.argsort(self._order)
        unit, trial, value = unit[self._order], self._codes["trial"][self._order], value[self._order]
        change = (np.diff(unit, prepend=-1) != 0) | (np.diff(trial, prepend=-1) != 0)
        self._trial_start = np.flatnonzero(change)
        self._trial_size = np.diff(self._trial_start, append=len(table))
        self._unit_trials = np.bincount(unit[self._trial_start])
        self._unit_start = np.cumsum(self._unit_trials) - self._unit_trials
        of_unit = value[self._trial_start[self._unit_start]]
        self._units = [np.flatnonzero(of_unit == k) for k in range(len(names))]
        fewest = min(range(len(names)), key=lambda k: len(self._units[k]))
        if len(self._units[fewest]) < self.patients:
            raise ValueError(
                f"pretrain.within: {within} '{names[fewest]}' has {len(self._units[fewest])} patients to train "
                f"on and a batch takes {self.patients} of one {within}; lower pretrain.batch.patients, join it with "
                "another value or leave its samples out"
            )

    def count(self, samples: int) -> int:
        """Return how many batches hold so many samples, or the given ``steps`` whatever their number."""
        return self._given or max(1, round(samples / self.size))

    def _epoch(self, epoch: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        # Equally spaced places, from a random one on, along all units sorted by value: each value gets its share of
        # the epoch to within one batch, and over many epochs exactly.
        ends = np.cumsum([len(units) for units in self._units])
        places = (rng.integers(ends[-1]) + np.arange(self.steps) * ends[-1] // self.steps) % ends[-1]
        queues = [rng.permutation(units) for units in self._units]
        for value in rng.permutation(np.searchsorted(ends, places, side="right")):
            units, queue = self._units[value], queues[value]
            if len(queue) < self.patients:
                # Start a new round, leftovers first, without a patient twice in the batch.
                fresh = rng.permutation(units[~np.isin(units, queue)])[: self.patients - len(queue)]
                batch = np.concatenate([queue, fresh])
                queues[value] = rng.permutation(units[~np.isin(units, fresh)])
            else:
                batch, queues[value] = queue[: self.patients], queue[self.patients :]
            yield self._draw(rng, batch)

    def _runs(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return first place and length (4, B) in the sorted table of nothing, the sample, its trial, its patient."""
        place = self._place[positions]
        trial = np.searchsorted(self._trial_start, place, side="right") - 1
        unit = np.searchsorted(self._unit_start, trial, side="right") - 1
        first = self._trial_start[self._unit_start]
        sizes = self._trial_size[trial], np.diff(first, append=len(self._order))[unit]
        start = place, place, self._trial_start[trial], first[unit]
        return np.stack(start), np.stack([0 * place, 0 * place + 1, *sizes])

    def _partners(self, batch: np.ndarray, draw: int) -> list[np.ndarray]:
        if self._positives is None:
            return []
        # The 1 keeps these numbers from those of the batches; a 0 at the end would not count.
        rng = np.random.default_rng([self.seed, draw, 1])
        shares = np.array([self._positives.view, self._positives.trial, self._positives.patient])
        asked = rng.choice(3, size=len(batch), p=shares / shares.sum())
        start, size = self._runs(batch)  # a level is a run without the next finer one, which lies within
        count, levels = np.diff(size, axis=0), np.arange(3)[:, None]
        level, column = np.where((count > 0) & (levels <= asked), levels, 0).max(0), np.arange(len(batch))
        drawn = start[level + 1, column] + rng.integers(count[level, column])
        return [self._order[drawn + np.where(drawn >= start[level, column], size[level, column], 0)]]

    def report(self) -> dict[str, float]:
        """Return what `Batches.report` does; with ``positives`` also the share of anchors without a partner to draw."""
        if self._positives is None:
            return super().report()
        none = (np.diff(self._runs(np.concatenate(list(self._epoch(0))))[1], axis=0) == 0).mean(1)
        return super().report() | {"partner_trial": float(none[1]), "partner_patient": float(none[2])}

    def _draw(self, rng: np.random.Generator, units: np.ndarray) -> np.ndarray:
        """Return positions (P * R * M,) of R x M samples of each unit (P,)."""
        have = self._unit_trials[units][:, None]
        trials = self._unit_start[units][:, None] + _shuffled(rng, have[:, 0], self.trials)
        # A trial drawn again goes on in its own permutation: other samples, as long as there are any.
        turn, column = np.divmod(np.arange(self.trials), have)
        count = self.samples * (int(turn.max()) + 1)
        places = _shuffled(rng, self._trial_size[trials].ravel(), count).reshape(*trials.shape, count)
        wanted = turn[:, :, None] * self.samples + np.arange(self.samples)
        chosen = places[np.arange(len(units))[:, None, None], column[:, :, None], wanted]
        return self._order[(self._trial_start[trials][:, :, None] + chosen).ravel()]


class FixedBatches(Batches):
    """COMET's published batches: whose samples meet is decided once and frozen, only their order changes.

    The samples are shuffled inside each trial, the trials are shuffled as wholes, and blocks of B in that order are
    the batches of every epoch, in this order; each epoch shuffles inside each block. Most samples of a trial thus
    meet, and every sample has the same negatives for the whole run. The last, partial block is left out for good:
    all ranks need batches of one size and equally many of them.

    Args:
        table: see `Batches`.
        rows: see `Batches`.
        size: B, lowered to the number of samples there are and to a multiple of ``world_size``.
        frozen_seed: decides whose samples meet; the published 42, so that repeated runs differ in all but this.
        seed: with the epoch it decides the order inside each batch.
        rank, world_size, start: see `Batches`. Ranks share a batch without regard to patients or trials.

    Raises:
        ValueError: fewer than 2 samples per process.

    Source: Wang et al. 2023 (COMET), "trial shuffle" of the published code; it keeps the last, partial block.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        rows: np.ndarray,
        *,
        size: int,
        frozen_seed: int = 42,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: Callable[[], int] | None = None,
    ) -> None:
        asked, size = size, min(size, len(table)) // world_size * world_size
        if size < 2 * world_size:
            raise ValueError(
                f"pretrain.batch: {len(table)} samples to train on and batches of {asked} asked for; "
                f"contrast needs at least 2 per process ({world_size} processes)"
            )
        super().__init__(table, rows, size=size, counted=len(table), rank=rank, world_size=world_size, start=start)
        self.seed = seed
        rng = np.random.default_rng(frozen_seed)
        trial = self._codes["trial"]
        place_of_trial = rng.permutation(trial.max() + 1)
        order = np.lexsort((rng.random(len(trial)), place_of_trial[trial]))
        self._blocks = order[: self.steps * size].reshape(self.steps, size)

    def count(self, samples: int) -> int:
        """Return how many whole batches so many samples fill."""
        return samples // self.size

    def _epoch(self, epoch: int) -> Iterator[np.ndarray]:
        yield from np.random.default_rng([self.seed, epoch]).permuted(self._blocks, axis=1)


def _values(table: pd.DataFrame, within: str | None) -> tuple[np.ndarray, pd.Index]:
    """Return the value (n,) of each row as a number, by appearance, and the values' names."""
    if within is None:
        return np.zeros(len(table), dtype=np.int64), pd.Index(["all"])
    if within not in table:
        raise ValueError(f"pretrain.within: '{within}' is no column; the table has: {', '.join(table.columns)}")
    codes, names = pd.factorize(table[within])
    unknown = int((codes < 0).sum())
    if unknown:
        raise ValueError(
            f"pretrain.within: {within} is unknown for {unknown} of {len(table)} samples to train on; "
            "name it or leave those samples out"
        )
    return codes, pd.Index(names)


def _shuffled(rng: np.random.Generator, sizes: np.ndarray, count: int) -> np.ndarray:
    """Return (G, count): for each of G sizes the first numbers of a random order of range(size), again from its start.

    A Fisher-Yates shuffle that remembers only the places it touched, all groups at once: the cost depends on
    ``count``, not on the sizes, for a trial may be a day long.
    """
    steps = np.arange(min(count, int(sizes.max())))
    swap = rng.integers(steps, np.maximum(sizes[:, None], steps + 1))
    taken, put = np.empty_like(swap), np.empty_like(swap)

    def held(place: np.ndarray, step: int) -> np.ndarray:
        """Return what lies at ``place`` (G,) before a step: what was put there last, else its own number."""
        last = ((swap[:, :step] == place[:, None]) * steps[1 : step + 1]).max(1, initial=0)
        return np.where(last > 0, put[np.arange(len(put)), last - 1], place)

    for step in range(len(steps)):
        taken[:, step] = held(swap[:, step], step)
        put[:, step] = held(np.full(len(sizes), step), step)
    return np.take_along_axis(taken, np.arange(count) % sizes[:, None], axis=1)
