"""What a step may use: projections, one pass for equal views, teacher, state, and nothing written while measuring."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.config import OPTIONS, Pretrain
from medssl.models.heads import Projection
from medssl.pretrain.memory import Memory
from medssl.pretrain.net import Net, State


def net_of(norm: str = "layer", *, taught: bool = False) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.BatchNorm1d(6) if norm == "batch" else nn.Identity())
        encoder(torch.randn(2, 3, 4))
        head = Projection(6, 5, norm="none")
        return Net(encoder, {"projection": head}, Pretrain(options=OPTIONS["simclr"]()), taught=taught)


def views_of(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, length, generator=generator) for length in lengths]


def test_projections_are_unit_rows_unless_said_otherwise() -> None:
    net, (x,) = net_of(), views_of(4)
    raw = net.project(x, unit=False)
    assert torch.allclose(net.project(x), nn.functional.normalize(raw, dim=1))
    assert not torch.allclose(raw.norm(dim=1), torch.ones(4), atol=1e-2)


def test_one_pass_for_views_of_equal_size() -> None:
    net = net_of("batch")
    passes: list[int] = []
    net.encoder.register_forward_hook(lambda module, inputs, out: passes.append(len(inputs[0])))
    views = views_of(4, 4, 4)
    together = net.project_all(views)
    assert passes == [12]
    # They share the statistics of the batch, which one view alone does not have.
    assert not torch.allclose(together[1], net.project(views[1]), atol=1e-3)
    net.eval()
    assert all(torch.allclose(z, net.project(v), atol=1e-6) for z, v in zip(net.project_all(views), views, strict=True))


def test_views_of_several_sizes_come_back_in_their_order() -> None:
    net = net_of()
    net.encoder = nn.Sequential(nn.AdaptiveAvgPool1d(4), net.encoder)
    views = views_of(4, 9, 4, 9)
    expected = [net.project(view) for view in views]
    assert all(torch.allclose(z, e, atol=1e-6) for z, e in zip(net.project_all(views), expected, strict=True))


def test_the_teacher_follows_and_is_taught_without_gradient() -> None:
    net, (x,) = net_of(taught=True), views_of(4)
    assert torch.allclose(net.teach(x), net.project(x))
    weight = net.encoder[1].weight  # type: ignore[index]
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    net.follow(0.75)
    assert net.teacher is not None
    assert torch.allclose(net.teacher["encoder"][1].weight, before + 0.25)  # type: ignore[index]
    assert not net.teach(x).requires_grad
    net.follow(1.0)
    assert torch.allclose(net.teacher["encoder"][1].weight, before + 0.25)  # type: ignore[index]


def test_state_is_written_by_row_and_only_in_training() -> None:
    state = State({"u": torch.zeros(5), "w": torch.zeros(2, 2, dtype=torch.bool)})
    state.put("u", torch.tensor([1.0, 2.0]), torch.tensor([3, 0]))
    assert state["u"].tolist() == [2, 0, 0, 1, 0]
    state.put("w", torch.ones(2, 2))
    assert state["w"].all()
    # A row that stands twice in a batch gets the mean, whatever the order.
    state.put("u", torch.tensor([1.0, 5.0, 3.0]), torch.tensor([4, 1, 4]))
    assert state["u"].tolist() == [2, 5, 0, 1, 2]
    state.eval()
    state.put("u", torch.ones(5))
    assert state["u"].tolist() == [2, 5, 0, 1, 2]
    assert set(state.state_dict()) == {"u", "w"}


def test_a_memory_keeps_the_newest_and_knows_patients() -> None:
    memory = Memory(4, 2)
    ids = torch.arange(3)
    memory.push(torch.ones(3, 2), ids, ids + 10)
    assert not memory.full
    _, ignore = memory.columns(torch.tensor([11, 99]))
    assert ignore.tolist() == [[False, True, False, True], [False, False, False, True]]
    memory.push(2 * torch.ones(3, 2), ids + 3, ids + 20)
    assert memory.full
    assert memory.row.tolist() == [4, 5, 2, 3]
    assert memory.z[:, 0].tolist() == [2, 2, 1, 2]
    many = torch.arange(7)
    memory.push(many[:, None].float().expand(7, 2), many, many)
    # Seven more than four: the last four, in the places that follow.
    assert memory.row.tolist() == [6, 3, 4, 5]
    memory.eval()
    memory.push(torch.zeros(3, 2), ids, ids)
    assert memory.row.tolist() == [6, 3, 4, 5]


def test_a_memory_goes_on_from_a_checkpoint() -> None:
    one, two = Memory(3, 1), Memory(3, 1)
    for number in range(5):
        one.push(torch.full((1, 1), float(number)), torch.tensor([number]), torch.tensor([number]))
    two.load_state_dict(one.state_dict())
    for memory in (one, two):
        memory.push(torch.full((1, 1), 9.0), torch.tensor([9]), torch.tensor([9]))
    assert torch.equal(one.row, two.row)
    assert two.pushed == 6


def test_what_a_recipe_did_not_ask_for_is_not_there() -> None:
    net, (x,) = net_of(), views_of(4)
    with pytest.raises(AssertionError, match="no teacher"):
        net.teach(x)
    with pytest.raises(AssertionError, match="no memory"):
        net.memory.push(x, x, x)
