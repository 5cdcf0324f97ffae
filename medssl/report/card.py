"""The model card of an encoder, Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.evaluate.metrics import fullest, headline, protocols, shown
from medssl.report.protocols import ordered
from medssl.report.words import covered

INTENDED = """Research on self-supervised representations: as a fixed feature extractor or a starting point for
fine-tuning, on recordings that meet the input contract."""
NOT_INTENDED = """Diagnosis, triage or any decision about a person. The encoder was not tested as a medical device, nor
for populations, devices or sites other than those it was trained on."""

HELD_OUT = {"fixed split": "a fixed split", "cross-fitted": "cross-fitting: every patient is tested once per repeat"}


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
) -> str:
    """Return the card: what it is, what it takes, where it came from, how well it does, what it is not for.

    Of a released encoder, which was trained on all patients, results and checks are those of the run it was made like.

    Args:
        contract, architecture, provenance: of the encoder's configuration; ``release`` of the provenance is what
            `pipeline.release` knows of a released one.
        metrics: ``metrics.json`` of the run.
        split: how patients were held out, as `medssl.report.stored.Stored.split` says.
        trust: checks of the run, ``check, verdict, detail``, the worst first.
    """
    names = reads(provenance)
    learned = (
        f", which read {', '.join(names)} of the training patients; predictions of these or of what follows from them "
        "are not from few labels."
    )
    geometry = "rate_hz=RATE, channels=CHANNELS" if "rate_hz" in contract else "spacing_mm=SPACING"
    crossed, release = provenance.get("crossing_patients", 0), provenance.get("release")
    run = f" of run `{release['run']}`" if release else ""
    lines = [
        f"""# {provenance["run"]}

An encoder for {contract["modality"].upper()} ({architecture["name"]}, {contract["embedding_dim"]} numbers), \
pretrained by the recipe `{provenance["recipe"]}`{learned if names else ", without labels."}

## Input contract
""",
        *(f"- {name}: {value}" for name, value in contract.items()),
        f"""
## Use

```python
import medssl

encoder = medssl.load_encoder("{provenance["run"] if release else "PATH/OF/THIS/FOLDER"}")
z = encoder.embed(x, {geometry})
```

## Training data

- source: {provenance["source"]} ({provenance["cohort"]}), {provenance["patients"]} patients, \
{provenance["samples"]} samples without exact copies; near-duplicates: \
{provenance["pretrain"].get("duplicates", "remove")}
- data hash: {provenance["data_hash"]}
- steps: {provenance["steps"]}, seed: {provenance["seed"]}, code: {provenance["git_commit"]}""",
        *(_handed_on(release, steps=provenance["steps"], tested=bool(metrics)) if release else []),
        "",
    ]
    if crossed:
        lines += [f"**{crossing(crossed)}.**", ""]
    if metrics:
        lines += [
            f"## Results{run} {'by picture, not on held-out patients' if crossed else 'on held-out patients'}",
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
    if trust:
        lines += [f"## Checks{run}", "", "| check | verdict | detail |", "|---|---|---|"]
        lines += [f"| {c['check']} | {c['verdict']} | {c['detail'].replace('|', '/')} |" for c in trust]
        lines.append("")
    lines += ["## Intended use", "", INTENDED, "", "## Not for", "", NOT_INTENDED, ""]
    return "\n".join(lines)


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
            f"{provenance['source']}, {provenance['patients']} patients",
            f"`{provenance['recipe']}`",
            str(contract["embedding_dim"]),
            f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
            release.get("licence", "not said"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _input(contract: Mapping[str, Any]) -> str:
    """Return in words what a sample is."""
    if "rate_hz" in contract:
        channels = contract["channels"]
        what = f"channel {channels[0]}" if len(channels) == 1 else f"{len(channels)} channels"
        return f"{what}, {contract['rate_hz']:g} Hz, {contract['window_s']:g} s"
    size, spacing = (" x ".join(f"{n:g}" for n in contract[key] or ()) for key in ("size", "spacing_mm"))
    return f"{contract['samples']}, {size}" + (f" of {spacing} mm" if spacing else "")
