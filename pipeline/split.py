"""Receipts -> split by patient, or the publisher's by picture; a leak of any other kind fails the stage."""

import json

from medssl import config, tracking
from medssl.curate import copies, leakage, split
from medssl.ingest import costs
from medssl.report import card
from medssl.store import open_store, write_parquet
from medssl.table import SPLITS
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/split.parquet`` and the counts for the report."""
    cohort: config.Cohort = config.part(params, "modalities", key)
    wanted = cohort.split
    store = open_store(stage.store_of(key), stage.DATA / key / "dedup.parquet")
    with tracking.stage_run(params.tracking, f"split@{key}", modality=key, data_hash=store.content_hash) as run:
        run.params(wanted.model_dump(mode="json"))
        table = store.table.assign(
            split=split.by_patient(
                store.table,
                shares={"train": wanted.train, "val": wanted.val, "test": wanted.test},
                stratify=wanted.stratify,
                seed=params.seed,
                folds=wanted.publisher_folds,  # type: ignore[arg-type]
                parts=wanted.publisher_parts,
            )
        )
        by_picture = wanted.publisher_parts == "as_published"
        crossing = len(leakage.refuse(table, copies.pairs(store) if wanted.copies else None, crossing=by_picture))
        write_parquet(table[["sample_id", "split"]], stage.DATA / key / "split.parquet")
        patients = {s: int(table.loc[table["split"] == s, "patient"].nunique()) for s in SPLITS}
        flow = {
            "cohort": key,
            "source": cohort.source.name,
            "samples": len(table),
            "patients": int(table["patient"].nunique()),
            "rejects": store.rejects["reason"].value_counts().sort_index().to_dict(),
            "costs": [vars(cost) for cost in costs.of_store(store.table, store.rejects, cohort.ingest)],
            "exact": int((table["method"] == "exact").sum()),
            "near": int((~table["method"].isin(["", "exact"])).sum()),
            "kept": int(table["kept"].sum()),
            "split": patients,
            "leaks": crossing,
            "crossing_patients": crossing,
            "data_hash": store.content_hash,
        }
        counts = stage.flow_file(key, "counts.json")
        counts.parent.mkdir(parents=True, exist_ok=True)
        counts.write_text(json.dumps(flow, indent=1) + "\n")
        run.metrics({f"split/{s}_patients": n for s, n in patients.items()} | {"split/leaks": crossing})
    by_content = ", copies in another form included" if wanted.copies else ""
    no = "no other leak" if crossing else "no leak"
    print(f"{key}: {', '.join(f'{s} {n}' for s, n in patients.items())} patients; {no}{by_content}")
    if crossing:
        print(f"{key}: {card.crossing(crossing)}")


if __name__ == "__main__":
    stage.main(work, __doc__)
