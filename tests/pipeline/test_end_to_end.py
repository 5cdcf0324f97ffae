"""The pipeline as a user runs it: DVC, MLflow, command line, notebooks, on small cohorts in a folder of its own."""

import json
import socket
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from nbclient import NotebookClient

import medssl
from medssl import cli
from medssl.synthetic import planted_identifiers
from tests.pipeline.project import ROOT, Project

pytestmark = pytest.mark.slow


def ran(log: str) -> set[str]:
    """Return the stages that DVC started."""
    return {line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")}


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert ran(project.run("dvc", "repro")) == set()


def test_every_stage_left_one_finished_mlflow_run(project: Project) -> None:
    stages = {f"{s}@{m}" for s in ("synthesise", "ingest", "dedup", "split") for m in ("ecg", "ct")}
    names = ("ecg-simclr", "ecg-comet", "ct-anatomy")
    stages |= {f"{s}@{r}" for s in ("pretrain", "probe", "finetune", "results") for r in names}
    runs = project.mlflow_runs()
    assert stages | {"report"} == set(runs["stage"])
    assert set(runs["status"]) == {"FINISHED"}
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        tags = pd.read_sql("select * from tags", database)
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert set(tags.loc[tags["key"] == "git_commit", "value"]) == {commit}
    artifacts = {p.name for p in (project.folder / "mlartifacts").rglob("*")}
    assert {"model.safetensors", "curves.png", "label_efficiency.png", "report.html", "params.json"} <= artifacts


def test_a_changed_ecg_value_touches_ecg_stages_alone(project: Project) -> None:
    path = project.folder / "params.yaml"
    before = path.read_text()
    raw = yaml.safe_load(before)
    raw["modalities"]["ecg"]["ingest"]["band_hz"] = [1.0, 40]
    try:
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        stages = ran(project.run("dvc", "repro", "--dry"))
    finally:
        path.write_text(before)
    assert "ingest@ecg" in stages
    assert not [s for s in stages if "ct" in s.split("@")[-1].split("-")]
    assert not [s for s in stages if s.startswith("synthesise")]


def test_an_experiment_runs_its_change_alone_and_lands_in_the_same_store(project: Project, restored: None) -> None:
    before = project.mlflow_runs()
    log = project.run("dvc", "exp", "run", "-S", "runs.ecg-simclr.pretrain.epochs=1")
    touched = [f"{s}@ecg-simclr" for s in ("finetune", "pretrain", "probe", "results")]
    assert ran(log) == {"plan@ecg-simclr", *touched, "report"}
    fresh = project.mlflow_runs()
    fresh = fresh[~fresh["id"].isin(before["id"])]
    assert sorted(fresh["stage"]) == sorted([*touched, "report"])
    assert len(json.loads((project.folder / "data/runs/ecg-simclr/curves.json").read_text())) == 1


def test_metrics_and_predictions_have_the_promised_form(project: Project) -> None:
    folder = project.folder / "data/runs/ecg-comet"
    metrics = json.loads((folder / "metrics.json").read_text())
    protocols = {"probe", "naive_bayes", "knn", "demographics_probe", "handcrafted_probe", "finetune"}
    protocols |= {"demographics", "handcrafted", "handcrafted_boosting", "minirocket"}
    protocols |= {"random_init", "supervised", "permuted_labels"}
    assert set(metrics["disease"]) == protocols
    value = metrics["disease"]["probe"]["0.5"]["auroc"]
    assert set(value) == {"mean", "lo", "hi", "n_patients", "seeds", "trainings", "folds", "covers"}
    assert value["lo"] <= value["hi"]
    predictions = pd.read_parquet(folder / "predictions.parquet")
    one = predictions.query("task == 'disease' and protocol == 'probe' and fraction == 1.0 and seed == 0")
    assert one["patient"].is_unique
    assert len(one) == value["n_patients"]


def test_a_fresh_process_reproduces_the_stored_embeddings(project: Project) -> None:
    code = """
import numpy as np, pandas as pd, torch, medssl
store = medssl.open_store("data/ct/store")
stored = pd.read_parquet("data/runs/ct-anatomy/probe/embeddings.parquet").set_index("sample_id")["embedding"]
rows = np.arange(0, len(store), 7)
with torch.inference_mode():
    z = medssl.load_encoder("data/runs/ct-anatomy/encoder").module(torch.from_numpy(store.read(rows))).numpy()
print(np.abs(z - np.stack(stored[store.table["sample_id"].iloc[rows]])).max())
"""
    assert float(project.run(sys.executable, "-c", code).splitlines()[-1]) < 1e-5


def test_raw_recordings_embed_like_their_stored_samples(project: Project) -> None:
    from medssl import sources

    folder = project.folder
    encoder = medssl.load_encoder(folder / "data/runs/ecg-simclr/encoder")
    store = medssl.open_store(folder / "data/ecg/store")
    with torch.inference_mode():
        per_sample = encoder.module(torch.from_numpy(store.read(np.arange(len(store))))).numpy()
    trials = [per_sample[rows].mean(0) for rows in store.table.groupby("trial", sort=False).indices.values()]
    raw = sources.read(sources.list_records("manifest", folder / "data/raw/ecg")[0])
    z = encoder.embed(raw.values, rate_hz=raw.rate_hz, channels=raw.channels, unit=raw.unit)
    np.testing.assert_allclose(z[0], trials[0], atol=1e-5)


def test_no_planted_identifier_leaves_the_raw_folder(project: Project) -> None:
    planted = [t.encode() for m in ("ecg", "ct") for t in planted_identifiers(m)]
    looked_at = 0
    for path in project.folder.rglob("*"):
        below = path.relative_to(project.folder)
        if not path.is_file() or below.parts[:2] == ("data", "raw") or below.parts[0] in ("medssl", "pipeline"):
            continue
        if below.parts[:2] == (".medssl", "dvc"):  # DVC's private index of the raw folder
            continue
        content = path.read_bytes() + str(below).encode()
        if path.suffix == ".parquet":  # compressed: look at the values
            content += pd.read_parquet(path).to_csv().encode()
        looked_at += 1
        assert not [t for t in planted if t in content], below
    assert looked_at > 100
    assert not [t for t in planted if t.decode() in project.log]
    # The test can see them where they are planted.
    raw = b"".join(p.read_bytes() + str(p).encode() for p in (project.folder / "data/raw").rglob("*") if p.is_file())
    assert [t for t in planted if t in raw]


def test_rejects_have_reasons(project: Project) -> None:
    for key in ("ecg", "ct"):
        rejects = medssl.open_store(project.folder / "data" / key / "store").rejects
        assert len(rejects) == 4
        assert rejects["reason"].str.fullmatch(r"[a-z_]+").all()
        assert rejects["detail"].str.len().gt(0).all()


def test_the_command_line_on_what_the_pipeline_left(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(project.folder)
    for path in ("params.yaml", "data/ecg/store", "data/runs/ecg-comet/encoder"):
        assert cli.main(["check", path]) == 0, capsys.readouterr().out
    assert cli.main(["check", "data/raw/ecg"]) == 1  # the planted defects
    assert "3 problem(s)" in capsys.readouterr().out  # the fourth is short, which ingest decides
    assert cli.main(["compare", "ecg-comet", "ecg-simclr"]) == 0
    assert "ecg-simclr - ecg-comet" in capsys.readouterr().out
    assert cli.main(["card", "data/runs/ecg-comet/encoder"]) == 0
    assert "## Input contract" in capsys.readouterr().out
    out = tmp_path / "z.parquet"
    for source in ("data/ecg/store", "data/raw/ecg/manifest.csv"):
        words = ["embed", "--encoder", "data/runs/ecg-comet/encoder", "--input", source, "--out", str(out)]
        assert cli.main(words) == 0
        table = pd.read_parquet(out)
        assert len(table["embedding"].dropna().iloc[0]) == 64
    words = ["ingest", "--manifest", "data/raw/ecg/manifest.csv", "--modality", "ecg", "--out", str(tmp_path / "store")]
    assert cli.main(words) == 0
    again = medssl.open_store(tmp_path / "store")
    assert again.content_hash == medssl.open_store("data/ecg/store").content_hash


def test_the_report_shows_every_run_and_cohort(project: Project) -> None:
    page = (project.folder / "data/report/report.html").read_text()
    for name in ("ecg-simclr", "ecg-comet", "ct-anatomy"):
        assert f"label efficiency of {name}" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    table = pd.read_csv(project.folder / "data/report/comparison.csv")
    assert set(table["run"]) == {"ecg-simclr", "ecg-comet", "ct-anatomy"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # inside the kernel's own client
def test_notebooks_run(project: Project, path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are stripped before a commit"
    (project.folder / "notebooks").mkdir(exist_ok=True)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": project.folder / "notebooks"}}).execute()
    images = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert images


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_train_one_encoder(project: Project, nodes: int) -> None:
    """On one node, or on two nodes with addresses of their own."""
    before = project.mlflow_runs()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def launch(node: int) -> str:
        words = ["--nnodes", str(nodes), "--nproc-per-node", str(2 // nodes), "--node-rank", str(node)]
        words += ["--master-addr", "127.0.0.1", "--master-port", str(port), "--local-addr", f"127.0.0.{node + 1}"]
        return project.run("torchrun", *words, "-m", "pipeline.pretrain", "ecg-comet")

    try:
        with ThreadPoolExecutor(nodes) as pool:
            log, *others = pool.map(launch, range(nodes))
        assert "ecg-comet: 4 steps" in log
        assert not any("4 steps" in other for other in others)  # the first process writes
        fresh = project.mlflow_runs()
        assert list(fresh.loc[~fresh["id"].isin(before["id"]), "stage"]) == ["pretrain@ecg-comet"]
        medssl.load_encoder(project.folder / "data/runs/ecg-comet/encoder")
    finally:
        project.run("dvc", "checkout", "--force")


def test_user_mistakes_are_one_line(project: Project) -> None:
    cases = {
        "runs.ecg-comet.recipe=contest": ("pretrain", "ecg-comet", "recipe"),
        "modalities.ecg.source.root=data/nowhere": ("ingest", "ecg", "data/nowhere"),
        "modalities.ecg.source.name=ptb": ("ingest", "ecg", "source.name 'ptb' is unknown; allowed:"),
        "modalities.ecg.ingest.rate=3": ("ingest", "ecg", "modalities.ecg.ingest: rate = 3: unknown key"),
        "modalities.ecg.split.train=0.9": ("split", "ecg", "expected 1"),
    }
    for change, (stage, key, expected) in cases.items():
        raw = yaml.safe_load((project.folder / "params.yaml").read_text())
        name, value = change.split("=")
        *parents, last = name.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        section[last] = yaml.safe_load(value)
        (project.folder / "wrong.yaml").write_text(yaml.safe_dump(raw))
        out = project.run(sys.executable, "-m", f"pipeline.{stage}", key, "--params", "wrong.yaml", check=False)
        errors = [line for line in out.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, out
        assert expected in errors[0]
        assert "Traceback" not in out
