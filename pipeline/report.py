"""All cohorts and runs -> one self-contained HTML page, and each run's card with its results."""

import json

from medssl import config, tracking
from medssl.report import card, html
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/report``: ``report.html``, ``comparison.csv`` and ``cards/<run>.md``."""
    out = stage.DATA / "report"
    (out / "cards").mkdir(parents=True, exist_ok=True)
    flows = [json.loads(stage.flow_file(name, "counts.json").read_text()) for name in params.modalities]
    hashes = ",".join(flow["data_hash"] for flow in flows)
    with tracking.stage_run(params.tracking, "report", data_hash=hashes) as run:
        runs = {name: stage.run_folder(name) for name in params.runs}
        page, comparison = html.render(
            flows,
            {name: stage.flow_file(name, "duplicates.png") for name in params.modalities},
            runs,
            {name: entry.recipe for name, entry in params.runs.items()},
            {name: entry.reads() for name, entry in params.runs.items()},
        )
        (out / "report.html").write_text(page)
        comparison.to_csv(out / "comparison.csv", index=False)
        for name, folder in runs.items():
            facts = json.loads((folder / "encoder" / "config.json").read_text())
            metrics = json.loads((folder / "metrics.json").read_text())
            text = card.render(facts["contract"], facts["architecture"], facts["provenance"], metrics)
            (out / "cards" / f"{name}.md").write_text(text)
        run.artifact(out)
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    stage.main(work, __doc__)
