"""What each level changed: differences to the base run, paired over patients and trainings, in one table.

A difference and its interval are those of `medssl.evaluate.compare`: positive is better than the base run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl import config
from medssl.ablate.factors import PROBE, Cell
from medssl.evaluate import compare
from medssl.evaluate.metrics import known, shown
from medssl.evaluate.replicates import Replicates
from medssl.evaluate.results import ENTRY
from medssl.report.protocols import SIMPLE

UNTRAINED = "random_init"
NUMBERS = ("fraction", "base", "value", "untrained", "mean", "lo", "hi", "p")
COUNTS = ("n_patients", "trainings", "seeds", "folds")
COLUMNS = (
    *("factor", "level", "run", "label", "fraction", "metric", "base", "value", "untrained"),
    *("mean", "lo", "hi", "p", "by", *COUNTS, "precision", "seen", "note"),
)
AGAINST = (
    *("factor", "run", "level", "label", "fraction", "metric", "against", "other", "value"),
    *("mean", "lo", "hi", "p", "by", "n_patients", "note"),
)
ALPHA = 0.05  # of the intervals


def differences(cells: Sequence[Cell], out: Path, *, draws: int = 400) -> pd.DataFrame:
    """Return one row per factor, level, base run, label and label fraction: ``value`` less ``base`` is ``mean``.

    Args:
        cells: what was run.
        out: folder with a workspace for each base run, which holds the results of its levels too.
        draws: of patients.

    Returns:
        `COLUMNS`. ``untrained`` is the level's encoder without training, where that was evaluated. ``precision`` is of
        the trainings. ``seen`` lists what pretraining read that states the label. ``note`` is
        `medssl.evaluate.compare.verdict`, or why there is no difference; it adds where patients are in other folds, so
        that trainings are not paired. A level that was refused has one row.
    """
    rows: list[dict[str, Any]] = []
    for base in dict.fromkeys(cell.base for cell in cells):
        here = [cell for cell in cells if cell.base == base]
        found, seen = _found(here, out)
        params = out / base / "params.yaml"
        precision = config.load(params).compute.precision if params.is_file() else ""
        for cell in here:
            same = {"factor": cell.factor, "level": cell.level, "run": base, "precision": precision}
            if cell.refused:
                rows.append(same | {"note": cell.refused})
                continue
            rows += [same | row for row in _rows(cell, found[base], found[cell.run], seen, draws)]
    place = {(cell.factor, cell.level): number for number, cell in enumerate(cells)}
    rows.sort(key=lambda row: place[row["factor"], row["level"]])
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    texts = [name for name in COLUMNS if name not in (*NUMBERS, *COUNTS)]
    table[texts] = table[texts].fillna("")
    return table.astype(dict.fromkeys(NUMBERS, float) | dict.fromkeys(COUNTS, "Int64"))


def _found(cells: Sequence[Cell], out: Path) -> tuple[dict[str, dict[Any, pd.DataFrame]], dict[str, dict[str, str]]]:
    """Return the predictions of each run of the cells of one base run by entry, and what was seen of each label."""
    base = cells[0].base
    runs = out / base / "data" / "runs"
    names = [base, *dict.fromkeys(cell.run for cell in cells if not cell.refused and cell.run != base)]
    if all(cell.refused for cell in cells):
        names = []
    split, tables = compare.read([runs / name for name in names]) if names else ("", {})
    found = {name: dict(list(table.groupby(ENTRY, sort=False))) for name, table in tables.items()}
    return found, {name: _seen(runs / name, split) for name in names}


def _seen(folder: Path, split: str) -> dict[str, str]:
    """Return by label what pretraining read that states it."""
    path = folder / Path(compare.SPLITS[split]).with_name("metrics.json")
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    return {label: ", ".join(of.get("seen", ())) for label, of in metrics.items()}


def against_baselines(cells: Sequence[Cell], out: Path, *, draws: int = 400) -> pd.DataFrame:
    """Return how much better each training is than no training, and than the best simple baseline of the same folds.

    Args:
        cells: what was run.
        out: folder with a workspace for each base run.
        draws: of patients.

    Returns:
        One row per factor, base run, level, label, label fraction and ``against``: ``value`` less ``other`` is
        ``mean``, with ``lo, hi, p, by, n_patients`` and ``note`` of `medssl.evaluate.compare`. The base run itself has
        an empty ``level``. The baseline is the one with the highest headline on the test patients, in its favour.
    """
    rows: list[dict[str, Any]] = []
    for base, factor in dict.fromkeys((cell.base, cell.factor) for cell in cells if not cell.refused):
        here = [cell for cell in cells if (cell.base, cell.factor) == (base, factor) and not cell.refused]
        found, _ = _found(here, out)
        trained = {"": base} | {c.level: c.run for c in here if c.protocol == PROBE}
        for label, fraction in ((task, f) for task, protocol, f in found[base] if protocol == PROBE):
            others = _others(found[base], label, fraction) if label in here[0].labels else {}
            for level, run in trained.items():
                same = {"factor": factor, "run": base, "level": level, "label": label, "fraction": fraction}
                if (of_level := found[run].get((label, PROBE, fraction))) is not None:
                    rows += [same | gain for gain in _gains(Replicates.of(of_level), others, draws)]
    made = pd.DataFrame(rows).reindex(columns=list(AGAINST))
    return made.astype(dict.fromkeys(("fraction", "other", "value", "mean", "lo", "hi", "p"), float))


def _others(of_base: dict[Any, pd.DataFrame], label: str, fraction: float) -> dict[str, Replicates]:
    """Return the untrained encoder and the best simple baseline of a label, where they were evaluated."""
    every = {name: of_base.get((label, name, fraction)) for name in (UNTRAINED, *SIMPLE)}
    have = {name: Replicates.of(table) for name, table in every.items() if table is not None}
    best = max((name for name in have if name in SIMPLE), key=lambda name: _headline(have[name]), default=None)
    return {name: of for name, of in have.items() if name in (UNTRAINED, best)}


def _gains(one: Replicates, others: dict[str, Replicates], draws: int) -> Iterator[dict[str, Any]]:
    for name, other in others.items():
        if gain := compare.difference(one, other, draws=draws):
            values = {"against": name, "other": _headline(other), "value": _headline(one)}
            yield values | gain | {"note": compare.verdict(gain)}


def _rows(cell: Cell, base: dict[Any, Any], other: dict[Any, Any], seen: dict[str, Any], draws: int) -> list[Any]:
    rows = []
    for label in cell.labels:
        fractions = sorted({f for task, protocol, f in base if (task, protocol) == (label, PROBE)}, reverse=True)
        if not fractions:
            rows.append({"label": label, "note": "the base run has no results of this label"})
        for fraction in fractions:
            row: dict[str, Any] = {"label": label, "fraction": fraction}
            row["seen"] = seen[cell.run].get(label) or seen[cell.base].get(label, "")
            of_level = other.get((label, cell.protocol, fraction))
            if of_level is None:
                rows.append(row | {"note": f"the level has no results of protocol {cell.protocol}"})
                continue
            one, two = Replicates.of(of_level), Replicates.of(base[label, PROBE, fraction])
            untrained = other.get((label, UNTRAINED, fraction))
            row |= {"base": _headline(two), "value": _headline(one)}
            row["untrained"] = None if untrained is None else _headline(Replicates.of(untrained))
            row |= _counts(one)
            found = compare.difference(one, two, draws=draws)
            if found is None:
                rows.append(row | {"note": "other patients or units are tested"})
                continue
            alike = np.array_equal(one.folds[0], two.folds[0])
            note = compare.verdict(found) + "; other folds, trainings not paired" * (not alike)
            found.pop("too_few", None)
            rows.append(row | found | {"note": note})
    return rows


def _headline(of: Replicates) -> float:
    return next(iter(of.measured(0, only_headline=True, trainings=False).values())).mean


def _counts(of: Replicates) -> dict[str, int]:
    keys = np.array(of.keys)
    return {
        "n_patients": of.patients(),
        "trainings": len(np.unique(keys[:, 1])),
        "seeds": len(np.unique(keys[:, 2])),
        "folds": len(np.unique(np.concatenate(of.folds))),
    }


def counted(table: pd.DataFrame) -> pd.Series:
    """Return of each row whether its interval excludes 0."""
    return (table["lo"] > 0) | (table["hi"] < 0)


def by_chance(table: pd.DataFrame) -> str:
    """Return in words how many intervals there are, how many exclude 0, and how many would if nothing counted."""
    n, k = int(table["lo"].notna().sum()), int(counted(table).sum())
    return (
        f"{k} of {n} intervals of 95 % exclude 0; if no level changed anything, about {ALPHA * n:.2g} would by chance "
        "alone. They are not independent: labels of one run, and levels of one base run, share patients"
    )


def cell(row: dict[str, Any], digits: int = 2) -> str:
    """Return a row as a cell: ``+0.02 [-0.01, +0.05]`` and an arrow where the interval excludes 0."""
    if not known(row["mean"]):
        return str(row["note"])
    if not known(row["lo"]):
        return f"{row['mean']:+.{digits}f}, {row['note']}"
    arrow = " ▲" if row["lo"] > 0 else " ▼" if row["hi"] < 0 else ""
    marks = " (seen)" * bool(row["seen"]) + " (other folds)" * ("other folds" in row["note"])
    return shown(row, digits, sign="+") + arrow + marks


def wide(table: pd.DataFrame, fraction: float) -> tuple[list[str], list[list[Any]]]:
    """Return the table ``factor x run`` at a label fraction: a header, and a row a level.

    The first two entries of a row are factor and level; the others are lines, one a label, of each base run.
    """
    runs = list(dict.fromkeys(table["run"]))
    some = table[(table["fraction"] == fraction) | table["fraction"].isna()]
    lines: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in some.to_dict("records"):
        text = " ".join(filter(None, (row["label"], cell(row))))  # type: ignore[arg-type]
        lines.setdefault((row["factor"], row["level"]), {}).setdefault(row["run"], []).append(text)
    return ["factor", "level", *runs], [[*key, *(of.get(run, []) for run in runs)] for key, of in lines.items()]
