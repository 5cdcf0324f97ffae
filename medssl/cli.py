"""``medssl demo | fetch | check | ingest | tune | ablate | embed | retrieve | evaluate | compare | card``.

The exit code is 0, 1 (something is wrong) or 2 (usage).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medssl.config import SignalIngest, VolumeIngest


def demo(args: argparse.Namespace) -> int:
    """Run the default pipeline in a folder and print a summary."""
    import tempfile

    from medssl import workspace

    folder = Path(args.out) if args.out else Path(tempfile.mkdtemp(prefix="medssl-demo-"))
    workspace.lay_out(folder, workspace.params_for(args.params, Path(args.data) if args.data else None))
    workspace.dvc(folder, "repro")
    import pandas as pd

    from medssl.evaluate.metrics import shown

    table = pd.read_csv(folder / "data" / "report" / "comparison.csv", dtype={"label_fraction": float})
    if len(table):
        full = table[table["label_fraction"] == 1.0]
        full = full.assign(result=[shown(r, 2) for r in full.to_dict("records")])
        wide = full.pivot(index=["run", "label", "metric", "n_patients"], columns="protocol", values="result")
        print(wide.reindex(columns=list(dict.fromkeys(full["protocol"]))).fillna("").to_string())
    print(f"\nreport: {folder / 'data' / 'report' / 'report.html'}")
    print(f"encoders: {folder / 'data' / 'runs'}/<run>/encoder")
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Download a public set, after its licence and what to cite."""
    from medssl import fetch as public

    known, folder = public.facts(args.name), Path(args.to)
    print(f"{args.name}: PhysioNet {known.path}\nlicence: {known.licence}\ncite: {known.citation}")
    print(f"cite: {public.PHYSIONET}")
    got, had = public.fetch(args.name, folder, base_url=args.base_url)
    print(f"{folder}: {got} files fetched, {had} were there, all as published")
    print(f"then: {known.then.replace('NAME', args.name).replace('DIR', args.to)}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Say what is at a path and everything wrong with it, or what stores share."""
    if args.html and args.leakage:
        args.refuse("--html is for a raw folder, without --leakage")
    if len(args.paths) > 1 + args.leakage:
        args.refuse(f"{len(args.paths)} paths; expected one, or with --leakage one or two stores")
    from medssl.check import paths

    path, *other = map(Path, args.paths)
    if args.leakage:
        lines, problems = paths.leaks(path, *other)
    else:
        lines, problems = paths.check(
            path,
            args.source,
            page=Path(args.html) if args.html else None,
            params=_ingest_of(args) if args.modality else None,
            modality=args.modality.partition("-")[0] if args.modality else None,
        )
    print("\n".join(lines))
    for problem in problems:
        print(f"problem: {problem}")
    print("ok" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _ingest_of(args: argparse.Namespace) -> SignalIngest | VolumeIngest:
    """Return how the cohort that ``--modality`` names is cut, by ``--params`` or by default."""
    from medssl import config

    if config.modality_of(args.modality) not in config.MODALITIES:
        raise ValueError(f"--modality '{args.modality}'; allowed: {', '.join(config.MODALITIES)}")
    params = config.load(args.params) if args.params else config.load_default()
    return config.part(params, "modalities", args.modality).ingest


def ingest(args: argparse.Namespace) -> int:
    """Write a store from a table of files."""
    from medssl import project
    from medssl.ingest.build import build
    from medssl.sources import manifest

    listing = manifest.listing(Path(args.manifest))
    for line in (*listing.slips, *listing.notes):
        print(f"note: {line}", file=sys.stderr)
    made = build(
        listing.records,
        args.out,
        key=args.modality,
        params=_ingest_of(args),
        secret=project.identity_key(project.root()),
        executor="process" if args.workers > 1 else "serial",
        workers=args.workers,
    )
    counts = made.rejects["reason"].value_counts().to_dict()
    print(f"{args.out}: {len(made)} samples of {made.table['patient'].nunique()} patients; rejects: {counts or 'none'}")
    return 0


def tune(args: argparse.Namespace) -> int:
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
    print("\n".join(lines))
    return 0


def ablate(args: argparse.Namespace) -> int:
    """Run what a file of factors asks for and say what counted."""
    from medssl import ablate as ablation

    data = Path(args.data) if args.data else None
    part = {"factors": args.factors, "levels": args.levels, "runs": args.runs}
    lines = ablation.ablate(Path(args.file), out=Path(args.out), data=data, **part)
    print("\n".join(lines))
    return 0


def embed(args: argparse.Namespace) -> int:
    """Write embeddings of a store, a table of files or one file, one row a sample."""
    from medssl.hub import load_encoder, recordings
    from medssl.store import write_parquet

    encoder = load_encoder(args.encoder)
    table = recordings.embed(encoder, Path(args.input))
    write_parquet(table, Path(args.out))
    reasons = table.loc[table["reason"].ne(""), "reason"]
    refused = len(reasons)
    alike = reasons.str.replace(r"\d+(\.\d+)?", "N", regex=True)  # each kind once, with its first numbers
    for kind, n in alike.value_counts()[:5].items():
        print(f"{n} refused: {reasons[alike == kind].iloc[0]}", file=sys.stderr)
    size = encoder.contract["embedding_dim"]
    print(f"{args.out}: {len(table) - refused} embeddings of {size} numbers, {refused} refused")
    return 0 if refused < len(table) else 1


def retrieve(args: argparse.Namespace) -> int:
    """Print how often a random crop of a test recording finds its window and its recording."""
    from medssl.evaluate import retrieve as search
    from medssl.hub import load_encoder
    from medssl.store import open_store

    folder = Path(args.store)
    beside = folder.parent / "split.parquet"
    parts = [Path(args.split)] if args.split else [beside] * beside.is_file()
    found = search.retrieve(
        load_encoder(args.encoder),
        open_store(folder, *parts),
        share=args.share,
        tolerance_s=args.tolerance,
        ks=args.k,
        seed=args.seed,
        accelerator="auto",
    )
    print(found.round(3).to_string(index=False))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Evaluate an encoder on a store: probes, baselines, controls, checks, with intervals."""
    from medssl import config, project
    from medssl.evaluate import standalone
    from medssl.hub import load_encoder
    from medssl.report import plots
    from medssl.store import open_store

    given = {"labels": args.labels, "fractions": args.fractions, "protocols": args.protocols, "seeds": args.seeds}
    wanted = config.evaluate_of({name: value for name, value in given.items() if value})
    store = open_store(args.store)
    root = project.root()
    metrics, checks = standalone.evaluate(
        [load_encoder(reference) for reference in args.encoder],
        store,
        standalone.splits(store, args.split),
        wanted,
        out=Path(args.out),
        key=project.identity_key(root),
        cache=root / ".medssl" / "features",
    )
    for name, results in metrics.items():
        print(plots.summary(name, results))
    for check in checks:
        print(f"{check.verdict}: {check.check}: {check.detail}")
    print(f"{args.out}: predictions, metrics, subgroups, checks")
    return 1 if any(check.verdict == "failed" for check in checks) else 0


def compare(args: argparse.Namespace) -> int:
    """Print runs side by side with patient-level intervals of the differences to the first."""
    from medssl.evaluate.compare import compare_runs

    folders = [Path(run) if Path(run).exists() else Path("data/runs") / run for run in args.runs]
    print(compare_runs(folders).to_string(index=False))
    return 0


def card(args: argparse.Namespace) -> int:
    """Print the model card of an encoder, or the table of those that come with the package."""
    from medssl import hub
    from medssl.report import card as cards

    print(hub.load_encoder(args.encoder).card if args.encoder else cards.catalogue(hub.ready()))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    from medssl import fetch as public

    about = "Self-supervised pretraining for medical signals and images."
    top = argparse.ArgumentParser(prog="medssl", description=about)
    commands = top.add_subparsers(dest="command", required=True)
    of_params = "params.yaml with modalities.<modality>.ingest (default: the project's defaults)"
    of_encoder = "folder, name of a ready encoder (medssl card), runs:/ID/encoder or models:/NAME@alias"

    def command(work: Callable[[argparse.Namespace], int], does: str) -> argparse.ArgumentParser:
        made = commands.add_parser(work.__name__, help=does)
        made.set_defaults(work=work)
        return made

    sub = command(demo, "run the default pipeline in a folder, with a summary; needs no network")
    sub.add_argument("--out", help="folder (default: a new temporary one)")
    sub.add_argument("--params", default="params.yaml", help="params.yaml or params.real.yaml of the project")
    sub.add_argument("--data", help="folder with ecg/ ppg/ eeg/ mri/ ct/ for params.real.yaml")

    sub = command(fetch, "a public set from PhysioNet, checked, resumable")
    sub.add_argument("name", metavar="NAME", help=", ".join(public.SETS))
    sub.add_argument("--to", required=True, metavar="DIR", help="folder; files that are there are not fetched again")
    sub.add_argument("--base-url", default=public.BASE_URL, help="server or mirror (default: %(default)s)")

    sub = command(check, "what is at PATH and everything wrong with it; what two stores share")
    sub.add_argument("paths", nargs="+", metavar="PATH", help="raw folder, store, encoder folder or params file")
    sub.add_argument(
        "--leakage",
        action="store_true",
        help="of two stores, such as one to pretrain and one to evaluate on, or across the split of one: "
        "the same patients, exact copies, overlapping raw intervals, and copies in another form, by content",
    )
    sub.add_argument("--source", default="manifest", help="how a raw folder is laid out (default: manifest)")
    sub.add_argument("--html", metavar="FILE", help="also write what a raw folder holds as a page")
    sub.add_argument("--modality", help="also cut the recordings as this cohort of the parameters, and tell the losses")
    sub.add_argument("--params", help=of_params)
    sub.set_defaults(refuse=sub.error)

    sub = command(ingest, "a store from a table of files, without DVC")
    sub.add_argument("--manifest", required=True, help="CSV or Parquet: path, patient, trial, label_*, anat_*")
    sub.add_argument("--modality", required=True, help="ecg, ppg, eeg, ct or mri")
    sub.add_argument("--out", required=True, help="folder of the store")
    sub.add_argument("--params", help=of_params)
    sub.add_argument("--workers", type=int, default=1, help="processes (default: 1)")

    sub = command(tune, "search pretraining choices of a run, without its test patients; resumable")
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

    sub = command(ablate, "which choices count: factors by runs, with intervals of the differences; resumable")
    sub.add_argument("file", metavar="FILE", help="factors and their levels, such as params.ablation.yaml")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of runs and table; what is done stays done")
    sub.add_argument("--data", metavar="DIR", help="folder with ecg/ ppg/ eeg/ mri/ ct/ for params.real.yaml")
    for kind in ("factors", "levels", "runs"):
        sub.add_argument(f"--{kind}", nargs="+", default=[], metavar="NAME", help="(default: all)")

    sub = command(embed, "embeddings of your own recordings, one row a sample")
    sub.add_argument("--encoder", required=True, help=of_encoder)
    sub.add_argument("--input", required=True, help="store, table of files, or one recording")
    sub.add_argument("--out", required=True, help="FILE.parquet")

    sub = command(retrieve, "whether crops of recordings find, by their embeddings, the windows they were cut from")
    sub.add_argument("--encoder", required=True, help=of_encoder)
    sub.add_argument("--store", required=True, help="folder of the store, cut as the encoder asks")
    sub.add_argument("--split", help="FILE.parquet (default: split.parquet beside the store, else all are tested)")
    sub.add_argument("--share", type=float, default=0.5, help="length of a crop, of its window (default: 0.5)")
    sub.add_argument("--tolerance", type=float, default=0.0, metavar="S", help="seconds to a window that is a hit too")
    sub.add_argument("--k", type=int, nargs="+", default=[1, 5, 10], help="results looked at (default: 1 5 10)")
    sub.add_argument("--seed", type=int, default=0, help="of the crops (default: 0)")

    sub = command(evaluate, "any encoder on a store, against baselines and controls, with checks")
    sub.add_argument("--encoder", required=True, nargs="+", help=f"{of_encoder}, module:function; several trainings")
    sub.add_argument("--store", required=True, help="folder of the store")
    sub.add_argument(
        "--split",
        help="FILE.parquet, folds such as 5 or 5x2, or a published split: ptbxl, papagei, eegmat "
        "(default: split.parquet beside the store, else 5 folds)",
    )
    sub.add_argument("--labels", nargs="+", help="(default: all)")
    sub.add_argument("--fractions", nargs="+", type=float, help="of the labels (default: 1 0.1 0.01)")
    sub.add_argument("--protocols", nargs="+", help="(default: probes, baselines and controls)")
    sub.add_argument("--seeds", type=int, help="draws of each fraction (default: 3)")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of the results")

    sub = command(compare, "runs side by side, with intervals of the differences")
    sub.add_argument("runs", nargs="+", help="names in data/runs, or folders")

    sub = command(card, "the model card of an encoder, or the table of ready ones, as Markdown")
    sub.add_argument("encoder", nargs="?", help=f"{of_encoder} (default: list the ready ones)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on stderr and exit code 1."""
    args = parser().parse_args(argv)
    try:
        return int(args.work(args))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
