"""One self-contained page about what deduplication removed: shares kept by stratum, distances, pairs to look at.

Codes of patients and trials never reach the page; a shown pair is named by its sample ids.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from medssl.curate import aligned
from medssl.report.page import drawn, fill, inline
from medssl.report.strata import strata
from medssl.store import Store

KEPT, REMOVED, MARK = "#0b6e99", "#d1495b", "#1d2733"
PAIRS = 30  # shown at most
VALUES = 40  # of one stratum, shown at most
LEADS = 3  # of a signal, drawn at most
SIDE = 256  # pixels of a drawn plane, at most
FEW = 3  # kept samples: patients with fewer are counted
DIFFERENCE = 0.25  # share of the grey range at which a difference is drawn white


def render(
    name: str,
    store: Store,
    receipts: pd.DataFrame,
    *,
    sweep: pd.DataFrame,
    method: str,
    threshold: float | None,
    unit: str,
) -> str:
    """Return the page about the cohort ``name``.

    Args:
        store: samples before deduplication.
        receipts: ``sample_id, kept, duplicate_of, distance, method`` in the store's order.
        sweep: ``threshold, keep_ratio``; may be empty.
        threshold: largest distance of a duplicate, in ``unit``; None where the ``method`` has none.

    Raises:
        ValueError: receipts of other samples or in another order, or a keeper the store does not hold.
    """
    table = store.table
    if not np.array_equal(receipts["sample_id"].to_numpy(), table["sample_id"].to_numpy()):
        raise ValueError(f"{name}: receipts are not in the order of the store's samples; run deduplication again")
    kept = receipts["kept"].to_numpy(dtype=bool)
    removed = receipts[~kept]
    per_patient = pd.Series(kept).groupby(table["patient"].to_numpy()).sum().to_numpy()
    near = removed.loc[removed["duplicate_of"].notna() & (removed["method"] != "exact"), "distance"].to_numpy(float)
    ratio = kept.mean() if len(kept) else float("nan")
    apart = f"distance to the kept sample ({unit})"
    return fill(
        "medssl.report",
        "dedup.html.j2",
        name=name,
        modality=store.facts.get("modality", ""),
        method=method,
        threshold=threshold,
        unit=unit,
        samples=len(kept),
        kept=int(kept.sum()),
        ratio=float(ratio),
        removed=list(removed["method"].value_counts().sort_index().items()),
        strata=_sections(strata(table, kept), store.facts.get("anatomy_units", {})),
        most=VALUES,
        patients=_patients(per_patient),
        few=FEW,
        patient_picture=drawn(_histogram(per_patient, KEPT, xlabel="samples kept of a patient", ylabel="patients")),
        n_near=len(near),
        n_exact=int((removed["method"] == "exact").sum()),
        distance_picture=drawn(_histogram(near, REMOVED, threshold, xlabel=apart, ylabel="removed samples"))
        if len(near)
        else None,
        sweep_picture=drawn(_sweep(sweep, threshold, float(ratio), unit)) if len(sweep) else None,
        kind={2: "signal", 3: "image"}.get(len(store.facts["shape"]), "volume"),
        leads=LEADS,
        white=DIFFERENCE,
        colours={"kept": KEPT, "removed": REMOVED},
        pairs=_gallery(store, receipts),
    )


def _sections(counts: pd.DataFrame, units: dict[str, str]) -> list[dict[str, Any]]:
    """Group strata for the page: a title and rows each."""
    out = []
    for stratum, group in counts.groupby("stratum", sort=False):
        column = str(stratum)
        title = {"source": "Source", "index_in_trial": "Place in the trial"}.get(column, "")
        if column.startswith("label_"):
            title = f"Label: {column.removeprefix('label_')}"
        elif column.startswith("anat_"):
            measure = column.removeprefix("anat_")
            title = f"Anatomy: {measure}" + (f" ({units[measure]})" if units.get(measure) else "")
        rows = group[["value", "samples", "kept", "keep_ratio"]].to_dict("records")
        out.append({"title": title, "rows": rows[:VALUES], "more": max(0, len(rows) - VALUES)})
    return out


def _patients(kept: np.ndarray) -> dict[str, Any]:
    """Return the spread of samples kept per patient."""
    points = np.quantile(kept, [0, 0.25, 0.5, 0.75, 1]) if len(kept) else np.full(5, np.nan)
    return {
        "n": len(kept),
        "points": list(zip(("min", "lower quartile", "median", "upper quartile", "max"), points.tolist(), strict=True)),
        "few": int((kept < FEW).sum()),
        "without": int((kept == 0).sum()),
    }


def _bins(values: np.ndarray, most: int = 40) -> list[float]:
    """Return edges of bins, centred on whole numbers where all values are whole."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if (values == np.round(values)).all():
        step = max(1, int(np.ceil((high - low + 1) / most)))
        return list(np.arange(low - 0.5, high + 0.5 + step, step))
    return list(np.linspace(low, high, most + 1))


def _histogram(values: np.ndarray, colour: str, threshold: float | None = None, **labels: str) -> Figure:
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.hist(values, bins=_bins(values), color=colour, edgecolor="white", lw=0.4)
    if threshold is not None:
        axis.axvline(threshold, color=MARK, ls="--", label=f"threshold {threshold:g}")
        axis.legend(fontsize=8)
    axis.set(**labels)
    return figure


