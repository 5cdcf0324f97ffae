"""A search by its command: page, table and patch of a project, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medssl import cli, config, tune
from medssl.tune import inner, page, search, space
from tests.tune.conftest import RUN

SPACE = ["--space", "pretrain.lr=0.001..0.1", "pretrain.batch.patients=[4, 1]"]


@pytest.fixture
def project(signal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, whose cohort's store, receipts and split are those of the signals."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ecg").symlink_to(signal_folder)
    ingest = {"rate_hz": 32, "channels": ["A", "B"], "unit": "mV", "window_s": 2}
    cohort = {"source": {"root": "raw"}, "ingest": ingest, "split": {"stratify": ["disease"]}}
    raw: dict[str, Any] = {"seed": 3, "modalities": {"ecg": cohort}, "runs": {"toy": RUN}}
    raw["compute"] = {"accelerator": "cpu", "progress": False}
    (tmp_path / "params.yaml").write_text("# kept\n" + yaml.safe_dump(raw, sort_keys=False))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _own_is_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score the first trial below all others, whatever two steps of training bring."""
    first: list[dict[str, float]] = []

    def score(found: dict[str, float]) -> float:
        first.append(found)
        return -9.0 if found == first[0] else inner.score(found)

    monkeypatch.setattr(search, "score", score)


@pytest.mark.usefixtures("_own_is_worst")
def test_page_table_and_patch(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = config.load(project / "params.yaml").runs["toy"]
    assert cli.main(["tune", "toy", "--trials", "5", *SPACE]) == 0
    said = capsys.readouterr().out
    out = project / "data" / "tune" / "toy"
    table = pd.read_parquet(out / "trials.parquet")
    assert list(table["trial"]) == [0, 1, 2, 3, 4]
    assert {"scored", "failed"} == set(table["state"])
    top = table.loc[table["score"].idxmax()]
    assert table["score"].iloc[0] == -9
    page = (out / "page.html").read_text()
    for text in ("Search of toy", "place", "optimistic", "chose nothing", "contrast needs at least 2", "dvc exp run"):
        assert text in page
    assert f"best: trial {top['trial']}, score {top['score']:.3f}" in said
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # self-contained
    assert page.count("data:image/png;base64,") == 2  # of fewer than ten trials nothing is said to matter
    assert not re.search(r"\b10\d\d\b(?=</td>)", page)  # no patient
    change = yaml.safe_load((out / "params.yaml.patch").read_text())["runs"]["toy"]
    assert change == {"pretrain": {"lr": top["pretrain.lr"]}}
    assert config.load(project / "params.yaml").runs["toy"] == before
    # The same search again trains nothing, and changes the file.
    assert cli.main(["tune", "toy", "--trials", "5", *SPACE, "--write"]) == 0
    assert capsys.readouterr().out == said
    pd.testing.assert_frame_equal(pd.read_parquet(out / "trials.parquet"), table)
    after = config.load(project / "params.yaml").runs["toy"]
    assert after.pretrain.lr == top["pretrain.lr"] != before.pretrain.lr
    assert after.model_copy(update={"pretrain": before.pretrain}) == before
    assert (project / "params.yaml").read_text().startswith("# kept\n")


def test_what_mattered(prepared: Any, ran: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scores that follow the learning rate alone: it has nearly all of the importance, and the best the largest."""
    searched = prepared(rows=space.named(["pretrain.lr", "pretrain.temperature", "pretrain.views=[null, spectral]"]))
    frame = searched.predictions(searched.run, 0)
    monkeypatch.setattr(search, "predicted", lambda store, run, *_, **__: frame.assign(lr=run.pretrain.lr))
    of_lr = {"auroc/disease": lambda lr: 0.5 + 20 * lr}
    monkeypatch.setattr(search, "headlines", lambda table: {k: f(table["lr"].iloc[0]) for k, f in of_lr.items()})
    (searched.folder / "predictions").rename(tmp_path / "elsewhere")
    study, _ = ran(searched, page.ENOUGH - 1)
    assert page.importance(study) == {}
    study, table = ran(searched, 2 * page.ENOUGH)
    shares = page.importance(study)
    assert set(shares) == {axis.key for axis in searched.axes}
    assert next(iter(shares)) == "pretrain.lr"
    assert shares["pretrain.lr"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)
    top = search.best(study)
    assert table.loc[table["pretrain.lr"].idxmax(), "trial"] == top.number
    lines = page.write(tmp_path / "out", searched, study, [], Path(__file__).parents[2] / "params.yaml")
    assert lines[0].startswith(f"best: trial {top.number}, ")
    written = (tmp_path / "out" / "page.html").read_text()
    assert "What mattered" in written
    assert written.count("data:image/png;base64,") == 3


def test_the_run_as_it_stands_may_be_the_best(prepared: Any, ran: Any, tmp_path: Path) -> None:
    searched = prepared(rows=space.named(["pretrain.lr"]))
    study, _ = ran(searched, 1)
    lines = page.write(tmp_path / "out", searched, study, [], Path(__file__).parents[2] / "params.yaml")
    assert lines[-1] == "no trial was better than the run as it stands; nothing to change"
    text = (tmp_path / "out" / "params.yaml.patch").read_text()
    assert yaml.safe_load(text) == {}


@pytest.mark.usefixtures("_own_is_worst")
def test_a_best_that_fails_elsewhere_is_said_so(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = search.predicted

    def diverges(store: Any, run: Any, names: Any, *, fold: int, **more: Any) -> pd.DataFrame:
        if fold > 0 and run.pretrain.lr != 1e-3:
            raise ValueError("the training diverged")
        return predicted(store, run, names, fold=fold, **more)

    monkeypatch.setattr(search, "predicted", diverges)
    assert cli.main(["tune", "toy", "--trials", "2", "--space", "pretrain.lr=0.001..0.1"]) == 0
    said = capsys.readouterr().out
    assert "the best failed in an inner fold that chose nothing: the training diverged" in said
    assert "not confirmed on other patients: see the notes" in said
    assert "the training diverged" in (project / "data" / "tune" / "toy" / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --budget, --trials or both"),
        (["--budget", "soon"], "--budget soon: expected a time such as"),
        (["--trials", "1", "--folds", "4"], "--folds 4: expected 1 to 3"),
        (["--trials", "1", "--labels", "shoe"], "shoe"),
        (["--trials", "1", "--space", "pretrain.speed"], "--space pretrain.speed: no such row"),
    ],
)
def test_refused(project: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "toy", *words]) == 1
    assert message in capsys.readouterr().err
    assert cli.main(["tune", "nobody", "--trials", "1"]) == 1
    assert "runs.nobody: no such entry; allowed: toy" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("0.5m", 30)])
def test_budget(text: str, seconds: float) -> None:
    assert tune.budget(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2d", "-1h", "1h30"])
def test_no_budget(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        tune.budget(text)


def test_help_imports_nothing_heavy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "medssl.cli", "tune", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "--budget" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not loaded & {"torch", "optuna", "pandas", "numpy", "matplotlib", "mlflow", "sklearn"}
