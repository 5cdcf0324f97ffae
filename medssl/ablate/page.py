"""An ablation for readers: which levels counted, in sentences, one table a label fraction, and a picture a factor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from medssl.ablate.factors import Ablation
from medssl.ablate.table import by_chance, cell, counted, wide
from medssl.evaluate.metrics import known
from medssl.report.figures import forest
from medssl.report.page import drawn, fill
from medssl.report.words import named
from medssl.store import write_parquet

LEGEND = (
    "A cell is the headline of the level less that of the base run: AUROC of classes, R² of numbers, by the probe, on "
    "the same patients. Brackets are 95 % intervals over patients and trainings. ▲ is better than the base run, ▼ is "
    "worse; without an arrow the interval holds 0 and the difference is within noise. (seen): pretraining read what "
    "states the label. (other folds): patients are in other folds than in the base run, so trainings are not paired."
)


def sentences(table: pd.DataFrame) -> list[str]:
    """Return what a factor changed, one line each: levels that counted, how many did not, and what could not be.

    Args:
        table: rows of one factor, of all label fractions.
    """
    lines = []
    measured = table[table["lo"].notna()]
    for row in measured[counted(measured)].to_dict("records"):
        word = "better" if row["mean"] > 0 else "worse"
        lines.append(
            f"{row['level']} is {word} than {row['run']} on {row['label']} at {100 * row['fraction']:g} % of labels: "
            f"{named(row['metric'])} {row['value']:.3f} against {row['base']:.3f}, "
            f"{cell(row, 3)}, n = {row['n_patients']}"  # type: ignore[arg-type]
        )
    noise = int((~counted(measured)).sum())
    if len(measured):
        lines.append(f"within noise: {noise} of {len(measured)} differences")
    rest = table[table["lo"].isna()]
    lines += [
        " ".join(filter(None, (row["level"], "of", row["run"], row["label"]))) + f": {row['note']}"
        for row in rest.drop_duplicates(["level", "run", "label", "note"]).to_dict("records")
    ]
    return lines


def picture(table: pd.DataFrame) -> Figure | None:
    """Draw the intervals of a factor at the largest label fraction, a panel per level; None without any difference."""
    some = table[(table["fraction"] == table["fraction"].max()) & table["mean"].notna()]
    if some.empty:
        return None
    some = some.assign(row=some["run"] + ", " + some["label"], against="")
    panels = {level: rows for level, rows in some.groupby("level", sort=False)}
    return forest(panels, list(dict.fromkeys(some["row"])))


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table of `medssl.ablate.table.wide` as Markdown."""
    lines = [header, ["---"] * len(header)]
    lines += [[row[0], row[1], *("<br>".join(text) for text in row[2:])] for row in rows]
    return "\n".join("| " + " | ".join(str(part).replace("|", "\\|") for part in line) + " |" for line in lines) + "\n"


def write(out: Path, ablation: Ablation, table: pd.DataFrame, notes: Sequence[str]) -> list[str]:
    """Write ``ablation.parquet``, ``ablation.md`` and ``ablation.html``, and return in lines what they say.

    Args:
        out: folder.
        ablation: the factors.
        table: of `medssl.ablate.table.differences`.
        notes: what a reader must know besides, one line each.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(table, out / "ablation.parquet")
    said, tables, factors = _parts(ablation, table, notes)
    (out / "ablation.md").write_text(_text(said, tables, factors), "utf-8")
    drawings = [
        figure and drawn(figure) for figure in (picture(rows) for _, rows in table.groupby("factor", sort=False))
    ]
    shown = [(*factor, drawing) for factor, drawing in zip(factors, drawings, strict=True)]
    page = fill("medssl.ablate", "ablate.html.j2", said=said, legend=LEGEND, tables=tables, factors=shown)
    (out / "ablation.html").write_text(page, "utf-8")
    return [f"{name}: {line}" for name, _, lines in factors for line in lines] + said


def text(ablation: Ablation, table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """Return ``ablation.md``; arguments are those of `write`, and the same ones give the same text."""
    return _text(*_parts(ablation, table, notes))


def _text(said: Sequence[str], tables: Sequence[tuple[Any, ...]], factors: Sequence[tuple[Any, ...]]) -> str:
    parts = ["# What counted\n", *(f"- {line}" for line in said), "", LEGEND, ""]
    for title, header, rows in tables:
        parts += [f"## {title}\n", markdown(header, rows)]
    for name, question, lines in factors:
        parts += [f"## {name}\n", f"{question}\n", *(f"- {line}" for line in lines), ""]
    return "\n".join(parts)


def _parts(ablation: Ablation, table: pd.DataFrame, notes: Sequence[str]) -> tuple[list[str], list[Any], list[Any]]:
    """Return what is said of all, tables by label fraction, and name, question and sentences of each factor."""
    fractions = sorted((f for f in table["fraction"].unique() if known(f)), reverse=True)
    tables = [(f"{100 * fraction:g} % of labels", *wide(table, fraction)) for fraction in fractions]
    by = table.groupby("factor", sort=False)
    factors = [(name, ablation.factors[str(name)].question, sentences(rows)) for name, rows in by]
    return [by_chance(table) + ".", *_tested(table), *(f"{note}." for note in notes)], tables, factors


def _tested(table: pd.DataFrame) -> list[str]:
    """Return on how many patients each base run is compared, and over how many trainings, one line each."""
    lines = []
    for run, of in table[table["lo"].notna()].groupby("run", sort=False):
        labels = ", ".join(f"{label} {n}" for label, n in of.groupby("label", sort=False)["n_patients"].max().items())
        trained = f"trainings a fold: {of['trainings'].max()}, folds: {of['folds'].max()}"
        lines.append(f"{run}: test patients {labels}; {trained}, precision {of['precision'].iloc[0]}.")
    return lines
