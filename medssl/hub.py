"""The Encoder folder: save, verify, load, embed.

It holds ``config.json``, ``model.safetensors``, ``card.md`` and ``checksums.json``.

The folder is the whole truth: architecture, weights and the input contract. Nothing in it is pickled, and every file
is checked against its SHA-256 before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medssl.ingest import signals, volumes
from medssl.models import build
from medssl.sources.record import BadRecord, Signal, Volume

FORMAT = 1
FILES = ("config.json", "model.safetensors", "card.md")
# What the stores and encoders of earlier versions, which do not say, were made with.
SIGNAL_OPTIONS: dict[str, Any] = {"cut": "windows", "absent": "refuse", "notch_hz": None}
IMAGE_OPTIONS: dict[str, Any] = {"crop": None, "normalise": "range", "overlap": 0.0}


class EncoderError(ValueError):
    """An encoder folder that is missing, damaged or of another format, or an input that breaks its contract."""


def contract_of(facts: dict[str, Any], embedding_dim: int) -> dict[str, Any]:
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


def save_encoder(
    folder: str | Path,
    module: nn.Module,
    *,
    architecture: dict[str, Any],
    contract: dict[str, Any],
    provenance: dict[str, Any],
    card: str,
) -> Path:
    """Write an encoder folder in one step.

    Args:
        folder: written anew; an old one is replaced.
        module: the encoder.
        architecture: keyword arguments of `medssl.models.build`.
        contract: see `contract_of`.
        provenance: recipe, parameters, data hash and whatever else tells where it came from; no identifiers.
        card: model card, Markdown.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        config = {"format": FORMAT, "architecture": architecture, "contract": contract, "provenance": provenance}
        (temporary / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
        save_file(weights, str(temporary / "model.safetensors"))
        (temporary / "card.md").write_text(card)
        _write_checksums(temporary)
        temporary.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_checksums(folder: Path) -> None:
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / "checksums.json").write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")


def verify(folder: str | Path) -> None:
    """Refuse a folder that is not a whole, unchanged encoder.

    Raises:
        EncoderError: a file is absent or differs from its checksum.
    """
    folder = Path(folder)
    absent = [name for name in (*FILES, "checksums.json") if not (folder / name).is_file()]
    if absent:
        raise EncoderError(f"{folder}: not an encoder folder, {', '.join(absent)} missing")
    try:
        sums = json.loads((folder / "checksums.json").read_text())
    except ValueError:
        raise EncoderError(f"{folder}/checksums.json: not JSON; get the folder again from its source") from None
    for name in FILES:
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sums.get(name):
            raise EncoderError(f"{folder}/{name}: differs from its checksum; get the folder again from its source")


