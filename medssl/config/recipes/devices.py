"""Options of methods for several devices of one moment."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.config.recipes.options import Options


class Collossl(Options):
    """Which channels, by name or number, are a device each, and who is contrasted with whom.

    ``anchor`` is the device that others are compared with (null: each in turn). By ``selection`` the nearest device of
    a moment is the positive, and negatives are, at other moments, all devices but the anchor's (``all``), the nearest
    (``closest``) or the second and third (``hard``); ``random`` draws one of each. ``others`` says whose moments these
    are: of anybody, or of other patients. ``whole`` weights what teaches the encoder a sample with all its devices.
    """

    examples = (
        {"devices": {"first": [0], "second": [1]}},
        {"devices": {"a": [0], "b": [1], "both": [0, 1]}, "anchor": "a", "selection": "hard", "others": "patients"},
    )
    devices: Annotated[dict[str, Annotated[tuple[int | str, ...], Field(min_length=1)]], Field(min_length=2)]
    anchor: str | None = None
    selection: Literal["all", "closest", "hard", "random"] = "all"
    others: Literal["moments", "patients"] = "moments"
    whole: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _has_its_devices(self) -> Self:
        if self.anchor is not None and self.anchor not in self.devices:
            raise ValueError(f"anchor {self.anchor}: no such device; expected one of {', '.join(self.devices)}")
        if self.selection == "hard" and len(self.devices) < 3:
            raise ValueError(f"selection: hard needs three devices, not {len(self.devices)}; take all or closest")
        return self


OPTIONS: dict[str, type[Options]] = {"collossl": Collossl}
