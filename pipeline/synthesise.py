"""Make the synthetic cohort of one modality, in the formats of real recordings."""

from medssl import config, synthetic, tracking
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/raw/<key>``."""
    cohort: config.Synthetic = config.part(params, "synthetic", key)
    with tracking.stage_run(params.tracking, f"synthesise@{key}", modality=key) as run:
        run.params(cohort.model_dump(mode="json") | {"seed": params.seed})
        synthetic.make(config.modality_of(key), cohort, stage.DATA / "raw" / key, params.seed)


if __name__ == "__main__":
    stage.main(work, __doc__)
