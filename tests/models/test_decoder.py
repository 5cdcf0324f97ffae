"""A decoder gives samples of the size asked for, each of its own code."""

from __future__ import annotations

import pytest
import torch

from medssl.models.decoder import Decoder


@pytest.mark.parametrize("shape", [(2, 1), (2, 4), (12, 250), (1, 16, 12), (1, 9, 8, 17)])
def test_sizes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, shape, width=4)
    z = torch.randn(3, 5)
    out = decoder(z)
    assert out.shape == (3, *shape)
    assert torch.allclose(out[1:2], decoder(z[1:2]), atol=1e-5)
    assert not torch.allclose(out[0], out[1])


def test_it_learns_what_a_code_stands_for() -> None:
    torch.manual_seed(0)
    decoder, z = Decoder(2, (1, 60), width=8), torch.eye(2)
    x = torch.sin(torch.linspace(0, 6.28, 60) * torch.tensor([[1.0], [3.0]]))[:, None]
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (decoder(z) - x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # of 0.5
