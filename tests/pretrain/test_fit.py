"""A tiny pretraining of each recipe: it learns, and a resumed run equals one that never stopped."""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl.config import OPTIONS, Compute, Run
from medssl.pretrain.data import duplicate_classes
from medssl.pretrain.fit import Fitted, arithmetic, fit, run_hash
from medssl.pretrain.recipes import RECIPES
from medssl.store import Store

COMPUTE = Compute(accelerator="cpu", progress=False)
# Saves after each batch, so that a run may die anywhere.
ALWAYS = COMPUTE.model_copy(update={"checkpoint_minutes": 1e-9})
BATCH = {"patients": 4, "trials": 2, "samples": 2}
RESNET = {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1}
DILATED = {"name": "dilated1d", "widths": [8, 8], "depth": 3}
ENCODERS: dict[str, dict[str, Any]] = {
    "comet": DILATED,
    "comet_code": DILATED,
    "anatomy": {"name": "resnet2d", "widths": [4, 4, 8, 8], "depth": 1},
}
EXAMPLES = [(recipe, number) for recipe in RECIPES for number in range(len(OPTIONS[recipe].examples))]


class Killed(Exception):
    """What ends a run in the middle."""


def run_of(recipe: str, example: int = 0, *, options: dict[str, Any] | None = None, **pretrain: Any) -> Run:
    given = {
        "epochs": 4,
        "batch": BATCH,
        "lr": 3e-3,
        "projection_dim": 8,
        "monitor_label": "disease",
        "monitor_steps": 2,
    }
    return Run.model_validate(
        {
            "modality": "x",
            "recipe": recipe,
            "encoder": ENCODERS.get(recipe, RESNET),
            "pretrain": {**given, **pretrain, "options": OPTIONS[recipe].examples[example] | (options or {})},
            "evaluate": {"labels": ["disease"]},
        }
    )


@pytest.fixture
def stores(signal_store: Store, image_store: Store) -> dict[str, Store]:
    return {recipe: image_store if recipe == "anatomy" else signal_store for recipe in RECIPES}


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in fitted.encoder.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def killed(store: Store, run: Run, folder: Path, *, after: int, compute: Compute = ALWAYS) -> None:
    """Run until so many batches are done, and die there."""

    def die(*seen: Any) -> None:
        if seen[-1] == after:
            raise Killed

    with pytest.raises(Killed):
        fit(store, run, seed=3, compute=compute, checkpoints=folder, on_step=die)
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


