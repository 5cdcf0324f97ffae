"""Commands that make a project and run it: new, demo, repro."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from medssl.cli.answer import Answer
from medssl.cli.commands import Commands

LANES = 2  # cohorts at once


def new(args: argparse.Namespace) -> Answer:
    """Lay out a project around a folder of recordings, after a look at them."""
    from medssl import new as projects

    made = projects.lay_out(
        Path(args.folder),
        recordings=Path(args.recordings) if args.recordings else None,
        source=args.source,
        modality=args.modality,
        patients=args.patients,
        table=Path(args.table) if args.table else None,
        labels=args.labels,
        rate_hz=args.rate_hz,
        unit=args.unit,
    )
    facts = {
        "folder": made.folder, "cohort": made.cohort, "run": made.run, "recordings": made.recordings,
        "written": made.written, "notes": made.notes, "next": made.next,
    }  # fmt: skip
    then = [f"{number}. {step}" for number, step in enumerate(made.next, start=1)]
    return Answer(facts, ["\n".join([*made.lines, *(f"note: {note}" for note in made.notes), "", *then])])


def demo(args: argparse.Namespace) -> Answer:
    """Run the default pipeline in a folder and show a summary."""
    import tempfile

    from medssl import config, workspace

    folder = Path(args.out) if args.out else Path(tempfile.mkdtemp(prefix="medssl-demo-"))
    params = workspace.params_for(args.params, Path(args.data) if args.data else None)
    workspace.lay_out(folder, workspace.quick(params) if args.quick else params)
    # Real recordings take memory and hours: one stage at a time, with its bars.
    workspace.repro(folder, lanes=1 if args.data else LANES)
    import pandas as pd

    from medssl.evaluate.metrics import shown

    data = folder / "data"
    table = pd.read_csv(data / "report" / "comparison.csv", dtype={"label_fraction": float})
    full = table[table["label_fraction"] == 1.0]
    tables = []
    if len(full):
        with_results = full.assign(result=[shown(r, 2) for r in full.to_dict("records")])
        wide = with_results.pivot(index=["run", "label", "metric", "n_patients"], columns="protocol", values="result")
        wide = wide.reindex(columns=list(dict.fromkeys(full["protocol"]))).fillna("").reset_index()
        tables.append(wide.rename_axis(columns=None))
    report = data / "report" / "report.html"
    runs = config.load(folder / "params.yaml").runs
    encoders = {name: data / "runs" / name / "encoder" for name in runs if (data / "runs" / name / "encoder").is_dir()}
    then = _next(folder, {name: runs[name].modality for name in encoders})
    lines = [f"report: {report}", f"encoders: {data / 'runs'}/<run>/encoder", "", "try next:", *then]
    facts = {"folder": folder, "report": report, "encoders": encoders, "results": full, "next": then}
    return Answer(facts, [*tables, "\n" + "\n".join(lines)])


def repro(args: argparse.Namespace) -> Answer:
    """Run what changed of the pipeline of the project in this folder."""
    from medssl import workspace

    folder = Path.cwd()
    workspace.repro(folder, lanes=args.lanes)
    report = folder / "data" / "report" / "report.html"
    return Answer({"folder": folder, "report": report}, [f"report: {report}"])


def _next(folder: Path, cohorts: dict[str, str]) -> list[str]:
    """Return three commands that go on from the first of the encoders that were made, given the cohort of each."""
    there = f"cd {shlex.quote(str(folder.resolve()))} && "
    for name, cohort in list(cohorts.items())[:1]:
        embed = f"medssl embed --encoder data/runs/{name}/encoder --input data/raw/{cohort}/manifest.csv"
        made_here = (folder / "data" / "raw" / cohort / "manifest.csv").is_file()
        return [
            f"{there}medssl card data/runs/{name}/encoder",
            f"{there}{embed} --out embeddings.parquet" if made_here else f"{there}medssl track",
            f"{there}medssl explore {name}",
        ]
    return []


def add(commands: Commands) -> None:
    """Add the commands that make a project."""
    sub = commands.add(
        new,
        "a project around your recordings: looks at them first, then writes params, manifest, pipeline",
        "folder, cohort (key in modalities), run (key in runs, or null), recordings (number listed), written (files), "
        "notes, next (what to do)",
    )
    sub.add_argument("folder", metavar="DIR", help="folder of the project; nothing in it is overwritten")
    sub.add_argument(
        "--from",
        dest="recordings",
        metavar="FOLDER",
        help="recordings (WFDB, EDF, NIfTI, DICOM, CSV ...); a manifest.csv is written into it unless one is there "
        "(default: none yet)",
    )
    sub.add_argument("--source", default="manifest", help="layout of a public set, such as ptbxl (default: manifest)")
    sub.add_argument("--modality", help="ecg, ppg, eeg, ct or mri, with a suffix if you like (default: as it looks)")
    sub.add_argument(
        "--patients",
        metavar="RULE",
        help="whose a file is: file (each file a patient), folder (each first folder), or a regular expression with "
        "a group for the patient and, if you like, one for the trial (default: a clear pattern of the names); with "
        "--table the column that says who was recorded",
    )
    sub.add_argument(
        "--table",
        metavar="FILE",
        help="a table of your own (CSV, Excel, Parquet) with a row for each recording, by file name",
    )
    sub.add_argument("--labels", nargs="+", default=[], metavar="COLUMN", help="columns of --table to become labels")
    sub.add_argument("--rate-hz", type=float, metavar="HZ", help="of tables and arrays, which do not state it")
    sub.add_argument("--unit", help="of tables and arrays, such as mV, and of images, such as HU")

    sub = commands.add(
        demo,
        "run the default pipeline in a folder, with a summary; needs no network",
        "folder, report, encoders (by run), results (rows at all labels), next (commands)",
    )
    sub.add_argument("--quick", action="store_true", help="two cohorts, few steps: about 3 minutes on 2 cores")
    sub.add_argument("--out", metavar="DIR", help="folder (default: a new temporary one)")
    sub.add_argument("--params", default="params.yaml", help="params.yaml or params.real.yaml of the project")
    sub.add_argument("--data", metavar="DIR", help="folder with ecg/ ppg/ eeg/ mri/ ct/ for params.real.yaml")

    sub = commands.add(repro, "what `dvc repro` does, several cohorts at a time", "folder, report")
    each = f"cohorts at once, each with a share of the cores (default: {LANES})"
    sub.add_argument("--lanes", type=int, default=LANES, metavar="N", help=each)
