"""The document of a comparison of recipes, from the tables that an ablation stored.

``python -m medssl.ablate.methods params.methods.yaml data/methods docs/methods.md``. No number is typed, and what is
said of a recipe follows from the signs of its intervals; the same files give the same text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl import config
from medssl.ablate import factors
from medssl.ablate.factors import Ablation, Factor
from medssl.ablate.table import UNTRAINED, by_chance, cell
from medssl.evaluate.metrics import known
from medssl.report.words import named

TABLES = ("ablation", "baselines", "collapse", "costs")
HEAD = """# Methods

This document is made from stored results by `python -m medssl.ablate.methods`. Nobody types a number into it. Its
words follow from the signs of intervals. Each recipe has its published defaults. Encoder, data, folds, batches, views,
learning rate, temperature, steps and seeds are those of the base run for all recipes. Nothing is tuned for any of them.
A recipe that composes its batches itself does so here too. One that needs a longer training or other values can do
better than it does here.

A gain is the headline of a recipe less that of the other: AUROC of classes, R² of numbers, by a linear probe on the
same test patients. Brackets are 95 % intervals over patients and trainings. ▲ is better and ▼ is worse. Without an
arrow the interval holds 0, and the difference is within noise. (seen): pretraining read what states the label.
"""
LEGEND = (
    "RankMe is the effective number of directions of projections and of embeddings, one sample a training patient. "
    "Deviation is 1 where embeddings spread evenly over the sphere and 0 where they are one. Uniformity is lower the "
    "more evenly they spread, alignment the closer two views are, on validation patients. Values compare within one "
    "table alone. Time and memory of a step are ratios to the base run, measured in turns in one process; brackets "
    "hold the turns."
)
SHOWN = {
    "rankme": "RankMe, projection",
    "rankme_encoder": "RankMe, embedding",
    "deviation": "deviation",
    "uniformity": "uniformity",
    "alignment": "alignment",
}


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that an ablation stored, by name; of those that it was not asked for there is none.

    Raises:
        ValueError: no ablation was run there.
    """
    found = {name: folder / f"{name}.parquet" for name in TABLES}
    if not found["ablation"].is_file():
        raise ValueError(f"{found['ablation']}: no such file; run medssl ablate FILE --out {folder}")
    return {name: pd.read_parquet(path) for name, path in found.items() if path.is_file()}


