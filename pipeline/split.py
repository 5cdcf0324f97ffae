"""Store -> split by patient, or the publisher's by picture, and folds; a leak of any other kind fails the stage."""

import json

import pandas as pd

from medssl import config, tracking
from medssl.curate import copies, dedup, leakage, split
from medssl.report import card
from medssl.store import open_store, write_parquet
from medssl.table import SPLITS
from pipeline import stage


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/split.parquet`` and the number of patients in each part.

    Its column ``split`` is the fixed split; ``split@0`` and on are those of cross-fitting, one a fold.
    """
    cohort: config.Cohort = config.part(params, "modalities", key)
    wanted = cohort.split
    store = open_store(stage.store_of(key))
    with tracking.stage_run(params.tracking, f"split@{key}", modality=key, data_hash=store.content_hash) as run:
        run.params(wanted.model_dump(mode="json"))
        # Nothing uses exact copies: dedup leaves out all but the first, in whatever part it is.
        table = store.table.assign(method=["" if one else "exact" for one in dedup.originals(store.table)])
        if wanted.published is not None:
            fixed = split.published(table, wanted.published)
        else:
            fixed = split.by_patient(
                table,
                shares={"train": wanted.train, "val": wanted.val, "test": wanted.test},
                stratify=wanted.stratify,
                seed=params.seed,
                folds=wanted.publisher_folds,  # type: ignore[arg-type]
                parts=wanted.publisher_parts,
            )
        parts = pd.DataFrame({"split": fixed})
        if wanted.folds is not None:
            drawn = wanted.model_dump(include={"folds", "repeats", "val", "stratify"})
            parts = parts.join(split.folds(table, **drawn, seed=params.seed))
        by_picture = wanted.publisher_parts == "as_published"
        found = copies.pairs(store) if wanted.copies else None
        crossing = len(leakage.refuse(table.assign(split=fixed), found, crossing=by_picture))
        for name in parts.columns[1:]:
            leakage.refuse(table.assign(split=parts[name]), found)
        write_parquet(table[["sample_id"]].join(parts), stage.DATA / key / "split.parquet")
        patients = {s: int(table.loc[parts["split"] == s, "patient"].nunique()) for s in SPLITS}
        counts = {"split": patients, "leaks": crossing, "crossing_patients": crossing, "folds": len(parts.columns) - 1}
        path = stage.flow_file(key, "split.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(counts, indent=1) + "\n")
        run.metrics({f"split/{s}/patients": n for s, n in patients.items()} | {"split/all/leaks": crossing})
    by_content = ", copies in another form included" if wanted.copies else ""
    no = "no other leak" if crossing else "no leak"
    folds = f"; {wanted.folds} folds x {wanted.repeats}" if wanted.folds else ""
    print(f"{key}: {', '.join(f'{s} {n}' for s, n in patients.items())} patients{folds}; {no}{by_content}")
    if crossing:
        print(f"{key}: {card.crossing(crossing)}")


if __name__ == "__main__":
    stage.main(work, __doc__)
