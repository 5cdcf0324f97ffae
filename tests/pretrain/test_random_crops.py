"""``encoder.crop``: pretraining sees random crops, and everything else whole samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.config import Run
from medssl.models.crops import Crops
from medssl.models.embed import embed_samples
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, run_of
from tests.pretrain.test_resume import assert_resumes

CROP = 32
ORDINARY = [name for name, recipe in RECIPES.items() if not recipe.dense]


def cropped(recipe: str, crop: int = CROP, **pretrain: object) -> Run:
    run = run_of(recipe, **{"epochs": 2, "steps_per_epoch": 2, **pretrain})  # type: ignore[arg-type]
    assert run.encoder is not None
    return run.model_copy(update={"encoder": run.encoder.model_copy(update={"name": "resnet1d", "crop": crop})})


@pytest.mark.parametrize("recipe", ORDINARY)
def test_every_recipe_of_ordinary_views(
    recipe: str, signal_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, int]] = set()
    forward = Crops.forward

    def watched(self: Crops, x: Tensor) -> Tensor:
        seen.add((torch.is_inference_mode_enabled(), x.shape[2]))
        return forward(self, x)

    monkeypatch.setattr(Crops, "forward", watched)
    fitted = fit(signal_store, cropped(recipe, predict={}), seed=0, compute=COMPUTE, checkpoints=tmp_path)
    assert np.isfinite([row["train/loss"] for row in fitted.history]).all()
    # Trained, and validated, on crops; measured on whole samples.
    assert {steps for measured, steps in seen if not measured} <= {CROP, round(CROP * 96 / 224)}
    assert {steps for measured, steps in seen if measured} == {64}
    assert isinstance(fitted.encoder, Crops)
    assert embed_samples(fitted.encoder, signal_store).shape == (len(signal_store), 8)


def test_resumed_equals_never_stopped(signal_store: Store, tmp_path: Path) -> None:
    run = cropped("simclr", steps_per_epoch=3, predict={"name": "latent"}, positives={"view": 0.5, "patient": 0.5})
    assert_resumes(signal_store, run, tmp_path, after=4)


def test_a_crop_of_the_whole_sample_changes_nothing(signal_store: Store, tmp_path: Path) -> None:
    whole = fit(signal_store, run_of("simclr", epochs=2), seed=0, compute=COMPUTE, checkpoints=tmp_path / "a")
    run = cropped("simclr", 64, epochs=2, steps_per_epoch=None)
    same = fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path / "b")
    assert isinstance(same.encoder, Crops)
    assert [row["train/loss"] for row in same.history] == [row["train/loss"] for row in whole.history]
    values = same.encoder.encoder.state_dict()
    assert all(torch.equal(value, values[name]) for name, value in whole.encoder.state_dict().items())


def test_refused(signal_store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder\.crop 65: samples have 64 steps \(ingest\.window_s\); take fewer"):
        fit(signal_store, cropped("simclr", 65), seed=0, compute=COMPUTE, checkpoints=tmp_path)
    run = run_of("comet")
    assert run.encoder is not None
    run = run.model_copy(update={"encoder": run.encoder.model_copy(update={"crop": 32})})
    with pytest.raises(ValueError, match=r"encoder\.crop 32: this recipe reads every step of a sample; leave it out"):
        fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
