"""The evidence document: every result of every run, from what the runs stored.

``python -m medssl.report.evidence data/runs docs/evidence.md``. No number is typed; the same files give the same text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import fullest, headline, protocols, shown
from medssl.report import card, paired, stored, words
from medssl.report.protocols import STAGE, ordered
from medssl.report.published import PUBLISHED, compared
from medssl.report.stored import Stored
from medssl.report.tables import p_value

HEAD = """# Evidence

This document is made from the stored results of the runs by `python -m medssl.report.evidence`. Nobody types a number
into it. Brackets are 95 % intervals. A difference is measured on the same patients, folds and trainings. It is *within
noise* where its interval holds 0. The strongest simple baseline is chosen on the test patients, in its favour. A
published figure *agrees* with ours where it lies in our interval; it is compared only on its own kind of split and
cohort.
"""


def render(
    runs: Mapping[str, Path], *, differences: pd.DataFrame | None = None, recipes: Mapping[str, str] | None = None
) -> str:
    """Return the document, Markdown.

    Args:
        runs: folder of each run, in the order of the document; runs of one source stand together.
        differences: paired differences with the columns `medssl.report.paired.COLUMNS`; None: those stored.
        recipes: of runs; without it, that of the encoder's own configuration.

    Raises:
        ValueError: a run that was not evaluated, or a column of ``differences`` that is missing.
    """
    results = {name: stored.read(folder) for name, folder in runs.items()}
    own = [result.differences for result in results.values() if result.differences is not None]
    if differences is None and own:
        differences = pd.concat(own, ignore_index=True)
    if differences is not None:
        differences = paired.complete(differences)
    facts = {name: _provenance(folder) for name, folder in runs.items()}
    lines = [HEAD]
    for source in dict.fromkeys(fact["source"] for fact in facts.values()):
        lines += [f"## {source}", ""]
        for name, result in results.items():
            if facts[name]["source"] != source:
                continue
            recipe = (recipes or {}).get(name, facts[name]["recipe"])
            lines += [f"### {name} ({recipe})", "", *_cohort(result, facts[name])]
            for task, of_task in result.metrics.items():
                lines += _label(name, task, of_task, differences)
    return "\n".join([*lines, *_published(results, facts)])


def _provenance(folder: Path) -> dict[str, Any]:
    """Return source, cohort and recipe of a run as its encoder says; a foreign encoder may not."""
    path = folder / "encoder" / "config.json"
    said = json.loads(path.read_text())["provenance"] if path.is_file() else {}
    unsaid = {"source": "source not stored", "cohort": "not stored", "recipe": "foreign encoder", "published_split": ""}
    return unsaid | said


def _cohort(result: Stored, facts: Mapping[str, Any]) -> list[str]:
    """Return the cohort, how patients were held out, and what the checks say."""
    lines = [f"- cohort: {facts['cohort']}, {result.split}"]
    if "patients" in facts:
        lines.append(f"- pretrained on {facts['patients']} patients, {facts['samples']} samples")
        lines += [f"- started from {card.before(one)}" for one in facts.get("before", [])]
    if covers := words.covered(result.metrics):
        lines.append(f"- intervals cover {covers}")
    lines += [f"- check *{c['check']}*: {c['verdict']}: {c['detail']}" for c in result.trust if c["verdict"] != "ok"]
    if passed := sum(c["verdict"] == "ok" for c in result.trust):
        lines.append(f"- checks passed: {passed} of {len(result.trust)}")
    if not result.trust:
        lines.append("- checks: none stored")
    return [*lines, ""]


def _label(run: str, task: str, of_task: Mapping[str, Any], differences: pd.DataFrame | None) -> list[str]:
    """Return a label: protocols with their intervals at every share of labels, and the differences of the run."""
    if "left_out" in of_task:
        return [f"**{task}**: left out: {of_task['left_out']}", ""]
    have = protocols(of_task)
    names = [*ordered(have), *(name for name in have if name.startswith(STAGE))]
    full = have[names[0]][fullest(have[names[0]])[0]]
    value = full[headline(full)]
    counted = [f"n = {value['n_patients']} patients"]
    p = p_value(have["probe"][fullest(have["probe"])[0]]) if "probe" in have else None
    counted += [f"{key}: {value[key]}" for key in ("folds", "trainings", "seeds") if value.get(key)]
    counted += [] if p is None else [f"p = {p:.3g} against shuffled labels"]
    seen = f", **seen in pretraining** ({', '.join(of_task['seen'])})" if of_task.get("seen") else ""
    shares = sorted({share for of in have.values() for share in of}, key=float, reverse=True)
    lines = [
        f"**{task}**, {words.named(headline(full))}, {', '.join(counted)}{seen}",
        "",
        "| protocol | " + " | ".join(f"{100 * float(share):g} % of labels" for share in shares) + " |",
        "|---" * (1 + len(shares)) + "|",
    ]
    for name in names:
        cells = [shown(have[name][s][headline(have[name][s])]) if s in have[name] else "" for s in shares]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    baseline = words.strongest(of_task)
    said = [
        f"- {protocol} {paired.against(row)}"
        for protocol, reference in (
            ("probe", baseline), ("probe", "random_init"), ("probe", "supervised"),
            ("finetune", "supervised"), ("demographics_probe", "demographics"), ("handcrafted_probe", "handcrafted"),
        )
        if (row := paired.picked(differences, run, task, reference, protocol))
    ]  # fmt: skip
    return [*lines, "", *said, *([""] if said else [])]


def _published(results: Mapping[str, Stored], facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the published figures beside ours, a table per setting, and how many of them ours agree with."""
    lines, verdicts = ["## Published figures beside ours", ""], []
    for setting in PUBLISHED:
        rows = []
        for run, whole in results.items():
            result = stored.on_fixed_split(whole) if setting.split == "fixed split" else whole
            of_task = result.metrics.get(setting.task, {})
            if facts[run]["source"] not in setting.sources or not protocols(of_task):
                continue
            for figure in setting.figures:
                verdict, value = compared(setting, figure, of_task, result.split, facts[run]["published_split"] or "")
                verdicts.append(verdict)
                share = "" if figure.fraction == 1 else f", {100 * figure.fraction:g} % of labels"
                interval = "" if figure.lo is None else f" [{figure.lo:.3f}, {figure.hi:.3f}]"
                ours = f"{shown(value)}, n = {value['n_patients']}" if value else ""
                what = f"{figure.protocol}, {words.named(figure.metric)}{share}"
                rows.append(f"| {figure.model} | {figure.value:.3f}{interval} | {run}, {what} | {ours} | {verdict} |")
        if rows:
            lines += [
                f"**{setting.task}** ({setting.sources[0]}, {setting.split}): {setting.words}.",
                f"Source: {setting.written}.",
                "",
                "| published | theirs | our result | ours | by our interval |",
                "|---|---|---|---|---|",
                *rows,
                "",
            ]
    if not verdicts:
        return [*lines, "No run evaluated a label with a published figure.", ""]
    counts = {verdict: verdicts.count(verdict) for verdict in ("agrees", "ours is higher", "ours is lower")}
    said = ", ".join(f"{verdict}: {n}" for verdict, n in counts.items())
    return [*lines, f"Comparable by split and cohort: {sum(counts.values())} of {len(verdicts)} ({said}).", ""]


def main() -> None:
    """Write the document of all evaluated runs in a folder."""
    parser = argparse.ArgumentParser(description="Write the evidence document from stored results.")
    parser.add_argument("runs", type=Path, help="folder of runs, such as data/runs")
    parser.add_argument("out", type=Path, help="Markdown file to write, such as docs/evidence.md")
    parser.add_argument("--differences", type=Path, help="Parquet of paired differences (default: those of the runs)")
    args = parser.parse_args()
    found = sorted({p for f in ("metrics.json", "crossfit/metrics.json") for p in args.runs.glob(f"*/{f}")})
    runs = {name: args.runs / name for name in dict.fromkeys(p.relative_to(args.runs).parts[0] for p in found)}
    if not runs:
        parser.error(f"{args.runs}: no run with metrics.json; expected a folder such as data/runs")
    if args.differences and not args.differences.is_file():
        parser.error(f"{args.differences}: no such file")
    try:
        text = render(runs, differences=pd.read_parquet(args.differences) if args.differences else None)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text)
    print(f"{args.out}: {len(runs)} runs")


if __name__ == "__main__":
    main()
