"""MLflow's own pages in Chromium: our link, parents with headlines, their stages, curves of two runs, the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medssl import config, tracking
from tests.tracking.servers import Server

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install medssl[dev]")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

SETTINGS = config.Tracking(experiment="toy")
STEPS = 8


def record() -> None:
    """Record two runs of two stages and a report, as the stages of the pipeline do."""
    for number, (name, recipe) in enumerate([("first", "simclr"), ("second", "comet")]):
        with tracking.stage_run(SETTINGS, f"pretrain@{name}", run=name, modality="ecg", data_hash="h") as run:
            run.parent.params({"recipe": recipe})
            for step in range(1, STEPS + 1):
                run.metrics({"pretrain/train/loss": (2 - number) / step}, step)
        with tracking.stage_run(SETTINGS, f"results@{name}", run=name, modality="ecg", data_hash="h") as run:
            ends = {"": 0.8, "_lo": 0.7, "_hi": 0.9}
            run.parent.metrics({f"probe/test/headline{end}": value + number / 20 for end, value in ends.items()})
            run.parent.tag("headline", "norm AUROC")
    Path("report").mkdir()
    Path("report/report.html").write_text("<!doctype html><title>toy</title><h1>What the report says</h1>")
    with tracking.stage_run(SETTINGS, "report", data_hash="h", tags={"kind": "report"}) as run:
        run.artifact("report")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where our link leads, on a server with the runs."""
    project = tmp_path_factory.mktemp("project")
    server = Server(tmp_path_factory.mktemp("server"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.delenv("DVC_STAGE", raising=False)
        patch.chdir(project)
        (project / ".dvc").mkdir()
        (project / "params.yaml").write_text("tracking: {experiment: toy}\n")
        try:
            server.start()
            record()
            from mlflow import MlflowClient

            from medssl.tracking import view

            yield server.uri + view.link(MlflowClient(server.uri), "toy")
        finally:
            server.kill()


@pytest.fixture
def tab(address: str) -> Iterator[Any]:
    """Return a tab with the list of runs."""
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = chromium.new_page(viewport={"width": 2400, "height": 1000})
        opened.set_default_timeout(120_000)  # of a machine that does much else; nothing waits so long here
        opened.goto(address)
        opened.get_by_role("link", name="second", exact=True).wait_for()
        yield opened
        chromium.close()


def cells(tab: Any, name: str) -> dict[str, str]:
    """Return what the list shows of a run, by column."""
    row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name=name, exact=True))
    at = row.first.get_attribute("row-id")
    found = tab.locator(f"[row-id='{at}'] [role=gridcell]")
    texts = found.evaluate_all("(all) => all.map((cell) => [cell.getAttribute('col-id'), cell.innerText.trim()])")
    return {column.split("`")[1] if "`" in column else column: text for column, text in texts}


def unfold(tab: Any, name: str) -> None:
    row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name=name, exact=True))
    row.first.get_by_role("button").first.click()
    tab.get_by_role("link", name=f"pretrain@{name}", exact=True).wait_for()


def test_the_list_is_the_comparison(tab: Any) -> None:
    first, second = cells(tab, "first"), cells(tab, "second")
    assert (first["recipe"], second["recipe"]) == ("simclr", "comet")
    assert first["headline"] == "norm AUROC"
    for run, values in {"first": ("0.8", "0.7", "0.9"), "second": ("0.85", "0.75", "0.95")}.items():
        shown = cells(tab, run)
        ends = [shown[f"probe/test/headline{end}"] for end in ("", "_lo", "_hi")]
        assert [float(value) for value in ends] == pytest.approx([float(value) for value in values])
    # Heads can be read, and headlines come first.
    heads = tab.locator("[role=columnheader]:has-text('probe/test/headline')")
    assert heads.evaluate_all("(all) => all.every((one) => one.offsetWidth >= 150)")
    left = {
        name: tab.locator(f"[role=columnheader]:has-text('{name}')").first.bounding_box()["x"]
        for name in ("Run Name", "headline", "recipe", "git_commit")
    }
    assert sorted(left, key=left.__getitem__) == list(left)


def test_stages_unfold(tab: Any) -> None:
    assert tab.get_by_text("pretrain@first").count() == 0
    unfold(tab, "first")
    assert tab.get_by_role("link", name="results@first", exact=True).count() == 1
    assert tab.get_by_text("pretrain@second").count() == 0


def test_curves_of_two_runs_compare(tab: Any) -> None:
    for name in ("first", "second"):
        unfold(tab, name)
    tab.locator("label:has(input[value=CHART])").click()
    chart = tab.locator(".js-plotly-plot:has(.scatterlayer)").first
    chart.locator(".point").nth(2 * STEPS - 1).wait_for(state="attached")
    drawn = chart.evaluate("(plot) => plot.data.map((line) => Array.from(line.y ?? []))")
    lines = sorted({tuple(line) for line in drawn if len(line) == STEPS}, key=max)  # smoothed and as measured
    assert lines == [pytest.approx([height / step for step in range(1, STEPS + 1)]) for height in (1, 2)]


def test_the_report_opens_as_an_artifact(tab: Any) -> None:
    tab.get_by_role("link", name="report", exact=True).click()
    tab.get_by_role("tab", name="Artifacts").click()
    tab.get_by_text("report.html").first.click()
    heading = tab.frame_locator("iframe").get_by_role("heading", name="What the report says")
    heading.wait_for()
    assert heading.is_visible()
