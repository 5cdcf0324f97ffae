"""Encoders of another run -> which weights the trainings of a run start from, so that new ones train it anew."""

import json

from medssl import config
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/runs/<key>/folds/plan/start.json``: all encoders of the other run by hash, fold by fold."""
    wanted: config.Run = config.part(params, "runs", key)
    other = params.sequels[key]
    split = params.modalities[wanted.modality].split
    folds = (split.folds or 0) * split.repeats
    hashes: dict[str, list[str]] = {}
    for fold in (None, *range(folds)):
        trainings = range(1 if folds and fold is None else params.runs[other].seeds)
        began = [params.started(key, fold, number) for number in trainings]
        hashes["fixed" if fold is None else f"f{fold}"] = [
            stage.weights(stage.encoder_folder(*one)) for one in began if one
        ]
    path = stage.start_file(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": other, "encoders": hashes}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    stage.main(work, __doc__)
