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
    tags = {
        "weights": weights,
        **same,
        **{f"validation_{k}": str(v) for k, v in score.items() if v is not None},
        "rule": RULE,
    }
    version = client.create_model_version(name, f"runs:/{source}/encoder", run_id=source, tags=tags)
    if score.get("lo") is not None:
        _crown(client, name, same)
    return str(version.version)


def _crown(client: Any, name: str, same: dict[str, str]) -> None:
    """Move the champion to the best of all versions on the same data; one on other data is not compared, and stays.

    All are looked at, and once more where another process moved it in this moment, so that of two at once the last one
    leaves the better of both.
    """
    from mlflow.exceptions import MlflowException

    def comparable(version: Any) -> bool:
        return "validation_lo" in version.tags and all(version.tags.get(k) == v for k, v in same.items())

    def low(version: Any) -> float:
        return float(version.tags["validation_lo"])

    for last in (False, False, True):
        candidates = [v for v in client.search_model_versions(f"name = '{name}'") if comparable(v)]
        top = max(candidates, key=lambda v: (low(v), -int(v.version)))
        best = None
        with suppress(MlflowException):  # there is none
            best = client.get_model_version_by_alias(name, CHAMPION)
        if best is not None and (not comparable(best) or low(best) >= low(top)):
            return
        try:
            client.set_registered_model_alias(name, CHAMPION, str(top.version))
        except MlflowException:
            if last:
                raise
            continue
        if best is not None:
            client.set_model_version_tag(name, str(top.version), "champion_after", str(best.version))
        return
