"""The head of a model card: YAML that a model hub reads, in the form of Hugging Face's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from medssl.evaluate.metrics import fullest, headline, known, protocols
from medssl.report.protocols import GROUPS, ordered
from medssl.report.words import named

OWN = ("manifest", "bids")  # layouts that anybody's recordings may have; other sources are sets with a name
# Licences of recordings that the hub has an identifier for, by what they are called in lower case.
LICENCES = {
    **{f"cc-by{kind}-{v}": f"cc-by{kind}-{v}" for kind in ("", "-sa", "-nc", "-nc-sa") for v in ("3.0", "4.0")},
    **{"cc0-1.0": "cc0-1.0", "odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"},
    **{"apache-2.0": "apache-2.0", "mit": "mit"},
}
# Where the publisher of a set states its licence.
PAGES = {
    "ptbxl": "https://doi.org/10.13026/kfzx-aw45",
    "cinc2017": "https://doi.org/10.13026/d3hm-sf11",
    "ppg_bp": "https://doi.org/10.6084/m9.figshare.5459299",
    "eegmat": "https://doi.org/10.13026/C2JQ1P",
}
METRICS = {"auroc": "roc_auc", "r2": "r_squared"}  # names of the hub


def head(
    contract: Mapping[str, Any],
    architecture: Mapping[str, Any],
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    *,
    held_out: str = "",
) -> str:
    """Return the head of a card between its ``---`` lines.

    Args:
        contract, architecture, provenance: of the encoder's configuration.
        metrics: ``metrics.json`` of the run; None leaves results out.
        held_out: whom the results were measured on, in words.
    """
    source = provenance.get("source", OWN[0])
    tags = [
        "medssl",
        "medical",
        "self-supervised",
        contract["modality"],
        provenance.get("recipe"),
        architecture["name"],
    ]
    data: dict[str, str | list[str]] = {
        **licence(provenance.get("release", {}).get("licence"), source),
        "library_name": "medssl",
        "pipeline_tag": "feature-extraction",
        "tags": list(dict.fromkeys(tag for tag in tags if tag)),
    }
    read = [source, *(training["source"] for training in provenance.get("before", []))]
    if sets := [name for name in dict.fromkeys(read) if name not in OWN]:
        data["datasets"] = sets
    lines = [f"{key}: {json.dumps(value)}" for key, value in data.items()]  # JSON is YAML
    results = list(_results(metrics or {}, source, held_out))
    if results:
        # Of a released encoder the results are those of the run it was made like, and stand under that one's name.
        lines += ["model-index:", f"- name: {json.dumps(provenance.get('release', provenance)['run'])}", "  results:"]
        lines += [f"  - {json.dumps(result)}" for result in results]
    return "\n".join(["---", *lines, "---", ""])


def licence(name: str | None, source: str) -> dict[str, str]:
    """Return the keys that state a licence: an identifier of the hub, or its name and where its text is.

    An encoder is handed on under the licence of its recordings; nobody stated one of your own.

    Args:
        name: as in ``release.NAME.licence``; None: not stated.
        source: of the recordings.
    """
    if name is None:
        return {"license": "unknown"}
    if name.lower() in LICENCES:
        return {"license": LICENCES[name.lower()]}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    text = re.search(r"https?://[^\s)]+", name)
    return {"license": "other", "license_name": slug, "license_link": text[0] if text else PAGES.get(source, "LICENSE")}


def _results(metrics: Mapping[str, Any], source: str, held_out: str) -> Iterable[dict[str, Any]]:
    """Yield one entry a label and protocol of the encoder, by its headline metric; baselines are no results of it."""
    for task, of_task in metrics.items():
        have = protocols(of_task)
        for protocol in ordered(set(have) & set(GROUPS["encoder"])):
            share, _ = fullest(have[protocol])
            metric = headline(have[protocol][share])
            value = have[protocol][share][metric]
            if not known(value["mean"]):
                continue
            about = {"protocol": protocol, "share_of_labels": float(share), "patients": value["n_patients"]}
            if known(value["lo"]) and known(value["hi"]):
                about |= {"interval": [round(value["lo"], 4), round(value["hi"], 4)], "level": 0.95}
            if seen := of_task.get("seen"):
                about["seen_in_pretraining"] = list(seen)
            yield {
                "task": {"type": "feature-extraction", "name": f"{task}, {GROUPS['encoder'][protocol][1]}"},
                "dataset": {"type": source, "name": source, "split": held_out},
                "metrics": [
                    {
                        "type": METRICS.get(metric, metric),
                        "value": round(value["mean"], 4),
                        "name": named(metric),
                        "args": about,
                    }
                ],
            }
