"""Make the synthetic cohort of one modality, in the formats of real recordings."""

from medssl import config
from medssl.sources import synthetic
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/raw/<key>``."""
    synthetic.make(
        config.modality_of(key), config.part(params, "synthetic", key), stage.DATA / "raw" / key, params.seed
    )


if __name__ == "__main__":
    stage.main(work, __doc__)
