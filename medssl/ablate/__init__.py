"""Ablation: a file of factors becomes runs of the pipeline, and a table of what counted, by base run and label."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medssl.ablate.factors import Cell, Plan


def ablate(path: Path, *, out: Path, data: Path | None = None, factors: Sequence[str] = ()) -> list[str]:
    """Run what a file of factors asks for in a workspace, write the table, and return in lines what it says.

    DVC runs the stages: what is done is not done again, a stopped ablation goes on, and a new level runs alone.

    Args:
        path: such as ``params.ablation.yaml``.
        out: folder of a workspace for each base run; ``ablation.parquet``, ``ablation.md`` and ``ablation.html`` are
            written there.
        data: folder with the recordings, below which the roots of the params file are.
        factors: to run and report; none: all.

    Raises:
        ValueError: a file that cannot be used, or stages that failed; all others have run.
    """
    from medssl import workspace
    from medssl.ablate import factors as levels
    from medssl.ablate import page, table

    ablation = levels.read(path)
    given = levels.params_like(ablation, path.parent, data)
    bases, absent = levels.bases(ablation, given, factors)
    plans = {base: levels.expand(ablation, given, base) for base in bases}
    notes = [f"{base}: its recordings are not there; left out" for base in absent]
    cells: list[Cell] = []
    pretrainings = 0
    failed = []
    for base, plan in plans.items():
        try:
            here, said, number = _checked(out / base, plan, factors)
        except workspace.WorkspaceError as error:
            failed.append(f"{base}: {error}")
            continue
        cells, notes, pretrainings = [*cells, *here], [*notes, *said], pretrainings + number
    refused = [f"{c.factor} {c.level} of {c.base}: {c.refused}" for c in cells if c.refused]
    print("\n".join([*notes, *refused, f"{pretrainings} pretrainings at most"]), file=sys.stderr, flush=True)

    for base in plans:
        try:
            if wanted := _runs([cell for cell in cells if cell.base == base]):
                workspace.dvc(out / base, "repro", "--keep-going", *(f"results@{name}" for name in wanted))
        except workspace.WorkspaceError as error:
            failed.append(str(error))
    if failed:
        raise workspace.WorkspaceError(
            f"{'; '.join(failed)}. All else is done: change or remove what failed in {path} and call again"
        )
    places = [(cell.factor, cell.level) for factor in ablation.factors for cell in cells if cell.factor == factor]
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    found = table.differences(sorted(cells, key=lambda c: order[c.factor, c.level]), out)
    return [*page.write(out, ablation, found, notes), f"{out}: ablation.html, ablation.md, ablation.parquet"]


def _checked(home: Path, plan: Plan, factors: Sequence[str]) -> tuple[list[Cell], list[str], int]:
    """Lay out the workspace of a base run, make its cohorts, and return the cells with all that can be told beforehand.

    Returns:
        Cells of the factors, what a reader must know of them, and how many pretrainings they are.
    """
    from medssl import config, workspace
    from medssl import table as tables
    from medssl.ablate import factors as levels
    from medssl.ablate import refusals
    from medssl.store import open_store

    workspace.lay_out(home, levels.text(plan))
    if problems := config.obstacles(home / "params.yaml"):
        raise config.ConfigError("; ".join(problems))
    runs = config.load(home / "params.yaml").runs
    cells = [cell for cell in plan.cells if not factors or cell.factor in factors]
    known, shapes = {}, {}
    if keys := dict.fromkeys(runs[name].modality for name in _runs(cells)):
        workspace.dvc(home, "repro", *(f"dedup@{key}" for key in keys))
    for key in keys:
        place = home / "data" / key
        store = open_store(place / "store", place / "split.parquet", place / "dedup.parquet")
        known[key], shapes[key] = store.table, tuple(store.facts["shape"])
    cells = [c if c.refused else c._replace(refused=refusals.of_cell(c, runs, known, shapes)) for c in cells]
    folds = {n: len(tables.folds(known[runs[n].modality])) for n in _runs(cells)}
    pretrainings = sum(runs[n].seeds * folds[n] + 1 if folds[n] else runs[n].seeds for n in folds)
    return cells, refusals.moved(cells, runs, known), pretrainings


def _runs(cells: Sequence[Cell]) -> list[str]:
    """Return the runs of cells that were not refused, base runs included."""
    return list(dict.fromkeys(name for cell in cells if not cell.refused for name in (cell.base, cell.run)))
