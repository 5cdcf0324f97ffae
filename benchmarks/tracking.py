"""The list of 500 runs with headlines, each with eight stages below it: seconds, against reading all and choosing.

    python benchmarks/tracking.py [--runs 500] [--repeats 3]

The alternative is what a notebook does at first: `mlflow.search_runs` of the whole experiment, then a filter in pandas.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.timing import in_turns, last_line, measured, ratio, table
from medssl import config, tracking
from medssl.tracking import entries, later, tree

STAGES = 8


def filled(uri: str, runs: int) -> None:
    """Write runs as the pipeline leaves them."""
    client = tracking.client_of(uri)
    at = tree.experiment(client, "medssl", uri)
    for number in range(runs):
        tags = {"kind": "run", "run": f"run-{number}", "modality": "ecg", "headline": "superclass auroc"}
        parent = client.create_run(at, tags=tags, run_name=f"run-{number}", start_time=number + 1).info.run_id
        entries.send(client, parent, entries.params({f"pretrain.p{k}": k for k in range(40)} | {"recipe": "simclr"}))
        values = {f"{name}/test/headline{end}": 0.5 for name in ("probe", "finetune") for end in ("", "_lo", "_hi")}
        entries.send(client, parent, entries.metrics(values, 0))
        for stage in range(STAGES):
            tags = {"stage": f"stage-{stage}@run-{number}", "run": f"run-{number}", tree.PARENT: parent}
            child = client.create_run(at, tags=tags, start_time=number + 1).info.run_id
            entries.send(client, child, entries.metrics({f"probe/test/l/{k}": 0.1 for k in range(20)}, 0))


def main() -> None:
    """Print seconds and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    experiment = config.Tracking().experiment
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        filled(uri, args.runs)
        import mlflow

        mlflow.set_tracking_uri(uri)

        def ours() -> float:
            work = measured(lambda: len(later.table(tracking.client_of(uri), experiment)))
            assert work.result == args.runs
            return work.seconds

        def all_of_them() -> float:
            work = measured(lambda: mlflow.search_runs(experiment_names=[experiment], max_results=50_000))
            assert (work.result["tags.kind"] == "run").sum() == args.runs
            return work.seconds

        took = in_turns({"list": ours, "all": all_of_them}, args.repeats)
    show = table("runs", "list s", "all s", "ratio")
    own, other = map(statistics.median, took.values())
    show(args.runs, own, other, ratio(took["all"], took["list"]))
    last_line({"list_s": own, "list_speedup": ratio(took["all"], took["list"])})


if __name__ == "__main__":
    main()
