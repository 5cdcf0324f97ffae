"""Stores of the training tests: one for each recipe, and one of near duplicates."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest

from medssl.pretrain.recipes import RECIPES
from medssl.store import Store


@pytest.fixture
def stores(signal_store: Store, image_store: Store) -> dict[str, Store]:
    return {recipe: image_store if recipe == "anatomy" else signal_store for recipe in RECIPES}


@pytest.fixture
def redundant(signal_store: Store) -> Store:
    """48 training samples, of which the first of each trial is kept; one trial is an exact copy.

    The thirds of all patients are alike, and the seconds went by a control that names no representative.
    """
    store = copy(signal_store)
    table = store.table = signal_store.table.copy()
    ids = table["sample_id"].to_numpy().reshape(-1, 3)
    kept, of, method = np.zeros(ids.shape, bool), np.full(ids.shape, None, object), np.full(ids.shape, "", object)
    kept[:, 0], method[:, 1] = True, "every_n"
    of[:, 2], method[:, 2] = ids[0, 0], "dhash"
    kept[8], of[8], method[8] = False, ids[0], "exact"
    table["kept"], table["duplicate_of"], table["method"] = kept.ravel(), of.ravel(), method.ravel()
    return store
