"""What all stage scripts share: the entry of ``params.yaml`` to work on, where things are, one line for a mistake."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from medssl import config
from medssl.store import Store, open_store

DATA = Path("data")


def store_of(key: str) -> Path:
    """Return the store of a cohort."""
    return DATA / key / "store"


def open_cohort(key: str) -> Store:
    """Return the store of a cohort with dedup receipts and split."""
    return open_store(store_of(key), DATA / key / "dedup.parquet", DATA / key / "split.parquet")


def run_folder(run: str) -> Path:
    """Return the folder of a run."""
    return DATA / "runs" / run


def flow_file(key: str, part: str) -> Path:
    """Return a file about a cohort that the report reads."""
    return DATA / "flow" / f"{key}-{part}"


def main(work: Callable[[config.Params, str], None], doc: str | None) -> None:
    """Run a stage: parse the command line, read params, turn the user's mistakes into one line and exit code 1."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("key", nargs="?", default="", help="entry of params.yaml this stage works on")
    parser.add_argument("--params", default="params.yaml", help="parameters (default: params.yaml)")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    args = parser.parse_args()
    # Lightning and MONAI warn about choices made here on purpose; a stage's log shows what the user must know.
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    os.environ.setdefault("TQDM_MININTERVAL", "1")
    try:
        work(config.load(args.params), args.key)
    except (ValueError, OSError) as error:
        if args.traceback:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
