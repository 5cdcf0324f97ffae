"""Raw recordings of one cohort -> store."""

from pathlib import Path

from medssl import config, project, sources, tracking
from medssl.ingest.build import build
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/store``."""
    cohort: config.Cohort = config.part(params, "modalities", key)
    with tracking.stage_run(params.tracking, f"ingest@{key}", modality=key) as run:
        run.params(cohort.model_dump(mode="json", include={"ingest"}) | {"source": cohort.source.name})
        root = Path(cohort.source.root)
        records = sources.list_records(cohort.source.name, root, cohort.source.limit)
        for line in sources.remarks(cohort.source.name, root, records):
            print(f"note: {line}")
        made = build(
            records,
            stage.store_of(key),
            key=key,
            params=cohort.ingest,
            secret=project.identity_key(project.root()),
            executor=params.compute.executor,
            workers=params.compute.workers,
            address=params.compute.address,
            progress=params.compute.progress,
        )
        reasons = made.rejects["reason"].value_counts().to_dict()
        run.metrics(
            {
                "ingest/all/records": len(records),
                "ingest/all/samples": len(made),
                "ingest/all/patients": made.table["patient"].nunique(),
                "ingest/all/rejects": len(made.rejects),
                **{f"ingest/all/rejects/{reason}": n for reason, n in reasons.items()},
            }
        )
        run.tag("data_hash", made.content_hash)
        run.artifact(made.folder / "rejects.parquet")
        run.artifact(made.folder / "store.json")
    print(
        f"{key}: {len(records)} records -> {len(made)} samples of {made.table['patient'].nunique()} patients; "
        f"rejects: {', '.join(f'{n} {r}' for r, n in sorted(reasons.items())) or 'none'}"
    )


if __name__ == "__main__":
    stage.main(work, __doc__)
