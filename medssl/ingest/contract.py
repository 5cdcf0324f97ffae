"""What an encoder asks of its input, and arrays that a caller has as recordings that can be cut by it.

A contract is the ``ingest`` section that the encoder's samples were cut by, limits on quality included, with what a
reader wants to know besides. So `medssl.ingest.cut.pieces` makes the samples of training and those of an encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, TypeVar

import numpy as np

from medssl.config import MODALITIES, SIGNALS, SignalIngest, VolumeIngest
from medssl.sources.record import BadRecord, Signal, Volume

Made = TypeVar("Made")
# What the stores and encoders of earlier versions, which do not say, were made with.
SIGNAL_OPTIONS: dict[str, Any] = {
    "cut": "windows", "absent": "refuse", "notch_hz": None, "max_flat": 0.9, "max_clipped": None,
    "max_out_of_range": None, "max_line_noise": None,
}  # fmt: skip
IMAGE_OPTIONS: dict[str, Any] = {"crop": None, "normalise": "range", "overlap": 0.0, "max_blank": None}


def contract_of(facts: Mapping[str, Any], embedding_dim: int, scale: float = 1.0) -> dict[str, Any]:
    """Return the input contract from a store's facts: what an input must be, and how it is prepared.

    ``scale`` is what the store's samples were divided by (`medssl.store.Store.scale`), for ``normalise: cohort`` alone.
    """
    params = facts["params"]
    contract: dict[str, Any] = {"modality": facts["modality"], "unit": facts["unit"], "embedding_dim": embedding_dim}
    if "rate_hz" in params:
        contract |= {k: params[k] for k in ("channels", "rate_hz", "window_s", "band_hz", "max_missing")}
        contract |= {k: params.get(k, usual) for k, usual in SIGNAL_OPTIONS.items()}
        contract["normalisation"] = params["normalise"]
        if params["normalise"] == "cohort":
            contract["scale"] = scale
    else:
        contract |= {k: params[k] for k in ("samples", "size", "spacing_mm", "hu_window")}
        contract |= {k: params.get(k, usual) for k, usual in IMAGE_OPTIONS.items()}
        contract["channels"] = [facts["unit"]]
        contract["normalisation"] = "hu_window" if params["hu_window"] else "percentile 1-99.5"
        if contract["normalise"] == "zscore":
            contract["normalisation"] += ", then zscore of the body, 3 SD to 0 and 1"
    return contract


def facts_of(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a store that meets a contract, or ``modality`` and the keys of an ``ingest`` section.

    Raises:
        ValueError: a modality that is none, or as `scale_of`.
        pydantic.ValidationError: a key that is absent or unknown, or a value out of range.
    """
    modality = contract.get("modality")
    if modality not in MODALITIES:
        raise ValueError(f"the contract's modality is {modality!r}; allowed: {', '.join(MODALITIES)}")
    said = {k: v for k, v in contract.items() if k not in ("modality", "embedding_dim")}
    if modality in SIGNALS:
        said = {"normalise" if k == "normalisation" else k: v for k, v in said.items()}
        if said.get("normalise") == "cohort":
            scale_of(contract)
            del said["scale"]
        params = SignalIngest(**said)
        shape = [len(params.channels), round(params.window_s * params.rate_hz)]
        return {"modality": modality, "unit": params.unit, "shape": shape, "params": params.model_dump(mode="json")}
    # Channels and normalisation of images are there for people alone.
    image = VolumeIngest(**{k: v for k, v in said.items() if k not in ("channels", "normalisation")})
    shape = [1, *image.size]
    return {"modality": modality, "unit": image.unit, "shape": shape, "params": image.model_dump(mode="json")}


def scale_of(contract: Mapping[str, Any]) -> float:
    """Return what samples that were prepared as a contract says are divided by: 1 except for ``normalise: cohort``.

    Raises:
        ValueError: a cohort's number that is absent, or not positive and finite.
    """
    if contract.get("normalisation", contract.get("normalise")) != "cohort":
        return 1.0
    value = contract.get("scale")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        asked = "normalise: cohort needs a positive finite number, in the contract's unit, that samples are divided by"
        raise ValueError(f"contract.scale is {value!r}; {asked}")
    return float(value)


