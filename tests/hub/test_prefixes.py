"""Prefixes and earlier stages that an encoder folder says it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medssl
from medssl import hub, models
from medssl.config import SignalIngest

GIVEN: dict[str, Any] = {"rate_hz": 100, "channels": ["A", "B"]}
NESTED = {"recipe": "matryoshka", "pretrain": {"options": {"prefixes": [4, 2]}}}


def saved(folder: Path, provenance: dict[str, Any]) -> hub.Encoder:
    architecture: dict[str, Any] = {"name": "resnet1d", "in_channels": 2, "widths": [3, 4, 5, 8], "depth": 1}
    params = SignalIngest(rate_hz=100, channels=("A", "B"), unit="mV", window_s=1)
    facts = {"modality": "ecg", "unit": "mV", "params": params.model_dump(mode="json")}
    module, contract = models.build(**architecture, seed=0), hub.contract_of(facts, 8)
    hub.save_encoder(
        folder, module, architecture=architecture, contract=contract, provenance=provenance, card="# toy\n"
    )
    return medssl.load_encoder(folder)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 2, 250)).astype(np.float32)


def unit(z: np.ndarray) -> np.ndarray:
    return np.stack([row / np.sqrt((row**2).sum()) for row in z])


def test_a_prefix_is_the_first_numbers_made_unit(tmp_path: Path, x: np.ndarray) -> None:
    encoder = saved(tmp_path / "e", NESTED)
    assert encoder.prefixes == (2, 4)
    whole = encoder.embed(x, **GIVEN)
    assert whole.shape == (3, 8)
    for dim in (2, 4):
        got = encoder.embed(x, dim=dim, **GIVEN)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, unit(whole[:, :dim]), atol=1e-6)
    made = medssl.Embedder(str(tmp_path / "e"), dim=4, **GIVEN).fit(x)
    assert made.n_features_out_ == 4
    assert np.array_equal(made.transform(x), encoder.embed(x, dim=4, **GIVEN))


def test_a_depth_is_the_mean_of_its_stage(tmp_path: Path, x: np.ndarray) -> None:
    encoder = saved(tmp_path / "e", NESTED)
    assert encoder.depths == ("stage1", "stage2", "stage3")
    got = encoder.embed(x[:, :, :100], dim=4, depth="stage2", **GIVEN)
    pieces = np.random.default_rng(1).standard_normal((3, 2, 100)).astype(np.float32)
    maps: list[torch.Tensor] = []
    hook = encoder.module.stages["stage2"].register_forward_hook(lambda _, i, o: maps.append(o))  # type: ignore[operator, index, union-attr]
    encoder.encode(pieces)
    hook.remove()
    np.testing.assert_allclose(encoder.encode(pieces, depth="stage2"), maps[0].mean(2).numpy(), atol=1e-6)
    assert got.shape == (3, 4)
    np.testing.assert_allclose((got**2).sum(1), 1, atol=1e-6)
    # A stage that has fewer numbers gives those it has.
    assert encoder.embed(x, dim=4, depth="stage1", **GIVEN).shape == (3, 3)


def test_others_are_refused(tmp_path: Path, x: np.ndarray) -> None:
    nested = saved(tmp_path / "e", NESTED)
    plain = saved(tmp_path / "p", {"recipe": "simclr", "pretrain": {"options": {}}})
    assert (plain.prefixes, plain.depths) == ((), ())
    for encoder, options, sentence in (
        (nested, {"dim": 3}, r"embed: dim is 3; the prefixes that this encoder serves: 2, 4$"),
        (nested, {"dim": 8}, r"embed: dim is 8; the prefixes"),
        (plain, {"dim": 2}, r"embed: dim is 2; .*: none; those of recipe matryoshka have some"),
        (nested, {"dim": 2, "depth": "stage4"}, r"depth is 'stage4'; .*: stage1, stage2, stage3$"),
        (nested, {"depth": "stage1"}, r"depth is 'stage1'; with a dim, the depths that this encoder serves"),
        (plain, {"depth": "stage1"}, r"depth is 'stage1'; .*: none; those of recipe"),
    ):
        with pytest.raises(hub.EncoderError, match=sentence):
            encoder.embed(x, **options, **GIVEN)  # type: ignore[arg-type]


def test_the_folder_says_so_itself(tmp_path: Path) -> None:
    saved(tmp_path / "e", NESTED)
    config = json.loads((tmp_path / "e" / "config.json").read_text())
    assert config["provenance"]["pretrain"]["options"]["prefixes"] == [4, 2]


def test_one_recording_that_cannot_be_used_is_a_row_of_nan(tmp_path: Path, x: np.ndarray) -> None:
    encoder = saved(tmp_path / "e", NESTED)
    bad = x.copy()
    bad[1] = 0
    with pytest.warns(UserWarning, match="recording 1"):
        got = encoder.embed(bad, dim=2, **GIVEN)
    assert np.isnan(got[1]).all()
    np.testing.assert_allclose((got[[0, 2]] ** 2).sum(1), 1, atol=1e-6)
