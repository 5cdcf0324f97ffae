"""Options of methods that go on from something: another run, an earlier stage, clusters, a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from medssl.config.recipes.options import Options
from medssl.config.section import Count, Positive, Share

if TYPE_CHECKING:
    from medssl.config.run import Run

SEVERAL = ("mcl", "gsimclr")  # recipes that can start from an encoder of several stages, which a chain of mcl makes


class Mcl(Options):
    """How many clusters each earlier stage is divided into; one of fewer patients than a batch joins the nearest."""

    clusters: Count = 10

    def suit(self, run: Run) -> None:
        """Refuse another composition of batches than that by clusters."""
        if run.pretrain.within is not None:
            raise ValueError(
                f"pretrain.within: {run.pretrain.within} is not for recipe mcl, whose batches are within a cluster; "
                "take null"
            )


class Gsimclr(Options):
    """How many clusters there are, of which a batch holds at most one sample each: at least a batch's samples."""

    examples = ({"clusters": 16},)
    clusters: Count = 256

    def suit(self, run: Run) -> None:
        """Refuse fewer clusters than a batch needs."""
        batch = run.pretrain.batch
        size = batch.patients * batch.trials * batch.samples
        if run.start is not None and self.clusters < size:
            raise ValueError(
                f"pretrain.options.clusters: {self.clusters}, and a batch holds {size} samples of different clusters; "
                "take as many clusters or more, or a smaller pretrain.batch"
            )


class Adainf(Options):
    """How much of another sample is mixed in at most, and how often a real pair counts for a generated one.

    ``gamma`` is how sharply generated pairs are weighed by quality; 0: all alike.
    """

    examples = ({"repeat": 1.0},)
    reach: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    repeat: Positive = 10.0
    gamma: Annotated[float, Field(ge=0)] = 1.0


class Coconut(Options):
    """Which sites arrive, which came before, and what is kept of these: a ``share`` of their patients.

    ``sites`` and ``before`` are values of a ``column`` of the sample table. ``rehearse`` is the weight of the contrast
    with positives by the encoder that the run starts from, ``distil`` of staying near it; without a start neither is.
    """

    column: str = "source"
    sites: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    share: Share = 0.1
    rehearse: Annotated[float, Field(ge=0)] = 1.0
    distil: Annotated[float, Field(ge=0)] = 1.0

    def suit(self, run: Run) -> None:
        """Refuse a run that goes on with nothing to rehearse: the same contrast once more."""
        if run.start is not None and not self.before:
            raise ValueError(
                f"pretrain.options.before: none, so that nothing of {run.start} is rehearsed; name the sites that it "
                "was trained on, or remove start"
            )

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if both := sorted(set(self.sites) & set(self.before)):
            raise ValueError(f"sites and before have {', '.join(both)} in common; a site arrives once")
        return self


OPTIONS: dict[str, type[Options]] = {"mcl": Mcl, "gsimclr": Gsimclr, "coconut": Coconut, "adainf": Adainf}
