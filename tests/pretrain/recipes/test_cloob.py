"""CLOOB as a recipe: its options and the patients reach the loss, view by view."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medssl.objectives.cloob import cloob
from tests.pretrain.test_module import batch_of, training_of


@pytest.mark.parametrize("retrieval", [None, 200.0])
def test_a_step_by_hand(retrieval: float | None) -> None:
    module = training_of("cloob", retrieval=retrieval, temperature=0.05).eval()
    batch = module.on_after_batch_transfer(batch_of(), 0)
    x, y = (module.net.project(view) for view in batch.views)
    got = module.recipe.step(module.net, batch)["loss"].item()
    expected = cloob(x, y, temperature=0.05, retrieval=retrieval, group=batch.patient)
    assert got == pytest.approx(expected.item(), abs=1e-5)
    for changed in ({"retrieval": 8.0}, {"group": torch.arange(8)}, {"temperature": 0.2}):
        given: dict[str, Any] = {"temperature": 0.05, "retrieval": retrieval, "group": batch.patient} | changed
        assert cloob(x, y, **given).item() != pytest.approx(expected.item(), abs=1e-4)