def differences(contract: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return in what the samples of a store are not as a contract has them.

    Limits decide which they are, not how, and what a cohort is divided by is no part of what a store holds.
    """
    expected = contract_of(facts, contract["embedding_dim"])
    return [k for k in expected if not k.startswith("max_") and k != "scale" and expected[k] != contract.get(k)]


def params_of(contract: Mapping[str, Any]) -> SignalIngest | VolumeIngest:
    """Return how a contract cuts its input, windows end to end."""
    if "rate_hz" in contract:
        keys = ("channels", "rate_hz", "unit", "window_s", "band_hz", "max_missing", *SIGNAL_OPTIONS)
        return SignalIngest(**{k: contract[k] for k in keys}, normalise=contract["normalisation"])
    keys = ("samples", "size", "spacing_mm", "hu_window", "unit", *IMAGE_OPTIONS)
    return VolumeIngest(**{k: contract[k] for k in keys})


def signals_of(
    x: Any, contract: Mapping[str, Any], *, rate_hz: Any, channels: Iterable[str] | None, unit: str | None
) -> list[Signal | BadRecord]:
    """Return the recordings in ``x``: (C, T), (N, C, T), or a list of (C, T) of any lengths; masked values are NaN.

    One of several that is not as it must be is the `BadRecord` that says so.

    Raises:
        BadRecord: one sentence about what is not as it must be in all of them.
    """
    if rate_hz is None or channels is None:
        asked = f"contract: {contract['rate_hz']:g} Hz, channels {list(contract['channels'])}"
        raise BadRecord("incomplete", f"rate_hz and channels of the input are needed ({asked})")
    if isinstance(rate_hz, str) or not math.isfinite(number := _number(rate_hz)) or number <= 0:
        raise BadRecord("no_rate", f"rate_hz is {rate_hz!r}; give a positive number in Hz, such as 500")
    # A set has no order, and names are of rows by their order.
    names = () if isinstance(channels, str | Set) or not isinstance(channels, Iterable) else tuple(channels)
    if not names or not all(isinstance(name, str) for name in names):
        raise BadRecord("missing_channel", "channels is not a list of names, one for each row of the input, in order")
    own = _unit(unit, contract)

    def signal(values: np.ndarray) -> Signal:
        if values.ndim != 2:
            axes = "(C, T) or (N, C, T), or a list of (C, T)"
            raise BadRecord("shape", f"signal of shape {values.shape}; expected {axes}")
        if len(values) != len(names):
            raise BadRecord("shape", f"{len(values)} rows but {len(names)} channel names; rows are channels")
        return Signal(values, number, names, own)

    return [_tried(signal, values) for values in arrays(x, 2)]


def volumes_of(x: Any, contract: Mapping[str, Any], *, spacing_mm: Any, unit: str | None) -> list[Volume | BadRecord]:
    """Return the volumes in ``x``: (D, H, W), (N, D, H, W) or a list; for slices (H, W), or (N, H, W) of one volume.

    One of several that is not as it must be is the `BadRecord` that says so.

    Raises:
        BadRecord: one sentence about what is not as it must be in all of them.
    """
    dims = len(contract["size"])
    if contract["spacing_mm"] and spacing_mm is None:
        raise BadRecord("no_spacing", "spacing_mm of the input is needed, one number per axis")
    spacing = (float("nan"),) * dims
    if spacing_mm is not None:
        spacing = tuple(map(_number, np.ravel(np.asarray(spacing_mm, dtype=object))))
        if len(spacing) != dims or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
            raise BadRecord("no_spacing", f"spacing_mm {spacing_mm!r}; expected {dims} numbers above 0, one per axis")
    full = (spacing if dims == 3 else (float("nan"), *spacing))[:3]
    own = _unit(unit, contract)

    def volume(values: np.ndarray) -> Volume:
        if values.ndim != 3:
            axes = "(D, H, W) or (N, D, H, W)" if dims == 3 else "(H, W) or (N, H, W)"
            raise BadRecord("shape", f"image of shape {values.shape}; expected {axes}")
        if not values.size:
            raise BadRecord("no_samples", f"image of shape {values.shape} holds no pixel")
        return Volume(values, full, own)  # type: ignore[arg-type]

    return [_tried(volume, values) for values in (arrays(x, 3) if dims == 3 else [_slices(x)])]


def _slices(x: Any) -> np.ndarray:
    """Return (N, H, W): slices of one call are of one volume, and an intensity scale without a window is theirs all."""
    if not _listed(x, 2):
        given = _array(x, 2)
        return given[None] if given.ndim == 2 else given
    parts = arrays(x, 2)
    for k, part in enumerate(parts):
        if isinstance(part, BadRecord):
            raise BadRecord(part.reason, f"slice {k}: {part.detail}")
        if isinstance(first := parts[0], np.ndarray) and part.shape != first.shape:
            shapes = f"slice {k} is of shape {part.shape}, slice 0 of {first.shape}"
            raise BadRecord("shape", f"{shapes}; slices are of one volume")
    return np.stack(parts)  # type: ignore[arg-type]


def arrays(x: Any, axes: int) -> list[np.ndarray | BadRecord]:
    """Return what a caller has as float32 arrays of ``axes`` axes each, one a recording; NaN where a value is masked.

    In a list of recordings, one that is no array of real numbers is the `BadRecord` that says so.

    Raises:
        BadRecord: ``x`` is no list of recordings and no array of real numbers.
    """
    if _listed(x, axes):
        return [_tried(lambda part: _array(part, axes), part) for part in x]
    given = _array(x, axes)
    return list(given) if given.ndim == axes + 1 else [given]


def _listed(x: Any, axes: int) -> bool:
    """Tell whether ``x`` is a list of recordings of ``axes`` axes; one of them at least is of that many."""
    parts = x if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.dtype == object) else ()
    return any(_axes(part) >= axes for part in parts)


def _axes(part: Any) -> int:
    if isinstance(part, list | tuple):
        return 1 + (_axes(part[0]) if part else 0)
    return int(getattr(part, "ndim", 0))


def _tried(make: Callable[[Any], Made], given: Any) -> Made | BadRecord:
    """Return what ``make`` makes of one recording, or why it cannot."""
    try:
        return given if isinstance(given, BadRecord) else make(given)
    except BadRecord as bad:
        return bad


def _array(x: Any, axes: int) -> np.ndarray:
    try:
        given = _plain(x)
    except ValueError:
        raise BadRecord("shape", f"lists of different lengths; give a list of arrays of {axes} axes each") from None
    except (RuntimeError, TypeError) as error:
        raise BadRecord("unreadable", f"the input cannot become an array of numbers ({type(error).__name__})") from None
    if given.dtype.kind == "c":
        raise BadRecord("unreadable", "the input holds complex numbers; take their real part or their size")
    if given.dtype.kind not in "biuf":
        raise BadRecord("unreadable", "the input holds something else than numbers; convert it with astype(float)")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which counts as missing
        return np.asarray(np.ma.filled(given.astype(np.float32), np.nan))


def _plain(x: Any) -> np.ndarray:
    """Return tensors of any device, layout and precision, masked arrays, and lists of all these as one array."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().to_dense()
        return np.asarray(x if x.is_complex() else x.float())
    if isinstance(x, list | tuple) and x and (isinstance(x[0], list | tuple) or hasattr(x[0], "ndim")):
        return np.ma.stack([_plain(part) for part in x])
    return np.asanyarray(x)


def _unit(unit: Any, contract: Mapping[str, Any]) -> str:
    if unit is not None and not isinstance(unit, str):
        raise BadRecord("bad_unit", f"unit is {unit!r}; give a name, such as '{contract['unit']}'")
    return unit or contract["unit"]


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_):  # which Python takes for 1
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
