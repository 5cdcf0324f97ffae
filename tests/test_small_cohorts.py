"""Small cohorts through all stages: 5 patients, 12 with labels of trials and samples, a class of one, by picture."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from medssl import config
from medssl import store as stores
from medssl.evaluate.compare import compare_runs
from medssl.evaluate.tasks import Task, pooled
from medssl.models.embed import embed_samples
from pipeline import dedup, finetune, ingest, plan, pretrain, probe, report, results, split, stage

pytestmark = pytest.mark.slow
RATE, SECONDS = 50, 16
INGEST = {"rate_hz": RATE, "channels": ["I", "II"], "unit": "mV", "window_s": 2}
PRETRAIN = {"epochs": 1, "steps_per_epoch": 1, "batch": {"patients": 4, "trials": 2, "samples": 2}}
EVALUATE = {"fractions": [1.0, 0.5], "seeds": 1, "bootstrap": 30, "finetune_steps": 2, "finetune_batch": 8}
FEW = ["probe", "knn", "random_init", "permuted_labels", "finetune", "supervised"]
SHARES = {"train": 0.5, "val": 0.1, "test": 0.4}
LABELS = {
    "five": ["disease", "age", "state", "beat", "signs"],
    "twelve": ["state", "beat", "disease", "signs", "age"],
    "rare": ["odd", "same", "age"],
}


def write_signals(root: Path, patients: int) -> None:
    """Write two trials of 8 windows a patient: labels of patients and trials in the manifest, of windows as events."""
    root.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    (root / "event_labels.csv").write_text("text,task,class\nn,beat,normal\nv,beat,early\n")
    for patient in range(patients):
        for trial in range(2):
            name = f"{patient}-{trial}"
            np.save(root / f"{name}.npy", rng.standard_normal((2, RATE * SECONDS)).astype(np.float32))
            events = [f"{at}\t2\t{'nv'[(at // 2 + patient) % 2]}" for at in range(0, SECONDS, 2)]
            (root / f"{name}.tsv").write_text("onset\tduration\ttrial_type\n" + "\n".join(events) + "\n")
            rows.append(
                {
                    "path": f"{name}.npy", "patient": f"p{patient:02d}", "trial": f"t{trial}", "rate_hz": RATE,
                    "unit": "mV", "columns": "I;II", "events": f"{name}.tsv",
                    "label_disease": ("sick", "healthy")[patient % 2], "label_age": 40.5 + patient,
                    "label_state": ("rest", "work")[trial], "label_signs_multi": ("af;mi", "mi")[patient % 2],
                    "label_odd": "odd" if patient == 3 else "common", "label_same": "one",
                }
            )  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)


def write_pictures(root: Path) -> None:
    """Write COVID-CT as its repository has it: 12 groups of three pictures, two of each class on both sides."""
    rng = np.random.default_rng(0)
    for folder in ("COVID", "NonCOVID"):
        lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        pictures = root / f"Images-processed/CT_{folder}"
        pictures.mkdir(parents=True)
        for group in range(12):
            for picture in range(3):
                name = f"2020.03.{group + 10}.{folder == 'COVID':d}-p{picture}.png"
                grey = rng.integers(0, 200, (30, 40), dtype=np.uint8) + (50 if folder == "COVID" else 0)
                Image.fromarray(grey.astype(np.uint8)).save(pictures / name)
                part = "train" if group < 5 else "val" if group < 7 else "test"
                lists["test" if group < 2 and picture == 2 else part].append(name)
        (root / "Data-split" / folder).mkdir(parents=True)
        for part, names in lists.items():
            (root / "Data-split" / folder / f"{part}CT_{folder}.txt").write_text("\r\n".join(names) + "\r\n")


def parameters(root: Path) -> dict[str, Any]:
    encoder: dict[str, Any] = {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1}
    modalities: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    for name, labels in LABELS.items():
        modalities[f"ecg-{name}"] = {
            "source": {"name": "manifest", "root": str(root / name)},
            "ingest": INGEST,
            "split": {**SHARES, "stratify": [labels[0]] if name != "twelve" else []},
        }
        monitor = {"monitor_label": labels[0]}
        runs[name] = {
            "modality": f"ecg-{name}", "recipe": "simclr", "encoder": encoder, "pretrain": {**PRETRAIN, **monitor},
            "evaluate": {**EVALUATE, "labels": labels, "finetune_labels": labels[:2]},
        }  # fmt: skip
        if name != "twelve":  # one run has all protocols
            runs[name]["evaluate"]["protocols"] = FEW
    modalities["ct-covid"] = {
        "source": {"name": "covid_ct", "root": str(root / "covid")},
        "ingest": {"samples": "slices", "size": [16, 16]},
        "split": {"publisher_folds": {"val": [1], "test": [2]}, "publisher_parts": "as_published"},
    }
    runs["covid"] = {
        "modality": "ct-covid", "recipe": "simclr", "encoder": {**encoder, "name": "resnet2d"}, "pretrain": PRETRAIN,
        "evaluate": {**EVALUATE, "labels": ["covid"]},
    }  # fmt: skip
    compute = {"accelerator": "cpu", "progress": False}
    return {"seed": 7, "compute": compute, "modalities": modalities, "runs": runs}


class Project:
    """A folder in which all stages ran in turn, and what each of them printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "params.yaml").write_text(yaml.safe_dump(parameters(folder / "raw")))
        (folder / "dvc.yaml").write_text("")
        self.said: dict[str, str] = {}
        params = config.load(folder / "params.yaml")
        for key in params.modalities:
            for script in (ingest, split, dedup):
                self.run(script, params, key)
        for key in params.runs:
            for script in (plan, pretrain, probe, finetune, results):
                self.run(script, params, key)
        self.run(report, params, "")

    def run(self, script: Any, params: config.Params, key: str) -> None:
        out = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(out):
            warnings.simplefilter("ignore")  # as stage.main does
            script.work(params, key)
        self.said[f"{script.__name__.removeprefix('pipeline.')}@{key}"] = out.getvalue()

    def metrics(self, run: str) -> dict[str, Any]:
        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        text = (self.folder / f"data/runs/{run}/metrics.json").read_text()
        return dict(json.loads(text, parse_constant=refuse))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("small")
    write_signals(folder / "raw/five", 5)
    write_signals(folder / "raw/twelve", 12)
    write_signals(folder / "raw/rare", 12)
    write_pictures(folder / "raw/covid")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MEDSSL_KEY", "DVC_STAGE"):
            patch.delenv(name, raising=False)
        yield Project(folder)


