"""What all stage scripts share: the entry of ``params.yaml`` to work on, where things are, one line for a mistake."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medssl import config, tracking
from medssl import table as tables
from medssl.store import Store, open_store

DATA = Path("data")


def store_of(key: str) -> Path:
    """Return the store of a cohort."""
    return DATA / key / "store"


def open_cohort(key: str, fold: int | None = None) -> Store:
    """Return the store of a cohort with split, dedup receipts and scale of a fold, or of the fixed split."""
    store = open_store(store_of(key), DATA / key / "split.parquet", DATA / key / "dedup.parquet")
    store.table = tables.of_fold(store.table, fold)
    return store


def run_folder(run: str, fold: int | None = None) -> Path:
    """Return the folder of a run, or of one fold of it; both hold the same files."""
    folder = DATA / "runs" / run
    return folder if fold is None else folder / "folds" / f"f{fold}"


def plan_file(run: str) -> Path:
    """Return the file that says what a run trains and on what; a run that starts from another has one beside it."""
    return DATA / "runs" / run / "folds" / "plan" / "run.json"


def start_file(run: str) -> Path:
    """Return the file that says from which weights the trainings of a run start."""
    return plan_file(run).with_name("start.json")


def encoder_folder(run: str, fold: int | None, number: int) -> Path:
    """Return the encoder folder of a training of a run, the first one's number being 0."""
    folder = run_folder(run, fold)
    return folder / "encoder" if number == 0 else folder / "seeds" / str(number)


def weights(folder: Path) -> str:
    """Return the hash of an encoder's weights alone; its card may change and they stay."""
    found: str = json.loads((folder / "checksums.json").read_text())["model.safetensors"]
    return found


def stage_name(stage: str, run: str, fold: int | None) -> str:
    """Return the name that DVC has for a stage of a run."""
    return f"{stage}@{run}" if fold is None else f"{stage}-fold@{run}-f{fold}"


@contextmanager
def tracked(
    params: config.Params, stage: str, key: str, store: Store, fold: int | None = None
) -> Iterator[tracking.StageRun]:
    """Open the MLflow run of a stage of a run; the run above it gets what the run is, and its receipts."""
    wanted: config.Run = config.part(params, "runs", key)
    plan = json.loads(plan_file(key).read_text()) if plan_file(key).is_file() else {}
    tags = {f"{name}_receipt": plan[name] for name in ("split", "dedup") if name in plan} | {"recipe": wanted.recipe}
    about = {"run": key, "modality": wanted.modality, "data_hash": store.content_hash, "tags": tags}
    with tracking.stage_run(params.tracking, stage_name(stage, key, fold), **about) as run:  # type: ignore[arg-type]
        run.parent.params(wanted.model_dump(mode="json", exclude={"evaluate"}) | {"seed": params.seed})
        for name, value in {**tags, "data_hash": store.content_hash}.items():
            run.parent.tag(name, value)
        counts = {"samples": len(store), "patients": int(store.table["patient"].nunique())}
        source = params.modalities[wanted.modality].source.name
        run.dataset(wanted.modality, store.content_hash, source=source, context=stage, profile=counts)
        yield run


def has_fold(params: config.Params, run: str, fold: int | None) -> bool:
    """Say whether there is anything to do; DVC has as many stages for each run as the cohort with most folds needs."""
    split = params.modalities[params.runs[run].modality].split
    there = fold is None or fold < (split.folds or 0) * split.repeats
    if not there:
        print(f"{run}: its cohort has no fold {fold}")
    return there


def repeat(params: config.Params, run: str, fold: int | None) -> int:
    """Return in which repeat of cross-fitting a fold is."""
    split = params.modalities[params.runs[run].modality].split
    return 0 if fold is None else fold // (split.folds or 1)


def training_seed(seed: int, number: int, fold: int | None) -> int:
    """Return the seed of a training: the project's own for the first, another for each further one and each fold."""
    return seed + 1000 * number + (0 if fold is None else 100_000 * (fold + 1))


def seconds(root: Path, run: str) -> float | None:
    """Return how long the last pretraining of a run took on this machine, None if there was none."""
    path = root / ".medssl" / "seconds" / f"{run}.json"
    return float(json.loads(path.read_text())) if path.is_file() else None


def note_seconds(root: Path, run: str, value: float) -> None:
    """Keep how long a pretraining took, outside any output, which must not depend on it."""
    path = root / ".medssl" / "seconds" / f"{run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(round(value, 1)))


def flow_file(key: str, part: str) -> Path:
    """Return a file about a cohort that the report reads."""
    return DATA / "flow" / f"{key}-{part}"


def main(work: Callable[..., None], doc: str | None) -> None:
    """Run a stage: parse the command line, read params, turn the user's mistakes into one line and exit code 1."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("key", nargs="?", default="", help="entry of params.yaml this stage works on")
    if "fold" in inspect.signature(work).parameters:
        parser.add_argument(
            "--fold", type=lambda name: int(name.removeprefix("f")), help="of cross-fitting (default: the fixed split)"
        )
    parser.add_argument("--params", default="params.yaml", help="parameters (default: params.yaml)")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    args = parser.parse_args()
    # Lightning and MONAI warn about choices made here on purpose; a stage's log shows what the user must know.
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    os.environ.setdefault("TQDM_MININTERVAL", "1")
    try:
        given = {} if getattr(args, "fold", None) is None else {"fold": args.fold}
        work(config.load(args.params), args.key, **given)
    except (ValueError, OSError) as error:
        if args.traceback:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
