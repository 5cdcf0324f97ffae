"""Heads: published sizes, gradients, prototypes."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from medssl import models
from medssl.models.heads import Classifier, Projection, Prototypes

Norm = Literal["batch", "layer", "none"]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sizes", "norm", "expected"),
    [
        ((256, 1024, 128), "batch", 396_416),  # W12
        ((256, 1024, 128), "layer", 396_416),
        ((256, 1024, 128), "none", 394_368),
        ((512, 512, 128), "none", 328_320),  # N8
    ],
)
def test_parameters(sizes: tuple[int, int, int], norm: Norm, expected: int) -> None:
    inputs, hidden, outputs = sizes
    head = Projection(inputs, outputs, hidden=hidden, norm=norm)
    assert sum(p.numel() for p in head.parameters()) == expected


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("layers", [2, 3])
def test_projection_has_layers_and_gradients(x: torch.Tensor, norm: Norm, layers: int) -> None:
    head = Projection(8, 4, norm=norm, layers=layers)
    assert sum(isinstance(part, nn.Linear) for part in head.layers) == layers
    z = head(x)
    assert z.shape == (6, 4)
    (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize(("norm", "alone"), [("batch", False), ("layer", True), ("none", True)])
def test_only_batch_normalisation_looks_at_other_rows(x: torch.Tensor, norm: Norm, alone: bool) -> None:
    head = Projection(8, 4, norm=norm)
    z = head(x).detach()
    order = torch.tensor([3, 0, 5, 4, 1, 2])
    assert torch.allclose(head(x[order]), z[order], atol=1e-5)
    assert torch.allclose(head(x[:3]), z[:3], atol=1e-5) == alone
    head.eval()
    assert torch.allclose(head(x[:3]), head(x)[:3], atol=1e-6)


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match="norm 'group' of a projection is unknown; allowed: batch, layer, none"):
        Projection(8, 4, norm="group")  # type: ignore[arg-type]


def test_prototypes_score_cosines(x: torch.Tensor) -> None:
    prototypes = Prototypes(8, 5)
    assert [(n, tuple(p.shape)) for n, p in prototypes.named_parameters()] == [("weight", (5, 8))]
    z = nn.functional.normalize(x, dim=1)
    scores = prototypes(z)
    assert scores.shape == (6, 5)
    expected = [[nn.functional.cosine_similarity(row, p, dim=0).item() for p in prototypes.weight] for row in z]
    assert torch.allclose(scores, torch.tensor(expected), atol=1e-6)


def test_prototypes_come_back_to_unit_norm_in_place(x: torch.Tensor) -> None:
    prototypes = Prototypes(8, 5)
    weight = prototypes.weight
    assert torch.allclose(weight.norm(dim=1), torch.ones(5), atol=1e-6)
    optimiser = torch.optim.SGD(prototypes.parameters(), lr=1.0)
    prototypes(x).square().sum().backward()
    optimiser.step()
    moved = weight.detach().clone()
    assert not torch.allclose(moved.norm(dim=1), torch.ones(5), atol=1e-2)
    prototypes.renormalise()
    assert prototypes.weight is weight
    assert weight.requires_grad
    assert torch.allclose(weight, moved / moved.norm(dim=1, keepdim=True), atol=1e-6)


def test_classifier_trains_encoder_and_layer() -> None:
    model = Classifier(models.build("dilated1d", in_channels=2, widths=(4, 8), depth=2, seed=0), 3)
    logits = model(torch.randn(4, 2, 64, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
