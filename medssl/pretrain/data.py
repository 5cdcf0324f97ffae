"""Batches for pretraining: samples, ids and covariates; views are made on the device."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medssl import table as tables
from medssl.config import Factor
from medssl.objectives.descriptors import Standardiser, minmax_per_subject
from medssl.store import Store


@dataclass(frozen=True)
class Batch:
    """B samples in the sampler's order.

    Attributes:
        x: (B, C, ...) float32.
        patient, trial: (B,) int64.
        draw: (B,) int64, unique in the run; seeds everything random about the sample.
        row: (B,) int64 position in the store, the same in every run and on every process.
        duplicate: (B,) int64 class of near-duplicates, see `duplicate_classes`.
        anatomy: (B, K) measures, scaled as their factors say, NaN = unknown.
        label: (B, L) the labels of ``pretrain.labels``: numbers, or codes of classes; NaN = unknown.
        weight: (B,) of the sample, from the table's column ``weight``; 1 without it.
        partner: the samples of the same patients that these are pulled to (``pretrain.positives``), with the same draw
            numbers; None: themselves.
        views: random views, whole ones (B, C, ...) and then small crops; empty until they are made on the device. The
            first, third ... of either kind are of the sample, the second, fourth ... of the partner.
        told: (B, K) what the field measures in them (`medssl.pretrain.told`), where a term reads it; NaN = unknown.
        place: (B, V, d, d + 1) the affine map from each view to what it is of (`medssl.views.volumes`); NaN where a
            view of a signal was shifted or warped; None without views.
    """

    x: Tensor
    patient: Tensor
    trial: Tensor
    draw: Tensor
    row: Tensor
    duplicate: Tensor
    anatomy: Tensor
    label: Tensor
    weight: Tensor
    partner: Batch | None = None
    views: tuple[Tensor, ...] = ()
    told: Tensor | None = None
    place: Tensor | None = None

    @property
    def second(self) -> Batch:
        """What every second view is of, with its own ids and covariates: the partners, else the samples themselves."""
        return self.partner or self

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device (Lightning calls this)."""
        moved = {k: v.to(device, non_blocking=non_blocking) for k, v in vars(self).items() if isinstance(v, Tensor)}
        partner = self.partner and self.partner.to(device, non_blocking=non_blocking)
        views = tuple(v.to(device, non_blocking=non_blocking) for v in self.views)
        return replace(self, **moved, partner=partner, views=views)


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


class Measures(NamedTuple):
    """What a recipe reads of the patients.

    Attributes:
        values: (n, K) float32 of the store's rows, one factor's columns after the other, NaN = unknown.
        shapes: of each factor's columns: (Q,) measures, or (R, Q) regions and their measures.
    """

    values: np.ndarray
    shapes: tuple[tuple[int, ...], ...]


def columns(key: str, factor: Factor, have: Sequence[str]) -> list[str]:
    """Return the measures of a factor among those of a cohort, region after region where it has regions.

    Args:
        key: of the options that names it.
        factor: with names or patterns.
        have: measures of the cohort.

    Raises:
        ValueError: a measure that the cohort does not have, or regions none of which has all the measures.
    """
    regions = [""]
    if factor.regions:
        ends = [f"_{measure}" for measure in factor.measures]
        found = [name.removesuffix(ends[0]) for name in have if name.endswith(ends[0])]
        whole = [region for region in found if all(region + end in have for end in ends)]
        regions = [f"{region}_" for region in whole if any(fnmatch.fnmatchcase(region, p) for p in factor.regions)]
    names = [f"{region}{measure}" for region in regions for measure in factor.measures]
    absent = [name for name in (*names, *[factor.icv] * bool(factor.corrected)) if name not in have]
    if absent or not names:
        what = f"no measure '{absent[0]}'" if names else f"no region {list(factor.regions)} has all of them"
        where = "icv" if absent == [factor.icv] else key
        raise ValueError(f"pretrain.options.{where}: {what}; the cohort has: {', '.join(have) or 'none'}")
    return names


