"""How a run draws views of its samples: a plan by name, at a strength, for signals and images alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views import signals, volumes
from medssl.views.draws import Draws

# Small crops of a signal keep this share of the window, at this length.
CROP_SHARE, CROP_LENGTH = (0.3, 0.6), 96 / 224


@dataclass(frozen=True)
class Augmentation:
    """A plan at a strength.

    Attributes:
        name: of the plan, see `signals.plan_of` and `volumes.PLANS`; images know no plan by another name and take
            their default.
        modality: of the samples.
        strength: scales all of the plan's strengths, from 0, which leaves samples as they are, to 2.
        place: whether a view may move what it shows.
        crop: steps of a signal that a view shows, anywhere in the sample; the same ones in all views if these may move
            nothing. None: all.
    """

    name: str
    modality: str
    strength: float = 1.0
    place: bool = True
    crop: int | None = None

    @property
    def plan(self) -> signals.Plan:
        """Operations on signals, with their probabilities."""
        plan = signals.plan_of(self.name, self.modality)
        return plan if self.place else signals.still(plan)

    def shown(self, x: Tensor, draws: Draws) -> Tensor:
        """Return samples as an encoder reads them: a random part of a signal where it reads crops."""
        return x if self.crop is None else signals.part(x, draws.fork(0), self.crop)[0]

    def draw(
        self, x: Sequence[Tensor], draws: Draws, whole: int, small: int = 0
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Return ``whole`` random views of each sample and ``small`` crops of a part of it, and their places.

        Args:
            x: what views are of in turn, such as samples and their partners: each (B, C, T), (B, C, H, W) or
                (B, C, D, H, W).
            draws: the samples' own numbers; each view has a stream of its own.
            whole, small: how many.

        Returns:
            Views (B, C, ...), whole ones first, and the maps (B, V, d, d + 1) from each to the sample: NaN where a view
            of a signal was shifted or warped and for its small crops, None without views.
        """
        streams = [draws.fork(1 + k) for k in range(whole)]
        crops = [(draws.fork(100 + 2 * k), draws.fork(101 + 2 * k)) for k in range(small)]
        of, crops_of = ([x[k % len(x)] for k in range(number)] for number in (whole, small))
        if x[0].ndim == 3:
            plan, steps = self.plan, self.crop or x[0].shape[2]
            length = max(8, round(steps * CROP_LENGTH))
            views, places = [], []
            for y, stream in zip(of, streams, strict=True):
                shown, place = signals.part(y, (stream if self.place else draws).fork(0), steps)
                views.append(signals.view(shown, stream, plan, self.strength))
                places.append(place if plan == signals.still(plan) else torch.full_like(place, torch.nan))
            for y, (one, two) in zip(crops_of, crops, strict=True):
                shown, place = signals.part(y, one.fork(0), steps)
                shown = signals.crop(shown, one, share=CROP_SHARE, length=length)
                views.append(signals.view(shown, two, plan, self.strength))
                places.append(torch.full_like(place, torch.nan))
            return tuple(views), torch.stack(places, 1) if places else None
        strength = self.strength * volumes.PLANS.get(self.name, 1.0)
        made = [
            volumes.view(y, stream, place=self.place, strength=strength) for y, stream in zip(of, streams, strict=True)
        ]
        made += [volumes.crop(y, one, strength=strength) for y, (one, _) in zip(crops_of, crops, strict=True)]
        return tuple(view for view, _ in made), torch.stack([place for _, place in made], 1) if made else None
