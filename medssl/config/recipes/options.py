"""What sections of all recipes are made of: their base, a kernel on measures, and types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.config.section import Count, Positive, Section, Share

if TYPE_CHECKING:
    from medssl.config.run import Run

Level = Literal["patient", "trial", "sample", "observation"]


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0.05 <= pair[0] < pair[1]:
        raise ValueError(f"{list(pair)}; expected [low, high] with 0.05 <= low < high")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Factor(Section):
    """A kernel on some ``anat_*`` columns.

    With ``regions`` (patterns such as ``lh_*``) the columns are ``<region>_<measure>`` of every region that has all the
    ``measures``, which are then endings such as ``mm``, ``mm3``, ``area_mm2``. ``local`` and ``global`` need regions:
    the mean over regions of the cosine between a region's measures, or over measures of the cosine between all regions.

    ``scale`` is ``standard`` (on the training patients), ``minmax`` (each subject's regions to [0, 1]) or ``raw``, as
    compositions and codes have to be. ``corrected`` measures, which grow with the head, are replaced by what a line on
    ``icv`` leaves of them. ``sigma`` is the width: in standard deviations for rbf and cauchy, of the divergence or the
    distance for jensen_shannon and aitchison, one over the sharpness for hellinger (null: the median over training
    samples; 1 for hellinger). rbf and cauchy need ``at_least`` so many measures known of both. ``off`` is what
    ``equal`` says of two different codes, ``mapping`` how cosines become weights, ``share`` the part among several
    factors.
    """

    measures: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    kernel: Literal["rbf", "cauchy", "equal", "hellinger", "jensen_shannon", "aitchison", "local", "global"] = "rbf"
    scale: Literal["standard", "minmax", "raw"] | None = None
    corrected: tuple[str, ...] = ()
    icv: str = "intracranial_mm3"
    mapping: Literal["raw", "shifted", "clipped"] = "shifted"
    sigma: Positive | None = None
    at_least: Count = 1
    off: Share = 0.5
    share: Positive = 1.0

    @property
    def scaling(self) -> str:
        """How measures are scaled: as asked, else raw for codes and compositions and standard for the rest."""
        raw = self.kernel in ("equal", "hellinger", "jensen_shannon", "aitchison")
        return self.scale or ("raw" if raw else "standard")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        kernel, scale = self.kernel, self.scaling
        if kernel in ("local", "global") and not self.regions:
            raise ValueError(f"kernel: {kernel} compares regions; name them, such as regions: [lh_*, rh_*]")
        if kernel in ("equal", "hellinger", "jensen_shannon", "aitchison") and scale != "raw":
            raise ValueError(f"kernel: {kernel} takes codes or parts as they are; remove scale: {scale}")
        if kernel == "equal" and (len(self.measures) > 1 or self.regions):
            raise ValueError(f"kernel: equal compares one code; give each of {list(self.measures)} a factor of its own")
        if self.measures and not self.regions and self.at_least > len(self.measures):
            raise ValueError(f"at_least: {self.at_least} of {len(self.measures)} measures can never be known; lower it")
        if scale == "minmax" and not self.regions:
            raise ValueError("scale: minmax is over the regions of a subject; name them, or take standard or raw")
        if self.mapping == "raw" and kernel in ("local", "global") and scale == "standard":
            raise ValueError("mapping: raw would give negative weights; take shifted or clipped, or scale: raw")
        if self.corrected and (scale != "standard" or not set(self.corrected) <= set(self.measures)):
            raise ValueError(
                f"corrected {list(self.corrected)}: expected some of measures {list(self.measures)} and scale: standard"
            )
        return self

    def names(self) -> tuple[str, ...]:
        """Return the names of the columns, with ``*`` where the cohort decides which regions there are."""
        named = tuple(f"{r}_{m}" for r in self.regions for m in self.measures) if self.regions else self.measures
        return named + ((self.icv,) if self.corrected else ())


class Options(Section):
    """What a recipe may be told; a recipe without options has this section itself.

    ``examples`` are small and one for each way in which the method can work: the tests train them all. A method that is
    ``labelled`` reads ``pretrain.labels``, which are ``numbers`` if it says so.
    """

    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    labelled: ClassVar[bool] = False
    numbers: ClassVar[bool] = False

    def covariates(self) -> dict[str, Factor]:
        """Return what is read of each patient by the key that names it, in the order of ``Batch.anatomy``."""
        return {}

    def suit(self, run: Run) -> None:
        """Raise a ValueError where they do not go together with the rest of a run."""
