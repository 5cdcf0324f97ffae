"""What all sections of ``params.yaml`` share, and the names of the modalities."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MODALITIES = ("ecg", "ppg", "eeg", "ct", "mri")
SIGNALS = ("ecg", "ppg", "eeg")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen section whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