def _sweep(sweep: pd.DataFrame, threshold: float | None, ratio: float, unit: str) -> Figure:
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axis = figure.subplots()
    points = sweep.sort_values("threshold")
    axis.plot(points["threshold"], points["keep_ratio"], "o-", ms=3, color=KEPT)
    if threshold is not None:
        axis.axvline(threshold, color=MARK, ls="--", lw=1)
        axis.plot([threshold], [ratio], "D", color=REMOVED, label=f"in use: {threshold:g}, {ratio:.1%} kept")
        axis.legend(fontsize=8)
    axis.set(xlabel=f"threshold ({unit})", ylabel="share kept", ylim=(0, 1.03))
    return figure


def _shown(table: pd.DataFrame, receipts: pd.DataFrame) -> pd.DataFrame:
    """Choose pairs: the most distant first, equal distances spread over patients, exact copies last."""
    removed = receipts[receipts["duplicate_of"].notna()]
    keys = pd.DataFrame(
        {
            "exact": (removed["method"] == "exact").to_numpy(),
            "closeness": -removed["distance"].to_numpy(float),
            "patient": table.loc[receipts["duplicate_of"].notna().to_numpy(), "patient"].to_numpy(),
        }
    )
    turn = keys.groupby(["exact", "closeness", "patient"], dropna=False).cumcount().to_numpy()
    return removed.iloc[np.lexsort((turn, keys["closeness"], keys["exact"]))[:PAIRS]]


def _gallery(store: Store, receipts: pd.DataFrame) -> list[dict[str, Any]]:
    """Draw the shown pairs."""
    shown = _shown(store.table, receipts)
    ids = pd.Index(store.table["sample_id"])
    out = []
    for row in shown.to_dict("records"):
        one, other = ids.get_indexer([row["duplicate_of"], row["sample_id"]])
        if one < 0:
            raise ValueError(f"{row['duplicate_of']} stands for {row['sample_id']}, but the store does not hold it")
        keeper, copy = store[int(one)], store[int(other)]
        shift = ""
        if keeper.ndim == 2:
            facts = store.table.iloc[int(one)]
            steps, rate_hz = lag(keeper, copy), float(facts["rate_hz"])
            shift = f"{steps / rate_hz:+.3g} s"
            picture = drawn(_traces(keeper, copy, steps, rate_hz, list(facts["channels"])))
        else:
            picture = _planes(keeper, copy)
        out.append(
            {
                "kept": row["duplicate_of"],
                "removed": row["sample_id"],
                "distance": float(row["distance"]),
                "method": row["method"],
                "shift": shift,
                "picture": picture,
            }
        )
    return out


def lag(kept: np.ndarray, removed: np.ndarray) -> int:
    """Return by how many steps to delay ``removed`` (C, T) for the highest cross-correlation, summed over channels."""
    one, other = (np.nan_to_num(x - np.nanmean(x, axis=1, keepdims=True)) for x in (kept, removed))
    return -round(aligned.best(one, other)[1][0])


def _traces(kept: np.ndarray, removed: np.ndarray, shift: int, rate_hz: float, names: list[str]) -> Figure:
    """Overlay up to three leads of two signals (C, T)."""
    n = min(LEADS, len(kept))
    figure = Figure(figsize=(6, 0.5 + 0.8 * n))
    bottom = 0.42 / (0.5 + 0.8 * n)
    axis = figure.add_axes((0.08, bottom, 0.9, 0.97 - bottom))
    both = np.stack([kept[:n], removed[:n]])
    step = 1.1 * float(np.nanmax(np.nanmax(both, axis=(0, 2)) - np.nanmin(both, axis=(0, 2)))) or 1.0
    offsets = -step * np.arange(n)
    centre = np.nan_to_num(np.nanmean(kept[:n], axis=1))
    time, scale = np.arange(kept.shape[1]), 1 / rate_hz
    for lead in range(n):
        axis.plot(time * scale, kept[lead] - centre[lead] + offsets[lead], color=KEPT, lw=1.1)
        axis.plot((time + shift) * scale, removed[lead] - centre[lead] + offsets[lead], color=REMOVED, lw=0.7)
    axis.set_yticks(offsets, names[:n], fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("s", fontsize=7, labelpad=1)
    return figure


def _planes(kept: np.ndarray, removed: np.ndarray) -> str:
    """Draw kept, removed and their absolute difference side by side: the image, or three central planes of a volume."""
    pair = np.stack([kept[0], removed[0]]).astype(np.float64)
    low, high = float(np.nanmin(pair)), float(np.nanmax(pair))
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    pair = np.nan_to_num((pair - low) / (high - low or 1.0))
    panes = [*pair, np.minimum(np.abs(pair[0] - pair[1]) / DIFFERENCE, 1)]
    if kept.ndim == 3:
        lines = [panes]
    else:
        lines = [[pane.take(pane.shape[axis] // 2, axis=axis) for pane in panes] for axis in range(3)]
    lines = [[_shrink(pane) for pane in line] for line in lines]
    width = max(pane.shape[1] for line in lines for pane in line)
    strips = [np.hstack([np.pad(p, ((1, 1), (1, 1 + width - p.shape[1]))) for p in line]) for line in lines]
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * np.vstack(strips)).astype(np.uint8)).save(buffer, format="png")
    return inline(buffer.getvalue())


def _shrink(image: np.ndarray) -> np.ndarray:
    """Average blocks of pixels until no side is longer than ``SIDE``."""
    step = -(-max(image.shape) // SIDE)
    if step == 1:
        return image
    height, width = (max(1, n // step) for n in image.shape)
    padded = np.pad(
        image, [(0, max(0, step * n - m)) for n, m in zip((height, width), image.shape, strict=True)], "edge"
    )
    return padded[: height * step, : width * step].reshape(height, step, width, step).mean(axis=(1, 3))
