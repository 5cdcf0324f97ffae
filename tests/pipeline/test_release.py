"""An encoder to hand on is trained on all patients, and says so with the results of the run it is made like."""

import contextlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medssl import cli, config, hub, workspace
from medssl import table as tables
from medssl.check import paths
from pipeline import dedup, finetune, ingest, plan, pretrain, probe, ready, release, results, split, stage, synthesise
from tests.pipeline.project import small_params

NAME, RUN, FOLDS = "ecg-toy", "ecg-simclr", 2


def parameters() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(small_params())
    raw["synthetic"] = {"ecg": {"patients": 24, "corrupt": 0}}
    raw["modalities"] = {"ecg": raw["modalities"]["ecg"]}
    raw["modalities"]["ecg"]["ingest"]["normalise"] = "cohort"
    raw["modalities"]["ecg"]["split"] |= {"folds": FOLDS}
    raw["folds"] = {f"f{fold}": None for fold in range(FOLDS)}
    run = raw["runs"][RUN]
    run["pretrain"] |= {"patience": 3}
    run["encoder"] |= {"ensemble": 2}
    run["evaluate"] |= {"labels": ["disease"], "finetune_labels": [], "fractions": [1.0], "protocols": ["probe"]}
    raw["runs"] = {RUN: run}
    raw["release"] = {NAME: {"run": RUN, "licence": "CC0-1.0", "cite": "Nobody 1900"}}
    return raw


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hub.Encoder]:
    """Run all stages in a folder, which the tests are then in; the released encoder."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters()))
    (folder / "dvc.yaml").write_text("")
    params = config.load(folder / "params.yaml")
    quiet = contextlib.redirect_stdout(io.StringIO())
    with pytest.MonkeyPatch.context() as patch, quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as stage.main does
        patch.chdir(folder)
        for script in (synthesise, ingest, split, dedup):
            script.work(params, "ecg")
        plan.work(params, RUN)
        for script in (pretrain, probe, finetune):
            for fold in (None, *range(FOLDS)):
                script.work(params, RUN, fold)
        results.work(params, RUN)
        release.work(params, NAME)
        yield hub.load_encoder(f"data/release/{NAME}")


def test_all_patients_trained_it(made: hub.Encoder) -> None:
    store, provenance = stage.open_cohort("ecg"), made.config["provenance"]
    assert provenance["seen"]["patients"] == tables.patient_codes(store.table["patient"])
    assert provenance["patients"] == store.table["patient"].nunique()
    assert provenance["samples"] == store.table["kept"].sum()
    of_some = store.scale
    store.table = store.table.assign(split="train")
    assert made.scale == store.scale != of_some
    assert provenance["published_split"] is None


def test_it_is_made_like_the_run(made: hub.Encoder) -> None:
    run = hub.load_encoder(f"data/runs/{RUN}/encoder")
    mine, theirs = (encoder.config["provenance"] for encoder in (made, run))
    assert made.config["architecture"] == run.config["architecture"]
    assert made.config["architecture"]["ensemble"] == len(next(iter(made.module.children()))) == 2
    differ = {key for key, value in theirs["pretrain"].items() if mine["pretrain"][key] != value}
    assert differ == {"select", "monitor_label", "patience"}
    assert (mine["steps"], mine["kept_step"], mine["seed"]) == (4, 4, theirs["seed"])
    weights = [next(iter(encoder.module.parameters())).detach().numpy() for encoder in (made, run)]
    assert not np.array_equal(*weights)


def test_its_card_has_the_results_of_the_run_and_what_they_are_worth(made: hub.Encoder) -> None:
    value = json.loads(Path(f"data/runs/{RUN}/crossfit/metrics.json").read_text())["disease"]["probe"]["1"]["auroc"]
    interval = f"{value['mean']:.3f} [{value['lo']:.3f}, {value['hi']:.3f}]"
    for words in (f"# {NAME}\n", "CC0-1.0", "Nobody 1900", "no held-out results of its own", f"run `{RUN}`", interval):
        assert words in made.card
    assert "(2 x resnet1d, " in made.card
    assert "cross-fitting" in made.card


def test_it_is_found_by_name_and_does_not_pass_for_untested(
    made: hub.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub.folder, "READY", tmp_path / "package")
    ready.take([Path("data/release") / NAME], tmp_path / "package")
    words = ["evaluate", "--encoder", NAME, "--store", "data/ecg/store", "--labels", "disease", "--fractions", "1"]
    words += ["--seeds", "1", "--protocols", "probe", "--split", "2", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "failed: encoder saw no test patient" in capsys.readouterr().out


@pytest.mark.parametrize("names", [[], [NAME]])
def test_dvc_has_a_stage_for_each(tmp_path: Path, names: list[str]) -> None:
    raw = parameters()
    if not names:
        del raw["release"]
    workspace.lay_out(tmp_path / "w", yaml.safe_dump(raw))
    words = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(words, cwd=tmp_path / "w", capture_output=True, text=True, check=True).stdout.split()
    assert [one for one in listed if one.startswith("release")] == [f"release@{name}" for name in names]
    assert config.obstacles(tmp_path / "w" / "params.yaml") == []
    old = tmp_path / "w" / "data" / "release"
    for name in (NAME, "gone"):
        (old / name).mkdir(parents=True)
    lines = [line for line in paths.check(tmp_path / "w" / "params.yaml", "manifest")[0] if "left over" in line]
    orphans = [old / name for name in sorted((NAME, "gone")) if name not in names]
    assert lines == [f"left over from an entry that is gone: {folder}" for folder in orphans]
