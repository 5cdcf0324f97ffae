"""Why a level cannot be trained, told before anything is: by its recipe and encoder, and by what the cohort has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from medssl import table as tables
from medssl.config import Run
from medssl.evaluate import labels
from medssl.models import build
from medssl.pretrain.data import label_values, measure, training_rows
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.recipes.recipe import Sizes

if TYPE_CHECKING:
    from medssl.ablate.factors import Cell

SOME = 1000  # training samples whose measures are looked at


def of_recipe(run: Run) -> str:
    """Return what of a run its recipe or its encoder does not take, empty where all is well."""
    run = run.alone()
    if run.encoder is None:
        return ""
    recipe, params = RECIPES[run.recipe], run.pretrain
    try:
        encoder = build(**run.encoder.model_dump(), in_channels=1)
    except ValueError as error:
        return str(error)
    if recipe.partners and params.positives is not None:
        return f"pretrain.positives: recipe {run.recipe} has none to choose: {recipe.partners}"
    if recipe.duplicates and params.duplicates != "remove":
        return f"pretrain.duplicates: {params.duplicates} is not for recipe {run.recipe}: {recipe.duplicates}"
    if recipe.dense and run.encoder.crop is None and not hasattr(encoder, "features"):
        return f"recipe {run.recipe} needs an encoder with a feature map; {run.encoder.name} has none"
    return ""


def of_network(run: Run, table: pd.DataFrame, shape: tuple[int, ...]) -> str:
    """Return why a run has no network for its cohort, empty where it has.

    Args:
        run: of a level whose cohort has what it reads (`of_cohort`).
        table: sample table with receipts and a split.
        shape: of a sample, (C, ...).
    """
    run = run.alone()
    if run.encoder is None:
        return ""
    rows = training_rows(table, run.pretrain.duplicates)
    measures = measure(table, table.iloc[rows], run.pretrain.options.covariates())
    some = rows[:SOME]
    anatomy = torch.from_numpy(measures.values[some])
    try:
        recipe = RECIPES[run.recipe]
        fresh = build(**run.encoder.model_dump(), in_channels=shape[0])
        encoder = fresh if run.start is not None else recipe.begin(fresh, None)
        size = int(encoder.embedding_dim)  # type: ignore[arg-type]
        channels = tuple(table["channels"].iloc[0])
        read = run.pretrain
        values = label_values(table, table.iloc[rows], read.labels, numbers=read.options.numbers)
        sizes = Sizes(size, len(table), shape, measures.shapes, anatomy, channels, torch.from_numpy(values[some]))
        recipe.net(encoder, run.pretrain, sizes)
    except ValueError as error:
        return str(error)
    return ""


def of_cell(
    cell: Cell,
    runs: Mapping[str, Run],
    known: Mapping[str, pd.DataFrame],
    shapes: Mapping[str, tuple[int, ...]],
) -> str:
    """Return why a cell cannot be, as its cohort is, empty where it can; without its base run it has no difference.

    Args:
        cell: not refused yet.
        runs: by name.
        known: sample table of each cohort with receipts and splits.
        shapes: of the samples of each cohort.
    """
    own, base = runs[cell.run], runs[cell.base]
    parts = {run.modality: tables.of_fold(known[run.modality], None) for run in (own, base)}
    reasons = (
        of_cohort(run, parts[run.modality]) or of_network(run, parts[run.modality], shapes[run.modality])
        for run in (own, base)
    )
    alone = tested(known[own.modality]).index.symmetric_difference(tested(known[base.modality]).index)
    lost = f"{len(alone)} patients are in the cohort of the level or of {cell.base} alone, so that nothing is paired"
    return next(filter(None, (*reasons, lost * bool(len(alone)))), "")


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """Return whether each patient (index) is tested in each fold, or in the fixed split where there are none."""
    names = tables.folds(table) or ["split"]
    return table.groupby("patient")[names].first() == "test"


def moved(cells: Sequence[Cell], runs: Mapping[str, Run], known: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return for each cohort of a level in words how many patients are tested in other folds than in that it is of."""
    pairs = dict.fromkeys((runs[c.run].modality, runs[c.base].modality) for c in cells if not c.refused)
    out = []
    for own, base in (pair for pair in pairs if pair[0] != pair[1]):
        here, there = tested(known[own]), tested(known[base])
        other = int((here != there.reindex(here.index)).any(axis=1).sum())
        if other:
            out.append(f"{own}: {other} of {len(here)} patients are tested in other folds than in {base}")
    return out


def of_cohort(run: Run, table: pd.DataFrame) -> str:
    """Return what of a run its cohort does not have, empty where all is there.

    Args:
        run: of a level.
        table: sample table with receipts and a split.
    """
    training = table.iloc[training_rows(table, run.pretrain.duplicates)]
    factors, read = run.pretrain.options.covariates(), run.pretrain
    try:
        if read.monitor_label is not None:
            labels.require(tables.tasks(table), [read.monitor_label], key="pretrain.monitor_label")
        labels.require(tables.tasks(table), read.labels, key="pretrain.labels")
        values = measure(table, training, factors).values
        absent = labels.left_out(table, run.evaluate.labels)
    except ValueError as error:
        return str(error)
    if factors and not (pd.DataFrame(values[training.index.to_numpy()]).nunique() > 1).any():
        return "pretrain.options.measures: fewer than two values among the training patients, which weights no pair"
    if len(absent) == len(run.evaluate.labels):
        return "; ".join(f"{name}: {why}" for name, why in absent.items())
    return ""
