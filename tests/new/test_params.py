"""Values of a new project are written as YAML that both readers understand, whatever is in a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from medssl import config, new, workspace
from medssl.check.folder import Balance
from medssl.new import values


def made_without_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay workspaces out without starting DVC, which takes seconds."""
    monkeypatch.setattr(workspace, "dvc", lambda *words: None)


@pytest.mark.parametrize(
    "value",
    ["mV", "1", "I:x", "no", "a b", "Fp1", "it's", 'say "x"', "ä/ö", "#1", 3, 0.5, None, True, ["V1", "y"], {"a": [1]}],
    ids=str,
)
def test_values_survive_both_readers(value: Any) -> None:
    text = f"key: {values.flow(value)}\n"
    assert yaml.safe_load(text) == {"key": value}
    assert YAML(typ="safe").load(text) == {"key": value}


@pytest.mark.parametrize("modality", config.MODALITIES)
def test_every_modality_has_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> None:
    made_without_dvc(monkeypatch)
    made = new.lay_out(tmp_path / "own", modality=modality)
    run = config.load(tmp_path / "own" / "params.yaml").runs[made.run]
    assert run.modality == modality
    published = config.load(workspace.template("params.real.yaml"))
    assert run.encoder in [other.encoder for other in published.runs.values()]


def test_labels_that_tell_nothing_are_left_out() -> None:
    two, many = (("a", 3), ("b", 2)), tuple((str(i), 1) for i in range(13))
    labels = [
        Balance("two", "class", 5, two),
        Balance("one", "class", 5, (("a", 5),)),
        Balance("names", "class", 13, many),
        Balance("age", "number", 5, quantiles=(("median", 40.0),)),
        Balance("stage", "class", 50, two, unit="samples"),
    ]
    assert [label.task for label in values.usable(labels)] == ["two", "age"]
