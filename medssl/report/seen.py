"""A picture of what the encoder sees: samples and their random views, as pretraining draws them.

Nothing but values reaches the picture: no id, no code of a patient, no label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from medssl.config import Run
from medssl.pretrain.data import training_rows
from medssl.pretrain.module import augmentation
from medssl.pretrain.recipes import RECIPES
from medssl.store import Store
from medssl.views import volumes
from medssl.views.draws import Draws

SAMPLES, VIEWS, CHANNELS = 3, 4, 3  # drawn at most
STEPS = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]  # lengths of a bar
VIEW, SAMPLE = "#0b6e99", "#b9c6d3"


def picture(store: Store, run: Run, *, seed: int) -> Figure:
    """Draw training samples of different patients, each with views of it in a row of one scale.

    Signals show up to three channels, views over the sample in grey; slices and volumes the middle slice, black to
    white the range from 0 to 1. Recipes that read small crops have two of them, stretched; others may read no view.

    Args:
        store: opened with its receipts and split.
        run: entry of ``runs`` with a recipe.
        seed: of the training; decides the samples and their views.
    """
    recipe, table = RECIPES[run.recipe], store.table
    rows = np.random.default_rng(seed).permutation(training_rows(table, run.pretrain.duplicates))
    rows = rows[~table["patient"].iloc[rows].duplicated().to_numpy()][:SAMPLES]
    assert run.encoder is not None
    crop = run.encoder.crop
    of = augmentation(recipe, run.pretrain, store.facts["modality"], crop)
    reads = recipe.views(run.pretrain.options)
    small = min(reads.small, VIEWS // 2)
    whole = VIEWS - small if reads.whole else 0
    x = torch.from_numpy(store.read(rows))
    views, _ = of.draw([x], Draws(torch.from_numpy(rows), seed=seed), whole, small)
    columns = [x.numpy(), *(view.numpy() for view in views)]
    titles = ["sample", *(f"view {k + 1}" for k in range(whole)), *(f"small crop {k + 1}" for k in range(small))]
    signals = x.ndim == 3
    wide, high = (2.6, 1.6) if signals else (max(0.8, 2.2 * x.shape[-1] / x.shape[-2]), 2.2)
    size = (0.7 * signals + wide * len(columns), (0.9 if signals else 0.5) + high * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for k, line in enumerate(axes):
        drawn = [column[k] for column in columns]
        if signals:
            _signals(line, drawn, store.facts, last=k == len(rows) - 1)
        else:
            black, white = (0, 1) if store.facts["params"]["normalise"] == "range" else (drawn[0].min(), drawn[0].max())
            for axis, image in zip(line, drawn, strict=True):
                axis.imshow(_plane(image), cmap="gray", vmin=black, vmax=white)
                axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    name = of.name if signals or of.name in volumes.PLANS else "default"
    said = f"views: {name}, strength {of.strength:g}"
    if signals:
        said += "; grey: the sample" if crop is None else f"; of crops of {crop / store.facts['params']['rate_hz']:g} s"
    figure.suptitle(said if views else "no random views", fontsize=10)
    return figure


def _signals(axes: Any, drawn: list[np.ndarray], facts: dict[str, Any], *, last: bool) -> None:
    """Draw a sample (C, T) and its views, channel below channel, at one scale, and how much a bar on the right is."""
    params, sample = facts["params"], drawn[0]
    chosen = np.unique(np.linspace(0, len(sample) - 1, CHANNELS).round().astype(int))
    highest = np.max([view[chosen].max(1) for view in drawn], 0)
    lowest = np.min([view[chosen].min(1) for view in drawn], 0)
    # Each channel begins where the one above it ends, but not so near that their names meet.
    zero = -np.cumsum(np.r_[0, np.maximum(highest[1:] - lowest[:-1], 0.3 * (highest - lowest).max())])
    span = max(highest[0] - lowest[-1] - zero[-1], 1e-6)
    seconds = sample.shape[1] / params["rate_hz"]
    for axis, view in zip(axes, drawn, strict=True):
        time = np.linspace(0, seconds, view.shape[1], endpoint=False)
        if view.shape == sample.shape and view is not sample:
            axis.plot(time, sample[chosen].T + zero, color=SAMPLE, lw=0.8)
        axis.plot(time, view[chosen].T + zero, color=VIEW, lw=0.8)
        axis.set(xlim=(0, seconds), ylim=(zero[-1] + lowest[-1] - 0.05 * span, highest[0] + 0.05 * span))
        axis.set_yticks(zero, [params["channels"][c] for c in chosen] if axis is axes[0] else [])
        axis.grid(axis="y", color="#dde4ea", lw=0.6)
        if view.shape != sample.shape:  # of a length that is not known here
            axis.set_xticks([])
        elif last:
            axis.set_xlabel("time (s)")
        else:
            axis.tick_params(labelbottom=False)
    bar = max(step for step in STEPS if step <= max(span / 3, STEPS[0]))
    bottom, beside = zero[-1] + lowest[-1], axes[-1].get_yaxis_transform()
    axes[-1].plot([1.03, 1.03], [bottom, bottom + bar], color="black", lw=1.5, transform=beside, clip_on=False)
    unit = facts["unit"] if params["normalise"] == "none" else "SD"
    axes[-1].text(1.06, bottom + bar / 2, f"{bar:g} {unit}", va="center", fontsize=9, transform=beside)


def _plane(image: np.ndarray) -> np.ndarray:
    """Return the slice (H, W) of (1, H, W), or the middle one of (1, D, H, W)."""
    return image[0] if image.ndim == 3 else image[0, image.shape[1] // 2]
