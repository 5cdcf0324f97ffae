"""Parents of stages, the registry's champion, and the list of runs, on a database of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medssl import config, tracking
from medssl.tracking import entries, tree

SETTINGS = config.Tracking(uri="sqlite:////nowhere/else.db", experiment="toy")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    from mlflow import MlflowClient

    return MlflowClient(database)


def within(monkeypatch: pytest.MonkeyPatch, execution: str, stage: str) -> None:
    """Be a stage of an execution of DVC."""
    monkeypatch.setenv("DVC_STAGE", stage)
    monkeypatch.setattr(tree, "execution", lambda: execution)


def parent(client: Any, run: tracking.StageRun) -> Any:
    return client.get_run(client.get_run(run.run_id).data.tags[tree.PARENT])


def test_stages_of_one_execution_stand_below_one_parent(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    above = {}
    for execution in ("first", "second"):
        for stage in ("pretrain@a", "pretrain-fold@a-f0", "results@a"):
            within(monkeypatch, execution, stage)
            with tracking.stage_run(SETTINGS, "?", run="a", modality="ecg", tags={"recipe": "simclr"}) as run:
                run.parent.params({"recipe": "simclr"})
                assert parent(client, run).info.status == "RUNNING"
            above[execution, stage] = parent(client, run)
    ids = {execution: {p.info.run_id for (at, _), p in above.items() if at == execution} for execution, _ in above}
    assert all(len(one) == 1 for one in ids.values())
    assert ids["first"].isdisjoint(ids["second"])
    one = client.get_run(ids["first"].pop())
    assert one.info.status == "FINISHED"
    assert one.info.run_name == "a"
    assert one.data.params == {"recipe": "simclr"}
    assert one.data.tags["kind"] == "run"
    assert one.data.tags["rebuild"] == "dvc repro results@a"
    assert "stage" not in one.data.tags


def test_outside_dvc_a_repeated_stage_begins_anew(client: Any) -> None:
    above = []
    for stage in ("pretrain@b", "probe@b", "probe@b", "results@b"):
        with tracking.stage_run(SETTINGS, stage, run="b", modality="ecg") as run:
            pass
        above.append(parent(client, run).info.run_id)
    assert above[0] == above[1] != above[2] == above[3]


def test_a_cohort_has_a_parent_too_and_a_search_has_none(client: Any) -> None:
    with tracking.stage_run(SETTINGS, "ingest@ct", modality="ct") as run:
        pass
    assert parent(client, run).info.run_name == "cohort ct"
    with (
        tracking.stage_run(SETTINGS, "tune@a", run="a", modality="ecg", alone=True) as search,
        tracking.stage_run(SETTINGS, "tune@a trial 0", run="a", below=search) as trial,
    ):
        pass
    assert tree.PARENT not in client.get_run(search.run_id).data.tags
    assert parent(client, trial).info.run_id == search.run_id


def test_a_failed_stage_fails_the_parent_for_good(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with tracking.stage_run(SETTINGS, "?", run="c"):
            raise ValueError

    within(monkeypatch, "third", "pretrain-fold@c-f0")
    with pytest.raises(ValueError, match=r"^$"):
        fail()
    within(monkeypatch, "third", "pretrain-fold@c-f1")
    with tracking.stage_run(SETTINGS, "?", run="c") as run:
        pass
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert parent(client, run).info.status == "FAILED"


def test_the_champion_moves_by_its_rule_alone(client: Any) -> None:
    same = {"label": "norm", "metric": "auroc", "data_hash": "d", "split": "s"}

    def scored(weights: str, low: float | None, **other: str) -> str:
        with tracking.stage_run(SETTINGS, f"probe@{weights}", run=weights, modality="ecg") as run:
            run.tag("weights", weights)
            score = {"mean": 0.9, "lo": low, "hi": 0.95, "n_patients": 40}
            run.register("medssl-ecg", weights, score=score, same=same | other)
        return client.get_run(run.run_id).data.tags["registered"].split()[1]

    def champion() -> Any:
        return client.get_model_version_by_alias("medssl-ecg", "champion")

    scored("few", None)
    first = scored("one", 0.7)
    assert str(champion().version) == first
    scored("worse", 0.6)
    scored("elsewhere", 0.9, data_hash="other")
    assert str(champion().version) == first
    better = scored("better", 0.8)
    assert str(champion().version) == better
    assert champion().tags["champion_after"] == first
    assert champion().tags["validation_lo"] == "0.8"
    assert "lower limit" in champion().tags["rule"]
    assert champion().source == f"runs:/{champion().run_id}/encoder"
    assert scored("better", 0.8) == better  # an encoder is one version, however often it is scored


def test_a_list_of_many_runs(client: Any, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    settings = config.Tracking(uri=database, experiment="many")
    at = tree.experiment(client, "many", database)
    for number in range(30):
        run = client.create_run(
            at, tags={"kind": "run", "run": f"r{number}", "headline": "norm auroc"}, start_time=number + 1
        )
        entries.send(client, run.info.run_id, entries.params({"recipe": "comet"}))
        values = {"probe/test/headline": 0.8, "probe/test/headline_lo": 0.7, "probe/test/headline_hi": 0.9}
        entries.send(client, run.info.run_id, entries.metrics(values, 0))
    monkeypatch.setattr(tracking, "_settings", lambda _: settings)
    found = tracking.runs(Path.cwd())
    assert list(found["name"]) == [f"r{number}" for number in reversed(range(30))]
    assert dict(found.iloc[0][["recipe", "label", "metric", "mean", "lo", "hi"]]) == {
        "recipe": "comet", "label": "norm", "metric": "auroc", "mean": 0.8, "lo": 0.7, "hi": 0.9,
    }  # fmt: skip


def test_the_list_opens_with_columns_that_runs_have(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.stage_run(SETTINGS, "results@d", run="d", modality="ecg") as run:
        run.parent.params({"recipe": "comet", "modality": "ecg"})
        run.parent.metrics({f"probe/test/headline{end}": 0.5 for end in ("", "_lo", "_hi")})
        run.parent.tag("headline", "norm auroc")
    monkeypatch.setattr(tracking, "_settings", lambda _: SETTINGS)
    at = client.get_experiment_by_name("toy")
    client.set_experiment_tag(at.experiment_id, "mlflow.sharedViewState.medssl", "an earlier one")
    at_runs = f"/#/experiments/{at.experiment_id}/runs"
    assert tracking.link(Path.cwd()) == f"{at_runs}?viewStateShareKey=medssl&workflowType=machine_learning"
    state = json.loads(client.get_experiment(at.experiment_id).tags["mlflow.sharedViewState.medssl"])
    above = parent(client, run).data
    known = {"metrics": above.metrics, "params": above.params, "tags": above.tags}
    for column in state["selectedColumns"]:
        kind, name = column.removesuffix("`").split(".`")
        protocols = ("finetune", "supervised", "random_init", "handcrafted", "demographics_probe")
        assert kind == "attributes" or name in known[kind] or name.removesuffix("/test/headline") in protocols
    assert set(state["columnWidths"]) <= set(state["columnOrder"])  # of others MLflow takes no width
