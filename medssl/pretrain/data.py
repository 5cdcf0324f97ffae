"""Batches for pretraining: samples, views where the loader makes them, ids and covariates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from torch import Tensor
from torch.utils.data import Dataset

from medssl import table as tables
from medssl.store import Store
from medssl.views.volumes import Crops, View


@dataclass(frozen=True)
class Batch:
    """B samples in the sampler's order. Views of signals are empty until they are made on the device.

    Attributes:
        x: (B, C, ...) float32.
        v1, v2: two views, like ``x``.
        crops: (B, n, C, ...) small crops, n = 0 unless the recipe wants them.
        patient, trial: (B,) int64.
        anatomy: (B, K) standardised measures, NaN = unknown.
        draw: (B,) int64, unique in the run; seeds everything random about the sample.
        duplicate: (B,) int64 class of near-duplicates, see `duplicate_classes`.
    """

    x: Tensor
    v1: Tensor
    v2: Tensor
    crops: Tensor
    patient: Tensor
    trial: Tensor
    anatomy: Tensor
    draw: Tensor
    duplicate: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device (Lightning calls this)."""
        return replace(self, **{k: v.to(device, non_blocking=non_blocking) for k, v in self.__dict__.items()})


def duplicate_classes(table: pd.DataFrame) -> np.ndarray:
    """Return the position (n,) of the sample that stands for each row: its own unless it is a duplicate of another.

    Rows of one number are near-duplicates. A position is the same whatever the key for patient names or the process.
    """
    own = np.arange(len(table))
    if "duplicate_of" not in table:
        return own
    place = pd.Index(table["sample_id"]).get_indexer(pd.Index(table["duplicate_of"]))
    code = np.where(place < 0, own, place)
    # What stands for an exact copy may be a near-duplicate itself.
    while not np.array_equal(code, code[code]):
        code = code[code]
    return code


def training_rows(table: pd.DataFrame, duplicates: str) -> np.ndarray:
    """Return the positions of the samples to train on.

    Args:
        table: sample table with receipts and split.
        duplicates: ``remove``: the kept training samples; ``mask`` and ``weight``: near-duplicates too. Exact copies
            stay out, and so does what was removed for no other sample's sake or is like one of another split.
    """
    train = (table["split"] == "train").to_numpy()
    chosen = table["kept"].to_numpy()
    if duplicates != "remove":
        near = table["duplicate_of"].notna() & (table["method"] != "exact")
        chosen = chosen | (near.to_numpy() & train[duplicate_classes(table)])
    return np.flatnonzero(train & chosen)


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of the anatomy measures over the training patients."""

    measures: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, table: pd.DataFrame, measures: tuple[str, ...]) -> Standard:
        """Fit on the training rows.

        Raises:
            ValueError: a measure the cohort does not have.
        """
        have = tables.measures(table)
        absent = [m for m in measures if m not in have]
        if absent:
            raise ValueError(
                f"pretrain.anatomy.measures: {absent} not in the cohort; it has: {', '.join(have) or 'none'}"
            )
        values = table[[f"anat_{m}" for m in measures]].to_numpy(float)
        std = np.nanstd(values, axis=0) if len(measures) else np.zeros(0)
        mean = np.nanmean(values, axis=0) if len(measures) else np.zeros(0)
        return cls(measures, mean, np.where(std > 0, std, 1.0))

    def apply(self, table: pd.DataFrame) -> np.ndarray:
        """Return standardised measures (n, K) float32, NaN where unknown."""
        values = table[[f"anat_{m}" for m in self.measures]].to_numpy(float)
        return ((values - self.mean) / self.std).astype(np.float32)


class Samples(Dataset[tuple[Tensor, ...]]):
    """Samples of a store by ``(row, draw)``; images come with two views and their crops, signals with none.

    Args:
        store: opened with its receipts and split.
        standard: of the anatomy measures.
        seed: with ``draw`` it decides the views.
        crops: small crops a sample (images alone).
    """

    def __init__(self, store: Store, standard: Standard, *, seed: int, crops: int = 0) -> None:
        self.store = store
        self.patient = store.table["patient"].to_numpy()
        self.trial = store.table["trial"].to_numpy()
        self.duplicate = duplicate_classes(store.table)
        self.anatomy = standard.apply(store.table)
        self.seed = seed
        shape = store.facts["shape"]
        image = len(shape) > 2
        self.view = View(shape[1:]) if image else None
        self.crops = Crops(shape[1:], number=crops) if image and crops else None

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        row, draw = key
        sample = self.store[row]
        x = torch.from_numpy(sample)
        views, crops = (x[:0], x[:0]), x.new_zeros((0, *x.shape))
        if self.view is not None:
            seeds = [int(s) for s in np.random.SeedSequence([self.seed, draw]).generate_state(3)]
            views = (self.view(sample, seeds[0]), self.view(sample, seeds[1]))
            if self.crops is not None:
                crops = self.crops(sample, seeds[2])
        ids = (int(self.patient[row]), int(self.trial[row]), draw, int(self.duplicate[row]))
        return (x, *views, crops, torch.tensor(ids), torch.from_numpy(self.anatomy[row]))


class Loader(DataLoader):
    """MONAI's loader, which gives its workers random states of their own; resumable within an epoch.

    Its state is empty: where a run is, the network knows, and the sampler asks it. Batches that workers fetched ahead
    of a checkpoint do not count.
    """

    def state_dict(self) -> dict[str, int]:
        """Return nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take nothing back."""


def collate(items: list[tuple[Tensor, ...]]) -> Batch:
    """Stack samples into a `Batch`."""
    x, v1, v2, crops, ids, anatomy = (torch.stack(column) for column in zip(*items, strict=True))
    patient, trial, draw, duplicate = ids.unbind(1)
    return Batch(x, v1, v2, crops, patient, trial, anatomy, draw, duplicate)
