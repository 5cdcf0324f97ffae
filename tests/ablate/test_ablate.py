"""The command on a tiny cohort: stages run in this process, in DVC's order and once each, as DVC would start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medssl import ablate, cli, config, workspace
from medssl.ablate import methods
from medssl.ablate.factors import Cell
from pipeline import dedup, finetune, ingest, plan, pretrain, probe, results, split, synthesise
from tests.pipeline.project import small_params

RUN: dict[str, Any] = {
    "modality": "ecg",
    "recipe": "simclr",
    "seeds": 2,
    "encoder": {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1},
    "pretrain": {"epochs": 1, "steps_per_epoch": 2, "batch": {"patients": 6, "trials": 1, "samples": 2}},
    "evaluate": {},
}
LEVELS: dict[str, Any] = {
    "untrained": {"protocol": "random_init"},
    "mild": {"pretrain.views": "mild"},
    "wild": {"pretrain.views": "wild"},
    "by_size": {"recipe": "anatomy", "pretrain.options": {"measures": ["liver_ml"]}},
    "fewer": {"cohort.dedup": {"method": "every_n", "every": 2, "scope": "patient"}},
}


class InProcess:
    """Runs stages as `medssl.workspace.dvc` does; ``ran`` lists those that ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def once(self, stage: Callable[..., None], params: config.Params, key: str, **more: Any) -> None:
        name = "-".join(map(str, (stage.__module__.removeprefix("pipeline."), key, *more.values())))
        if name not in self.ran:
            self.ran.append(name)
            stage(params, key, **more)

    def __call__(self, folder: Path, *words: str) -> None:
        if words[0] != "repro":
            return
        assert "@" in words[-1], "without a target DVC runs everything"
        before = Path.cwd()
        os.chdir(folder)
        try:
            params = config.load()
            for stage, _, key in (word.partition("@") for word in words[1:] if not word.startswith("-")):
                cohort = [key] if stage == "dedup" else []
                for name in cohort:
                    self.once(synthesise.work, params, "ecg")
                    for one in (ingest, split, dedup):
                        self.once(one.work, params, name)
                if stage == "results":
                    self.once(plan.work, params, key)
                    for one in (pretrain, probe, finetune):
                        for fold in (None, 0, 1):
                            self.once(one.work, params, key, fold=fold)
                    self.once(results.work, params, key)
        finally:
            os.chdir(before)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InProcess:
    made = InProcess()
    monkeypatch.setattr(workspace, "dvc", made)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of factors beside its params file."""
    raw = yaml.safe_load(small_params())
    cohort = raw["modalities"]["ecg"] | {"split": {"stratify": ["disease"], "folds": 2}}
    raw |= {"synthetic": {"ecg": {"patients": 20, "corrupt": 0}}, "modalities": {"ecg": cohort}}
    raw |= {"folds": {"f0": None, "f1": None}, "runs": {"ecg-simclr": RUN}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(raw))
    return written(tmp_path / "factors.yaml", LEVELS)


def written(path: Path, levels: dict[str, Any]) -> Path:
    evaluate = {"protocols": ["probe", "random_init"], "fractions": [1.0, 0.5], "seeds": 2, "bootstrap": 20}
    toy = {"question": "What counts?", "runs": {"ecg-simclr": ["disease", "age"]}, "levels": levels}
    other = toy | {"levels": {"longer": {"pretrain.epochs": 2}}}
    asked = {"like": "small.yaml", "evaluate": evaluate, "factors": {"toy": toy, "other": other}}
    asked |= {"baselines": ["demographics"], "cost_steps": 2}
    path.write_text(yaml.safe_dump(asked, sort_keys=False))
    return path


@pytest.mark.slow
def test_the_command(
    stages: InProcess,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    words = ["ablate", str(file), "--out", str(out), "--factors", "toy"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    table = pd.read_parquet(out / "ablation.parquet").set_index("level")
    assert "toy: wild of ecg-simclr: pretrain.views = 'wild'" in said
    assert "no measure 'liver_ml'" in table.loc["by_size", "note"]
    measured = table.drop(["wild", "by_size"])
    assert list(dict.fromkeys(measured.index)) == ["untrained", "mild", "fewer"]
    assert measured.groupby(level="level").size().tolist() == [4] * 3  # two labels at two fractions
    assert measured["mean"].to_numpy() == pytest.approx((measured["value"] - measured["base"]).to_numpy())
    assert set(measured["n_patients"]) == {20}
    # Fewer samples train; everybody is tested in the same fold, and what was refused never ran.
    assert not measured["note"].str.contains("folds").any()
    kept = [
        pd.read_parquet(out / f"ecg-simclr/data/{key}/dedup.parquet")["kept"].sum()
        for key in ("ecg", "ecg--toy--fewer")
    ]
    assert kept[0] > kept[1]
    runs = {name.partition("-")[2] for name in stages.ran if name.startswith("plan-")}
    assert runs == {"ecg-simclr", "ecg-simclr--toy--mild", "ecg-simclr--toy--fewer"}
    assert (out / "ablation.html").is_file()
    trained = ["", "mild", "fewer"]
    collapse, costs, baselines = (pd.read_parquet(out / f"{n}.parquet") for n in ("collapse", "costs", "baselines"))
    assert collapse["level"].tolist() == costs["level"].tolist() == trained
    assert collapse.drop(columns=["run", "level"]).notna().all(axis=None)
    assert list(dict.fromkeys(baselines["level"])) == trained
    assert set(baselines["against"]) == {"random_init", "demographics"}
    monkeypatch.setattr("sys.argv", ["methods", str(file), str(out), str(tmp_path / "docs" / "methods.md")])
    methods.main()
    assert "| `mild` | here " in (tmp_path / "docs" / "methods.md").read_text("utf-8")

    # Once more does nothing, and another level is this level alone.
    before, first = list(stages.ran), (out / "ecg-simclr/params.yaml").read_text()
    assert cli.main(words) == 0
    assert stages.ran == before
    assert (out / "ecg-simclr/params.yaml").read_text() == first
    written(file, LEVELS | {"none": {"pretrain.views": "none"}})
    assert cli.main(words) == 0
    new = stages.ran[len(before) :]
    assert new
    assert all("ecg-simclr--toy--none" in name for name in new)
    assert list(dict.fromkeys(pd.read_parquet(out / "ablation.parquet")["level"])) == [*LEVELS, "none"]


@pytest.mark.slow
def test_what_failed_is_said_after_the_others_ran(
    stages: InProcess, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(folder: Path, *words: str) -> None:
        if "--keep-going" in words:
            raise workspace.WorkspaceError("dvc repro failed")
        stages(folder, *words)

    monkeypatch.setattr(workspace, "dvc", failing)
    assert cli.main(["ablate", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "dvc repro failed. All else is done: change or remove what failed in" in capsys.readouterr().err
    assert not (tmp_path / "out" / "ablation.parquet").exists()


def test_a_cell_whose_stage_failed_has_no_results(tmp_path: Path) -> None:
    """Results of an earlier call lie there still; what the stage that failed would write does not."""
    runs = tmp_path / "data" / "runs"
    for name in ("base", "good", "bad"):
        for part in ("", "folds/f0", "folds/f1"):
            for path in ("encoder/config.json", "probe/predictions.parquet"):
                (runs / name / part / path).parent.mkdir(parents=True)
                (runs / name / part / path).touch()
        (runs / name / "predictions.parquet").touch()
    (runs / "bad/folds/f1/encoder/config.json").unlink()
    good, bad = (Cell("toy", name, "base", name, "probe", ("norm",)) for name in ("good", "bad"))
    assert ablate._if_done(good, tmp_path) == good
    assert ablate._if_done(bad, tmp_path).refused == "a stage of bad failed"
    assert ablate._if_done(bad._replace(refused="not this"), tmp_path).refused == "not this"
    (runs / "base/folds/f0/probe/predictions.parquet").unlink()
    assert ablate._if_done(good, tmp_path).refused == "a stage of base failed"


def test_nothing_runs_where_every_level_is_refused(stages: InProcess, file: Path, tmp_path: Path) -> None:
    written(file, {"wild": {"pretrain.views": "wild"}})
    assert cli.main(["ablate", str(file), "--out", str(tmp_path / "out"), "--factors", "toy"]) == 0
    assert stages.ran == []
    assert len(pd.read_parquet(tmp_path / "out" / "ablation.parquet")) == 1


def test_a_mistake_is_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ablate", str(file), "--out", str(tmp_path / "out"), "--factors", "toys"]) == 1
    assert capsys.readouterr().err == "error: --factors toys: not in the file; it has toy, other\n"
    assert not (tmp_path / "out").exists()
