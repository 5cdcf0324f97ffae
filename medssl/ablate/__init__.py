"""Ablation: a file of factors becomes runs of the pipeline, and a table of what counted, by base run and label."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medssl.ablate.factors import Ablation, Cell, Choice, Plan


def ablate(
    path: Path,
    *,
    out: Path,
    data: Path | None = None,
    factors: Sequence[str] = (),
    levels: Sequence[str] = (),
    runs: Sequence[str] = (),
) -> list[str]:
    """Run what a file of factors asks for in a workspace, write the tables, and return in lines what they say.

    DVC runs the stages: what is done is not done again, a stopped ablation goes on, and a new level runs alone.

    Args:
        path: such as ``params.ablation.yaml``.
        out: folder of a workspace for each base run; ``ablation.parquet``, ``ablation.md`` and ``ablation.html`` are
            written there, with ``collapse.parquet``, and where the file asks for them ``baselines.parquet`` and
            ``costs.parquet``.
        data: folder with the recordings, below which the roots of the params file are.
        factors: to run and report; none: all.
        levels: of them; none: all.
        runs: base runs; none: all.

    Raises:
        ValueError: a file that cannot be used, or stages that failed; all others have run, and the tables are of them.
    """
    from medssl import workspace
    from medssl.ablate import factors as parts

    ablation, choice = parts.read(path), parts.Choice(factors, levels, runs)
    given = parts.params_like(ablation, path.parent, data)
    bases, absent = parts.bases(ablation, given, choice)
    plans = {base: parts.expand(ablation, given, base) for base in bases}
    notes = [f"{base}: its recordings are not there; left out" for base in absent]
    cells: list[Cell] = []
    pretrainings = 0
    failed = []
    for base, plan in plans.items():
        try:
            here, said, number = _checked(out / base, plan, choice)
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
            cells = [_if_done(cell, out / base) if cell.base == base else cell for cell in cells]
    said = [] if failed and all(cell.refused for cell in cells) else _written(ablation, cells, out, notes)
    if failed:
        raise workspace.WorkspaceError(
            f"{'; '.join(failed)}. All else is done: change or remove what failed in {path} and call again"
        )
    return said


def _checked(home: Path, plan: Plan, choice: Choice) -> tuple[list[Cell], list[str], int]:
    """Lay out the workspace of a base run, make its cohorts, and return the cells with all that can be told beforehand.

    Returns:
        Cells of the part, what a reader must know of them, and how many pretrainings they are.
    """
    from medssl import config, workspace
    from medssl import table as tables
    from medssl.ablate import factors as parts
    from medssl.ablate import refusals

    workspace.lay_out(home, parts.text(plan))
    if problems := config.obstacles(home / "params.yaml"):
        raise config.ConfigError("; ".join(problems))
    runs = config.load(home / "params.yaml").runs
    cells = [cell for cell in plan.cells if choice.takes(cell)]
    known, shapes = {}, {}
    if keys := dict.fromkeys(runs[name].modality for name in _runs(cells)):
        workspace.dvc(home, "repro", *(f"dedup@{key}" for key in keys))
    for key in keys:
        store = parts.cohort(home, key)
        known[key], shapes[key] = store.table, tuple(store.facts["shape"])
    cells = [c if c.refused else c._replace(refused=refusals.of_cell(c, runs, known, shapes)) for c in cells]
    folds = {n: len(tables.folds(known[runs[n].modality])) for n in _runs(cells)}
    pretrainings = sum(runs[n].seeds * folds[n] + 1 if folds[n] else runs[n].seeds for n in folds)
    return cells, refusals.moved(cells, runs, known), pretrainings


def _written(ablation: Ablation, cells: Sequence[Cell], out: Path, notes: Sequence[str]) -> list[str]:
    """Write all tables and pages of cells that are done, and return in lines what they say."""
    from medssl.ablate import collapse, costs, page, table
    from medssl.store import write_parquet

    places = [(cell.factor, cell.level) for factor in ablation.factors for cell in cells if cell.factor == factor]
    order = {place: number for number, place in enumerate(dict.fromkeys(places))}
    cells = sorted(cells, key=lambda c: order[c.factor, c.level])
    made = {"collapse": collapse.indicators(cells, out)}
    if ablation.baselines:
        made["baselines"] = table.against_baselines(cells, out)
    if ablation.cost_steps:
        made["costs"] = costs.measured(cells, out, steps=ablation.cost_steps)
    lines = page.write(out, ablation, table.differences(cells, out), notes)
    for name, one in made.items():
        write_parquet(one, out / f"{name}.parquet")
    files = ["ablation.html", "ablation.md", "ablation.parquet", *(f"{name}.parquet" for name in made)]
    return [*lines, f"{out}: {', '.join(files)}"]


def _if_done(cell: Cell, home: Path) -> Cell:
    """Return a cell, refused where a stage of its run or base run failed: DVC removes first what a stage will write."""
    runs = home / "data" / "runs"
    for name in () if cell.refused else (cell.base, cell.run):
        plan = runs / name / "folds"
        parts = [runs / name, *sorted(plan.glob("f*"))]
        needed = [runs / name / "predictions.parquet", *(part / "probe" / "predictions.parquet" for part in parts)]
        needed += [part / "encoder" / "config.json" for part in parts]
        if not all(path.is_file() for path in needed):
            return cell._replace(refused=f"a stage of {name} failed")
    return cell


def _runs(cells: Sequence[Cell]) -> list[str]:
    """Return the runs of cells that were not refused, base runs included."""
    return list(dict.fromkeys(name for cell in cells if not cell.refused for name in (cell.base, cell.run)))
