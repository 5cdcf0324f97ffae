"""Commands about recordings and stores: fetch, check, ingest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.cli.answer import Answer
from medssl.cli.commands import OF_PARAMS, Commands

if TYPE_CHECKING:
    from medssl.config import SignalIngest, VolumeIngest


def fetch(args: argparse.Namespace) -> Answer:
    """Download a public set, after its licence and what to cite."""
    from medssl import fetch as public

    known, folder = public.facts(args.name), Path(args.to)
    cite = [known.citation, public.PHYSIONET]
    said = [f"{args.name}: PhysioNet {known.path}", f"licence: {known.licence}", *(f"cite: {text}" for text in cite)]
    print("\n".join(said), flush=True)  # before the first file is asked for
    got, had = public.fetch(args.name, folder, base_url=args.base_url)
    then = known.then.replace("NAME", args.name).replace("DIR", args.to)
    facts = {
        "name": args.name,
        "licence": known.licence,
        "cite": cite,
        "folder": folder,
        "fetched": got,
        "present": had,
    }
    lines = [f"{folder}: {got} files fetched, {had} were there, all as published", f"then: {then}"]
    return Answer({**facts, "next": [then]}, lines)


def check(args: argparse.Namespace) -> Answer:
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
    facts = {"paths": args.paths, "ok": not problems, "problems": problems, "lines": lines}
    last = "ok" if not problems else f"{len(problems)} problem(s)"
    return Answer(facts, ["\n".join([*lines, *(f"problem: {p}" for p in problems), last])], int(bool(problems)))


def _ingest_of(args: argparse.Namespace) -> SignalIngest | VolumeIngest:
    """Return how the cohort that ``--modality`` names is cut, by ``--params`` or by default."""
    from medssl import config

    if config.modality_of(args.modality) not in config.MODALITIES:
        raise ValueError(f"--modality '{args.modality}'; allowed: {', '.join(config.MODALITIES)}")
    params = config.load(args.params) if args.params else config.load_default()
    return config.part(params, "modalities", args.modality).ingest


def ingest(args: argparse.Namespace) -> Answer:
    """Write a store from a table of files."""
    from medssl import project
    from medssl.ingest.build import build
    from medssl.sources import manifest

    listing = manifest.listing(Path(args.manifest))
    notes = [*listing.slips, *listing.notes]
    for line in notes:
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
    counts, patients = made.rejects["reason"].value_counts().to_dict(), int(made.table["patient"].nunique())
    facts = {"store": args.out, "samples": len(made), "patients": patients, "rejects": counts, "notes": notes}
    return Answer(facts, [f"{args.out}: {len(made)} samples of {patients} patients; rejects: {counts or 'none'}"])


def add(commands: Commands) -> None:
    """Add the commands about recordings."""
    from medssl import fetch as public

    sub = commands.add(
        fetch,
        "a public set from PhysioNet, checked, resumable",
        "name, licence, cite, folder, fetched and present (files), next (commands)",
    )
    sub.add_argument("name", metavar="NAME", help=", ".join(public.SETS))
    sub.add_argument("--to", required=True, metavar="DIR", help="folder; files that are there are not fetched again")
    sub.add_argument("--base-url", default=public.BASE_URL, help="server or mirror (default: %(default)s)")

    sub = commands.add(
        check,
        "what is at PATH and everything wrong with it; what two stores share",
        "paths, ok, problems, lines (what is there, in words)",
    )
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
    sub.add_argument("--params", help=OF_PARAMS)
    sub.set_defaults(refuse=sub.error)

    sub = commands.add(
        ingest,
        "a store from a table of files, without DVC",
        "store, samples, patients, rejects (number by reason), notes",
    )
    sub.add_argument("--manifest", required=True, help="CSV or Parquet: path, patient, trial, label_*, anat_*")
    sub.add_argument("--modality", required=True, help="ecg, ppg, eeg, ct or mri")
    sub.add_argument("--out", required=True, help="folder of the store")
    sub.add_argument("--params", help=OF_PARAMS)
    sub.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
