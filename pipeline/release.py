"""All patients of a run's cohort -> an encoder to hand on, made like the run's, with the run's results on its card."""

import json
import shutil

from medssl import config, hub, project, tracking
from medssl.report import card, stored
from pipeline import pretrain, stage


def of_all(like: config.Run) -> config.Run:
    """Return a run that trains like another to its last step, without validation patients to choose or stop by."""
    chosen = {"select": "last", "monitor_label": None, "patience": None}
    return like.model_copy(update={"seeds": 1, "pretrain": like.pretrain.model_copy(update=chosen)})


def work(params: config.Params, key: str) -> None:
    """Write ``data/release/<key>``, an encoder folder.

    Every part of the split trains, so that a scale (``normalise: cohort``) and those of measures are of all patients.
    """
    wanted: config.Release = config.part(params, "release", key)
    like: config.Run = config.part(params, "runs", wanted.run)
    store, folder = stage.open_cohort(like.modality), stage.DATA / "release" / key
    store.table = store.table.assign(split="train")
    named = params.model_copy(update={"runs": {**params.runs, key: of_all(like)}})
    if not project.first_process():
        pretrain.train(named, key, store, folder, tracking.NoRun(), number=0, fold=None)
        return
    name, data = f"release@{key}", store.content_hash
    with tracking.stage_run(params.tracking, name, run=key, modality=like.modality, data_hash=data) as run:
        run.params(wanted.model_dump(mode="json") | {"seed": params.seed})
        fitted = pretrain.train(named, key, store, folder, run, number=0, fold=None)
        publish(wanted, hub.load_encoder(folder))
        run.artifact(folder, "encoder")
        run.tag("weights", stage.weights(folder))
        # Nobody is held out of it: it is a version, and no champion.
        run.register(f"medssl-{like.modality}", stage.weights(folder), score={}, same={"release": key})
        shutil.rmtree(fitted.checkpoints, ignore_errors=True)
    print(f"{key}: {folder}")


def publish(wanted: config.Release, encoder: hub.Encoder) -> None:
    """Write the folder of a trained encoder anew, with what its users must know of the data and of the run."""
    assert encoder.folder is not None
    result = stored.read(stage.run_folder(wanted.run))
    first = json.loads((stage.run_folder(wanted.run) / "encoder" / "config.json").read_text())["provenance"]
    size = sum(values.nbytes for values in encoder.module.state_dict().values())
    about = wanted.model_dump(mode="json") | {"kept_step": first["kept_step"]}
    provenance = encoder.config["provenance"] | {
        "published_split": None,  # it holds nobody out
        "crossing_patients": first["crossing_patients"],  # of the run's results
        "release": about | {"megabytes": round(size / 1e6, 1)},
    }
    contract, architecture = encoder.config["contract"], encoder.config["architecture"]
    hub.save_encoder(
        encoder.folder,
        encoder.module,
        architecture=architecture,
        contract=contract,
        provenance=provenance,
        card=card.render(
            contract,
            architecture,
            provenance,
            result.metrics,
            split=result.split,
            trust=result.trust,
            subgroups=result.subgroups,
        ),
    )


if __name__ == "__main__":
    stage.main(work, __doc__)
