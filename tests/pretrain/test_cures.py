"""What is done about near duplicates in training, and how long a run of fewer samples is."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.pretrain.data import duplicate_classes
from medssl.pretrain.fit import fit
from medssl.pretrain.resume import run_hash
from medssl.store import Store
from tests.pretrain.test_fit import BATCH, COMPUTE, run_of


@pytest.mark.parametrize("cure", ["remove", "mask", "weight"])
@pytest.mark.parametrize("recipe", ["simclr", "wearable", "anatomy"])
def test_three_cures_of_near_duplicates(recipe: str, cure: str, redundant: Store, tmp_path: Path) -> None:
    encoder = run_of("simclr").encoder
    options: dict[str, Any] = {"duplicates": cure, "epochs": 2, "monitor_label": None}
    if recipe == "wearable":
        options["options"] = {"participant_pairs": 0.5}
    run = run_of(recipe, **options).model_copy(update={"encoder": encoder})
    rows: set[int] = set()
    read = type(redundant).__getitem__

    class Noted(Store):
        def __getitem__(self, index: int) -> np.ndarray:
            rows.add(index)
            return read(self, index)

    redundant.__class__ = Noted
    fitted = fit(redundant, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
    assert np.isfinite([row["train/loss"] for row in fitted.history]).all()
    table = redundant.table
    drawn = table.iloc[sorted(rows)].query("split == 'train'")
    assert (set(drawn["method"]) == {""}) == (cure == "remove")
    assert set(drawn["method"]) <= {"", "dhash"}
    if cure == "remove":
        return
    other = run.model_copy(update={"pretrain": run.pretrain.model_copy(update={"duplicates": "remove"})})
    alone = copy(redundant)
    # The same samples without a word on which are alike: another loss.
    alone.table = table.assign(duplicate_of=None, kept=table["kept"] | (table["method"] == "dhash"))
    plain = fit(alone, other, seed=0, compute=COMPUTE, checkpoints=tmp_path)
    assert plain.steps == fitted.steps
    assert plain.history[0]["train/loss"] != pytest.approx(fitted.history[0]["train/loss"], abs=1e-3)


@pytest.mark.parametrize("recipe", ["comet", "comet_code", "swav"])
@pytest.mark.parametrize("cure", ["mask", "weight"])
def test_cures_that_a_recipe_cannot_take(recipe: str, cure: str, stores: dict[str, Store], tmp_path: Path) -> None:
    why = "it predicts codes and has no negatives" if recipe == "swav" else "similar samples of a trial are its"
    with pytest.raises(
        ValueError, match=rf"pretrain\.duplicates: {cure} is not for recipe {recipe}: .*{why}"
    ) as caught:
        fit(stores[recipe], run_of(recipe, duplicates=cure), seed=0, compute=COMPUTE, checkpoints=tmp_path)
    assert "\n" not in str(caught.value)


def test_l11_equal_epochs_and_equal_steps(redundant: Store, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "monitor_label": None, "batch": BATCH | {"samples": 1}}

    def length(**more: Any) -> tuple[int, int]:
        fitted = fit(redundant, run_of("simclr", **options, **more), seed=0, compute=COMPUTE, checkpoints=tmp_path)
        assert fitted.seconds > 0
        return fitted.steps, fitted.steps_unreduced

    # 15 samples kept of 48, 30 without exact copies and the control; 8 a batch.
    assert len(redundant.table.query("kept and split == 'train'")) == 15
    assert length() == (4, 12)
    assert length(length="equal_steps") == (12, 12)
    assert length(duplicates="mask") == (2 * round(30 / 8), 12)
    assert length(duplicates="weight", length="equal_steps", accumulate=4) == (4, 4)
    assert length(steps_per_epoch=3) == (6, 6)
    stopped = {"epochs": 40, "select": "loss", "lr": 0.3, "patience": 2, "warmup_epochs": 0, "monitor_label": None}
    options |= stopped
    steps, unreduced = length()
    assert steps < 80
    assert unreduced == 3 * steps


def test_names_of_runs_know_the_classes_where_they_matter(redundant: Store) -> None:
    other = copy(redundant)
    of = redundant.table["duplicate_of"].where(redundant.table.index != 5, redundant.table["sample_id"][3])
    other.table = redundant.table.assign(duplicate_of=of)
    assert duplicate_classes(other.table).tolist() != duplicate_classes(redundant.table).tolist()
    names = {
        cure: [run_hash(run_of("simclr", duplicates=cure), store, 3) for store in (redundant, other)]
        for cure in ("remove", "mask", "weight")
    }
    assert names["remove"][0] == names["remove"][1]
    assert len({*names["remove"], *names["mask"], *names["weight"]}) == 5
