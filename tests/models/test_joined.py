"""Encoders side by side: which of them are trained, and what of one encoder they have too."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.models import build
from medssl.models.embed import embed_stages
from medssl.models.joined import Joined, crop_of
from medssl.store import Store

ENCODER: dict[str, Any] = {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1, "in_channels": 2}


def test_only_parts_that_are_not_trained_stay_in_eval_mode() -> None:
    first, second = (build(**ENCODER, seed=seed) for seed in (0, 1))
    made = Joined([first.eval().requires_grad_(False), second.eval()])
    before = {name: value.clone() for name, value in made.parts[0].state_dict().items()}
    made.eval().train()(torch.randn(8, 2, 64))
    assert [part.training for part in made.parts] == [False, True]
    assert all(torch.equal(value, before[name]) for name, value in made.parts[0].state_dict().items())
    # Whoever trains all of it, such as fine-tuning, has all of it in train mode.
    whole = build(**ENCODER, joined=2).train()
    assert all(parameter.requires_grad for parameter in whole.parameters())
    whole(torch.randn(8, 2, 64))
    layers = [layer for layer in whole.modules() if isinstance(layer, _BatchNorm)]
    assert layers
    assert all(layer.training and int(layer.num_batches_tracked or 0) == 1 for layer in layers)


def test_stages_and_crop_are_those_of_the_newest(signal_store: Store) -> None:
    made = build(**ENCODER, joined=2, crop=20).eval()
    assert isinstance(made, Joined)
    assert (crop_of(made), crop_of(made.parts[1]), crop_of(build(**ENCODER))) == (20, 20, None)
    assert list(made.stages) == list(build(**ENCODER).stages)  # type: ignore[call-overload]
    rows = torch.arange(3).numpy()
    joined, newest = (embed_stages(one, signal_store, rows) for one in (made, made.parts[1]))
    assert joined.keys() == newest.keys()
    for name, value in joined.items():
        torch.testing.assert_close(torch.from_numpy(value), torch.from_numpy(newest[name]))