def test_resumed_with_accumulation_workers_and_frozen_batches(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("simclr", accumulate=2, steps_per_epoch=5, epochs=2, schedule="step")
    assert_resumes(stores["simclr"], run, tmp_path / "accumulate", after=3)
    workers = ALWAYS.model_copy(update={"loader_workers": 2})
    assert_resumes(stores["anatomy"], run_of("anatomy", epochs=2), tmp_path / "workers", after=3, compute=workers)
    fixed = run_of("comet_code", sampler="comet_fixed", epochs=2)
    assert_resumes(stores["comet_code"], fixed, tmp_path / "fixed", after=1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    # A loss against an average or a memory rises while these fill; with what they hold it has to fall.
    first = {"sogclr": 2, "mochi": 2}.get(recipe, 0)
    run = run_of(recipe, epochs=8, steps_per_epoch=4, lr=5e-3, warmup_epochs=0, monitor_steps=4)
    fitted = fit(stores[recipe], run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
    losses = [row["train/loss"] for row in fitted.history]
    assert [row["step"] for row in fitted.history] == [4, 8, 12, 16, 20, 24, 28, 32]
    assert np.mean(losses[-2:]) < losses[first] - 0.04
    last = fitted.history[-1]
    named = {"lr", "train/rankme", "train/rankme_encoder", "val/rankme", "val/knn", "val/dispersion", "val/loss"}
    assert named | {"val/alignment", "val/uniformity"} <= set(last)
    assert 1 <= last["val/rankme"] <= 8
    assert not fitted.encoder.training
    assert fitted.unpaired.keys() == {"patient", "trial"}


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_learns(precision: str, stores: dict[str, Store], tmp_path: Path) -> None:
    compute = COMPUTE.model_copy(update={"precision": precision})
    for recipe, example in (*((name, 0) for name in RECIPES), ("byol", 2)):
        run = run_of(recipe, example, epochs=2, steps_per_epoch=3, lr=5e-3, warmup_epochs=0)
        fitted = fit(stores[recipe], run, seed=0, compute=compute, checkpoints=tmp_path)
        assert np.isfinite([row["train/loss"] for row in fitted.history]).all()
        assert all(v.dtype != torch.bfloat16 for v in fitted.encoder.state_dict().values())


@pytest.mark.parametrize("kernel", ["local", "global", "rbf"])
def test_anatomy_of_regions_corrected_for_the_head(kernel: str, image_store: Store, tmp_path: Path) -> None:
    store, rng = copy(image_store), np.random.default_rng(0)
    head = rng.normal(1500, 100, len(store))
    measures = {
        f"anat_lh_{r}_{m}": rng.normal(3, 1, len(store)) + head * (m == "mm3") for r in "abc" for m in ("mm", "mm3")
    }
    store.table = image_store.table.assign(anat_intracranial_mm3=head, **measures)
    options = {"measures": ["mm", "mm3"], "regions": ["lh_*"], "corrected": ["mm3"], "kernel": kernel}
    losses = []
    for corrected in (options, options | {"corrected": []}):
        run = run_of("anatomy", epochs=1, steps_per_epoch=2, monitor_label=None)
        run = Run.model_validate(run.model_dump() | {"pretrain": dict(run.pretrain) | {"options": corrected}})
        fitted = fit(store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
        assert 1 <= fitted.history[-1]["train/positives"] <= 31
        losses.append(fitted.history[-1]["train/loss"])
    assert losses[0] != pytest.approx(losses[1], abs=1e-4)


def test_accumulation_takes_fewer_steps(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("simclr", accumulate=2, steps_per_epoch=5, epochs=2)
    assert fit(stores["simclr"], run, seed=0, compute=COMPUTE, checkpoints=tmp_path).steps == 6


def test_the_encoder_is_chosen_by_validation(stores: dict[str, Store], tmp_path: Path) -> None:
    kept: list[dict[str, float]] = []
    run = run_of("simclr", epochs=6, steps_per_epoch=2, select="loss", lr=0.05)
    chosen = fit(
        stores["simclr"], run, seed=1, compute=COMPUTE, checkpoints=tmp_path, on_measured=lambda r, _: kept.append(r)
    )
    assert chosen.chosen == kept[int(np.argmin([row["val/loss"] for row in kept]))]["step"]
    last = fit(
        stores["simclr"],
        run_of("simclr", epochs=6, steps_per_epoch=2, select="last", lr=0.05),
        seed=1,
        compute=COMPUTE,
        checkpoints=tmp_path,
    )
    assert last.chosen == 12
    same = all(torch.equal(a, b) for a, b in zip(weights(chosen).values(), weights(last).values(), strict=True))
    assert same == (chosen.chosen == 12)


def test_patience_ends_a_run_that_gets_no_better(stores: dict[str, Store], tmp_path: Path) -> None:
    options = {"select": "loss", "lr": 0.3, "patience": 2, "warmup_epochs": 0}
    run = run_of("simclr", epochs=8, steps_per_epoch=5, monitor_steps=1, **options)
    fitted = fit(stores["simclr"], run, seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert len(fitted.history) == fitted.steps < 40
    assert fitted.steps - fitted.chosen == 2  # within an epoch too


def test_a_run_is_measured_every_so_many_steps_and_at_the_end(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("simclr", epochs=3, steps_per_epoch=5, monitor_steps=4, accumulate=2, monitor_label=None)
    fitted = fit(stores["simclr"], run, seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert [row["step"] for row in fitted.history] == [4, 8, 9]
    assert 0 < fitted.measuring < 1
    alone = fit(stores["simclr"], run_of("simclr", monitor_steps=None), seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert [row["step"] for row in alone.history] == [alone.steps]


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


def test_what_decides_the_numbers_is_in_the_name() -> None:
    def name(device: str = "cpu", size: int = 16, processes: int = 1, **compute: Any) -> str:
        return arithmetic(Compute(**compute), torch.device(device), size=size, processes=processes)

    assert name() == "16-1xcpu-32-true"
    changes: list[dict[str, Any]] = [
        {}, {"device": "cuda"}, {"size": 8}, {"processes": 2}, {"precision": "bf16-mixed"}, {"compile": True},
    ]  # fmt: skip
    assert len({name(**change) for change in changes}) == 6
    # On which GPU, by how many workers, how often saved and how shown changes nothing.
    assert name("cuda:0") == name("cuda:1")
    assert name(loader_workers=3, checkpoint_minutes=1, progress=False, workers=4, executor="process") == name()


def test_names_of_runs(stores: dict[str, Store], signal_folder: Path, tmp_path: Path) -> None:
    store, run = stores["simclr"], run_of("simclr")
    name = run_hash(run, store, 3)
    assert run_hash(run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"seeds": 9})}), store, 3) == name
    others = {run_hash(run, store, 4), run_hash(run_of("simclr", temperature=0.2), store, 3)}
    shutil.copytree(signal_folder, tmp_path / "c")
    moved = Store(tmp_path / "c" / "store", tmp_path / "c" / "dedup.parquet", tmp_path / "c" / "split.parquet")
    assert run_hash(run, moved, 3) == name
    for column, value in (("split", "test"), ("kept", False)):
        table = moved.table.copy()
        table.loc[0, column] = value
        altered = Store(tmp_path / "c" / "store")
        altered.table = table
        others.add(run_hash(run, altered, 3))
    assert len(others | {name}) == 5


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


def test_time_goes_on_over_a_stop(redundant: Store, tmp_path: Path) -> None:
    run = run_of("simclr", epochs=2, steps_per_epoch=2, monitor_label=None)
    killed(redundant, run, tmp_path / "a", after=3)
    (state,) = tmp_path.glob("a/*/last.ckpt")
    saved = torch.load(state, weights_only=True)
    saved["callbacks"]["Checkpoints"]["seconds"] = 5000.0
    torch.save(saved, state)
    assert 5000 < fit(redundant, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a").seconds < 5600


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


def test_another_seed_gives_other_weights(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("comet", epochs=1)
    one, two = (fit(stores["comet"], run, seed=s, compute=COMPUTE, checkpoints=tmp_path) for s in (0, 1))
    assert not torch.equal(weights(one)["inputs.weight"], weights(two)["inputs.weight"])


def test_frozen_batches_need_no_composition(stores: dict[str, Store], tmp_path: Path) -> None:
    for recipe, options in (
        ("wearable", {}),
        ("comet_code", {"within": "source"}),
        ("simclr", {"steps_per_epoch": 3}),
        ("simclr", {"length": "equal_steps"}),
    ):
        with pytest.raises(ValueError, match=r"pretrain\.sampler: comet_fixed"):
            fit(
                stores[recipe],
                run_of(recipe, sampler="comet_fixed", **options),
                seed=0,
                compute=COMPUTE,
                checkpoints=tmp_path,
            )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_compiled_encoder_trains_to_the_same_losses(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("comet", epochs=1, steps_per_epoch=2)
    run = run.model_copy(update={"encoder": run.encoder.model_copy(update={"depth": 1})})
    plain, compiled = (
        fit(stores["comet"], run, seed=0, compute=COMPUTE.model_copy(update={"compile": on}), checkpoints=tmp_path)
        for on in (False, True)
    )
    # Dropout of compiled code has random numbers of its own.
    assert compiled.history[0]["train/loss"] == pytest.approx(plain.history[0]["train/loss"], abs=0.2)
    assert compiled.encoder.state_dict().keys() == plain.encoder.state_dict().keys()


def test_what_a_recipe_needs(stores: dict[str, Store], tmp_path: Path) -> None:
    def attempt(run: Run) -> None:
        fit(stores["simclr"], run, seed=0, compute=COMPUTE, checkpoints=tmp_path)

    wrong = run_of("comet").model_copy(update={"encoder": run_of("simclr").encoder})
    with pytest.raises(ValueError, match=r"use encoder\.name: dilated1d"):
        attempt(wrong)
    with pytest.raises(ValueError, match=r"options\.measures: no measure 'spleen_ml'; the cohort has: age_years"):
        attempt(run_of("anatomy", options={"measures": ["spleen_ml"]}))
    with pytest.raises(ValueError, match=r"measures: name at least one"):
        run_of("anatomy", options={"measures": []})
    with pytest.raises(ValueError, match="no such class label"):
        attempt(run_of("simclr", monitor_label="age"))