def render(ablation: Ablation, bases: Mapping[str, config.Run], tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the document, Markdown.

    Args:
        ablation: the file; each of its factors is a section.
        bases: base runs by name.
        tables: of `read`.
    """
    lines = [HEAD, *_begun(ablation), by_chance(tables["ablation"]) + ".", ""]
    for name, factor in ablation.factors.items():
        some = {key: of[of["factor"] == name] if "factor" in of else of for key, of in tables.items()}
        if not len(some["ablation"]):
            continue
        lines += [f"## {factor.question}", "", *_overview(factor, some), LEGEND, ""]
        for base in dict.fromkeys(some["ablation"]["run"]):
            lines += _of_base(base, bases[base], {key: of[of["run"] == base] for key, of in some.items()})
    return "\n".join(lines)


def _begun(ablation: Ablation) -> list[str]:
    """Return which levels have further steps than their own: those that begin with another run."""
    starts = {
        f"`{level}`"
        for factor in ablation.factors.values()
        for level in factor.levels
        if any("start" in (factor.values(level, base) or {}) for base in factor.runs)
    }
    said = "begin with the trained base run: its steps come before their own, and are not in their costs."
    return [f"Some levels {said} They are {', '.join(sorted(starts))}.", ""] if starts else []


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    body = (" | ".join(str(part).replace("|", "\\|") for part in row) for row in rows)
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *(f"| {row} |" for row in body), ""]


def advice(rows: pd.DataFrame, note: str) -> str:
    """Return when to use a level: what it is advised for, and what its intervals say of that.

    Args:
        rows: of the level, all base runs, labels and label fractions; labels that pretraining saw do not count.
        note: what it is advised for; empty: nothing known.
    """
    measured = rows[rows["lo"].notna() & (rows["seen"] == "")]
    better, worse = (_places(measured[some]) for some in (measured["lo"] > 0, measured["hi"] < 0))
    if not len(measured) and rows["lo"].notna().any():
        said = "here pretraining read what states all labels"
    elif not len(measured):
        said = f"not measured here: {next(filter(None, rows['note']), 'no results')}"
    elif not better and not worse:
        said = f"here within noise of the base run in all {len(measured)} differences"
    else:
        parts = [f"{word} on {places}" for word, places in (("better", better), ("worse", worse)) if places]
        said = f"here {', '.join(parts)}"
    # Advice that no interval supports and some contradict is not repeated as if it held.
    link = ", but " if worse and not better else "; "
    return f"{note}{link}{said}" if note else said


def _places(rows: pd.DataFrame) -> str:
    """Return where an interval excludes 0: ``ecg sex (100 %, 10 %), ppg age (10 %)``."""
    by = rows.groupby(["run", "label"], sort=False)["fraction"]
    return ", ".join(f"{run} {label} ({_percents(of)})" for (run, label), of in by)


def _percents(fractions: Iterable[float]) -> str:
    return ", ".join(f"{100 * f:g} %" for f in sorted(fractions, reverse=True))


def _overview(factor: Factor, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return a row a level: when to use it, and what a step costs over all base runs."""
    costs = tables.get("costs")
    rows = []
    for level, of in tables["ablation"].groupby("level", sort=False):
        own = None if costs is None else costs[costs["level"] == level]
        cost = ["", ""] if own is None else [_spread(own[key]) for key in ("time", "memory")]
        rows.append([f"`{level}`", advice(of, factor.notes.get(str(level), "")), *cost])
    header = ["recipe", "when to use", "time of a step", "memory"]
    return markdown(header, rows)


def _spread(values: pd.Series) -> str:
    """Return the ratios of all base runs as text: ``1.4x`` or ``1.2x to 1.9x``."""
    texts = [f"{value:.1f}x" for value in (values.min(), values.max())] if len(values) else []
    return " to ".join(dict.fromkeys(texts))


def _of_base(base: str, run: config.Run, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return a base run: what was trained, gains at each share of labels, gains over baselines, and the trainings."""
    table = tables["ablation"]
    measured = table[table["mean"].notna()]
    assert run.encoder is not None
    steps = run.pretrain.epochs * (run.pretrain.steps_per_epoch or 0)
    batch = run.pretrain.batch
    lines = [f"### {base}", "", f"- encoder {run.encoder.name}, {run.seeds} trainings a fold"]
    lines += [f"- {steps} steps of {batch.patients * batch.trials * batch.samples} samples"] if steps else []
    tested = [f"{label} {n:.0f}" for label, n in measured.groupby("label", sort=False)["n_patients"].max().items()]
    lines += [f"- test patients: {', '.join(tested)}, in {measured['folds'].max():.0f} folds"] if tested else []
    lines += [""]
    for fraction in sorted(measured["fraction"].dropna().unique(), reverse=True):
        some = table[(table["fraction"] == fraction) | table["fraction"].isna()]
        own = {
            row["label"]: f"{row['base']:.3f} {named(row['metric'])}" for row in _records(some) if known(row["base"])
        }
        lines += [f"Gain over `{run.recipe}`, {100 * fraction:g} % of labels:", ""]
        lines += _gains(some, {run.recipe: own})
    of_base = tables.get("baselines")
    for title, chosen in () if of_base is None else (
        ("the untrained encoder", of_base["against"] == UNTRAINED),
        ("the best simple baseline, chosen on the test patients in its favour", of_base["against"] != UNTRAINED),
    ):  # fmt: skip
        some = of_base[chosen & (of_base["fraction"] == of_base["fraction"].max())]  # type: ignore[index]
        if len(some):
            best = {r["label"]: f"{r['other']:.3f} {r['against']}" for r in _records(some)}
            named_levels = some.assign(seen="", level=some["level"].replace("", run.recipe))
            lines += [f"Gain over {title}, {100 * some['fraction'].max():g} % of labels:", ""]
            lines += _gains(named_levels, {"*compared with*": best})
    return [*lines, *_trainings(run, tables), ""]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")  # type: ignore[return-value]


def _gains(table: pd.DataFrame, first: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a table of levels by labels, under a row of what they are compared with."""
    labels = [label for label in dict.fromkeys(table["label"]) if label]
    rows = [[_code(name), *(of.get(label, "") for label in labels)] for name, of in first.items()]
    for level, of in table.groupby("level", sort=False):
        by = {row["label"]: cell(row) for row in _records(of)}
        refused = by.get("", "")
        rows.append([_code(str(level)), *(by.get(label, refused if n == 0 else "") for n, label in enumerate(labels))])
    return markdown(["recipe", *labels], rows)


def _code(name: str) -> str:
    return name if name.startswith("*") else f"`{name}`"


def _trainings(run: config.Run, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return how each training spread its embedding, and what a step of it costs."""
    collapse, costs = (tables[name].set_index("level") if name in tables else None for name in ("collapse", "costs"))
    if collapse is None or not len(collapse):
        return []
    rows = []
    for level, of in zip(map(str, collapse.index), _records(collapse), strict=True):
        row = [_code(level or run.recipe), *(f"{of[key]:.3g}" if known(of[key]) else "" for key in SHOWN)]
        if costs is not None and level in costs.index:
            cost = costs.loc[level]
            row += [f"{cost['time']:.2f} [{cost['time_lo']:.2f}, {cost['time_hi']:.2f}]", f"{cost['memory']:.2f}"]
        rows.append(row)
    header = ["recipe", *SHOWN.values(), *(["time of a step", "memory"] if costs is not None else [])]
    return ["The trainings:", "", *markdown(header, [row + [""] * (len(header) - len(row)) for row in rows])]


def runs_of(ablation: Ablation, beside: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, config.Run]:
    """Return the base runs of stored results by name, as the file of factors and the params file beside it say."""
    given = factors.params_like(ablation, beside, None)
    plans = {base: factors.expand(ablation, given, base) for base in dict.fromkeys(tables["ablation"]["run"])}
    return {base: config.Run.model_validate(plan.params["runs"][base]) for base, plan in plans.items()}


def main() -> None:
    """Write the document of a comparison."""
    parser = argparse.ArgumentParser(description="Write the document of a comparison of recipes.")
    parser.add_argument("file", type=Path, help="factors, such as params.methods.yaml")
    parser.add_argument("folder", type=Path, help="where medssl ablate wrote its tables, such as data/methods")
    parser.add_argument("out", type=Path, help="Markdown file to write, such as docs/methods.md")
    args = parser.parse_args()
    try:
        ablation = factors.read(args.file)
        tables = read(args.folder)
        text = render(ablation, runs_of(ablation, args.file.parent, tables), tables)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, "utf-8")
    print(
        f"{args.out}: {tables['ablation']['level'].nunique()} levels of {tables['ablation']['run'].nunique()} base runs"
    )


if __name__ == "__main__":
    main()
