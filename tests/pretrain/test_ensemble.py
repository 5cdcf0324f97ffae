"""An ensemble: each of it as it is alone, one after another, and side by side in the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.ablate.refusals import of_recipe
from medssl.config import ConfigError, Run, load
from medssl.models import build
from medssl.models.embed import embed_samples
from medssl.models.joined import Joined
from medssl.pretrain.fit import PART, fit
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, RESNET, run_of, weights
from tests.pretrain.test_resume import ALWAYS, Killed, assert_equal

STEPS = 3


def several(number: int | None, recipe: str = "simclr") -> Run:
    run = run_of(recipe, epochs=1, steps_per_epoch=STEPS, monitor_steps=1)
    assert run.encoder is not None
    return run.model_copy(update={"encoder": run.encoder.model_copy(update={"ensemble": number})})


def test_each_is_as_it_is_alone(signal_store: Store, tmp_path: Path) -> None:
    rows: list[int] = []
    run = several(2)
    both = fit(signal_store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a",
               on_measured=lambda row, step: rows.append(step))  # fmt: skip
    assert isinstance(both.encoder, Joined)
    assert not both.encoder.training
    alone = [
        fit(signal_store, several(None), seed=3 + part * PART, compute=COMPUTE, checkpoints=tmp_path / "b")
        for part in range(2)
    ]
    for part, one in zip(both.encoder.parts, alone, strict=True):
        assert_equal(dict(part.state_dict()), weights(one))
    assert any(not torch.equal(a, b) for a, b in zip(*(weights(one).values() for one in alone), strict=True))
    # Curves and steps are the first one's; time is that of all.
    assert both.history == alone[0].history
    assert rows == [1, 2, 3]
    assert (both.steps, both.chosen) == (alone[0].steps, alone[0].chosen)
    assert both.seconds > 0
    # As they are, with their lengths, and so it is built again from its folder.
    again = build(**RESNET, in_channels=2, ensemble=2, seed=1).eval()
    again.load_state_dict(both.encoder.state_dict())
    beside = [embed_samples(one.encoder, signal_store) for one in alone]
    for one in (both.encoder, again):
        assert np.array_equal(embed_samples(one, signal_store), np.concatenate(beside, axis=1))


def test_a_recipe_that_needs_a_map_of_features_has_that_of_each() -> None:
    assert [of_recipe(several(number, "comet")) for number in (None, 2)] == ["", ""]


@pytest.mark.parametrize("finished", [0, 1])
def test_it_goes_on_in_the_one_that_was_stopped(finished: int, signal_store: Store, tmp_path: Path) -> None:
    whole = fit(signal_store, several(2), seed=3, compute=ALWAYS, checkpoints=tmp_path / "a")
    seen: list[int] = []

    def die(batches: int) -> None:
        seen.append(batches)
        if len(seen) == finished * STEPS + 2:
            raise Killed

    with pytest.raises(Killed):
        fit(signal_store, several(2), seed=3, compute=ALWAYS, checkpoints=tmp_path / "b", on_step=die)
    after: list[int] = []
    resumed = fit(signal_store, several(2), seed=3, compute=ALWAYS, checkpoints=tmp_path / "b", on_step=after.append)
    assert after == ([3] if finished else [3, 1, 2, 3])
    assert_equal(weights(resumed), weights(whole))
    # One folder has the state of all, to be removed once the encoder is safe.
    assert [path.name for path in (tmp_path / "b").iterdir()] == [resumed.checkpoints.name]
    assert len(list(resumed.checkpoints.iterdir())) == 2


def test_one_is_not_several_and_several_start_from_nothing(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "params.yaml").read_text("utf-8")
    encoder = "encoder: {name: resnet1d, widths: [16, 32, 64, 128], depth: 1"
    assert encoder in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(encoder, f"{encoder}, ensemble: 1", 1))
    with pytest.raises(ConfigError, match="ensemble = 1"):
        load(path)
    with pytest.raises(ValueError, match=r"encoder\.ensemble 2: of a run with `start`"):
        Run.model_validate(several(2).model_dump() | {"start": "first"})
    path.write_text(text.replace(encoder, f"{encoder}, ensemble: 3", 1))
    found = load(path).runs["ecg-simclr"].encoder
    assert found is not None
    assert found.ensemble == 3
