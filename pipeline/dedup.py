"""Store + split -> receipts: which samples are kept, and which one stands for each removed one."""

import functools
import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from medssl import config, tracking
from medssl import table as tables
from medssl.curate import copies, dedup, methods
from medssl.ingest import costs
from medssl.report import plots, redundancy
from medssl.store import Store, open_store, write_parquet
from pipeline import stage

Chosen = tuple[dedup.Choice | None, float | None, Callable[[], pd.DataFrame]]


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({"threshold": [], "keep_ratio": []})


def chooser(store: Store, wanted: config.Dedup, compute: config.Compute) -> Callable[[np.ndarray], Chosen]:
    """Return, as a function of the rows to choose among: how to choose, the threshold in use, the sweep around it.

    What is compared is computed once for all rows; no row says anything about another in it.
    """
    if wanted.method in ("none", "every_n"):
        return lambda rows: (None, None, _nothing)
    if wanted.method == "copies":
        found = copies.pairs(store, threshold=wanted.threshold)

        def of_copies(rows: np.ndarray) -> Chosen:
            near = found.rename(columns={"remainder": "distance"})
            place = pd.Series(np.arange(len(rows)), index=rows)
            near = near[near["row_a"].isin(rows) & near["row_b"].isin(rows)]
            near = near.assign(row_a=place[near["row_a"]].to_numpy(), row_b=place[near["row_b"]].to_numpy())
            by_pair = functools.partial(dedup.of_pairs, pairs=near)
            return lambda rows, groups, order: by_pair(len(rows), groups=groups, order=order), None, _nothing

        return of_copies
    values = _values(store, wanted, compute)

    def among(rows: np.ndarray) -> Chosen:
        groups, order = dedup.arrange(
            store.table.iloc[rows], scope=wanted.scope, keeper=wanted.keeper, published=wanted.published
        )
        choose = functools.partial(
            methods.choose,
            wanted.method,
            groups=groups,
            order=order,
            executor=compute.executor,
            workers=compute.workers,
            address=compute.address,
        )
        keep = functools.lru_cache(maxsize=None)(lambda threshold: choose(values[rows], threshold=threshold))
        threshold = methods.METHODS[wanted.method].threshold if wanted.threshold is None else wanted.threshold
        if wanted.keep_ratio is not None:
            threshold = methods.calibrate(wanted.method, wanted.keep_ratio, keep)
        sweep = functools.partial(methods.sweep, wanted.method, threshold, keep)
        return lambda rows, groups, order: keep(threshold), threshold, sweep

    return among


def _values(store: Store, wanted: config.Dedup, compute: config.Compute) -> np.ndarray:
    """Return what is compared of each sample: embeddings or signatures."""
    if wanted.encoder is not None:  # the others need not wait for torch
        from medssl import hub
        from medssl.models.embed import device_of, embed_samples

        encoder, device = hub.load_encoder(wanted.encoder), device_of(compute.accelerator)
        scaled = store.scaled_by(encoder.scale)
        return embed_samples(encoder.module, scaled, device=device, progress=compute.progress)
    return methods.signatures(wanted.method, store, published=wanted.published, progress=compute.progress)


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/dedup.parquet``, counts, and for people ``data/flow/<key>-dedup.html`` and a gallery.

    Where samples of several patients meet, or a threshold is fitted to them, the choice is made among training patients
    alone: once for the fixed split and once for each fold, in columns such as ``kept@0``. Otherwise one choice holds
    for all, as no patient has a part in another's.
    """
    cohort: config.Cohort = config.part(params, "modalities", key)
    wanted = cohort.dedup
    # As it is stored: no scale of the fixed split's training patients, whom folds test, has a part in receipts.
    store = open_store(stage.store_of(key), stage.DATA / key / "split.parquet").scaled_by(1.0)
    with tracking.stage_run(params.tracking, f"dedup@{key}", modality=key, data_hash=store.content_hash) as run:
        run.params(wanted.model_dump(mode="json"))
        options = wanted.model_dump(exclude={"threshold", "keep_ratio", "encoder"})
        among, original = chooser(store, wanted, params.compute), dedup.originals(store.table)

        def chosen(part: str) -> tuple[pd.DataFrame, float | None, Callable[[], pd.DataFrame]]:
            here = original & (store.table[part] == "train").to_numpy() if wanted.fitted() else original
            choose, threshold, sweep = among(np.flatnonzero(here))
            return dedup.receipts(store.table, choose, among=here, **options), threshold, sweep

        receipts, threshold, sweep = chosen("split")
        shown = receipts
        for part in tables.folds(store.table) if wanted.fitted() else ():
            fold = chosen(part)[0].drop(columns="sample_id")
            receipts = receipts.join(fold.add_suffix(part.removeprefix("split")))
        write_parquet(receipts, stage.DATA / key / "dedup.parquet")
        gallery, page = stage.flow_file(key, "duplicates.png"), stage.flow_file(key, "dedup.html")
        gallery.parent.mkdir(parents=True, exist_ok=True)
        unit = methods.METHODS[wanted.method].unit if wanted.method in methods.METHODS else "share unexplained"
        plots.duplicates(store, shown, unit=unit).savefig(gallery, dpi=100)
        page.write_text(
            redundancy.render(key, store, shown, sweep=sweep(), method=wanted.method, threshold=threshold, unit=unit)
        )
        removed = receipts["method"].value_counts().to_dict()
        near = int(sum(n for method, n in removed.items() if method not in ("", "exact")))
        flow = json.loads(stage.flow_file(key, "split.json").read_text()) | {
            "cohort": key,
            "source": cohort.source.name,
            "samples": len(store),
            "patients": int(store.table["patient"].nunique()),
            "rejects": store.rejects["reason"].value_counts().sort_index().to_dict(),
            "costs": [vars(cost) for cost in costs.of_store(store.table, store.rejects, cohort.ingest)],
            "exact": removed.get("exact", 0),
            "near": near,
            "kept": int(receipts["kept"].sum()),
            "data_hash": store.content_hash,
        }
        stage.flow_file(key, "counts.json").write_text(json.dumps(flow, indent=1) + "\n")
        run.metrics(
            {
                "dedup/all/kept": int(receipts["kept"].sum()),
                "dedup/all/keep_ratio": float(receipts["kept"].mean()),
                "dedup/all/exact": removed.get("exact", 0),
                "dedup/all/near": near,
                **({} if threshold is None else {"dedup/all/threshold": threshold}),
            }
        )
        run.artifact(gallery)
        run.artifact(page)
    print(
        f"{key}: kept {int(receipts['kept'].sum())} of {len(receipts)}; "
        f"{removed.get('exact', 0)} exact copies, {near} removed by {wanted.method}"
    )


if __name__ == "__main__":
    stage.main(work, __doc__)
