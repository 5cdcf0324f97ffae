import pytest
import torch

from medssl import models
from medssl.models.pool import POOLS, Pool

WIDTHS = (3, 5)


def maps(*space: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(4, width, *space, generator=rng) for width in WIDTHS]


@pytest.mark.parametrize("space", [(7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("kind", POOLS)
def test_statistics_of_a_loop(kind: str, space: tuple[int, ...]) -> None:
    given, pool = maps(*space), Pool(kind, WIDTHS)
    got = pool(given)
    assert got.shape == (4, pool.dim)
    for b, row in enumerate(got):
        expected: list[float] = []
        for x in given if kind == "stages" else given[-1:]:
            expected += [float(channel.mean()) for channel in x[b]]
            if kind != "mean":
                expected += [float(channel.std(correction=0)) for channel in x[b]]
        assert row.tolist() == pytest.approx(expected, abs=2e-5)


def test_a_constant_map_has_a_gradient() -> None:
    x = torch.ones(2, 5, 6, requires_grad=True)
    Pool("mean_std", WIDTHS)([x]).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_half_precision_does_not_overflow() -> None:
    got = Pool("mean_std", [1])([torch.tensor([[[0.0, 700.0]]], dtype=torch.float16)])
    assert got.tolist() == [pytest.approx([350, 350])]


@pytest.mark.parametrize("name", ["resnet1d", "resnet2d", "resnet3d", "convnet1d"])
@pytest.mark.parametrize(("kind", "dim"), [(None, 8), ("mean_std", 16), ("stages", 48)])
def test_encoders_say_how_long_their_embeddings_are(name: str, kind: str | None, dim: int) -> None:
    options = {"name": name, "widths": (4, 4, 8, 8), "depth": 1, "pool": kind, "in_channels": 1}
    encoder = models.build(**options, seed=0).eval()  # type: ignore[arg-type]
    x = torch.randn(2, 1, *(32,) * models.ENCODERS[name])
    assert encoder.embedding_dim == dim == encoder(x).shape[1] == models.embedding_dim(**options)


def test_a_small_stem_keeps_the_resolution() -> None:
    """A hippocampus of 40 x 48 x 32 voxels leaves 4 positions behind the usual stem, and 120 behind the small one."""
    positions = {}
    for stem in (None, "imagenet", "small"):
        encoder = models.build("resnet3d", in_channels=1, widths=(2, 2, 2, 2), depth=1, stem=stem, seed=0)
        seen: list[torch.Size] = []
        encoder.stages["stage4"].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.shape[2:]))
        encoder(torch.randn(2, 1, 40, 48, 32))
        positions[stem] = seen[0].numel()
    assert positions == {None: 4, "imagenet": 4, "small": 120}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet1d", "pool": "max"}, "encoder.pool 'max' is unknown; allowed: mean, mean_std, stages"),
        ({"name": "vit1d", "pool": "mean"}, "encoder.pool mean: only for resnet1d, resnet2d, resnet3d, convnet1d"),
        ({"name": "convnet1d", "stem": "small"}, "encoder.stem small: only for resnet1d"),
        ({"name": "resnet1d", "kernels": (3,)}, "encoder.kernels .* only for convnet1d"),
        (
            {"name": "convnet1d", "kernels": (4, 3, 3, 3)},
            "encoder.kernels .* expected an odd number for each of widths",
        ),
        ({"name": "convnet1d", "kernels": (3, 3)}, "encoder.kernels .* expected an odd number for each of widths"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(**options, in_channels=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", models.ENCODERS)
def test_the_published_sizes_need_no_weights_to_be_known(name: str) -> None:
    rng = torch.get_rng_state()
    assert models.embedding_dim(name=name, in_channels=1) == models.build(name, in_channels=1, seed=0).embedding_dim
    assert torch.equal(torch.get_rng_state(), rng)
