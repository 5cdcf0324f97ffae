"""The encoder folder: save, verify, find.

It holds ``config.json``, ``model.safetensors``, ``card.md`` and ``checksums.json``, and is the whole truth:
architecture, weights and the input contract. Nothing in it is pickled, and every file is checked against its SHA-256
before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

FORMAT = 1
FILES = ("config.json", "model.safetensors", "card.md")
PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")  # how files that run code when read end
READY = Path(__file__).parents[1] / "encoders"  # what comes with the package, made by `make encoders`


class EncoderError(ValueError):
    """An encoder folder that is missing, damaged or of another format, or an input that breaks its contract."""


@contextmanager
def replaced(folder: Path, *marks: str) -> Iterator[Path]:
    """Give an empty folder that takes the place of another in one step, as soon as it was filled without an error.

    Args:
        folder: to make or to replace.
        marks: files of which one says that an old folder is of this kind; one with other files is not replaced.

    Raises:
        EncoderError: it holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not any((folder / mark).is_file() for mark in marks):
        raise EncoderError(f"{folder}: holds other files, and none of {', '.join(marks)}; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_encoder(
    folder: str | Path,
    module: nn.Module,
    *,
    architecture: dict[str, Any],
    contract: dict[str, Any],
    provenance: dict[str, Any],
    card: str,
) -> Path:
    """Write an encoder folder in one step; an old one is replaced.

    Args:
        architecture: keyword arguments of `medssl.models.build`.
        contract: see `contract_of`.
        provenance: recipe, parameters, data hash and whatever else tells where it came from; no identifiers.
        card: model card, Markdown.

    Raises:
        EncoderError: a folder with other files.
    """
    folder = Path(folder)
    with replaced(folder, "config.json", "reference.json") as temporary:
        config = {"format": FORMAT, "architecture": architecture, "contract": contract, "provenance": provenance}
        (temporary / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
        save_file(weights, str(temporary / "model.safetensors"))
        (temporary / "model.safetensors").chmod(0o644)  # safetensors makes it private
        (temporary / "card.md").write_text(card)
        write_checksums(temporary)
    return folder


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder beside it."""
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / "checksums.json").write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")


def verify(folder: str | Path) -> None:
    """Refuse a folder that is not a whole, unchanged encoder.

    Raises:
        EncoderError: a file is absent or differs from its checksum, the checksums name another, or a pickle is there.
    """
    folder = Path(folder)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICKLES) if folder.is_dir() else []
    if pickles:
        fix = "an encoder folder holds model.safetensors and no pickle; get it from another source"
        raise EncoderError(f"{folder}/{pickles[0]}: may run code when it is read; {fix}")
    absent = [name for name in (*FILES, "checksums.json") if not (folder / name).is_file()]
    if absent:
        raise EncoderError(f"{folder}: not an encoder folder, {', '.join(absent)} missing")
    try:
        sums = json.loads((folder / "checksums.json").read_text())
    except ValueError:
        raise EncoderError(f"{folder}/checksums.json: not JSON; get the folder again from its source") from None
    if not isinstance(sums, dict) or (others := sorted(set(sums) - set(FILES))):
        what = f"names {others[0]!r}, which is no file of an encoder folder" if isinstance(sums, dict) else "no mapping"
        raise EncoderError(f"{folder}/checksums.json: {what}; expected {', '.join(FILES)} and nothing else")
    for name in FILES:
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sums.get(name):
            raise EncoderError(f"{folder}/{name}: differs from its checksum; get the folder again from its source")


def ready() -> dict[str, Path]:
    """Return the folders of the encoders that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(READY.glob("*/config.json"))}


def place(reference: str | Path) -> Path:
    """Return the folder that a path, or the name of a ready encoder, stands for; a path that is there comes first.

    Raises:
        EncoderError: a bare word that is neither.
    """
    path, known = Path(reference), ready()
    if path.exists() or str(reference) != path.name:
        return path
    if path.name not in known:
        raise EncoderError(
            f"{path}: no such folder and no ready encoder; expected the path of an encoder folder or one of: "
            f"{', '.join(known) or 'none are ready'}"
        )
    return known[path.name]