def measure(table: pd.DataFrame, training: pd.DataFrame, factors: Mapping[str, Factor]) -> Measures:
    """Return the factors of all rows of a table, on scales fitted on the training rows alone."""
    have = tables.measures(table)
    values, shapes = [np.zeros((len(table), 0))], []
    for key, factor in factors.items():
        names = columns(key, factor, have)
        shape = (len(names) // len(factor.measures), len(factor.measures))[0 if factor.regions else 1 :]
        read, fit_on = (t[[f"anat_{n}" for n in names]].to_numpy(float).reshape(-1, *shape) for t in (table, training))
        if factor.scaling == "standard":
            head, fit_head = (t[f"anat_{factor.icv}"] if factor.corrected else None for t in (table, training))
            corrected = [factor.measures.index(m) for m in factor.corrected]
            read = Standardiser.fit(fit_on, fit_head, corrected=corrected).apply(read, head)
        elif factor.scaling == "minmax":
            read = minmax_per_subject(torch.from_numpy(read)).numpy()
        values.append(read.reshape(len(table), -1))
        shapes.append(shape)
    return Measures(np.concatenate(values, 1).astype(np.float32), tuple(shapes))


def label_values(
    table: pd.DataFrame, training: pd.DataFrame, names: Sequence[str], *, numbers: bool = False
) -> np.ndarray:
    """Return labels (n, L) float32: numbers as they are, classes by their place among those of the training rows.

    Args:
        table: sample table.
        training: its rows that are trained on.
        names: of the labels.
        numbers: refuse classes, whose places have no distances.

    Raises:
        ValueError: a label that the cohort does not have, one of several classes at once, or of classes.
    """
    out = np.full((len(table), len(names)), np.nan, dtype=np.float32)
    for k, name in enumerate(names):
        column = table.get(f"label_{name}")
        if column is None or column.dropna().map(lambda value: not isinstance(value, str | int | float)).any():
            raise ValueError(f"pretrain.labels: no class or number '{name}'; the cohort has: {tables.tasks(table)}")
        if pd.api.types.is_numeric_dtype(column):
            out[:, k] = column
        elif numbers:
            raise ValueError(f"pretrain.labels: '{name}' has classes, and the recipe reads a number; name another")
        else:
            code = pd.Index(sorted(training[f"label_{name}"].dropna().unique())).get_indexer(pd.Index(column))
            out[:, k] = np.where(code < 0, np.nan, code)
    return out


class Samples(Dataset[tuple[Tensor, ...]]):
    """Samples of a store by ``(row, draw)``, or pairs by ``(row, draw, partner)``, with what `Batch` has of them.

    Args:
        store: opened with its receipts and split.
        anatomy: (n, K) of its rows; None: K = 0.
        label: (n, L) of its rows; None: L = 0.
    """

    def __init__(self, store: Store, anatomy: np.ndarray | None = None, label: np.ndarray | None = None) -> None:
        self.store, table, none = store, store.table, np.zeros((len(store), 0), np.float32)
        self.anatomy, self.label = (none if values is None else values for values in (anatomy, label))
        self.duplicate = duplicate_classes(table)
        self.patient, self.trial = table["patient"].to_numpy(), table["trial"].to_numpy()
        given = table["weight"].fillna(1) if "weight" in table else np.ones(len(table))
        self.weight = np.asarray(given, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Tensor, ...]:
        row, draw, *partner = key
        own = self._read(row, draw)
        return own + tuple(part for other in partner for part in (own if other == row else self._read(other, draw)))

    def _read(self, row: int, draw: int) -> tuple[Tensor, ...]:
        ids = (int(self.patient[row]), int(self.trial[row]), draw, row, int(self.duplicate[row]))
        covariates = (torch.from_numpy(values[row]) for values in (self.anatomy, self.label))
        return (torch.from_numpy(self.store[row]), torch.tensor(ids), *covariates, torch.tensor(self.weight[row]))


class Loader(DataLoader):
    """Torch's loader, resumable within an epoch; nothing that its workers do is random.

    Its state is empty: where a run is, the network knows, and the sampler asks it. Batches that workers fetched ahead
    of a checkpoint do not count.
    """

    def state_dict(self) -> dict[str, int]:
        """Return nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take nothing back."""


def collate(items: list[tuple[Tensor, ...]]) -> Batch:
    """Stack samples, or pairs, into a `Batch`."""
    columns = [torch.stack(column) for column in zip(*items, strict=True)]
    own, partner = (_batch(*columns[:5]), _batch(*columns[5:]) if columns[5:] else None)
    return replace(own, partner=partner)


def _batch(x: Tensor, ids: Tensor, anatomy: Tensor, label: Tensor, weight: Tensor) -> Batch:
    patient, trial, draw, row, duplicate = ids.unbind(1)
    return Batch(x, patient, trial, draw, row, duplicate, anatomy, label, weight)
