"""All cohorts and runs -> one self-contained HTML page, each run's card with its results, and tables for DVC."""

import json

import pandas as pd

from medssl import config, tracking
from medssl.report import card, html, stored, tables
from medssl.store import write_parquet
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/report``: ``report.html``, ``comparison.csv``, ``differences.parquet`` and ``cards/<run>.md``."""
    out = stage.DATA / "report"
    (out / "cards").mkdir(parents=True, exist_ok=True)
    flows = [json.loads(stage.flow_file(name, "counts.json").read_text()) for name in params.modalities]
    hashes = ",".join(flow["data_hash"] for flow in flows)
    with tracking.stage_run(params.tracking, "report", data_hash=hashes, tags={"kind": "report"}) as run:
        runs = {name: stage.run_folder(name) for name in params.runs}
        results = {name: stored.read(folder) for name, folder in runs.items()}
        compared = [result.differences for result in results.values() if result.differences is not None]
        differences = pd.concat(compared, ignore_index=True) if compared else None
        page, comparison = html.render(
            flows,
            {name: stage.flow_file(name, "duplicates.png") for name in params.modalities},
            runs,
            {name: entry.recipe for name, entry in params.runs.items()},
            {name: params.reads(name) for name in params.runs},
            differences=differences,
        )
        (out / "report.html").write_text(page)
        comparison.to_csv(out / "comparison.csv", index=False)
        tables.write(out, comparison)
        if differences is not None:
            write_parquet(differences, out / "differences.parquet")
        for name, result in results.items():
            path = runs[name] / "encoder" / "config.json"
            if not path.is_file():  # somebody else's module has a card of its own
                continue
            facts = json.loads(path.read_text())
            text = card.render(
                facts["contract"],
                facts["architecture"],
                facts["provenance"],
                result.metrics,
                split=result.split,
                trust=result.trust,
                subgroups=result.subgroups,
            )
            (out / "cards" / f"{name}.md").write_text(text)
        run.artifact(out)
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    stage.main(work, __doc__)
