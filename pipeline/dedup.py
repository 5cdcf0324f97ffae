"""Store -> receipts: which samples are kept, and which one stands for each removed one."""

import numpy as np

from medssl import config, tracking
from medssl.curate import dedup, fingerprint
from medssl.report import plots
from medssl.store import open_store, write_parquet
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/dedup.parquet`` and a gallery for the report."""
    wanted: config.Dedup = config.part(params, "modalities", key).dedup
    store = open_store(stage.store_of(key))
    image = len(store.facts["shape"]) > 2
    if wanted.radius_bits is not None and not image:
        raise ValueError(
            f"modalities.{key}.dedup.radius_bits = {wanted.radius_bits}: difference hashes are for images; "
            "signals are compared by exact content, remove the key"
        )
    with tracking.stage_run(params.tracking, f"dedup@{key}", modality=key, data_hash=store.content_hash) as run:
        run.params(wanted.model_dump(mode="json"))
        hashes = None
        if wanted.radius_bits is not None:
            hashes = np.stack([fingerprint.signature(store[i]) for i in range(len(store))])
        receipts = dedup.receipts(
            store.table, hashes, radius=wanted.radius_bits, scope=wanted.scope, min_per_patient=wanted.min_per_patient
        )
        write_parquet(receipts, stage.DATA / key / "dedup.parquet")
        gallery = stage.flow_file(key, "duplicates.png")
        gallery.parent.mkdir(parents=True, exist_ok=True)
        plots.duplicates(store, receipts).savefig(gallery, dpi=100)
        removed = receipts["method"].value_counts().to_dict()
        run.metrics(
            {
                "dedup/kept": int(receipts["kept"].sum()),
                "dedup/keep_ratio": float(receipts["kept"].mean()),
                "dedup/exact": removed.get("exact", 0),
                "dedup/dhash": removed.get("dhash", 0),
            }
        )
        run.artifact(gallery)
    print(f"{key}: kept {int(receipts['kept'].sum())} of {len(receipts)}; {removed}")


if __name__ == "__main__":
    stage.main(work, __doc__)
