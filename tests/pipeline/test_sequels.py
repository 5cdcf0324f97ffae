"""A run that starts from another: fold by fold, seed by seed, or of another cohort, and anew where that one changed."""

import contextlib
import io
import itertools
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from torch import nn

from medssl import config, hub
from medssl import table as tables
from pipeline import dedup, ingest, plan, pretrain, release, split, stage, start, synthesise
from tests.pipeline.project import ROOT, Project, small_params

pytestmark = pytest.mark.slow
FOLDS, SEEDS = 2, 2


def parameters(**second: Any) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(small_params())
    raw["synthetic"] = {key: {"patients": 20, "corrupt": 0} for key in ("ecg", "ecg-b")}
    cohort = raw["modalities"]["ecg"]
    cohort["split"] |= {"folds": FOLDS}
    raw["modalities"] = {"ecg": cohort, "ecg-b": cohort | {"source": cohort["source"] | {"root": "data/raw/ecg-b"}}}
    raw["folds"] = {f"f{fold}": None for fold in range(FOLDS)}
    run = raw["runs"]["ecg-simclr"] | {"seeds": SEEDS}
    run["pretrain"] |= {"epochs": 1, "steps_per_epoch": 1}
    # A learning rate of nothing: what comes out is what went in.
    sequel = run | {"start": "first", "pretrain": run["pretrain"] | {"lr": 1e-12}} | second
    read = run | {"recipe": "conr", "pretrain": run["pretrain"] | {"labels": ["age"]}}
    raw["runs"] = {"first": read, "second": sequel, "other": sequel | {"modality": "ecg-b"}}
    raw["sequels"] = dict.fromkeys(("second", "other"), "first")
    return raw


def other_people(manifest: Path) -> None:
    """Give the patients of a manifest names of their own; synthetic cohorts name theirs alike."""
    table = pd.read_csv(manifest, dtype=str)
    table.assign(patient="b" + table["patient"]).to_csv(manifest, index=False)


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Iterator[config.Params]:
    """Run the stages up to the encoders in a folder, which the tests are then in."""
    folder = tmp_path_factory.mktemp("sequels")
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters()))
    (folder / "dvc.yaml").write_text("")
    params = config.load(folder / "params.yaml")
    quiet = contextlib.redirect_stdout(io.StringIO())
    with pytest.MonkeyPatch.context() as patch, quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as stage.main does
        patch.chdir(folder)
        for key in params.modalities:
            synthesise.work(params, key)
        other_people(Path("data/raw/ecg-b/manifest.csv"))
        for key, script in itertools.product(params.modalities, (ingest, split, dedup)):
            script.work(params, key)
        for run in params.runs:
            plan.work(params, run)
            if run in params.sequels:
                start.work(params, run)
            for fold in (None, *range(FOLDS)):
                pretrain.work(params, run, fold)
        yield params


def first_layer(run: str, fold: int | None, number: int) -> Any:
    module: nn.Module = hub.load_encoder(stage.encoder_folder(run, fold, number)).module
    return next(module.parameters()).detach().numpy()


def test_each_training_starts_from_the_one_of_its_fold_and_number(params: config.Params) -> None:
    seen = set()
    for fold, number in [(None, 0), *((fold, number) for fold in range(FOLDS) for number in range(SEEDS))]:
        first, second = (first_layer(run, fold, number) for run in ("first", "second"))
        assert abs(first - second).max() < 1e-6
        seen.add(first.tobytes())
    assert len(seen) == 1 + FOLDS * SEEDS
    told = json.loads(stage.start_file("second").read_text())
    assert {name: len(hashes) for name, hashes in told["encoders"].items()} == {"fixed": 1, "f0": SEEDS, "f1": SEEDS}
    sums = json.loads(Path("data/runs/first/folds/f1/seeds/1/checksums.json").read_text())
    assert told["encoders"]["f1"][1] == sums["model.safetensors"]  # neither the card nor the commit
    before = stage.start_file("second").read_text()
    start.work(config.parse(yaml.safe_dump(parameters(seeds=1))), "second")
    assert stage.start_file("second").read_text() == before
    config_file = json.loads((stage.encoder_folder("second", 0, 0) / "config.json").read_text())
    assert config_file["provenance"]["start"] == "first"
    assert config_file["provenance"]["reads"] == ["age"]  # by the training that this one started from
    before = config_file["provenance"]["before"]
    assert [(one["run"], one["cohort"]) for one in before] == [("first", "ecg")]


def test_a_run_of_another_cohort_starts_from_the_fixed_split(params: config.Params) -> None:
    fixed = first_layer("first", None, 0)
    for fold, number in [(None, 0), *((fold, number) for fold in range(FOLDS) for number in range(SEEDS))]:
        assert abs(first_layer("other", fold, number) - fixed).max() < 1e-6
    told = json.loads(stage.start_file("other").read_text())["encoders"]
    assert len({weights for hashes in told.values() for weights in hashes}) == 1
    seen = set(hub.load_encoder(stage.encoder_folder("other", 0, 1)).config["provenance"]["seen"]["patients"])
    for key, fold in (("ecg", None), ("ecg-b", 0)):  # what the first one has seen, this one has
        table = stage.open_cohort(key, fold).table
        assert seen >= set(tables.patient_codes(table.loc[table["split"] != "test", "patient"]))
        assert not seen & set(tables.patient_codes(table.loc[table["split"] == "test", "patient"]))


