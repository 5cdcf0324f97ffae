"""Options of methods that read labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.config.recipes.options import Options
from medssl.config.section import Count, Positive


class Supremix(Options):
    """What of a number is equal, and what is mixed and how.

    Labels are counted in ``bin``, of the label's unit, and rounded: equal ones are positives. ``window``, in bins, is
    how far the two parts of a mixed positive may lie from it, and ``mixed_positives`` how many of them a sample has at
    most (0: none). ``share`` is a and b of the Beta distribution of a sample's own part in its mixed negatives (null:
    no such negatives). ``magnify`` says how much more a negative counts the farther its label is.
    """

    labelled = numbers = True
    examples = ({"bin": 4.0, "window": 3.0, "mixed_positives": 4},)
    bin: Positive = 1.0
    window: Positive = 5.0
    share: tuple[Count, Count] | None = (2, 8)
    mixed_positives: Annotated[int, Field(ge=0)] = 64
    magnify: Literal["none", "linear", "squared"] = "linear"


class Conr(Options):
    """What ConR takes for alike, in the label's unit, and how much it weighs beside the error; as published for age.

    ``omega`` is how near two labels, or two predictions, are alike. A label ``e`` away is pushed ``exp(eta e)`` times.
    ``beta`` weighs ConR against the mean absolute error in the label's unit; 0 leaves the regression alone.
    """

    labelled = numbers = True
    examples = ({"omega": 4.0},)
    omega: Positive = 1.0
    eta: Annotated[float, Field(ge=0)] = 0.01
    beta: Annotated[float, Field(ge=0)] = 4.0


class Sepclr(Options):
    """Who is healthy, which of the two encoders is kept, and the weights of three terms beside the common one.

    ``healthy`` is the label's value, of classes the place of the name in the alphabet, from 0. ``export: common`` keeps
    the encoder of what all people have, ``salient`` that of what only the others have. ``uninformed`` keeps the salient
    code of the healthy at 0, and ``joint`` keeps what one code says out of the other.
    """

    labelled = True
    examples = ({"export": "salient", "uninformed": 1.0, "joint": 1.0},)
    healthy: float = 0.0
    export: Literal["common", "salient"] = "common"
    salient: Annotated[float, Field(ge=0)] = 1.0
    uninformed: Annotated[float, Field(ge=0)] = 10.0
    joint: Annotated[float, Field(ge=0)] = 10.0


OPTIONS: dict[str, type[Options]] = {"supremix": Supremix, "conr": Conr, "sepclr": Sepclr}
