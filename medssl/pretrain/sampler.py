"""Hierarchical batches: patients x trials x samples, from the sample table alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from torch.utils.data import Sampler


class HierarchicalBatches(Sampler[list[tuple[int, int]]]):
    """Yield batches of P patients x R trials x M samples, patient-major, with a new composition every epoch.

    Every batch holds P *distinct* patients. A patient with fewer than R trials gives some of them again, a trial
    with fewer than M samples likewise; a sample repeats only where its trial is drawn for more than it has.
    Each element is ``(row, draw)``: a position in the table and a number, unique in the run, that seeds the views.
    All ranks see the same number of batches; rank r takes patients r, r + world_size, ... of each.

    Args:
        table: sample table with ``patient`` and ``trial``, only the rows to train on; other columns are not read.
        rows: position of each table row in the store.
        patients, trials, samples: P, R, M. P is lowered to the number of patients there are.
        steps: batches per epoch; None: as many as hold every sample once on average.
        seed: with the epoch it decides everything.
        rank, world_size: of this process.
        epoch_of: asked for the epoch whenever a pass starts, for a trainer that makes its iterator before it says
            which epoch it resumed in; None: the number given to `set_epoch`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        rows: np.ndarray,
        *,
        patients: int,
        trials: int,
        samples: int,
        steps: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        epoch_of: Callable[[], int] | None = None,
    ) -> None:
        # Trial codes are unique over patients, so one sort gives all groups; by appearance, because the codes
        # themselves depend on the key for patient names and must not decide a batch.
        trial = pd.factorize(table["trial"])[0]
        order = np.argsort(trial, kind="stable")
        starts = np.flatnonzero(np.diff(trial[order], prepend=-1))
        owner = table["patient"].to_numpy()
        self._rows: dict[int, list[np.ndarray]] = {}
        for members in np.split(order, starts[1:]):
            self._rows.setdefault(int(owner[members[0]]), []).append(np.asarray(rows)[members])
        self._patients = np.array(list(self._rows))
        self.patients = min(patients, len(self._patients)) // world_size * world_size
        if self.patients < 2 * world_size:
            raise ValueError(
                f"pretrain.batch: {len(self._patients)} patients to train on and {patients} asked for; "
                f"contrast needs at least 2 per process ({world_size} processes)"
            )
        self.trials, self.samples = trials, samples
        self.seed, self.rank, self.world_size = seed, rank, world_size
        size = self.patients * trials * samples
        self.steps = steps or max(1, round(len(rows) / size))
        self.epoch = 0
        self._epoch_of = epoch_of

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the same epoch gives the same batches."""
        self.epoch = epoch

    def _draw(self, rng: np.random.Generator, patient: int) -> list[int]:
        """Return R x M rows of one patient."""
        trials = self._rows[patient]
        chosen: list[int] = []
        turns: dict[int, int] = {}
        picks = np.concatenate([rng.permutation(len(trials)) for _ in range(-(-self.trials // len(trials)))])
        orders: dict[int, np.ndarray] = {}
        for trial in picks[: self.trials]:
            members = trials[trial]
            if trial not in orders:
                orders[trial] = rng.permutation(members)
            first = turns.get(trial, 0)
            # A trial drawn again goes on in its own permutation: other samples, as long as there are any.
            chosen += [int(orders[trial][(first + k) % len(members)]) for k in range(self.samples)]
            turns[trial] = first + self.samples
        return chosen

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self._epoch_of is not None:
            self.epoch = self._epoch_of()
        rng = np.random.default_rng([self.seed, self.epoch])
        per_patient = self.trials * self.samples
        draw = self.epoch * self.steps * self.patients * per_patient
        queue = rng.permutation(self._patients)
        for _ in range(self.steps):
            if len(queue) < self.patients:
                # Start a new round, leftovers first, without a patient twice in the batch.
                fresh = rng.permutation(self._patients[~np.isin(self._patients, queue)])
                fresh = fresh[: self.patients - len(queue)]
                batch_patients = np.concatenate([queue, fresh])
                queue = rng.permutation(self._patients[~np.isin(self._patients, fresh)])
            else:
                batch_patients, queue = queue[: self.patients], queue[self.patients :]
            rows = [self._draw(rng, int(p)) for p in batch_patients]
            batch = []
            for slot, mine in enumerate(rows):
                if slot % self.world_size == self.rank:
                    batch += [(row, draw + slot * per_patient + k) for k, row in enumerate(mine)]
            draw += self.patients * per_patient
            yield batch
