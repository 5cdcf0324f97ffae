"""``pretrain.regulariser``: every recipe has a term more, stopped or not; on two processes: see `test_gather`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.config import OPTIONS, Pretrain
from medssl.objectives.sigreg import sigreg
from medssl.pretrain.fit import fit
from medssl.pretrain.recipes import RECIPES
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, run_of
from tests.pretrain.test_gather import REGULARISED, ROWS, batch_of, module_of
from tests.pretrain.test_resume import assert_resumes

EMBEDDING, PROJECTION = REGULARISED["embedding"], REGULARISED["projection"]


def step_of(recipe: str, **given: Any) -> tuple[Any, Any, dict[str, float]]:
    """Return module, batch and curves of one training step."""
    module = module_of(recipe, options=OPTIONS[recipe].examples[0], **given).train()
    batch = module.on_after_batch_transfer(module.on_before_batch_transfer(batch_of(slice(0, ROWS)), 0), 0)
    module.training_step(batch, 0).backward()
    return module, batch, module.mean_losses()


@pytest.mark.parametrize("recipe", RECIPES)
def test_any_recipe_has_the_term(recipe: str) -> None:
    _, _, plain = step_of(recipe)
    assert "train/regulariser" not in plain
    for given in (EMBEDDING, *([] if recipe.startswith("comet") else [PROJECTION])):
        module, _, curves = step_of(recipe, regulariser=given)
        assert curves["train/regulariser"] > 0
        assert curves["train/loss"] == pytest.approx(plain["train/loss"] + 0.5 * curves["train/regulariser"], abs=1e-4)
        assert module.net._noted == []
        gradients = [p.grad for p in module.net.encoder.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)


def test_it_is_the_mean_over_views_of_what_is_not_yet_unit() -> None:
    module, batch, curves = step_of("simclr", regulariser=PROJECTION)
    net = module.net.eval()
    directions = net.directions(16, 6)
    terms = [sigreg(net.project(view, unit=False), directions) for view in batch.views]
    assert curves["train/regulariser"] == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)
    module, batch, curves = step_of("multiview", regulariser=EMBEDDING)
    directions = module.net.directions(16, 8)
    terms = [sigreg(module.net.eval().encoder(view), directions) for view in batch.views]
    assert len(terms) == 4
    assert curves["train/regulariser"] == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_a_feature_map_is_averaged_over_time() -> None:
    module, batch, curves = step_of("comet_code", regulariser=EMBEDDING)
    net = module.net.eval()
    directions = net.directions(16, 8)
    # Two passes of the sample itself and two of it masked.
    whole = sigreg(net.features(batch.x).mean(1), directions).item()
    net.train()
    net._noted.clear()
    with torch.no_grad():
        module.recipe.step(net, batch)
    terms = [sigreg(x, directions).item() for x in net._noted]
    assert len(terms) == 4
    assert terms[:2] == pytest.approx([whole, whole], rel=1e-5)
    assert curves["train/regulariser"] == pytest.approx(np.mean(terms), rel=1e-5)


def test_measuring_notes_nothing() -> None:
    module, batch, _ = step_of("simclr", regulariser=EMBEDDING)
    module.net.eval()
    losses = module.recipe.step(module.net, batch)
    assert losses.keys() == {"loss"}
    assert module.net._noted == []


def test_what_it_may_be_told() -> None:
    assert Pretrain().regulariser is None
    with pytest.raises(ValueError, match=r"regulariser\.of: projection: this recipe has none; take of: embedding"):
        module_of("comet", regulariser={"name": "sigreg"})
    for wrong in ({"name": "visreg"}, {"of": "head"}, {"weight": 0}, {"directions": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Pretrain.model_validate({"regulariser": wrong})


@pytest.mark.parametrize(("recipe", "given"), [("simclr", PROJECTION), ("comet", EMBEDDING)])
def test_resumed_equals_never_stopped(
    recipe: str, given: dict[str, Any], stores: dict[str, Store], tmp_path: Path
) -> None:
    run = run_of(recipe, steps_per_epoch=3, epochs=2, regulariser=given)
    assert_resumes(stores[recipe], run, tmp_path, after=4)


def test_mixed_precision_and_curves(stores: dict[str, Store], tmp_path: Path) -> None:
    compute = COMPUTE.model_copy(update={"precision": "bf16-mixed"})
    run = run_of("simclr", epochs=1, steps_per_epoch=4, regulariser=PROJECTION)
    fitted = fit(stores["simclr"], run, seed=0, compute=compute, checkpoints=tmp_path)
    curves = [row["train/regulariser"] for row in fitted.history]
    assert len(curves) == 2
    assert np.isfinite(curves).all()
