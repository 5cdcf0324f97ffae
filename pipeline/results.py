"""Predictions of a run -> metrics with intervals, differences, subgroups, and whether they can be trusted."""

import json
from pathlib import Path

import pandas as pd

from medssl import config
from medssl.evaluate import labels, outcome
from medssl.report import card, plots
from pipeline import stage


def joined(parts: list[Path]) -> pd.DataFrame:
    """Return the predictions of probes and of networks, of all parts."""
    tables = [pd.read_parquet(part / of / "predictions.parquet") for part in parts for of in ("probe", "finetune")]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def work(params: config.Params, key: str) -> None:
    """Write `medssl.evaluate.outcome.FILES` and a plot of the fixed split, and of all folds to ``crossfit``."""
    wanted: config.Run = config.part(params, "runs", key)
    folds = json.loads(stage.plan_file(key).read_text())["folds"]
    store, folder = stage.open_cohort(wanted.modality), stage.run_folder(key)
    (folder / "crossfit").mkdir(parents=True, exist_ok=True)
    places = {folder: [folder]}
    if folds:
        places[folder / "crossfit"] = [stage.run_folder(key, fold) for fold in range(folds)]
    with stage.tracked(params, "results", key, store) as run:
        for place, parts in places.items():
            said = [json.loads((part / "probe" / "notes.json").read_text()) for part in parts]
            options = {"reads": params.reads(key), "draws": wanted.evaluate.bootstrap}
            metrics, checks = outcome.write(place, key, joined(parts), said, store.table, **options)  # type: ignore[arg-type]
        # The last is of the most patients: what a user looks at first.
        plots.label_efficiency(metrics, key).savefig(folder / "label_efficiency.png", dpi=100)
        run.metrics(plots.flat_metrics(metrics))
        what, headlines = plots.headlines(metrics)
        run.parent.metrics(headlines)
        run.parent.tag("headline", what)
        for name in outcome.FILES:
            run.artifact(place / name)
        for to in (run, run.parent):
            to.artifact(folder / "label_efficiency.png")
        run.parent.artifact(place / "metrics.json")
    for name in metrics:
        print(plots.summary(f"{key} {name}", metrics[name]))
    for check in checks:
        if check.verdict != "ok":
            print(f"{key}: {check.check}: {check.verdict}: {check.detail}")
    if crossing := labels.crossing_patients(store.table):
        print(f"{key}: {card.crossing(crossing)}")


if __name__ == "__main__":
    stage.main(work, __doc__)
