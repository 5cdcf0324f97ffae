"""Views of encoders that read crops: random parts of a sample, its own whatever batch it is in, and their places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medssl.views import signals
from medssl.views.augment import CROP_LENGTH, Augmentation
from medssl.views.draws import Draws

N, STEPS, CROP = 300, 40, 25
# A value says which sample, channel and step it is of.
X = torch.arange(N * 2 * STEPS, dtype=torch.float32).view(N, 2, STEPS)


def numbers(rows: Tensor | None = None) -> Draws:
    return Draws(torch.arange(N) if rows is None else rows, seed=4)


def first(views: Tensor) -> Tensor:
    """Return the steps (B,) that views of `X`, without anything done to them, begin at."""
    return views[:, 0, 0].long() % STEPS


def test_a_part_is_a_run_of_steps_anywhere() -> None:
    found, place = signals.part(X, numbers(), CROP)
    start = first(found)
    for k in range(N):
        assert torch.equal(found[k], X[k, :, start[k] : start[k] + CROP])
    assert set(start.tolist()) == set(range(STEPS - CROP + 1))
    # The ends of the part, at -1 and 1, are where they are in the window.
    for end, at in ((-1, start), (1, start + CROP)):
        assert torch.allclose(place[:, 0, 0] * end + place[:, 0, 1], 2 * at / STEPS - 1, atol=1e-6)
    whole, place = signals.part(X, numbers(), STEPS)
    assert torch.equal(whole, X)
    assert place.unique(dim=0).tolist() == [[[1.0, 0.0]]]


def test_each_view_has_a_place_of_its_own() -> None:
    of = Augmentation("none", modality="ecg", crop=CROP)
    views, place = of.draw([X], numbers(), 3)
    assert all(view.shape == (N, 2, CROP) for view in views)
    assert place is not None
    starts = [first(view) for view in views]
    for k in range(3):
        assert torch.allclose(place[:, k, 0, 1], (2 * starts[k] + CROP) / STEPS - 1, atol=1e-6)
    assert all((starts[a] == starts[b]).float().mean() < 0.2 for a, b in ((0, 1), (0, 2), (1, 2)))
    rows = torch.tensor([7, 2, 200])
    alone, _ = of.draw([X[rows]], numbers(rows), 2)
    assert all(torch.equal(one, view[rows]) for one, view in zip(alone, views, strict=False))
    # So is what a run shows of a sample that it hides parts of.
    assert torch.equal(of.shown(X[rows], numbers(rows)), of.shown(X, numbers())[rows])
    assert Augmentation("none", modality="ecg").shown(X, numbers()) is X


def test_views_that_may_move_nothing_show_the_same_steps() -> None:
    views, place = Augmentation("default", modality="ecg", place=False, crop=CROP).draw([X], numbers(), 2)
    assert place is not None
    assert torch.equal(place[:, 0], place[:, 1])
    assert not place.isnan().any()
    views, _ = Augmentation("none", modality="ecg", place=False, crop=CROP).draw([X, -X], numbers(), 2)
    assert torch.equal(views[0], -views[1])


@pytest.mark.parametrize("plan", ["default", "mild"])
def test_the_plan_comes_after(plan: str) -> None:
    x = torch.randn(N, 2, STEPS, generator=torch.Generator().manual_seed(1))
    of = Augmentation(plan, modality="ecg", crop=CROP)
    (view,), place = of.draw([x], numbers(), 1)
    stream = numbers().fork(1)
    part, where = signals.part(x, stream.fork(0), CROP)
    assert torch.equal(view, signals.view(part, stream, of.plan))
    assert place is not None
    assert place.isnan().all() if plan == "default" else torch.equal(place[:, 0], where)


def test_small_crops_are_of_a_part() -> None:
    views, place = Augmentation("none", modality="ecg", crop=CROP).draw([X], numbers(), 1, 2)
    assert [view.shape[2] for view in views] == [CROP, round(CROP * CROP_LENGTH), round(CROP * CROP_LENGTH)]
    assert all((view[:, 0, -1] - view[:, 0, 0] <= 0.6 * CROP).all() for view in views[1:])
    assert place is not None
    assert place[:, 1:].isnan().all() and not place[:, :1].isnan().any()
