"""What an encoder asks of its input, and arrays that a caller has as recordings that can be cut by it.

A contract is the ``ingest`` section that the encoder's samples were cut by, limits on quality included, with what a
reader wants to know besides. So `medssl.ingest.cut.pieces` makes the samples of training and those of an encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.config import SignalIngest, VolumeIngest
from medssl.sources.record import BadRecord, Signal, Volume

# What the stores and encoders of earlier versions, which do not say, were made with.
SIGNAL_OPTIONS: dict[str, Any] = {
    "cut": "windows", "absent": "refuse", "notch_hz": None, "max_flat": 0.9, "max_clipped": None,
    "max_out_of_range": None, "max_line_noise": None,
}  # fmt: skip
IMAGE_OPTIONS: dict[str, Any] = {"crop": None, "normalise": "range", "overlap": 0.0, "max_blank": None}


def contract_of(facts: Mapping[str, Any], embedding_dim: int) -> dict[str, Any]:
    """Return the input contract from a store's facts: what an input must be, and how it is prepared."""
    params = facts["params"]
    contract: dict[str, Any] = {"modality": facts["modality"], "unit": facts["unit"], "embedding_dim": embedding_dim}
    if "rate_hz" in params:
        keys = ("channels", "rate_hz", "window_s", "band_hz", "normalise", "max_missing")
        contract |= {k: params[k] for k in keys}
        contract |= {k: params.get(k, usual) for k, usual in SIGNAL_OPTIONS.items()}
        contract["normalisation"] = contract.pop("normalise")
    else:
        contract |= {k: params[k] for k in ("samples", "size", "spacing_mm", "hu_window")}
        contract |= {k: params.get(k, usual) for k, usual in IMAGE_OPTIONS.items()}
        contract["channels"] = [facts["unit"]]
        contract["normalisation"] = "hu_window" if params["hu_window"] else "percentile 1-99.5"
        if contract["normalise"] == "zscore":
            contract["normalisation"] += ", then zscore of the body, 3 SD to 0 and 1"
    return contract


def differences(contract: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return in what the samples of a store are not as a contract has them; limits decide which, not how, they are."""
    expected = contract_of(facts, contract["embedding_dim"])
    return [k for k in expected if not k.startswith("max_") and expected[k] != contract.get(k)]


def params_of(contract: Mapping[str, Any]) -> SignalIngest | VolumeIngest:
    """Return how a contract cuts its input, windows end to end."""
    if "rate_hz" in contract:
        keys = ("channels", "rate_hz", "unit", "window_s", "band_hz", "max_missing", *SIGNAL_OPTIONS)
        return SignalIngest(**{k: contract[k] for k in keys}, normalise=contract["normalisation"])
    keys = ("samples", "size", "spacing_mm", "hu_window", "unit", *IMAGE_OPTIONS)
    return VolumeIngest(**{k: contract[k] for k in keys})


def signals_of(
    x: Any, contract: Mapping[str, Any], *, rate_hz: Any, channels: Sequence[str] | None, unit: str | None
) -> list[Signal]:
    """Return the recordings in ``x``: (C, T), (N, C, T), or a list of (C, T) of any lengths; masked values are NaN.

    Raises:
        BadRecord: one sentence about what is not as it must be.
    """
    if rate_hz is None or channels is None:
        raise BadRecord(
            "incomplete",
            f"rate_hz and channels of the input are needed (contract: {contract['rate_hz']:g} Hz, channels "
            f"{list(contract['channels'])})",
        )
    if isinstance(rate_hz, str) or not math.isfinite(number := _number(rate_hz)) or number <= 0:
        raise BadRecord("no_rate", f"rate_hz is {rate_hz!r}; give a positive number in Hz, such as 500")
    if isinstance(channels, str) or not all(isinstance(name, str) for name in channels):
        raise BadRecord("missing_channel", "channels is not a list of names, one for each row of the input")
    given = arrays(x, 2)
    for values in given:
        if values.ndim != 2:
            raise BadRecord(
                "shape", f"signal of shape {values.shape}; expected (C, T) or (N, C, T), or a list of (C, T)"
            )
        if len(values) != len(channels):
            raise BadRecord("shape", f"{len(values)} rows but {len(channels)} channel names; rows are channels")
    return [Signal(values, number, tuple(channels), unit or contract["unit"]) for values in given]


def volumes_of(x: Any, contract: Mapping[str, Any], *, spacing_mm: Any, unit: str | None) -> list[Volume]:
    """Return the volumes in ``x``: (D, H, W), (N, D, H, W) or a list; for slices (H, W), or (N, H, W) of one volume.

    Raises:
        BadRecord: one sentence about what is not as it must be.
    """
    dims = len(contract["size"])
    if contract["spacing_mm"] and spacing_mm is None:
        raise BadRecord("no_spacing", "spacing_mm of the input is needed, one number per axis")
    spacing = (float("nan"),) * dims
    if spacing_mm is not None:
        spacing = tuple(map(_number, np.ravel(np.asarray(spacing_mm, dtype=object))))
        if len(spacing) != dims or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
            raise BadRecord("no_spacing", f"spacing_mm {spacing_mm!r}; expected {dims} numbers above 0, one per axis")
    if dims == 3:
        given = arrays(x, 3)
    else:  # slices of one call are of one volume: an intensity scale without a window is theirs together
        slices = _array(x, 2)
        given = [slices[None] if slices.ndim == 2 else slices]
    for values in given:
        if values.ndim != 3:
            axes = "(D, H, W) or (N, D, H, W)" if dims == 3 else "(H, W) or (N, H, W)"
            raise BadRecord("shape", f"image of shape {values.shape}; expected {axes}")
        if not values.size:
            raise BadRecord("no_samples", f"image of shape {values.shape} holds no pixel")
    full = (spacing if dims == 3 else (float("nan"), *spacing))[:3]
    return [Volume(values, full, unit or contract["unit"]) for values in given]  # type: ignore[arg-type]


def arrays(x: Any, axes: int) -> list[np.ndarray]:
    """Return what a caller has as float32 arrays of ``axes`` axes each, one a recording; NaN where a value is masked.

    Raises:
        BadRecord: it is no array of real numbers.
    """
    if isinstance(x, list | tuple) and x and all(getattr(part, "ndim", 0) == axes for part in x):
        return [_array(part, axes) for part in x]
    given = _array(x, axes)
    return list(given) if given.ndim == axes + 1 else [given]


def _array(x: Any, axes: int) -> np.ndarray:
    if hasattr(x, "detach"):  # a tensor, whatever its device
        x = x.detach().cpu().numpy()
    masked = isinstance(x, list | tuple) and any(isinstance(part, np.ma.MaskedArray) for part in x)
    try:
        given = np.ma.stack(x) if masked else np.asanyarray(x)
    except ValueError:
        raise BadRecord("shape", f"lists of different lengths; give a list of arrays of {axes} axes each") from None
    if given.dtype.kind == "c":
        raise BadRecord("unreadable", "the input holds complex numbers; take their real part or their size")
    if given.dtype.kind not in "biuf":
        raise BadRecord("unreadable", "the input holds something else than numbers")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which counts as missing
        return np.asarray(np.ma.filled(given.astype(np.float32), np.nan))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
