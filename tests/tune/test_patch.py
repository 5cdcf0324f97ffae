"""What was found as a change of params.yaml: it loads, changes what it says, and leaves the rest as it is."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from medssl import config
from medssl.tune import patch

ROOT = Path(__file__).parents[2]
VALUES = {
    "pretrain.lr": 1e-6,
    "pretrain.temperature": 0.25,
    "pretrain.views": "leads",
    "pretrain.clip": None,
    "encoder.widths": [8, 16, 32, 64],
    "pretrain.options.decoupled": True,
    "pretrain.positives": {"view": 0.5, "trial": 0.5, "patient": 0.0},
    "pretrain.regulariser": {"name": "sigreg", "of": "embedding", "weight": 0.1, "directions": 8},
}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def reached(run: config.Run) -> dict[str, object]:
    found = {}
    for key in VALUES:
        node = run.model_dump(mode="json")
        for part in key.split("."):
            node = node[part]
        found[key] = node
    return found


def test_the_part_says_what_changes() -> None:
    raw = yaml.safe_load(patch.part("ecg-simclr", VALUES))
    assert raw == {
        "runs": {
            "ecg-simclr": {
                "pretrain": {
                    "lr": 1e-6, "temperature": 0.25, "views": "leads", "clip": None, "options": {"decoupled": True},
                    "positives": VALUES["pretrain.positives"], "regulariser": VALUES["pretrain.regulariser"],
                },
                "encoder": {"widths": [8, 16, 32, 64]},
            }
        }
    }  # fmt: skip


def test_the_command_is_one_that_dvc_takes(params: Path) -> None:
    words = shlex.split(patch.command("ecg-simclr", VALUES, Path("params.yaml").resolve().parent / params))
    assert words[:3] == ["dvc", "exp", "run"]
    assert "runs.ecg-simclr.pretrain.lr=1e-06" in words  # there is one
    assert "++runs.ecg-simclr.pretrain.temperature=0.25" in words  # there is none yet
    assert set(words[3::2]) == {"-S"}
    apply_overrides(params, words[4::2])
    assert reached(config.load(params).runs["ecg-simclr"]) == VALUES


def test_another_file_is_named_in_the_command(params: Path) -> None:
    other = params.rename(params.with_name("params.real.yaml"))
    assert f"{other}:runs.ecg-simclr.pretrain.lr=0.1" in patch.command("ecg-simclr", {"pretrain.lr": 0.1}, other)


def test_write_keeps_all_other_lines(params: Path) -> None:
    before = params.read_text().splitlines()
    patch.write(params, "ecg-simclr", VALUES)
    assert reached(config.load(params).runs["ecg-simclr"]) == VALUES
    after = params.read_text().splitlines()
    gone = [line.strip() for line in before if line not in after]
    # The first of several equal lines of other runs changed; what else is new was not there.
    assert gone == ["encoder: {name: resnet1d, widths: [16, 32, 64, 128], depth: 1}"] or not gone
    assert len(after) == len(before) + 14  # mappings take a line a key
    patch.write(params, "ecg-simclr", {"pretrain.lr": 0.002})
    assert "lr: 0.002" in params.read_text()


@pytest.mark.parametrize("name", ["params.yaml", "params.real.yaml"])
def test_one_value_is_one_line(name: str, tmp_path: Path) -> None:
    file = Path(shutil.copy(ROOT / name, tmp_path))
    before = file.read_text().splitlines()
    patch.write(file, "ecg-simclr", {"pretrain.lr": 0.00123})
    after = file.read_text().splitlines()
    assert len(after) == len(before)
    (line,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert "lr: 0.00123" in line


def test_what_is_no_params_file_is_not_written(params: Path) -> None:
    before = params.read_text()
    with pytest.raises(config.ConfigError, match="lr"):
        patch.write(params, "ecg-simclr", {"pretrain.lr": -1.0})
    assert params.read_text() == before