class Encoder:
    """A frozen encoder with its input contract. Made by `load_encoder`.

    Attributes:
        module: ``torch.nn.Module`` in eval mode, (B, C, ...) -> (B, embedding_dim), on prepared samples.
        contract: what an input must be and how it is prepared.
        config: the whole ``config.json``.
    """

    def __init__(self, folder: Path, config: dict[str, Any], module: nn.Module) -> None:
        self.folder, self.config, self.module = folder, config, module
        usual = SIGNAL_OPTIONS if "rate_hz" in config["contract"] else IMAGE_OPTIONS
        self.contract: dict[str, Any] = {**usual, **config["contract"]}

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.folder / "card.md").read_text()

    def embed(
        self,
        x: np.ndarray,
        *,
        rate_hz: float | None = None,
        channels: Sequence[str] | None = None,
        spacing_mm: Sequence[float] | None = None,
        unit: str | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Return embeddings float32 (N, embedding_dim) of raw recordings or images, one row each.

        Signals are re-ordered, converted, resampled, filtered, cut into windows and scaled as the training data was;
        the embeddings of a recording's windows are averaged. Images are respaced, cropped and scaled likewise.

        Args:
            x: signals (N, C, T) or (C, T), T at least one window; slices (H, W), or (N, H, W) of one volume; volumes
                (N, D, H, W) or (D, H, W), axes to superior, posterior, left.
            rate_hz: sampling rate of ``x``; needed for signals.
            channels: names of the C channels; needed for signals, extra ones are ignored.
            spacing_mm: mm per axis of an image; needed where the contract has a spacing.
            unit: of ``x``; None: the contract's.
            batch_size: samples at a time.

        Raises:
            EncoderError: what is missing from the input, in one sentence. Nothing is padded in silence.
        """
        parts = self.prepare(x, rate_hz=rate_hz, channels=channels, spacing_mm=spacing_mm, unit=unit)
        z = self.encode(np.concatenate(parts), batch_size=batch_size)
        ends = np.cumsum([len(p) for p in parts])
        return np.stack([part.mean(0) for part in np.split(z, ends[:-1])])

    def prepare(
        self,
        x: np.ndarray,
        *,
        rate_hz: float | None = None,
        channels: Sequence[str] | None = None,
        spacing_mm: Sequence[float] | None = None,
        unit: str | None = None,
    ) -> list[np.ndarray]:
        """Return the samples (n, C, ...) that each recording, slice or volume of ``x`` becomes; as in `embed`."""
        x = np.asarray(x, dtype=np.float32)
        try:
            parts = (
                self._signals(x, rate_hz, channels, unit)
                if "rate_hz" in self.contract
                else self._images(x, spacing_mm, unit)
            )
        except BadRecord as bad:
            raise EncoderError(f"embed: {bad.detail} ({bad.reason})") from None
        if not parts:
            raise EncoderError(f"embed: input of shape {x.shape} holds nothing to embed")
        return parts

    def encode(self, samples: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
        """Return embeddings float32 (n, embedding_dim) of prepared samples (n, C, ...)."""
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            parts = [
                self.module(torch.from_numpy(samples[i : i + batch_size]).to(device)).float().cpu().numpy()
                for i in range(0, len(samples), batch_size)
            ]
        return np.concatenate(parts)

    def _signals(
        self, x: np.ndarray, rate_hz: float | None, channels: Sequence[str] | None, unit: str | None
    ) -> list[np.ndarray]:
        contract = self.contract
        if x.ndim not in (2, 3):
            raise EncoderError(f"embed: signal of shape {x.shape}; expected (C, T) or (N, C, T)")
        if rate_hz is None or channels is None:
            raise EncoderError(
                f"embed: rate_hz and channels of the input are needed (contract: {contract['rate_hz']:g} Hz, "
                f"channels {list(contract['channels'])})"
            )
        x = x[None] if x.ndim == 2 else x
        if x.shape[1] != len(channels):
            raise EncoderError(f"embed: {x.shape[1]} rows but {len(channels)} channel names")
        parts = []
        for values in x:
            windows, _ = signals.prepare(
                Signal(values, float(rate_hz), tuple(channels), unit or contract["unit"]),
                rate_hz=contract["rate_hz"],
                channels=tuple(contract["channels"]),
                unit=contract["unit"],
                window_s=contract["window_s"],
                max_missing=contract["max_missing"],
                band_hz=tuple(contract["band_hz"]) if contract["band_hz"] else None,
                modality=contract["modality"],
                **{k: contract[k] for k in SIGNAL_OPTIONS},
            )
            parts.append(signals.scale(windows, contract["normalisation"]))
        return parts

    def _images(self, x: np.ndarray, spacing_mm: Sequence[float] | None, unit: str | None) -> list[np.ndarray]:
        contract = self.contract
        dims = len(contract["size"])
        if x.ndim not in (dims, dims + 1):
            axes = "(D, H, W) or (N, D, H, W)" if dims == 3 else "(H, W) or (N, H, W)"
            raise EncoderError(f"embed: image of shape {x.shape}; expected {axes}")
        if contract["spacing_mm"] and spacing_mm is None:
            raise EncoderError("embed: spacing_mm of the input is needed, one number per axis")
        if spacing_mm is not None and len(spacing_mm) != dims:
            raise EncoderError(f"embed: spacing_mm {tuple(spacing_mm)}; expected {dims} numbers, one per axis")
        spacing = tuple(spacing_mm) if spacing_mm is not None else (float("nan"),) * dims
        full = spacing if dims == 3 else (float("nan"), *spacing)
        # Slices of one call are slices of one volume: an intensity scale without a window is theirs together.
        volumes_of = x[None] if x.ndim == 3 or dims == 2 else x
        if dims == 2 and x.ndim == 2:
            volumes_of = x[None, None]
        parts = [
            volumes.prepare(
                Volume(values, full, unit or contract["unit"]),  # type: ignore[arg-type]
                samples=contract["samples"],
                size=tuple(contract["size"]),
                hu_window=contract["hu_window"],
                spacing_mm=contract["spacing_mm"],
                unit=contract["unit"],
                **{k: contract[k] for k in IMAGE_OPTIONS},
            )
            for values in volumes_of
        ]
        return parts if dims == 3 else [sample[None] for part in parts for sample in part]


def load_encoder(reference: str | Path, *, device: str = "cpu") -> Encoder:
    """Load an encoder from a folder, ``runs:/ID/encoder`` or ``models:/NAME@alias``.

    Raises:
        EncoderError: see `verify`; or weights that do not fit the architecture.
    """
    text = str(reference)
    if text.startswith(("runs:/", "models:/")):
        from medssl import tracking

        folder = tracking.download(text)
    else:
        folder = Path(reference)
    verify(folder)
    config = json.loads((folder / "config.json").read_text())
    if config.get("format") != FORMAT:
        raise EncoderError(f"{folder}/config.json: format {config.get('format')}; this version reads {FORMAT}")
    module = build(**config["architecture"])
    try:
        module.load_state_dict(load_file(str(folder / "model.safetensors")), strict=True)
    except RuntimeError:
        raise EncoderError(f"{folder}/model.safetensors: weights do not fit the architecture in config.json") from None
    return Encoder(folder, config, module.eval().to(device))
