"""Residual networks in one, two or three dimensions, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medssl.models.pool import Pool

WIDTHS = (64, 128, 256, 512)
DEPTH = 2


class ResNet(nn.Module):
    """A residual encoder: (B, C, spatial...) -> (B, embedding_dim), widths[-1] with the default pooling.

    Convolution 7 with stride 2, max-pooling, four stages of basic blocks, the last three of which halve each axis;
    projections without bias where a stage changes its size; He-normal weights. In 3-D with the defaults and C = 1:
    33,160,000 parameters.

    Args:
        spatial_dims: 1 for signals, 2 for slices, 3 for volumes.
        in_channels: C.
        widths: channels of the four stages.
        depth: basic blocks per stage; 2 gives ResNet-18.
        stem: ``imagenet``, as above, or ``small``: a convolution 3 without stride and no max-pooling, for samples of
            which the usual stem would leave a few positions (CIFAR's ResNet).
        pool: see `medssl.models.pool.Pool`.

    Source: He et al. 2016; in 3-D the encoder of AnatCL (Barbano et al. 2024).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        widths: Sequence[int] | None = None,
        depth: int | None = None,
        stem: str | None = None,
        pool: str | None = None,
    ) -> None:
        # MONAI loads all of itself, which takes seconds that encoders without it need not wait for.
        from monai.networks.nets.resnet import ResNet as MonaiResNet

        super().__init__()
        widths = WIDTHS if widths is None else widths
        if len(widths) != 4:
            raise ValueError(f"encoder.widths {list(widths)}: a residual network has 4 stages, each with one width")
        self.pool = Pool(pool, widths)
        self.embedding_dim = self.pool.dim
        small = stem == "small"
        self.body = MonaiResNet(
            block="basic",
            layers=[depth or DEPTH] * 4,
            block_inplanes=list(widths),
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=3 if small else 7,
            conv1_t_stride=1 if small else 2,
            no_max_pool=small,
            feed_forward=False,
            bias_downsample=False,
        )
        self.register_load_state_dict_pre_hook(_fold_projection_bias)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages in order, by name; each is called once in a forward pass."""
        return {f"stage{k}": getattr(self.body, f"layer{k}") for k in (1, 2, 3, 4)}

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, embedding_dim)."""
        body = self.body
        x = body.act(body.bn1(body.conv1(x)))
        maps = [x if body.no_max_pool else body.maxpool(x)]
        for stage in self.stages.values():
            maps.append(stage(maps[-1]))
        return self.pool(maps[1:])


def _fold_projection_bias(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Move the biases that projections had in earlier encoders into the running mean that follows them: same output."""
    ending = ".downsample.0.bias"
    for name in [n for n in weights if n.startswith(f"{prefix}body.") and n.endswith(ending)]:
        mean = f"{name.removesuffix(ending)}.downsample.1.running_mean"
        weights[mean] = weights[mean] - weights.pop(name)
