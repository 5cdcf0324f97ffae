"""The model card of an encoder, Markdown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import fullest, headline, protocols, shown
from medssl.report import cohort, metadata
from medssl.report.protocols import ordered
from medssl.report.words import covered
from medssl.report.words import subgroups as subgroups_of

INTENDED = """Research on self-supervised representations: as a fixed feature extractor or a starting point for
fine-tuning, on recordings that meet the input contract."""
NOT_INTENDED = """Diagnosis, triage or any decision about a person. The encoder was not tested as a medical device, nor
for populations, devices or sites other than those it was trained on."""

HELD_OUT = {"fixed split": "a fixed split", "cross-fitted": "cross-fitting: every patient is tested once per repeat"}
BY_PICTURE = "by picture, not on held-out patients"
ANONYMOUS = "embeddings do not tell patients"  # name of the check of `medssl.evaluate.trust.anonymous`


def reads(provenance: Mapping[str, Any]) -> list[str]:
    """Return what pretraining read of its patients besides the recordings: measures and labels.

    Encoders of before its options had a section of their own name the measures of the anatomy recipe alone.
    """
    if "reads" in provenance or provenance["recipe"] != "anatomy":
        return list(provenance.get("reads", ()))
    anatomy = provenance["pretrain"]["anatomy"]
    return sorted({m for factor in (anatomy, *anatomy.get("factors", ())) for m in factor["measures"]})


def crossing(patients: int) -> str:
    """Return the warning of a split by picture: how many patients are in more than one part, and what that means."""
    return (
        f"WARNING: {patients} patients are in more than one part (split.publisher_parts: as_published): "
        "results are by picture and not patient-safe, the encoder and every model on it saw patients it is tested on"
    )


def render(
    contract: Mapping[str, Any],
    architecture: Mapping[str, Any],
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    *,
    split: str = "fixed split",
    trust: Sequence[Mapping[str, str]] = (),
    subgroups: pd.DataFrame | None = None,
) -> str:
    """Return the card: what it is, what it takes, where it came from, how well it does, what it is not for.

    Of a released encoder, which was trained on all patients, results and checks are those of the run it was made like.

    Args:
        contract, architecture, provenance: of the encoder's configuration; ``release`` of the provenance is what
            `pipeline.release` knows of a released one, ``data`` what `medssl.report.cohort.facts` returned.
        metrics: ``metrics.json`` of the run.
        split: how patients were held out, as `medssl.report.stored.Stored.split` says.
        trust: checks of the run, ``check, verdict, detail``, the worst first.
        subgroups: ``subgroups.parquet`` of the run.
    """
    release = provenance.get("release")
    held_out = BY_PICTURE if provenance.get("crossing_patients", 0) else "on held-out patients"
    sections = [
        _what(contract, architecture, provenance),
        _data(provenance, tested=bool(metrics)),
        _recipe(provenance),
        _results(metrics or {}, held_out=held_out, split=split, run=f" of run `{release['run']}`" if release else ""),
        _of_subgroups(subgroups, metrics or {}),
        _checks(trust, run=f" of run `{release['run']}`" if release else ""),
        _rebuild(contract, architecture, provenance),
        ["## Intended use", "", INTENDED, "", "## Not for", "", NOT_INTENDED, ""],
    ]
    head = metadata.head(contract, architecture, provenance, metrics, held_out=f"{held_out}, {split}")
    return head + "\n" + "\n".join(line for section in sections for line in section)


def with_head(card: str, config: Mapping[str, Any]) -> str:
    """Return a card with a head for model hubs; one of before they had one gets it from the encoder's configuration.

    Without results, which that does not hold.
    """
    if card.startswith("---\n") or "architecture" not in config:  # a module of other code has neither
        return card
    return metadata.head(config["contract"], config["architecture"], config["provenance"]) + "\n" + card


def _what(contract: Mapping[str, Any], architecture: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    names = reads(provenance)
    learned = (
        f", which read {', '.join(names)} of the training patients; predictions of these or of what follows from them "
        "are not from few labels."
    )
    several, name = architecture.get("ensemble"), architecture["name"]
    network = f"{several} x {name}" if several else name
    geometry = "rate_hz=RATE, channels=CHANNELS" if "rate_hz" in contract else "spacing_mm=SPACING"
    reference = provenance["run"] if "release" in provenance else "PATH/OF/THIS/FOLDER"
    return [
        f"# {provenance['run']}",
        "",
        f"An encoder for {contract['modality'].upper()} ({network}, {contract['embedding_dim']} numbers), "
        f"pretrained by the recipe `{provenance['recipe']}`{learned if names else ', without labels.'}",
        "",
        "## Input contract",
        "",
        *(f"- {name}: {value}" for name, value in contract.items()),
        "",
        "## Use",
        "",
        "```python",
        "import medssl",
        "",
        f'encoder = medssl.load_encoder("{reference}")',
        f"z = encoder.embed(x, {geometry})",
        "```",
        "",
    ]


def before(training: Mapping[str, Any]) -> str:
    """Return in words a training that another one started from."""
    return (
        f"run `{training['run']}`, {training['source']} ({training['cohort']}), {training['patients']} patients, "
        f"{training['samples']} samples"
    )


def _data(provenance: Mapping[str, Any], *, tested: bool) -> list[str]:
    """Return what trained it: counts, receipts, people, the rights in the data."""
    release, data = provenance.get("release"), provenance.get("data", {})
    lines = [
        "## Training data",
        "",
        f"- source: {provenance['source']} ({provenance['cohort']}), {provenance['patients']} patients, "
        f"{provenance['samples']} samples without exact copies; near-duplicates: "
        f"{provenance['pretrain'].get('duplicates', 'remove')}",
        f"- data hash: {provenance['data_hash']}",
        *(f"- started from: {before(one)}" for one in provenance.get("before", [])),
    ]
    if found := data.get("receipts"):
        parts = ", ".join(f"{part} {n}" for part, n in found["patients"].items())
        lines.append(f"- cohort: {found['samples']} samples of {found['trials']} trials; patients: {parts}")
        if "kept" in found:
            removed = ", ".join(f"{n} by {method}" for method, n in found["removed"].items())
            lines.append(f"- dedup: {found['kept']} samples kept, removed: {removed or 'none'}")
    for name, counts in data.get("people", {}).items():
        cells = ", ".join(f"{value} {'not shown' if n is None else n}" for value, n in counts.items())
        small = (
            f" (counts under {cohort.LEAST}, and those that tell them, are not shown)"
            if None in counts.values()
            else ""
        )
        lines.append(f"- training patients by {name}: {cells}{small}")
    if not data.get("people"):
        lines.append("- training patients by sex and age: not known")
    lines += [*(_handed_on(release, steps=provenance["steps"], tested=tested) if release else []), ""]
    if crossed := provenance.get("crossing_patients", 0):
        lines += [f"**{crossing(crossed)}.**", ""]
    return lines


def _recipe(provenance: Mapping[str, Any]) -> list[str]:
    """Return how it was trained, without what was left at nothing."""
    chosen = {key: value for key, value in provenance["pretrain"].items() if value not in (None, [], {})}
    return [
        "## Recipe",
        "",
        f"`{provenance['recipe']}`, {provenance['steps']} steps, seed {provenance['seed']}:",
        "",
        *(f"- {name}: {value}" for name, value in chosen.items()),
        "",
    ]


def _results(metrics: Mapping[str, Any], *, held_out: str, split: str, run: str) -> list[str]:
    """Return the headline of each label and protocol at its largest share of labels."""
    if not metrics:
        return []
    lines = [
        f"## Results{run} {held_out}",
        "",
        f"Patients are held out by {HELD_OUT.get(split, split)}."
        + (f" Intervals cover {covers}." if (covers := covered(metrics)) else ""),
        "",
        "| label | protocol | metric | mean [95 % interval] | patients | seeds | trainings | folds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    marked = {task: of_task["seen"] for task, of_task in metrics.items() if of_task.get("seen")}
    for task, results in metrics.items():
        label = f"{task} (seen)" if task in marked else task
        have = protocols(results)
        for protocol in ordered(have):
            fractions = have[protocol]
            share, words = fullest(fractions)
            name = headline(fractions[share])
            v = fractions[share][name]
            counts = [v["n_patients"], v["seeds"], v.get("trainings", 1), v.get("folds", 1)]
            lines.append(f"| {label} | {protocol}{words} | {name} | {shown(v)} | {' | '.join(map(str, counts))} |")
    lines.append("")
    omitted = [f"- {task}: left out: {of['left_out']}" for task, of in metrics.items() if "left_out" in of]
    lines += [*omitted, ""] if omitted else []
    for task, read in marked.items():
        lines += [f"Seen: pretraining read {', '.join(read)}, which {task} is or follows from.", ""]
    return lines


def _of_subgroups(table: pd.DataFrame | None, metrics: Mapping[str, Any]) -> list[str]:
    """Return the results by subgroup."""
    if not (cells := subgroups_of(table, metrics)):
        return []
    head = [
        "## Subgroups",
        "",
        "| label | group | value | metric | mean [95 % interval] | patients |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *(f"| {' | '.join(row)} |" for row in cells), ""]


def _checks(trust: Sequence[Mapping[str, str]], *, run: str) -> list[str]:
    """Return whether the embedding tells patients apart, and the other checks."""
    lines = ["## Identifiability", ""]
    told = next((c for c in trust if c["check"] == ANONYMOUS), None)
    if told:
        lines += [f"Verdict{run}: {told['verdict']}; {told['detail']}.", ""]
    else:
        lines += ["Not measured: whether the embedding tells patients apart is not known.", ""]
    lines += ["Treat embeddings of people as data of people: they may be matched with other recordings of them.", ""]
    if trust:
        lines += [f"## Checks{run}", "", "| check | verdict | detail |", "|---|---|---|"]
        lines += [f"| {c['check']} | {c['verdict']} | {c['detail'].replace('|', '/')} |" for c in trust]
        lines.append("")
    return lines


def _rebuild(contract: Mapping[str, Any], architecture: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    """Return how to train it anew, and a hash of every value that decides it besides the recordings."""
    decides = [contract, architecture, provenance["recipe"], provenance["pretrain"], provenance["seed"]]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    commit, _, dirty = provenance["git_commit"].partition("-")
    stage = "release" if "release" in provenance else "pretrain"
    return [
        "## Rebuild",
        "",
        "```bash",
        *([f"git checkout {commit}"] if commit != "unknown" else []),
        f"dvc repro {stage}@{provenance['run']}",
        "```",
        "",
        f"- code: {provenance['git_commit']}" + (" (tracked files were changed)" if dirty else ""),
        f"- hash of the parameters: {digest[:16]}",
        "",
    ]


def _handed_on(release: Mapping[str, Any], *, steps: int, tested: bool) -> list[str]:
    """Return what a released encoder says of the rights in its data, its size, and why it has no results of its own."""
    run, kept = release["run"], release["kept_step"]
    lines = [
        f"- licence of the recordings: {release['licence']}",
        *([f"- cite: {release['cite']}"] if release["cite"] else []),
        f"- size of the weights: {release['megabytes']:.1f} MB",
        "",
        "All patients of the cohort trained this encoder, so it has no held-out results of its own. It was made like "
        f"the encoders of run `{run}`, which were trained on a part of the patients"
        + (" and tested on others." if tested else "; no label was there to test them on."),
    ]
    if kept < steps:
        lines += [
            "",
            f"An encoder of that run was kept at step {kept}, chosen by validation; this one is of the last step, "
            f"{steps}.",
        ]
    return lines


def catalogue(folders: Mapping[str, Path]) -> str:
    """Return a table of encoders, Markdown.

    Args:
        folders: of the encoders, by name, as `medssl.hub.ready` has them.
    """
    lines = [
        "| name | modality | input | trained on | recipe | numbers | MB | licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, folder in folders.items():
        config = json.loads((folder / "config.json").read_text())
        contract, provenance = config["contract"], config["provenance"]
        release = provenance.get("release", {})
        cells = [
            f"`{name}`",
            contract["modality"].upper(),
            _input(contract),
            "; ".join(f"{one['source']}, {one['patients']} patients" for one in _sources(provenance)),
            f"`{provenance['recipe']}`",
            str(contract["embedding_dim"]),
            f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
            release.get("licence", "not said"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sources(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the last training behind an encoder on each source of recordings, the last one first."""
    found: dict[str, Mapping[str, Any]] = {}
    for training in (provenance, *provenance.get("before", [])):
        found.setdefault(training["source"], training)
    return list(found.values())


def _input(contract: Mapping[str, Any]) -> str:
    """Return in words what a sample is."""
    if "rate_hz" in contract:
        channels = contract["channels"]
        what = f"channel {channels[0]}" if len(channels) == 1 else f"{len(channels)} channels"
        return f"{what}, {contract['rate_hz']:g} Hz, {contract['window_s']:g} s"
    size, spacing = (" x ".join(f"{n:g}" for n in contract[key] or ()) for key in ("size", "spacing_mm"))
    return f"{contract['samples']}, {size}" + (f" of {spacing} mm" if spacing else "")
