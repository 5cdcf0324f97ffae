"""Small pictures of samples within a bound on their bytes: traces as 8-bit polylines, slices as tiles of JPEGs."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from medssl.store import Store

BYTES = 14_000_000  # of all pictures, before they become text, which takes a third more
CHANNELS = 3  # drawn of a signal, spread evenly over those it has
POINTS = 512  # of a channel at most: two for each pixel of the widest picture
SIDE = 96  # of a slice at most, in pixels
TILES = 10  # of slices on a side of one JPEG
JPEG_SHARE = 0.4  # bytes that a pixel takes: the most that was measured of noise-like slices


@dataclass(frozen=True)
class Pictures:
    """What a page needs to draw sample ``i``: ``facts`` say how, ``blobs`` are its bytes.

    Traces: blob ``traces`` uint8 (n, C, P), blob ``spans`` float32 (n,), what 255 steps are in the unit.
    Slices: JPEGs ``tiles0``, ``tiles1`` ... of 10 x 10 samples each, row by row.
    """

    kind: str  # traces | slices
    words: str  # what they are, for the head of the page
    facts: dict[str, Any]
    blobs: dict[str, bytes]


def draw(store: Store, rows: np.ndarray, *, progress: bool = False) -> Pictures:
    """Draw samples at ``rows`` of a store's table, in that order; the store is read in blocks."""
    return (_traces if len(store.facts["shape"]) == 2 else _slices)(store, rows, progress)


def _read(store: Store, rows: np.ndarray, progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give positions in ``rows`` and their samples, block by block, in the order in which they lie on the disk."""
    order, size = np.argsort(rows), len(store.blocks()[0])
    for start in tqdm(range(0, len(rows), size), "pictures", disable=not progress, delay=5, unit="block"):
        where = order[start : start + size]
        yield where, np.nan_to_num(store.read(rows[where]), copy=False)


def _traces(store: Store, rows: np.ndarray, progress: bool) -> Pictures:
    channels, steps = store.facts["shape"]
    chosen = np.unique(np.linspace(0, channels - 1, CHANNELS).round().astype(int))
    points = min(POINTS, BYTES // (len(rows) * len(chosen))) // 2 * 2
    length = min(steps, points)
    codes, spans = np.empty((len(rows), len(chosen), length), np.uint8), np.empty(len(rows), np.float32)
    for where, x in _read(store, rows, progress):
        codes[where], spans[where] = quantised(decimated(x[:, chosen], points))
    params, first = store.facts.get("params", {}), store.table.iloc[0]
    names = [str(first["channels"][c]) for c in chosen]
    facts = {
        "channels": names,
        "points": length,
        "seconds": float(steps / first["rate_hz"]),
        "unit": store.facts["unit"] if params.get("normalise") == "none" else "SD",
    }
    words = f"traces ({', '.join(names)}; {len(names)} of {channels} channels)"
    return Pictures("traces", words, facts, {"traces": codes.tobytes(), "spans": spans.tobytes()})


def decimated(x: np.ndarray, points: int) -> np.ndarray:
    """Return signals (..., T) as at most ``points`` (even) values (..., P) that show every peak.

    A stretch becomes its lowest and highest value, in the order in which they come.
    """
    steps = x.shape[-1]
    if steps <= points:
        return x
    edges = np.linspace(0, steps, points // 2 + 1).astype(int)
    out = np.empty((*x.shape[:-1], points), x.dtype)
    for k, (start, stop) in enumerate(itertools.pairwise(edges)):
        part = x[..., start:stop]
        low, high = part.min(-1), part.max(-1)
        falls = part.argmax(-1) < part.argmin(-1)
        out[..., 2 * k], out[..., 2 * k + 1] = np.where(falls, high, low), np.where(falls, low, high)
    return out


def quantised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return signals (n, C, P) as uint8, and what 255 steps are (n,).

    A channel is moved by its median, so that offsets do not flatten it; all channels of a sample share one scale.
    """
    x = x - np.median(x, axis=-1, keepdims=True)
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    span = np.maximum(high - low, 1e-12)
    return np.rint((x - low) / span * 255).astype(np.uint8), (high - low)[:, 0, 0]


def _slices(store: Store, rows: np.ndarray, progress: bool) -> Pictures:
    *depth, height, width = store.facts["shape"][1:]
    side = int(min(SIDE, max(height, width), math.sqrt(BYTES / (JPEG_SHARE * len(rows)))))
    shrink = side / max(height, width)
    high, wide = max(1, round(height * shrink)), max(1, round(width * shrink))
    fixed = store.facts.get("params", {}).get("normalise") == "range"  # black is 0 and white 1 in all of them
    small = np.empty((len(rows), high, wide), np.uint8)
    for where, x in _read(store, rows, progress):
        planes = x[:, 0, x.shape[2] // 2] if depth else x[:, 0]
        for i, plane in zip(where, planes, strict=True):
            low, top = (0.0, 1.0) if fixed else (float(plane.min()), float(plane.max()))
            grey = Image.fromarray(np.clip((plane - low) / max(top - low, 1e-12), 0, 1).astype(np.float32))
            small[i] = np.rint(255 * np.asarray(grey.resize((wide, high), Image.Resampling.BOX)))
    blobs = {}
    for start in range(0, len(rows), TILES**2):
        part = small[start : start + TILES**2]
        sheet = np.zeros((TILES**2, high, wide), np.uint8)
        sheet[: len(part)] = part
        sheet = sheet.reshape(TILES, TILES, high, wide).swapaxes(1, 2).reshape(TILES * high, TILES * wide)
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=80)
        blobs[f"tiles{start // TILES**2}"] = file.getvalue()
    words = "middle slices" if depth else "slices"
    return Pictures("slices", words, {"height": high, "width": wide, "tiles": TILES}, blobs)
