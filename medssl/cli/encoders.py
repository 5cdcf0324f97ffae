"""Commands about encoders: embed, retrieve, evaluate, export, card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medssl.cli.answer import Answer
from medssl.cli.commands import OF_ENCODER, Commands


def embed(args: argparse.Namespace) -> Answer:
    """Write embeddings of a store, a table of files, a folder or one file, one row a sample."""
    from medssl.hub import load_encoder, recordings
    from medssl.sources import manifest
    from medssl.store import write_parquet

    if Path(args.out).suffix != ".parquet":
        raise ValueError(f"--out {args.out}: embeddings are written as Parquet; name a file that ends in .parquet")
    encoder, path = load_encoder(args.encoder), Path(args.input)
    names = None
    if path.is_dir() and not (path / "store.json").exists() and not manifest.in_folder(path):
        from medssl.new import look

        pairs, notes = look.listed(path, encoder.contract["modality"])
        print("\n".join(notes), end="\n" * bool(notes), file=sys.stderr)
        if not pairs:
            raise ValueError(f"{path}: no recording for this encoder; medssl check {path} says what lies there")
        names = [record.path.relative_to(path).as_posix() for record, _ in pairs]
        table = recordings.embed(encoder, path, records=[record for record, _ in pairs])
    else:
        table = recordings.embed(encoder, path)
    if args.paths:
        if names is None:
            raise ValueError(f"--paths: {path} is no folder without a table; of a table the column row tells the file")
        table.insert(1, "path", [names[row - 1] for row in table["row"]])
    write_parquet(table, Path(args.out))
    reasons = table.loc[table["reason"].ne(""), "reason"]
    refused, size = len(reasons), encoder.contract["embedding_dim"]
    alike = reasons.str.replace(r"\d+(\.\d+)?", "N", regex=True)  # each kind once, with its first numbers
    kinds = {reasons[alike == kind].iloc[0]: int(n) for kind, n in alike.value_counts()[:5].items()}
    for first, n in kinds.items():
        print(f"{n} refused: {first}", file=sys.stderr)
    made = len(table) - refused
    facts = {"file": args.out, "embeddings": made, "numbers": size, "refused": refused, "reasons": kinds}
    return Answer(facts, [f"{args.out}: {made} embeddings of {size} numbers, {refused} refused"], int(not made))


def retrieve(args: argparse.Namespace) -> Answer:
    """Show how often a random crop of a test recording finds its window and its recording."""
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
    return Answer({"rows": found}, [found.round(3)])


def evaluate(args: argparse.Namespace) -> Answer:
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
    shown = [plots.summary(name, results) for name, results in metrics.items()]
    shown += [f"{check.verdict}: {check.check}: {check.detail}" for check in checks]
    shown.append(f"{args.out}: predictions, metrics, subgroups, checks")
    facts = {"folder": args.out, "metrics": metrics, "checks": [check._asdict() for check in checks]}
    return Answer(facts, shown, int(any(check.verdict == "failed" for check in checks)))


def export(args: argparse.Namespace) -> Answer:
    """Write an encoder in the form of another program."""
    from medssl.hub import load_encoder

    encoder, out = load_encoder(args.encoder), Path(args.out)
    if args.to == "onnx":
        from medssl.hub import onnx

        more = onnx.write(encoder, out)
    else:
        from medssl.hub import bundle

        bundle.write(encoder, out)
        more = {}
    facts = {"encoder": args.encoder, "to": args.to, "path": out, "details": more}
    return Answer(facts, [f"{out}: {args.to} of {args.encoder}", *(f"{key}: {value}" for key, value in more.items())])


def card(args: argparse.Namespace) -> Answer:
    """Show the model card of an encoder, or the table of those that come with the package."""
    from medssl import hub
    from medssl.report import card as cards

    if args.encoder:
        encoder = hub.load_encoder(args.encoder)
        text = cards.with_head(encoder.card, encoder.config)
        return Answer({"encoder": args.encoder, "card": text}, [text])
    ready = hub.ready()
    return Answer({"ready": list(ready)}, [cards.catalogue(ready)])


def add(commands: Commands) -> None:
    """Add the commands about encoders."""
    sub = commands.add(
        embed,
        "embeddings of your own recordings, one row a sample",
        "file, embeddings (rows that have one), numbers (in each), refused, reasons (number by reason)",
    )
    sub.add_argument("--encoder", required=True, help=OF_ENCODER)
    sub.add_argument("--input", required=True, help="store, table of files, folder of recordings, or one recording")
    sub.add_argument("--out", required=True, help="FILE.parquet")
    sub.add_argument(
        "--paths",
        action="store_true",
        help="of a folder without a table: a column with the files' names, which may tell people",
    )

    sub = commands.add(
        retrieve,
        "whether crops of recordings find, by their embeddings, the windows they were cut from",
        "rows (one for each number of results and level)",
    )
    sub.add_argument("--encoder", required=True, help=OF_ENCODER)
    sub.add_argument("--store", required=True, help="folder of the store, cut as the encoder asks")
    sub.add_argument("--split", help="FILE.parquet (default: split.parquet beside the store, else all are tested)")
    sub.add_argument("--share", type=float, default=0.5, help="length of a crop, of its window (default: 0.5)")
    sub.add_argument("--tolerance", type=float, default=0.0, metavar="S", help="seconds to a window that is a hit too")
    sub.add_argument("--k", type=int, nargs="+", default=[1, 5, 10], help="results looked at (default: 1 5 10)")
    sub.add_argument("--seed", type=int, default=0, help="of the crops (default: 0)")

    sub = commands.add(
        evaluate,
        "any encoder on a store, against baselines and controls, with checks",
        "folder, metrics (as in metrics.json, by encoder), checks (check, verdict, detail)",
    )
    sub.add_argument("--encoder", required=True, nargs="+", help=f"{OF_ENCODER}, module:function; several trainings")
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

    sub = commands.add(
        export,
        "an encoder for other programs: ONNX, or a MONAI bundle",
        "encoder, to, path, details (of the format)",
    )
    sub.add_argument("encoder", metavar="ENCODER", help=OF_ENCODER)
    sub.add_argument("--to", required=True, choices=("onnx", "monai"), help="onnx: a file; monai: a bundle's folder")
    sub.add_argument("--out", required=True, metavar="PATH", help="file or folder")

    sub = commands.add(
        card,
        "the model card of an encoder, or the table of ready ones, as Markdown",
        "encoder and card (Markdown), or without ENCODER ready (names)",
    )
    sub.add_argument("encoder", nargs="?", metavar="ENCODER", help=f"{OF_ENCODER} (default: list the ready ones)")