def test_every_part_of_five_patients_has_one(project: Project) -> None:
    assert project.said["split@ecg-five"].startswith("ecg-five: train 2, val 1, test 2 patients; no leak")


def test_blocks_change_no_result(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end within patients and trials, against the whole cohort as one; batches are the same."""
    params = config.load(project.folder / "params.yaml")
    folder = project.folder / "data/runs/twelve/probe"
    monkeypatch.setattr(
        "medssl.hub.stores.embed_samples",
        lambda *given, **options: embed_samples(*given, **options | {"batch_size": 20}),
    )
    found = []
    for rows, blocks in ((1024, 1), (60, 4)):
        monkeypatch.setattr(stores, "TABLE_ROWS", rows)
        assert len(stage.open_cohort("ecg-twelve").blocks()) == blocks
        shutil.rmtree(project.folder / ".medssl/features")  # else the first features would be found again
        project.run(probe, params, "twelve")
        tables = [pd.read_parquet(folder / f"{name}.parquet") for name in ("predictions", "embeddings")]
        found.append(((folder / "notes.json").read_bytes(), tables))
    (notes, tables), (notes_of_blocks, tables_of_blocks) = found
    assert notes == notes_of_blocks
    for one, other in zip(tables, tables_of_blocks, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_every_label_has_a_result_or_a_reason(project: Project) -> None:
    for run, labels in LABELS.items():
        found = project.metrics(run)
        assert sorted(found) == sorted(labels)
        for name in labels:
            left_out = found[name].get("left_out")
            assert left_out or {"probe", "knn", "random_init", "permuted_labels"} <= set(found[name])
            assert bool(left_out) == (f"{run} {name}: left out: {left_out}" in project.said[f"results@{run}"])
    assert project.metrics("rare")["same"] == {"left_out": "fewer than two classes among the training patients"}
    assert "evaluate.labels 'same' will be left out: fewer than two" in project.said["pretrain@rare"]


def test_units_are_patients_trials_and_samples(project: Project) -> None:
    table = pd.read_parquet(project.folder / "data/runs/twelve/predictions.parquet")
    assert table.groupby("task")["unit"].first().to_dict() == {
        "disease": "patient", "signs": "patient", "age": "patient", "state": "trial", "beat": "sample_id"
    }  # fmt: skip
    assert table.groupby("task")["kind"].unique().map(list).to_dict() == {
        "disease": ["class"], "signs": ["multilabel"], "age": ["number"], "state": ["class"], "beat": ["class"]
    }  # fmt: skip


def test_two_test_patients_are_too_few_everywhere(project: Project) -> None:
    value = project.metrics("five")["age"]["probe"]["1"]["r2"]
    assert (value["lo"], value["hi"], value["n_patients"], value["too_few"]) == (None, None, 2, "n=2")
    mean = value["mean"]
    assert f"five age (n=2 test patients): probe {mean:.3f} too few (n=2), " in project.said["results@five"]
    page = (project.folder / "data/report/report.html").read_text()
    assert f"<td>{mean:.2f} too few (n=2)</td>" in page
    card = (project.folder / "data/report/cards/five.md").read_text()
    assert f"| age | probe | r2 | {mean:.3f} too few (n=2) | 2 | 1 |" in card
    table = compare_runs([project.folder / "data/runs/five"], draws=20)
    assert (table["note"] == "too few (n=2)").all()
    csv = pd.read_csv(project.folder / "data/report/comparison.csv").query("run == 'five'")
    assert (csv["too_few"] == "n=2").all() and csv["lo"].isna().all()


def test_what_is_left_out_is_in_report_and_card(project: Project) -> None:
    page = (project.folder / "data/report/report.html").read_text()
    assert "<li>rare, same: fewer than two classes among the training patients</li>" in page
    card = (project.folder / "data/report/cards/rare.md").read_text()
    assert "- same: left out: fewer than two classes among the training patients" in card


def test_parts_by_picture_are_said_loudly(project: Project) -> None:
    warning = "WARNING: 4 patients are in more than one part (split.publisher_parts: as_published): results are by"
    for name in ("split@ct-covid", "pretrain@covid", "results@covid"):
        assert warning in project.said[name], name
    flow = json.loads((project.folder / "data/flow/ct-covid-counts.json").read_text())
    assert (flow["crossing_patients"], flow["leaks"]) == (4, 4)
    assert warning in (project.folder / "data/report/report.html").read_text()
    card = (project.folder / "data/report/cards/covid.md").read_text()
    assert warning in card
    assert "## Results by picture, not on held-out patients" in card
    for run in LABELS:
        assert "WARNING" not in (project.folder / f"data/report/cards/{run}.md").read_text()


def test_pictures_of_a_patient_on_both_sides_are_not_averaged(project: Project) -> None:
    store = stage.open_cohort("ct-covid")
    assert (len(store), len(store.rejects)) == (72, 0)
    assert store.table.groupby("split").size().to_dict() == {"test": 34, "train": 26, "val": 12}
    task = Task.of(store.table, "covid")
    assert (task.unit, len(task.patient)) == ("trial", 72)
    (means,) = pooled([task], store.blocks(), lambda rows: rows[:, None])
    assert sorted(means[:, 0]) == list(range(72))
    value = project.metrics("covid")["covid"]["probe"]["1"]["auroc"]
    assert value["n_patients"] == 14  # 10 groups of test alone and 4 that cross: the bootstrap draws groups
    assert value["lo"] <= value["mean"] <= value["hi"]


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("evaluate", {"labels": ["diseas"]}, "evaluate.labels: no label 'diseas'; the cohort has: age, beat, disease,"),
        ("evaluate", {"labels": [], "finetune_labels": ["sex"]}, "evaluate.finetune_labels: no label 'sex'"),
        ("pretrain", {"monitor_label": "sex"}, "pretrain.monitor_label: no class label 'sex'; the cohort has: beat,"),
        ("pretrain", {"monitor_label": "age"}, "pretrain.monitor_label: no class label 'age'"),
        ("pretrain", {"options": {"measures": ["bmi"]}}, "pretrain.options.measures: no measure 'bmi'"),
    ],
)
def test_what_does_not_exist_is_refused_before_pretraining(
    project: Project, monkeypatch: pytest.MonkeyPatch, section: str, change: dict[str, Any], words: str
) -> None:
    raw = parameters(project.folder / "raw")
    raw["runs"]["five"][section] |= change
    raw["runs"]["five"]["recipe"] = "anatomy" if "options" in change else "simclr"
    monkeypatch.setattr(pretrain, "fit", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        pretrain.work(config.parse(yaml.safe_dump(raw)), "five")


def foretold(pretraining: dict[str, Any], evaluate: dict[str, Any] | None = None, **columns: list[Any]) -> list[str]:
    """Return the notes on six patients: three to train on, one to validate, two to test."""
    parts = ["train"] * 3 + ["val"] + ["test"] * 2
    table = pd.DataFrame({"patient": range(6), "method": "", "split": parts, **columns})
    run = {"modality": "ecg", "recipe": "simclr", "encoder": {"name": "resnet1d"}, "evaluate": evaluate or {}}
    if "options" in pretraining:
        run["recipe"] = "anatomy"
    return pretrain.foretell(table, config.Run.model_validate({**run, "pretrain": pretraining}))


def test_a_loss_for_other_labels_is_told_before() -> None:
    asked = {"labels": ["x"], "finetune_loss": "conr"}
    assert foretold({}, asked, label_x=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == []
    with pytest.raises(ValueError, match=r"finetune_loss: conr is for a number label, and 'x' is a class one"):
        foretold({}, asked, label_x=["a", "b", "a", "b", "a", "b"])
    with pytest.raises(ValueError, match=r"finetune_loss: ldr is for a class label, and 'x' is a multilabel one"):
        foretold({}, asked | {"finetune_loss": "ldr"}, label_x=[["a"], ["b"], ["a", "b"], ["b"], ["a"], ["b"]])


def test_what_pretraining_cannot_do_is_told_before() -> None:
    classes: list[Any] = ["a", "b", "a", "b", "a", "b"]
    assert foretold({"monitor_label": "x"}, label_x=classes) == []
    assert foretold({"monitor_label": "x"}, label_x=[*classes[:3], None, *classes[4:]]) == [
        "pretrain.monitor_label 'x': no patient of val has it, so no kNN score; the last epoch is kept"
    ]
    assert foretold({"monitor_label": "x", "select": "last"}, label_x=[None, None, None, *classes[3:]]) == [
        "pretrain.monitor_label 'x': no patient of train has it, so no kNN score"
    ]
    assert foretold({"select": "loss"}) == [
        "pretrain.select: loss needs two validation patients; the last epoch is kept"
    ]


def test_measures_that_weight_nothing_are_refused() -> None:
    known, same = [1.0, 2, np.nan, 4, 5, 6], [7.0, 7, 7, 1, 2, 3]
    anatomy = {"options": {"measures": ["bmi", "age"]}}
    assert foretold(anatomy, anat_bmi=known, anat_age=known) == []
    assert foretold(anatomy, anat_bmi=known, anat_age=same) == [
        "pretrain.options.measures 'age': fewer than two values among the training patients"
    ]
    with pytest.raises(ValueError, match=r"pretrain.options.measures: bmi, age have fewer than two values"):
        foretold(anatomy, anat_bmi=[np.nan] * 3 + [1.0, 2, 3], anat_age=same)
