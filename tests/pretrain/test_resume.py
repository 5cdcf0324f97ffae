"""A resumed run equals one that never stopped, and another run does not start from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl.config import OPTIONS, Compute, Run
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.resume import run_hash
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, run_of, weights

# Saves after each batch, so that a run may die anywhere.
ALWAYS = COMPUTE.model_copy(update={"checkpoint_minutes": 1e-9})
EXAMPLES = [(recipe, number) for recipe in RECIPES for number in range(len(OPTIONS[recipe].examples))]


class Killed(Exception):
    """What ends a run in the middle."""


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def killed(
    store: Store,
    run: Run,
    folder: Path,
    *,
    after: int,
    compute: Compute = ALWAYS,
    start: nn.Module | None = None,
    seed: int = 3,
) -> None:
    """Run until so many batches are done, and die there."""

    def die(*seen: Any) -> None:
        if seen[-1] == after:
            raise Killed

    with pytest.raises(Killed):
        fit(store, run, seed=seed, compute=compute, checkpoints=folder, start=start, on_step=die)
    assert len(list(folder.iterdir())) == 1


def assert_resumes(store: Store, run: Run, tmp_path: Path, *, after: int, compute: Compute = ALWAYS) -> None:
    state = torch.get_rng_state()
    whole = fit(store, run, seed=3, compute=compute, checkpoints=tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)
    killed(store, run, tmp_path / "b", after=after, compute=compute)
    steps: list[int] = []
    with torch.random.fork_rng():
        torch.manual_seed(12345)  # another process has other global state
        rows: list[tuple[dict[str, float], int]] = []
        resumed = fit(
            store,
            run,
            seed=3,
            compute=compute,
            checkpoints=tmp_path / "b",
            on_measured=lambda r, step: rows.append((r, step)),
            on_step=steps.append,
        )
    assert steps[0] == after // run.pretrain.accumulate * run.pretrain.accumulate + 1  # it did go on, not start again
    assert_equal(weights(resumed), weights(whole))
    assert (resumed.steps, resumed.chosen) == (whole.steps, whole.chosen)
    assert resumed.history == whole.history
    # A new run is opened for the resumed stage: it gets the earlier measurements too.
    assert [step for _, step in rows] == [row["step"] for row in whole.history]
    assert [row for row, _ in rows] == whole.history
    assert list((tmp_path / "b").iterdir()) == [resumed.checkpoints]  # it goes once the encoder is written


@pytest.mark.parametrize(("recipe", "example"), EXAMPLES)
def test_resumed_in_an_epoch_equals_never_stopped(
    recipe: str, example: int, stores: dict[str, Store], tmp_path: Path
) -> None:
    # Three batches an epoch: after 4, one of the second epoch is done.
    after = int(np.random.default_rng([example, *recipe.encode()]).choice([1, 2, 4, 5, 7]))
    assert_resumes(stores[recipe], run_of(recipe, example, steps_per_epoch=3, epochs=3), tmp_path, after=after)


@pytest.mark.parametrize("recipe", ["comet", "wearable"])
def test_resumed_between_epochs_equals_never_stopped(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    run, store = run_of(recipe, steps_per_epoch=3), stores[recipe]
    whole = fit(store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a")
    killed(store, run, tmp_path / "b", after=6 + 1, compute=COMPUTE)  # in the third epoch, the second being saved
    resumed = fit(store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b")
    assert_equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history


def test_resumed_with_accumulation_workers_partners_and_frozen_batches(
    stores: dict[str, Store], tmp_path: Path
) -> None:
    run = run_of("simclr", accumulate=2, steps_per_epoch=5, epochs=2, schedule="step")
    assert_resumes(stores["simclr"], run, tmp_path / "accumulate", after=3)
    workers = ALWAYS.model_copy(update={"loader_workers": 2})
    assert_resumes(stores["anatomy"], run_of("anatomy", epochs=2), tmp_path / "workers", after=3, compute=workers)
    paired = run_of("sogclr", positives={"view": 0.4, "trial": 0.3, "patient": 0.3}, steps_per_epoch=3, epochs=2)
    assert_resumes(stores["sogclr"], paired, tmp_path / "paired", after=4, compute=workers)
    fixed = run_of("comet_code", sampler="comet_fixed", epochs=2)
    assert_resumes(stores["comet_code"], fixed, tmp_path / "fixed", after=1)


def test_changed_parameters_do_not_start_from_the_old_checkpoint(stores: dict[str, Store], tmp_path: Path) -> None:
    store, old, new = stores["simclr"], run_of("simclr", epochs=2), run_of("simclr", epochs=2, lr=1e-3)
    killed(store, old, tmp_path / "a", after=4)
    changed = fit(store, new, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a")
    fresh = fit(store, new, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b")
    assert_equal(weights(changed), weights(fresh))
    assert changed.history == fresh.history
    names = {p.name.split("-")[0] for p in (tmp_path / "a").iterdir()}
    assert names == {run_hash(old, store, 3), run_hash(new, store, 3)}


def test_another_precision_starts_anew_and_the_same_goes_on(stores: dict[str, Store], tmp_path: Path) -> None:
    store, run = stores["simclr"], run_of("simclr", epochs=2, steps_per_epoch=3)
    half = COMPUTE.model_copy(update={"precision": "bf16-mixed"})
    killed(store, run, tmp_path / "a", after=4)
    steps: list[int] = []
    changed = fit(store, run, seed=3, compute=half, checkpoints=tmp_path / "a", on_step=steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]
    fresh = fit(store, run, seed=3, compute=half, checkpoints=tmp_path / "b")
    assert_equal(weights(changed), weights(fresh))
    assert changed.history == fresh.history
    # The first precision's state is still there, and goes on as if nothing had been between.
    steps.clear()
    resumed = fit(store, run, seed=3, compute=ALWAYS, checkpoints=tmp_path / "a", on_step=steps.append)
    assert steps == [5, 6]
    whole = fit(store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b")
    assert_equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(fresh).values(), strict=True))


def test_time_goes_on_over_a_stop(redundant: Store, tmp_path: Path) -> None:
    run = run_of("simclr", epochs=2, steps_per_epoch=2, monitor_label=None)
    killed(redundant, run, tmp_path / "a", after=3)
    (state,) = tmp_path.glob("a/*/last.ckpt")
    saved = torch.load(state, weights_only=True)
    saved["callbacks"]["Checkpoints"]["seconds"] = 5000.0
    torch.save(saved, state)
    assert 5000 < fit(redundant, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a").seconds < 5600
