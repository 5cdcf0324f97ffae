"""Exported encoders as versions of a registered model for each cohort, and which of them is its champion.

The alias ``champion`` moves by one rule: to a version whose interval, of a probe fitted to training patients and scored
on validation patients, has the higher lower limit on the same label, data and split. Test patients have no part in it.
The rule and what it saw are tags of each version.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from medssl.tracking import tree

CHAMPION = "champion"
RULE = "the lower limit of the probe's interval on validation patients is higher, on the same label, data and split"


def register(client: Any, run_id: str, name: str, weights: str, score: dict[str, Any], same: dict[str, str]) -> str:
    """Make a version of an encoder, once, move the champion if it beats it, and return the version.

    Args:
        client: ``MlflowClient``.
        run_id: of the stage that scored it.
        name: of the registered model.
        weights: hash of its weights, the tag ``weights`` of the run that holds it as the artifact ``encoder``.
        score: ``mean``, ``lo``, ``hi`` and ``n_patients`` on validation patients; empty, or limits None: no candidate.
        same: what two versions must share to be compared: label, metric, data and split.
    """
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it is there
        client.create_registered_model(name)
    at = client.get_run(run_id).info.experiment_id
    source = tree.found(client, at, {"weights": weights}) or run_id
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("weights") == weights and all(version.tags.get(k) == v for k, v in same.items()):
            return str(version.version)
    tags = {"weights": weights, **same, **{f"validation_{k}": str(v) for k, v in score.items()}, "rule": RULE}
    version = client.create_model_version(name, f"runs:/{source}/encoder", run_id=source, tags=tags)
    best = None
    with suppress(MlflowException):  # there is none
        best = client.get_model_version_by_alias(name, CHAMPION)
    if score.get("lo") is not None and (best is None or _beaten(best.tags, score["lo"], same)):
        client.set_registered_model_alias(name, CHAMPION, version.version)
        if best is not None:
            client.set_model_version_tag(name, version.version, "champion_after", best.version)
    return str(version.version)


def _beaten(tags: dict[str, str], low: float, same: dict[str, str]) -> bool:
    """Say whether a lower limit is above that of the champion; one on other data is not compared, and stays."""
    comparable = all(tags.get(key) == value for key, value in same.items())
    return comparable and low > float(tags["validation_lo"])
