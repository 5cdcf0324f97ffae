"""Copies of raw recordings in another form, planted before preparation: what the study of copies looks for."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import signals
from medssl.ingest.signals import resample
from medssl.sources.record import Signal, Volume
from studies.sets import Held, Raw, Set, hold


def bits(values: np.ndarray, depth: int) -> np.ndarray:
    """Round to ``2**depth`` levels between the extremes of each channel or volume."""
    axis = 1 if values.ndim == 2 else None
    low, high = values.min(axis=axis, keepdims=True), values.max(axis=axis, keepdims=True)
    step = np.maximum(high - low, 1e-9) / (2**depth - 1)
    return (np.rint((values - low) / step) * step + low).astype(np.float32)


def noisy(values: np.ndarray, rng: np.random.Generator, decibel: float, spread: Any = None) -> np.ndarray:
    """Add white noise ``decibel`` below ``spread``, by default the standard deviation of the volume."""
    spread = values.std() if spread is None else spread
    return (values + spread * 10 ** (-decibel / 20) * rng.standard_normal(values.shape)).astype(np.float32)


def pressed(values: np.ndarray, spread: np.ndarray, lost: float) -> np.ndarray:
    """Drop the smallest cosine coefficients of blocks of 128 steps, a share ``lost`` of the energy (compression)."""
    length = values.shape[1]
    blocks = np.pad(values, ((0, 0), (0, -length % 128)), mode="edge").reshape(len(values), -1, 128)
    c = fft.dct(blocks, norm="ortho")
    order = np.sort(np.square(c[..., 1:]), axis=2)
    drop = (np.cumsum(order, axis=2) <= lost * 128 * np.square(spread)[..., None]).sum(axis=2, keepdims=True)
    least = np.take_along_axis(order, np.minimum(drop, order.shape[2] - 1), axis=2)
    c[..., 1:][np.square(c[..., 1:]) < least] = 0
    return fft.idct(c, norm="ortho").reshape(len(values), -1)[:, :length].astype(np.float32)


def jpeg(values: np.ndarray, quality: int) -> np.ndarray:
    """Each slice through JPEG."""
    low, high = values.min(), values.max()
    out = []
    for image in np.rint((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=quality)
        out.append(np.asarray(Image.open(buffer), dtype=np.float32))
    return (np.stack(out) / 255 * (high - low) + low).astype(np.float32)


def plant_signals(raws: list[Raw], wanted: Set, base: Held, rng: np.random.Generator) -> dict[str, Held]:
    """Return a store for each kind of copy: one window of each recording, changed before it was prepared."""
    ingest = wanted.ingest
    assert isinstance(ingest, SignalIngest)
    held = {record: rows.to_numpy() for record, rows in base.origin.groupby("record")["start"]}
    raws = [r._replace(draw=i) for r in raws if r.record in held for i in range(wanted.repeats)]
    chosen = {(r.record, r.draw): float(rng.choice(held[r.record])) for r in raws}

    def made(
        change: Callable[[np.ndarray, float], tuple[np.ndarray, float]],
        late: Callable[[Raw], float] | None = None,
        **other: Any,
    ) -> Held:
        out, only = [], dict[tuple[int, int], float]()
        for raw in raws:
            signal = raw.values
            assert isinstance(signal, Signal)
            values, start = signal.values[[signal.channels.index(c) for c in ingest.channels]], 0.0
            values = signals.fill_missing(values)
            values = values - np.median(values, axis=1, keepdims=True)  # resamplers ring on a large offset
            if late is not None:  # the copy's recording begins elsewhere, so its windows and its filter do too
                first = max(0, round((chosen[raw.record, raw.draw] + late(raw)) * signal.rate_hz))
                values, start = values[:, first:], first / signal.rate_hz
            only[raw.record, raw.draw] = start if late is not None else chosen[raw.record, raw.draw]
            values, rate_hz = change(values, signal.rate_hz)
            channels = ingest.channels
            out.append(Raw(raw.patient, raw.record, Signal(values, rate_hz, channels, signal.unit), start, raw.draw))
        return hold(out, wanted, ingest.model_copy(update=other), only)

    def room(raw: Raw, window_s: float) -> float:
        """Seconds that a window may move later; 40 % of it at most."""
        assert isinstance(raw.values, Signal)
        end = raw.values.values.shape[1] / raw.values.rate_hz
        return float(np.clip(end - chosen[raw.record, raw.draw] - window_s - 0.01, 0, 0.4 * window_s))

    def moved(raw: Raw) -> float:
        most = room(raw, ingest.window_s)
        if rng.random() < 0.5 or most < 0.02:
            back = min(chosen[raw.record, raw.draw], 0.4 * ingest.window_s)
            if back > most:
                return -float(rng.uniform(back / 4, back))
        return float(rng.uniform(most / 4, most))

    def lively(v: np.ndarray, r: float) -> np.ndarray:
        """Spread (C, 1) of an ordinary second within the band that the store keeps: a drift would hide any noise."""
        assert ingest.band_hz is not None
        kept, second = signals.band_pass(v, r, ingest.band_hz), round(r)
        seconds = kept[:, : v.shape[1] // second * second].reshape(len(v), -1, second)
        return np.median(seconds.std(axis=2), axis=1)[:, None]

    short = round(0.7 * ingest.window_s, 2)
    faster: dict[str, Any] = {"rate_hz": 1.28 * ingest.rate_hz}
    plants = {
        "copy": made(lambda v, r: (v, r)),
        "gain": made(lambda v, r: (0.37 * v + 0.2 * v.std(), r), normalise="none"),
        "rate": made(lambda v, r: (resample(v, r, 0.9 * r), 0.9 * r), **faster),
        "depth": made(lambda v, r: (bits(v, 10), r)),
        "shift": made(lambda v, r: (v, r), moved),
        "crop": made(lambda v, r: (v, r), lambda raw: rng.uniform(0, 0.3 * ingest.window_s), window_s=short),
        "window": made(lambda v, r: (v, r), band_hz=wanted.other),
        "noise": made(lambda v, r: (noisy(v, rng, 30, lively(v, r)), r)),
        "compress": made(lambda v, r: (pressed(v, lively(v, r), 0.001), r)),
        "all": made(
            lambda v, r: (noisy(bits(2 * resample(v, r, 0.9 * r), 12), rng, 30, 2 * lively(v, r)), 0.9 * r),
            moved,
            **faster,
        ),
    }
    return plants


def plant_images(raws: list[Raw], wanted: Set, rng: np.random.Generator) -> dict[str, Held]:
    """The same for slices and volumes."""
    ingest = wanted.ingest
    assert isinstance(ingest, VolumeIngest)
    flat = 1 if ingest.samples == "slices" else 0  # axes that are left alone

    def made(change: Callable[[Volume], Volume], **other: Any) -> Held:
        out = []
        for raw in raws * wanted.repeats:
            assert isinstance(raw.values, Volume)
            out.append(Raw(raw.patient, raw.record, change(raw.values)))
        return hold(out, wanted, ingest.model_copy(update=other))

    def of(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Volume], Volume]:
        return lambda v: replace(v, values=np.ascontiguousarray(change(v.values), dtype=np.float32))

    def shrunk(v: Volume) -> Volume:
        """Re-export at 70 % of the resolution."""
        factor = np.array([1.0] * flat + [0.7] * (3 - flat))
        small = ndimage.zoom(
            ndimage.gaussian_filter(v.values, [0] * flat + [0.4] * (3 - flat)), factor, order=1, grid_mode=True,
            mode="nearest",
        )  # fmt: skip
        spacing = np.array(v.spacing_mm) * np.array(v.values.shape) / np.array(small.shape)
        return Volume(small.astype(np.float32), tuple(spacing), v.unit)

    def shifted(x: np.ndarray) -> np.ndarray:
        by = [0] * flat + [round(s * n) for s, n in zip(rng.uniform(-0.1, 0.1, 3 - flat), x.shape[flat:], strict=True)]
        return ndimage.shift(x, by, order=0, mode="constant", cval=float(x.min()))

    def cropped(x: np.ndarray) -> np.ndarray:
        cut = [slice(None)] * flat
        for n in x.shape[flat:]:
            low, high = (round(e * n) for e in rng.uniform(0.0, 0.06, 2))
            cut.append(slice(low, n - high))
        return x[tuple(cut)]

    def clipped(x: np.ndarray) -> np.ndarray:
        low, high = np.quantile(x, wanted.other) if wanted.modality == "mri" else np.array(wanted.other) * x.max()
        return np.clip(x, low, high)

    size = tuple(round(n * 0.85) for n in ingest.size)
    coarser = {"size": size} if ingest.spacing_mm is None else {}
    window: dict[str, Any] = {"hu_window": wanted.other} if ingest.hu_window else {}
    same = of(lambda x: x)
    return {
        "copy": made(same),
        "gain": made(of(lambda x: x), hu_window=(-1200, 1400))
        if ingest.hu_window
        else made(of(lambda x: 0.37 * x + 11)),
        "rate": made(shrunk, **coarser),
        "depth": made(of(lambda x: bits(x, 6))),
        "shift": made(of(shifted)),
        "crop": made(of(cropped)),
        "window": made(same, **window) if window else made(of(clipped)),
        "noise": made(of(lambda x: noisy(x, rng, 20))),
        "compress": made(of(lambda x: jpeg(x, 40))),
        "all": made(lambda v: of(lambda x: noisy(jpeg(shifted(x), 70), rng, 26))(shrunk(v)), **coarser),
    }
