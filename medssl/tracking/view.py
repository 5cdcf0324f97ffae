"""The list of runs as MLflow's UI opens it by our link: parents with recipe, headline and interval, stages below."""

from __future__ import annotations

import json
from typing import Any

KEY = "medssl"
_PROBE = tuple(f"metrics.`probe/test/headline{end}`" for end in ("", "_lo", "_hi"))
_OTHERS = ("finetune", "supervised", "random_init", "handcrafted", "demographics_probe")
_METRICS = (*_PROBE, *(f"metrics.`{protocol}/test/headline`" for protocol in _OTHERS))
_CREATED = ("attributes.`Created`", "runDateAndNestInfo")  # as it is chosen, and as the table itself calls it
_DURATION = ("attributes.`Duration`", "duration")
_COLUMNS = ["tags.`headline`", *_METRICS, "params.`recipe`", "params.`modality`", "tags.`git_commit`"]
_WIDTHS = {"attributes.`Run Name`": 240, "tags.`headline`": 170, **dict.fromkeys(_METRICS, 190)}
# What "Share" in the UI would write: a view by its key, in a tag of the experiment. A filter would hide the stages.
# Widths are taken of columns that have a place in the order alone; "0" are the boxes.
_STATE = {
    "selectedColumns": [_CREATED[0], _DURATION[0], *_COLUMNS],
    "columnOrder": ["0", "attributes.`Run Name`", *_COLUMNS, _CREATED[1], _DURATION[1]],
    "columnWidths": _WIDTHS,
    "viewMaximized": True,
}
TAG = {f"mlflow.sharedViewState.{KEY}": json.dumps(_STATE)}


def link(client: Any, experiment: str) -> str:
    """Return the part of the UI's address behind the server's, after seeing to it that the view is there."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return ""
    for key, value in TAG.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return f"/#/experiments/{found.experiment_id}/runs?viewStateShareKey={KEY}&workflowType=machine_learning"
