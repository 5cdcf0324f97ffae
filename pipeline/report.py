"""All cohorts and runs -> one self-contained HTML page, and each run's card with its results."""

from medssl import config, tracking
from medssl.report import html
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/report/report.html`` and ``data/report/comparison.csv``."""
    out = stage.DATA / "report"
    out.mkdir(parents=True, exist_ok=True)
    with tracking.stage_run(params.tracking, "report") as run:
        page, comparison = html.render(
            stage.DATA / "flow",
            {name: stage.run_folder(name) for name in params.runs},
            list(params.modalities),
            {name: entry.recipe for name, entry in params.runs.items()},
        )
        (out / "report.html").write_text(page)
        comparison.to_csv(out / "comparison.csv", index=False)
        run.artifact(out / "report.html")
        run.artifact(out / "comparison.csv")
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    stage.main(work, __doc__)
