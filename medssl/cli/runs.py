"""Commands about runs: tune, ablate, compare, track, explore."""

from __future__ import annotations

import argparse
from pathlib import Path

from medssl.cli.answer import Answer
from medssl.cli.commands import Commands


def tune(args: argparse.Namespace) -> Answer:
    """Search pretraining choices of a run, on its training and validation patients."""
    from medssl import tune as tuning

    seconds = None if args.budget is None else tuning.budget(args.budget)
    lines = tuning.tune(
        args.run,
        params=Path(args.params),
        seconds=seconds,
        trials=args.trials,
        folds=args.folds,
        seed=args.seed,
        labels=args.labels,
        rows=args.space,
        write=args.write,
    )
    return Answer({"run": args.run, "folder": tuning.DATA / "tune" / args.run, "lines": lines}, lines)


def ablate(args: argparse.Namespace) -> Answer:
    """Run what a file of factors asks for and say what counted."""
    from medssl import ablate as ablation

    data = Path(args.data) if args.data else None
    part = {"factors": args.factors, "levels": args.levels, "runs": args.runs}
    lines = ablation.ablate(Path(args.file), out=Path(args.out), data=data, **part)
    return Answer({"file": args.file, "folder": args.out, "lines": lines}, lines)


def compare(args: argparse.Namespace) -> Answer:
    """Show runs side by side with patient-level intervals of the differences to the first."""
    from medssl.evaluate.compare import compare_runs

    folders = [Path(run) if Path(run).exists() else Path("data/runs") / run for run in args.runs]
    table = compare_runs(folders)
    return Answer({"runs": args.runs, "rows": table}, [table])


def track(args: argparse.Namespace) -> Answer:
    """List the runs of the tracking store, or log what it missed."""
    from medssl import project, tracking

    if args.resync:
        lines = tracking.resync(project.root())
        return Answer({"resynced": lines}, lines or ["nothing to log: the tracking store has all"])
    table = tracking.runs(project.root())
    return Answer({"runs": table}, [table] if len(table) else ["no runs yet; dvc repro makes them"])


def explore(args: argparse.Namespace) -> Answer:
    """Write the page on which the samples of a run are looked at."""
    from medssl import explore as pages
    from medssl import project

    out = Path(args.out) if args.out else None
    lines = pages.of_run(project.root(), args.run, out=out, pictures=not args.no_pictures)
    return Answer({"run": args.run, "lines": lines}, lines)


def add(commands: Commands) -> None:
    """Add the commands about runs."""
    sub = commands.add(
        tune,
        "search pretraining choices of a run, without its test patients; resumable",
        "run, folder (trials.parquet, params.yaml.patch and page), lines (what was found)",
    )
    sub.add_argument("run", metavar="RUN", help="entry of runs whose cohort was split and deduplicated (dvc repro)")
    sub.add_argument("--budget", metavar="TIME", help="such as 2h or 45m; the trial in hand is finished")
    sub.add_argument("--trials", type=int, metavar="N", help="in all, those of an earlier search included")
    sub.add_argument("--seed", type=int, metavar="S", help="of inner folds, trainings, draws (default: the file's)")
    sub.add_argument("--folds", type=int, default=1, metavar="K", help="of 3 inner folds that choose (default: 1)")
    sub.add_argument("--labels", nargs="+", default=[], help="to score on (default: evaluate.labels)")
    sub.add_argument(
        "--space",
        nargs="+",
        default=[],
        metavar="KEY",
        help="what may change, such as pretrain.lr pretrain.temperature=0.05..0.5 'pretrain.views=[null, leads]' "
        "(default: what suits recipe and modality)",
    )
    sub.add_argument("--params", default="params.yaml", help="params file of the pipeline (default: %(default)s)")
    sub.add_argument("--write", action="store_true", help="change the params file to the best")

    sub = commands.add(
        ablate,
        "which choices count: factors by runs, with intervals of the differences; resumable",
        "file, folder (ablation.parquet, ablation.md and page), lines (what counted)",
    )
    sub.add_argument("file", metavar="FILE", help="factors and their levels, such as params.ablation.yaml")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of runs and table; what is done stays done")
    sub.add_argument("--data", metavar="DIR", help="folder with ecg/ ppg/ eeg/ mri/ ct/ for params.real.yaml")
    for kind in ("factors", "levels", "runs"):
        sub.add_argument(f"--{kind}", nargs="+", default=[], metavar="NAME", help="(default: all)")

    sub = commands.add(
        compare,
        "runs side by side, with intervals of the differences",
        "runs, rows (one for each label, protocol and fraction)",
    )
    sub.add_argument("runs", nargs="+", metavar="RUN", help="names in data/runs, or folders")

    sub = commands.add(
        track,
        "the runs in the tracking store, with their headline results",
        "runs (name, modality, recipe, status, headline, mean, lo, hi, when), or with --resync resynced (lines)",
    )
    sub.add_argument("--resync", action="store_true", help="log what a stage could not, when its server was away")

    sub = commands.add(
        explore,
        "one page to look at the samples of a run: map, neighbours, traces or slices",
        "run, lines (what was written and what it contains)",
    )
    sub.add_argument("run", metavar="RUN", help="entry of runs that was trained (dvc repro)")
    sub.add_argument("--out", metavar="PAGE", help="file (default: beside the run)")
    sub.add_argument("--no-pictures", action="store_true", help="leave traces and slices of patients out of the page")