def test_an_encoder_that_saw_a_patient_of_the_test_fold_is_refused(params: config.Params) -> None:
    refused = r"start: first has seen \d+ patients who are held out here.*start from a run of other patients"
    with pytest.raises(ValueError, match=refused):
        pretrain.start(params, "second", stage.open_cohort("ecg", 0), number=0, fold=1)
    # The same people under another cohort's name: its fixed split has seen those whom a fold holds out.
    alike = config.parse(yaml.safe_dump(parameters(modality="ecg-b")))
    with pytest.raises(ValueError, match=refused):
        pretrain.start(alike, "second", stage.open_cohort("ecg", 0), number=0, fold=0)


def test_another_number_of_channels_is_refused(params: config.Params) -> None:
    store = stage.open_cohort("ecg", 0)
    store.facts["shape"] = [3, *store.facts["shape"][1:]]
    with pytest.raises(ValueError, match="start: first reads 12 channels, and samples here have 3; name another run"):
        pretrain.start(params, "second", store, number=0, fold=0)


def test_a_patient_whom_the_publishers_parts_divide_is_no_news(params: config.Params) -> None:
    store = stage.open_cohort("ecg", 0)
    table = store.table
    test = table[table["split"] == "test"]
    table.loc[test.groupby("patient").head(1).index, "split"] = "val"
    assert set(table.loc[table["split"] == "test", "patient"]) == set(test["patient"])
    assert pretrain.start(params, "second", store, number=0, fold=1) is not None


def test_a_sequel_is_handed_on(params: config.Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "publish", lambda *_: None)  # which reads results
    raw = parameters() | {"release": {"mine": {"run": "other", "licence": "CC0-1.0", "cite": "us"}}}
    release.work(config.parse(yaml.safe_dump(raw)), "mine")
    made = hub.load_encoder(stage.DATA / "release" / "mine")
    assert abs(next(made.module.parameters()).detach().numpy() - first_layer("first", None, 0)).max() < 1e-6
    assert made.config["provenance"]["reads"] == ["age"]


def test_a_run_that_starts_from_nothing_again_forgets_the_other(params: config.Params) -> None:
    file = stage.start_file("second")
    kept = file.read_text()
    raw = parameters(start=None) | {"sequels": {}}
    plan.work(config.parse(yaml.safe_dump(raw)), "second")
    assert not file.exists()
    file.write_text(kept)
    plan.work(params, "second")
    assert file.exists()


COMMANDS = {
    "plan": "mkdir -p data/runs/${key}/folds/plan && echo ${item.pretrain.lr} > data/runs/${key}/folds/plan/run.json",
    "start": "cat data/runs/${item}/encoder > data/runs/${key}/folds/plan/start.json",
    "pretrain": "cat data/runs/${key}/folds/plan/* > data/runs/${key}/encoder",
}


def test_dvc_trains_a_sequel_anew_where_the_other_run_changes(tmp_path: Path) -> None:
    """The arrows between the stages of runs are those of dvc.yaml; what the stages do is a line of shell here."""
    made, raw, pipeline = Project(tmp_path), parameters(), yaml.safe_load((ROOT / "dvc.yaml").read_text())
    pipeline = {"vars": pipeline["vars"], "stages": {name: pipeline["stages"][name] for name in COMMANDS}}
    for name, command in COMMANDS.items():
        stage_of = pipeline["stages"][name]["do"]
        stage_of["cmd"] = command
        stage_of["deps"] = [d for d in stage_of.get("deps", ()) if d.startswith("data/runs") and "seeds" not in d]
        stage_of["outs"] = stage_of["outs"][:1]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    made.run("git", "init", "-q")
    made.run("dvc", "init", "-q")

    def repro(*words: str) -> list[str]:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
        log = made.run("dvc", "repro", *words)
        return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]

    ran = repro("pretrain@second", "pretrain@other")
    for run in ("second", "other"):
        assert ran.index("pretrain@first") < ran.index(f"start@{run}") < ran.index(f"pretrain@{run}")
    assert repro() == []
    raw["runs"]["first"]["pretrain"]["lr"] = 0.25
    changed = {f"{name}@{run}" for name in ("start", "pretrain") for run in ("second", "other")}
    assert set(repro()) == {"plan@first", "pretrain@first"} | changed
    assert (tmp_path / "data/runs/second/encoder").read_text() == "1e-12\n0.25\n"
    raw["runs"]["second"]["pretrain"] = raw["runs"]["second"]["pretrain"] | {"lr": 0.5}
    assert set(repro()) == {"plan@second", "pretrain@second"}
