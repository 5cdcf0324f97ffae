"""A tiny pretraining of each recipe learns; what is kept of a run, when it ends and what it is called."""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl.config import OPTIONS, Compute, Run
from medssl.pretrain.fit import Fitted, fit
from medssl.pretrain.recipes import RECIPES
from medssl.pretrain.resume import arithmetic, run_hash
from medssl.store import Store

COMPUTE = Compute(accelerator="cpu", progress=False)
BATCH = {"patients": 4, "trials": 2, "samples": 2}
RESNET = {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1}
DILATED = {"name": "dilated1d", "widths": [8, 8], "depth": 3}
ENCODERS: dict[str, dict[str, Any]] = {
    "comet": DILATED,
    "comet_code": DILATED,
    "anatomy": {"name": "resnet2d", "widths": [4, 4, 8, 8], "depth": 1},
}

LABELS = {"sepclr": ["disease"]}  # of labelled recipes that read no number


def run_of(recipe: str, example: int = 0, *, options: dict[str, Any] | None = None, **pretrain: Any) -> Run:
    given = {
        "epochs": 4,
        "batch": BATCH,
        "lr": 3e-3,
        "projection_dim": 8,
        "monitor_label": "disease",
        "monitor_steps": 2,
        "labels": LABELS.get(recipe, ["age"]) if OPTIONS[recipe].labelled else [],
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


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in fitted.encoder.state_dict().items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    # A loss against an average or a memory rises while these fill; with what they hold it has to fall.
    run = run_of(recipe, epochs=8, steps_per_epoch=4, lr=5e-3, warmup_epochs=0, monitor_steps=4)
    first = 2 if recipe == "sogclr" or getattr(run.pretrain.options, "queue", 0) else 0
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
    # Had it died before the encoder was written, it would stay where it stopped.
    again = fit(stores["simclr"], run, seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert (again.steps, again.chosen, again.history) == (fitted.steps, fitted.chosen, fitted.history)
    assert all(torch.equal(a, b) for a, b in zip(weights(again).values(), weights(fitted).values(), strict=True))


def test_a_run_is_measured_every_so_many_steps_and_at_the_end(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("simclr", epochs=3, steps_per_epoch=5, monitor_steps=4, accumulate=2, monitor_label=None)
    fitted = fit(stores["simclr"], run, seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert [row["step"] for row in fitted.history] == [1, 5, 9]
    assert 0 < fitted.measuring < 1
    alone = fit(stores["simclr"], run_of("simclr", monitor_steps=None), seed=1, compute=COMPUTE, checkpoints=tmp_path)
    assert [row["step"] for row in alone.history] == [alone.steps]


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
    others.add(run_hash(run, moved.scaled_by(0.5), 3))
    assert len(others | {name}) == 6


def test_another_seed_gives_other_weights(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("comet", epochs=1)
    one, two = (fit(stores["comet"], run, seed=s, compute=COMPUTE, checkpoints=tmp_path) for s in (0, 1))
    assert not torch.equal(weights(one)["inputs.weight"], weights(two)["inputs.weight"])


def test_frozen_batches_need_no_composition(stores: dict[str, Store], tmp_path: Path) -> None:
    for recipe, options in (
        ("wearable", {}),
        ("comet_code", {"within": "source"}),
        ("simclr", {"steps_per_epoch": 3}),
        ("simclr", {"positives": {"trial": 1}}),
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
    for temperature, options in ((0.01, {"rho": None}), (2.0, {"rho": 0.3})):
        with pytest.raises(
            ValueError, match=rf"pretrain\.temperature {temperature:g}: sogclr begins there; take 0\.05"
        ):
            attempt(run_of("sogclr", temperature=temperature, options=options))
    with pytest.raises(ValueError, match=r"measures: name at least one"):
        run_of("anatomy", options={"measures": []})
    with pytest.raises(ValueError, match="no such class label"):
        attempt(run_of("simclr", monitor_label="age"))
