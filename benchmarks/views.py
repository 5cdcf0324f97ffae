"""Views of slices and volumes: samples a second for a whole batch at once, against MONAI's transforms one at a time.

    python benchmarks/views.py [--batch 32] [--repeats 5] [--device cpu]

MONAI's transforms have the same parameters and keep no history. They run where a loader would run them, on the CPU in
this process; the batch is viewed on ``--device``. The last line is JSON: how many times faster the batch is.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable

import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandCoarseDropout,
    RandGaussianNoise,
    RandGibbsNoise,
    RandScaleIntensity,
    RandSpatialCrop,
    Resize,
)
from torch import Tensor

from benchmarks.timing import in_turns, last_line, measured, ratio, table
from medssl.pretrain.fit import keep_freed_memory
from medssl.views import volumes
from medssl.views.draws import Draws

SIZES = {"slice": (224, 224), "volume": (64, 64, 64)}
SHARE, SCALE = (0.10, 0.33), 96 / 224


def appearance(size: tuple[int, ...]) -> list[Callable[[Tensor], Tensor]]:
    return [
        RandBiasField(prob=0.2, degree=2, coeff_range=(-0.1, 0.1)),
        RandGibbsNoise(prob=0.2, alpha=(0.0, 0.5)),
        RandAdjustContrast(prob=0.5, gamma=(0.7, 1.4)),
        RandScaleIntensity(prob=0.5, factors=0.2),
        RandGaussianNoise(prob=0.7, std=0.08),
        RandCoarseDropout(prob=0.5, holes=2, spatial_size=[max(1, n // 5) for n in size], fill_value=0.0),
    ]


def view(size: tuple[int, ...]) -> Compose:
    place = RandAffine(
        prob=0.9,
        rotate_range=[math.radians(10)] * (1 if len(size) == 2 else 3),
        translate_range=[n / 16 for n in size],
        scale_range=[0.08] * len(size),
        padding_mode="zeros",
    )
    return Compose([place, *appearance(size)])


def crop(size: tuple[int, ...]) -> Compose:
    small = tuple(max(8, round(n * SCALE)) for n in size)
    least, most = ([max(4, round(n * s ** (1 / len(size)))) for n in size] for s in SHARE)
    part = RandSpatialCrop(roi_size=least, max_roi_size=most, random_size=True)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return Compose([part, Resize(small, mode=mode, align_corners=True), *appearance(small)])


def turns(
    samples: Tensor, batched: Callable[[Tensor, Draws], object], reference: Compose, *, device: str, repeats: int
) -> dict[str, list[float]]:
    """Return seconds of both sides in turns; a first turn of each does not count."""
    x, draw = samples.to(device), torch.arange(len(samples), device=device)
    reference.set_random_state(seed=0)
    turn = itertools.count()

    def ours() -> None:
        batched(x, Draws(draw + next(turn) * len(samples), seed=0))
        if device != "cpu":
            torch.get_device_module(device).synchronize()

    sides = {"batch": ours, "MONAI": lambda: [reference(sample.clone()) for sample in samples]}
    found = in_turns({name: lambda side=side: measured(side).seconds for name, side in sides.items()}, repeats + 1)
    return {name: seconds[1:] for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    set_track_meta(False)
    keep_freed_memory()  # as in pretraining
    ratios: dict[str, float] = {}
    show = table("", "batch (/s)", "MONAI (/s)", "ratio")
    for kind, size in SIZES.items():
        samples = torch.rand(args.batch, 1, *size, generator=torch.Generator().manual_seed(0))
        for name, batched, reference in (
            ("view", volumes.view, view(size)),
            ("crop", volumes.crop, crop(size)),
        ):
            found = turns(samples, batched, reference, device=args.device, repeats=args.repeats)
            ratios[f"{kind}_{name}_ratio"] = ratio(found["MONAI"], found["batch"])
            speeds = [args.batch / statistics.median(seconds) for seconds in found.values()]
            show(f"{kind} {name}", *speeds, ratios[f"{kind}_{name}_ratio"])
    last_line(ratios)


if __name__ == "__main__":
    main()
