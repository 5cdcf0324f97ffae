"""COMET's masks against the published fractions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.views.draws import Draws
from medssl.views.masks import MASKS, boxes, continuous


def numbers(n: int) -> Draws:
    return Draws(torch.arange(n), seed=0)


@pytest.mark.parametrize(
    ("steps", "span", "share", "first", "centre"),
    [(300, 30, 0.40434, 0.01831, 0.44379), (256, 25, 0.39699, 0.02137, 0.43453)],
)
def test_c7_mask_fractions(steps: int, span: int, share: float, first: float, centre: float) -> None:
    hidden = ~continuous(numbers(20_000), steps)
    assert hidden.double().mean().item() == pytest.approx(share, abs=0.004)
    assert hidden[:, 0].double().mean().item() == pytest.approx(first, abs=0.004)
    assert hidden[:, steps // 2].double().mean().item() == pytest.approx(centre, abs=0.015)
    assert hidden.double().mean(1).std().item() == pytest.approx(0.058, abs=0.004)
    assert hidden.sum(1).min() >= span
    assert hidden.sum(1).max() <= 5 * span


def test_c7_span_length() -> None:
    for steps, span in ((300, 30), (256, 25)):
        hidden = ~continuous(numbers(500), steps, spans=1)
        assert (hidden.sum(1) == span).all()
        edges = hidden.int().diff(dim=1, prepend=torch.zeros(500, 1, dtype=torch.int)).eq(1).sum(1)
        assert (edges == 1).all()
        assert hidden[:, -1].any()  # the last start is allowed


@pytest.mark.parametrize("name", MASKS)
def test_shapes(name: str) -> None:
    keep = MASKS[name](numbers(6), 40, 8)
    assert keep.dtype == torch.bool
    assert keep.shape == ((6, 40, 8) if name.startswith("channel") else (6, 40))
    assert torch.equal(MASKS[name](numbers(6), 40, 8), keep)


def test_shares_kept() -> None:
    assert MASKS["all_true"](numbers(3), 10, 1).all()
    assert MASKS["binomial"](numbers(200), 100, 1).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert MASKS["channel_binomial"](numbers(20), 100, 16).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_each_span_hides_half_of_the_channels() -> None:
    keep = MASKS["channel_continuous"](numbers(50), 100, 8)
    hidden = (~keep).sum(2)
    assert set(hidden.unique().tolist()) <= {0, 4, 5, 6, 7, 8}
    assert (hidden == 4).any()
    # A step inside a span is hidden in half of the channels: 1 - (1 - p / 2)^5 with p its chance to be in one span.
    inside = [sum(s <= t < s + 30 for s in range(271)) / 271 for t in range(300)]
    expected = sum(1 - (1 - p / 2) ** 5 for p in inside) / 300
    share = (~MASKS["channel_continuous"](numbers(2000), 300, 8)).double().mean().item()
    assert share == pytest.approx(expected, abs=0.004)
    # Different spans, different halves.
    assert len({tuple(row.tolist()) for row in keep[0][hidden[0] == 4]}) > 1


@pytest.mark.parametrize("size", [(250,), (40, 48), (24, 20, 16)])
@pytest.mark.parametrize(("number", "share"), [(1, 0.3), (4, 0.5), (8, 0.75)])
def test_boxes_cover_about_a_share(size: tuple[int, ...], number: int, share: float) -> None:
    covered = boxes(numbers(20_000 if len(size) == 1 else 500), size, number=number, share=share)
    assert covered.shape[1:] == size
    side = [max(1, round((1 - (1 - share) ** (1 / number)) ** (1 / len(size)) * n)) for n in size]
    whole_steps = 1 - (1 - np.prod(side) / np.prod(size)) ** number
    assert covered.double().mean().item() == pytest.approx(whole_steps, abs=0.01)
    assert whole_steps == pytest.approx(share, abs=0.05)
    if len(size) == 1:  # wherever in the sample
        assert covered.double().mean(0).numpy() == pytest.approx(whole_steps, abs=0.03)
    assert covered.flatten(1).any(1).all()
    assert covered.flatten(1).all(1).any() == (share == 0.75 and len(size) == 1)


def test_boxes_are_outer_products_of_spans() -> None:
    for one in boxes(numbers(20), (12, 10), number=1, share=0.25):
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns)
        assert (rows.sum(), columns.sum()) == (6, 5)
        # One run each, which may go on at the start.
        assert all((line != line.roll(1)).sum() == 2 for line in (rows, columns))
    # Each sample has boxes of its own, whatever batch it is in.
    many = boxes(numbers(5), (12, 10), number=3, share=0.5)
    assert torch.equal(boxes(Draws(torch.tensor([4, 2]), seed=0), (12, 10), number=3, share=0.5), many[[4, 2]])
    assert len({m.numpy().tobytes() for m in many}) == 5
    assert boxes(numbers(9), (49,), number=100, share=0.01).sum(1).min() >= 1
