"""Store -> receipts: which samples are kept, and which one stands for each removed one."""

import functools

import numpy as np
import pandas as pd

from medssl import config, hub, tracking
from medssl.curate import copies, dedup, methods
from medssl.models.embed import device_of, embed_samples
from medssl.report import plots, redundancy
from medssl.store import Store, open_store, write_parquet
from pipeline import stage


def chooser(
    store: Store, wanted: config.Dedup, compute: config.Compute
) -> tuple[dedup.Choice | None, float | None, pd.DataFrame]:
    """Return how to choose, the threshold in use and the sweep around it."""
    nothing = pd.DataFrame({"threshold": [], "keep_ratio": []})
    if wanted.method in ("none", "every_n"):
        return None, None, nothing
    rows = np.flatnonzero(dedup.originals(store.table))
    groups, order = dedup.arrange(
        store.table.iloc[rows], scope=wanted.scope, keeper=wanted.keeper, published=wanted.published
    )
    if wanted.method == "copies":
        found = copies.pairs(store, threshold=wanted.threshold).rename(columns={"remainder": "distance"})
        place = pd.Series(np.arange(len(rows)), index=rows)
        found = found[found["row_a"].isin(rows) & found["row_b"].isin(rows)]
        found = found.assign(row_a=place[found["row_a"]].to_numpy(), row_b=place[found["row_b"]].to_numpy())
        return lambda rows, groups, order: dedup.of_pairs(len(rows), found, groups=groups, order=order), None, nothing
    if wanted.encoder is not None:
        module, device = hub.load_encoder(wanted.encoder).module, device_of(compute.accelerator)
        values = embed_samples(module, store, device=device, progress=compute.progress)
    else:
        values = methods.signatures(wanted.method, store, published=wanted.published, progress=compute.progress)
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
    return lambda rows, groups, order: keep(threshold), threshold, methods.sweep(wanted.method, threshold, keep)


def work(params: config.Params, key: str) -> None:
    """Write ``data/<key>/dedup.parquet``, and for people ``data/flow/<key>-dedup.html`` and a gallery."""
    wanted: config.Dedup = config.part(params, "modalities", key).dedup
    store = open_store(stage.store_of(key))
    with tracking.stage_run(params.tracking, f"dedup@{key}", modality=key, data_hash=store.content_hash) as run:
        run.params(wanted.model_dump(mode="json"))
        choose, threshold, sweep = chooser(store, wanted, params.compute)
        receipts = dedup.receipts(
            store.table, choose, **wanted.model_dump(exclude={"threshold", "keep_ratio", "encoder"})
        )
        write_parquet(receipts, stage.DATA / key / "dedup.parquet")
        gallery, page = stage.flow_file(key, "duplicates.png"), stage.flow_file(key, "dedup.html")
        gallery.parent.mkdir(parents=True, exist_ok=True)
        unit = methods.METHODS[wanted.method].unit if wanted.method in methods.METHODS else "share unexplained"
        plots.duplicates(store, receipts, unit=unit).savefig(gallery, dpi=100)
        page.write_text(
            redundancy.render(key, store, receipts, sweep=sweep, method=wanted.method, threshold=threshold, unit=unit)
        )
        removed = receipts["method"].value_counts().to_dict()
        near = int(sum(n for method, n in removed.items() if method not in ("", "exact")))
        run.metrics(
            {
                "dedup/kept": int(receipts["kept"].sum()),
                "dedup/keep_ratio": float(receipts["kept"].mean()),
                "dedup/exact": removed.get("exact", 0),
                "dedup/near": near,
                **({} if threshold is None else {"dedup/threshold": threshold}),
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
