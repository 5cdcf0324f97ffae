"""Load an encoder folder (`medssl.hub.folder`) and embed with it; or with a torch module of other code in its place."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from medssl.config import SignalIngest, VolumeIngest, explain
from medssl.hub import foreign, places, shaped
from medssl.hub.folder import FORMAT, EncoderError, place, ready, save_encoder, verify
from medssl.ingest import contract as contracts
from medssl.ingest import cut
from medssl.ingest.contract import contract_of
from medssl.models import build, fresh
from medssl.models.embed import embed_at, stages
from medssl.sources.record import BadRecord, Signal, Volume

__all__ = ["Encoder", "EncoderError", "contract_of", "load_encoder", "ready", "save_encoder", "verify"]


class Encoder:
    """A frozen encoder with its input contract. Made by `load_encoder`.

    Attributes:
        module: ``torch.nn.Module`` in eval mode, (B, C, ...) -> (B, embedding_dim), on prepared samples.
        contract: what an input must be and how it is prepared.
        config: the whole ``config.json``.
        folder: where it lies; None for a module of other code.
    """

    def __init__(self, folder: Path | None, config: dict[str, Any], module: nn.Module) -> None:
        self.folder, self.config, self.module = folder, config, module
        signal = "rate_hz" in config["contract"]
        usual = contracts.SIGNAL_OPTIONS if signal else contracts.IMAGE_OPTIONS
        self.contract: dict[str, Any] = {**usual, **config["contract"]}

    @cached_property
    def params(self) -> SignalIngest | VolumeIngest:
        """The ``ingest`` section that cuts recordings as the contract says."""
        try:
            return contracts.params_of(self.contract)
        except (KeyError, ValidationError) as error:
            what = f"no '{error.args[0]}'" if isinstance(error, KeyError) else explain(error, "values it does not know")
            raise EncoderError(f"{self.folder}/config.json: this version cannot follow its contract: {what}") from None

    @property
    def scale(self) -> float:
        """What its samples are divided by, in the contract's unit; 1 except for ``normalise: cohort``."""
        return contracts.scale_of(self.contract)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return str(self.config["card"]) if self.folder is None else (self.folder / "card.md").read_text()

    def embed(
        self,
        x: Any,
        *,
        rate_hz: float | None = None,
        channels: Sequence[str] | None = None,
        spacing_mm: Sequence[float] | None = None,
        unit: str | None = None,
        dim: int | None = None,
        depth: str | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Return embeddings float32 (N, embedding_dim), or (N, dim), of raw recordings or images, one row each.

        Signals are re-ordered, converted, resampled, filtered, cut into windows and scaled as the training data was.
        Windows that the limits of training refuse (flat, missing ...) are left out, with a warning, and the embeddings
        of the others are averaged. Images are respaced, cropped and scaled likewise; a warning says what share of their
        voxels has no value. Of several recordings, one that cannot be used gives a row of NaN and a warning that says
        which, from 0 on, and why.

        Args:
            x: signals (N, C, T) or (C, T), T at least one window, or a list of (C, T) of any lengths; slices (H, W), or
                (N, H, W) of one volume; volumes (N, D, H, W) or (D, H, W), axes to superior, posterior, left. Arrays,
                masked arrays (NaN where masked) or tensors. Or an object of mne, braindecode or torchio, which says
                what is left out below (`medssl.hub.shaped.opened`).
            rate_hz: sampling rate of ``x``; needed for signals.
            channels: names of the C channels, in order; needed for signals, extra ones are ignored.
            spacing_mm: mm per axis of an image; needed where the contract has a spacing.
            unit: of ``x``; None: the contract's.
            dim: how many first numbers of the embedding, of `prefixes`, as rows of length 1. None: all, as they are.
            depth: an earlier stage, of `depths`, whose first ``dim`` numbers, or all if they are fewer, are returned.
            batch_size: samples at a time.

        Raises:
            EncoderError: what is missing from the input, or from all its recordings, in one sentence. Nothing is padded
                in silence.
        """
        self._serves(dim, depth)
        try:
            x, told = shaped.opened(x, unit=unit or self.contract["unit"])
            rate_hz = told.get("rate_hz") if rate_hz is None else rate_hz
            channels = told.get("channels") if channels is None else channels
            if spacing_mm is None and "spacing_mm" in told:  # of three axes; slices have the last two
                spacing_mm = told["spacing_mm"][-len(self.contract.get("size", "DHW")) :]
            unit = told.get("unit") if unit is None else unit
            if "rate_hz" in self.contract:
                raws: Sequence[Signal | Volume | BadRecord] = contracts.signals_of(
                    x, self.contract, rate_hz=rate_hz, channels=channels, unit=unit
                )
            else:
                raws = contracts.volumes_of(x, self.contract, spacing_mm=spacing_mm, unit=unit)
        except BadRecord as bad:
            raise EncoderError(f"embed: {bad.detail} ({bad.reason})") from None
        rows: list[np.ndarray] = []  # the samples of each row of the result
        said = []
        for number, raw in enumerate(raws):
            where = f"recording {number}: " if len(raws) > 1 else ""
            try:
                if isinstance(raw, BadRecord):
                    raise raw
                made = self.pieces(raw)
            except BadRecord as bad:
                rows.append(np.zeros(0))
                said.append(f"{where}{bad.detail} ({bad.reason})")
                continue
            kept = made.kept
            if self.contract.get("samples") == "slices":
                rows += [made.samples[i : i + (i in kept)] for i in range(len(made.samples))]
            else:
                rows.append(made.samples[kept])
            # That some patches hold nothing but background is how patches are.
            if not kept or (made.refused and self.contract.get("samples") != "patches"):
                said.append(where + made.told())
            if isinstance(made.raw, Volume) and (share := made.raw.notes.get("missing", 0.0)):
                said.append(f"{where}{share:.1%} of the voxels have no value and count as background")
        whole = [row for row in rows if len(row)]
        if not whole:
            raise EncoderError(f"embed: {'; '.join(said[:3]) or 'the input holds nothing to embed'}")
        z = self.encode(np.concatenate(whole), depth=depth, batch_size=batch_size)
        if said:
            more = f"; and {len(said) - 5} more" if len(said) > 5 else ""
            warnings.warn(f"embed: {'; '.join(said[:5])}{more}", stacklevel=2)
        out = np.full((len(rows), z.shape[1]), np.nan, dtype=np.float32)
        ends = np.cumsum([len(row) for row in whole])
        out[[len(row) > 0 for row in rows]] = [part.mean(0) for part in np.split(z, ends[:-1])]
        if dim is not None:
            out = out[:, :dim]
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write an encoder folder with the weights as they are now, and return it; an old one is replaced.

        Raises:
            EncoderError: a module of other code, which no architecture here can load; a folder with other files.
        """
        if "architecture" not in self.config:
            what = "a module of other code has no architecture of medssl to load it by"
            raise EncoderError(f"save_pretrained: {what}; keep its code, and load it as module:function")
        about = {key: self.config[key] for key in ("architecture", "contract", "provenance")}
        return save_encoder(folder, self.module, card=self.card, **about)

    @classmethod
    def from_pretrained(cls, reference: str | Path, revision: str | None = None, *, device: str = "cpu") -> Encoder:
        """Load an encoder as `load_encoder` does; ``ORG/NAME``, no folder here, is of the Hugging Face hub.

        Args:
            reference: as there.
            revision: branch, tag or commit on the hub; None: its main branch, or that of the reference.
            device: as there.
        """
        return load_encoder(places.pretrained(reference, revision), device=device)

    def push_to_hub(
        self,
        name: str,
        *,
        message: str = "Upload encoder",
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload the encoder folder to ``ORG/NAME`` of a Hugging Face hub, and return the URL of the commit.

        The card becomes the page of the model. The repository is made if it is not there.

        Args:
            name: ``ORG/NAME``.
            message: of the commit.
            private: whether a new repository is; None: as its organisation has it.
            token: of the hub; None: the one of `hf auth login`.
            revision: branch; None: main.

        Raises:
            EncoderError: as `save_pretrained`, or what the hub refuses.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / "encoder")
            return places.push(folder, name, message=message, private=private, token=token, revision=revision)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many first numbers of the embedding do by themselves, as they were trained to; often none."""
        about = self.config.get("provenance", {})
        given = about.get("pretrain", {}).get("options", {}) if about.get("recipe") == "matryoshka" else {}
        return tuple(sorted(given.get("prefixes", ())))

    @property
    def depths(self) -> tuple[str, ...]:
        """The stages before the last whose first numbers do by themselves, in order; often none."""
        return tuple(stages(self.module))[:-1] if self.prefixes else ()

    def _serves(self, dim: int | None, depth: str | None) -> None:
        """Refuse a prefix or a stage that was not trained to do by itself."""
        if dim is not None and dim not in self.prefixes:
            known = ", ".join(map(str, self.prefixes)) or "none; those of recipe matryoshka have some"
            raise EncoderError(f"embed: dim is {dim!r}; the prefixes that this encoder serves: {known}")
        if depth is not None and (depth not in self.depths or dim is None):
            known = ", ".join(self.depths) or "none; those of recipe matryoshka have some"
            raise EncoderError(f"embed: depth is {depth!r}; with a dim, the depths that this encoder serves: {known}")

    def untrained(self, seed: int) -> nn.Module:
        """Return the same network with weights as before any training."""
        if "architecture" in self.config:
            return build(**self.config["architecture"], seed=seed)
        return fresh(self.module, seed)

    def pieces(self, raw: Signal | Volume) -> cut.Pieces:
        """Return the samples that a recording becomes, as in ingest, and which of them the limits of training refuse.

        Raises:
            BadRecord: the recording does not meet the contract.
        """
        made = cut.pieces(raw, self.params, self.contract["modality"])
        return made if self.scale == 1 else replace(made, samples=made.samples / self.scale)

    def encode(self, samples: np.ndarray, *, depth: str | None = None, batch_size: int = 256) -> np.ndarray:
        """Return embeddings float32 (n, embedding_dim) of prepared samples (n, C, ...), or of a stage."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise EncoderError(f"embed: batch_size is {batch_size!r}; give a whole number above 0")
        device = next(self.module.parameters(), torch.empty(0)).device
        parts = []
        with torch.inference_mode():
            for i in range(0, len(samples), batch_size):
                x = torch.from_numpy(samples[i : i + batch_size]).to(device)
                z = self.module(x) if depth is None else embed_at(self.module, depth, x)[1]
                parts.append(z.float().cpu().numpy())
        return np.concatenate(parts)


def load_encoder(reference: str | Path, *, device: str = "cpu") -> Encoder:
    """Load an encoder by one of several references.

    A folder; the name of an encoder that comes with the package (`ready`), where no file or folder of that name is
    there; a place that `medssl.hub.places` fetches from: ``runs:/ID/encoder`` or ``models:/NAME@alias`` of MLflow,
    ``dvc:REPO@REV:PATH``, ``hf:ORG/NAME[@REV]``; ``module:function`` of other code.

    Such a function, in a module of the current folder or of an installed package, takes nothing and returns a torch
    module (B, C, ...) -> (B, d) with what its input must be: the keys of an ``ingest`` section and the ``modality``. It
    returns both, or a module with the attribute ``contract``::

        def encoder():  # in mine.py: load_encoder("mine:encoder")
            module = MyNetwork()
            module.load_state_dict(safetensors.torch.load_file("mine.safetensors"))
            about = {"modality": "ecg", "channels": ["I", "II"], "rate_hz": 500, "window_s": 10, "unit": "mV"}
            return module, {**about, "band_hz": [0.5, 40], "normalise": "channel"}

    Raises:
        EncoderError: see `verify` and `medssl.hub.places.fetched`; a name that nothing has; weights that do not fit the
            architecture; a contract of a cohort without the number that samples are divided by; or what is wrong with
            the other code.
    """
    text = str(reference)
    folder = None if Path(text).exists() else places.fetched(text)
    if folder is None:
        if ":" in text and "/" not in text and not Path(text).exists():
            return Encoder(None, *reversed(foreign.load(text, device)))
        folder = place(reference)
    verify(folder)
    config = json.loads((folder / "config.json").read_text())
    if config.get("format") != FORMAT:
        fix = "a newer one may read it: pip install --upgrade medssl"
        raise EncoderError(f"{folder}/config.json: format {config.get('format')}; this version reads {FORMAT}, {fix}")
    try:
        contracts.scale_of(config["contract"])
    except ValueError as error:
        raise EncoderError(f"{folder}/config.json: {error}; export the encoder again") from None
    try:
        module = build(**config["architecture"])
    except (TypeError, ValueError, KeyError) as error:
        raise EncoderError(
            f"{folder}/config.json: architecture {config.get('architecture')} is not known to this version "
            f"({' '.join(str(error).split())}); it may come from a newer one: pip install --upgrade medssl"
        ) from None
    try:
        module.load_state_dict(load_file(str(folder / "model.safetensors")), strict=True)
    except SafetensorError:
        what = "cut off, damaged or not safetensors (pickles are never read)"
        raise EncoderError(f"{folder}/model.safetensors: {what}; get the folder again from its source") from None
    except RuntimeError:
        raise EncoderError(f"{folder}/model.safetensors: weights do not fit the architecture in config.json") from None
    return Encoder(folder, config, module.eval().to(device))
