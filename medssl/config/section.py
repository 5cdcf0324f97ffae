"""What all sections of ``params.yaml`` share, and the names of the modalities."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MODALITIES = ("ecg", "ppg", "eeg", "ct", "mri")
SIGNALS = ("ecg", "ppg", "eeg")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen section whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def explain(error: ValidationError, where: str) -> str:
    """Turn the first failures of a validation into one line with key, value and what is allowed."""
    parts = []
    for item in error.errors()[:4]:
        # The union of ingest kinds adds its class names to the path; they mean nothing to a user.
        key = ".".join(str(p) for p in item["loc"] if p not in ("SignalIngest", "VolumeIngest"))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its name"
        value = item.get("input")
        shown = "" if isinstance(value, dict | BaseModel) or item["type"] == "missing" else f" = {value!r}"
        parts.append(f"{key}{shown}: {message}" if key else message)
    return f"{where}: " + "; ".join(parts)


def in_encoders(key: str, folder: str) -> None:
    """Refuse an encoder folder elsewhere than in ``data/encoders``, where DVC sees that it changes.

    Raises:
        ValueError: with the key and the fix.
    """
    place = PurePosixPath(folder)
    if place.parts[:2] != ("data", "encoders") or len(place.parts) < 3 or ".." in place.parts:
        raise ValueError(
            f"{key}: {folder} is not in data/encoders, where DVC sees that it changes; "
            "copy the folder there and name the copy, such as data/encoders/mine"
        )
