"""EfficientNet-B0's stage plan on signals, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

# repeats, kernel, first stride, expansion of the seven stages; MONAI's notation wants the stride twice.
STAGES = (
    "r1_k3_s11_e1",
    "r2_k3_s22_e6",
    "r2_k5_s22_e6",
    "r3_k3_s22_e6",
    "r3_k5_s11_e6",
    "r4_k5_s22_e6",
    "r1_k3_s11_e6",
)
STEM = 32
EMBEDDING = 256
MANY = (16, 24, 40, 80, 112, 160, 256)
ONE = (16, 24, 40, 80, 96, 128, 192)


class EfficientNet1d(nn.Module):
    """16 MBConv blocks with squeeze-and-excitation: (B, C, T) -> (B, 256), for any T.

    Args:
        in_channels: C.
        widths: output channels of the seven stages. None takes the plan that matches the published size: 3.3 M
            parameters, for PPG, where C > 1 (3,350,268 at C = 4), and 2.5 M, for ECG, where C = 1 (2,490,128). B0
            itself is (16, 24, 40, 80, 112, 192, 320), 4,192,540 at C = 4.

    Source: Abbaspourazad et al. 2024 for the number of blocks, the embedding and the total size; Tan and Le 2019 for
    the stages. Deliberate differences: the widths are ours, since the paper's are not public; no dropout and no
    stochastic depth, so that the views, not the network, decide what differs between two embeddings; zeros on both
    sides instead of TensorFlow's padding, which depends on the input's length; batch statistics with torch's momentum
    of 0.1, since 0.01 leaves the running ones behind in short runs.
    """

    def __init__(self, in_channels: int, *, widths: Sequence[int] | None = None) -> None:
        from monai.networks.nets.efficientnet import EfficientNet  # loads all of MONAI, which takes seconds

        super().__init__()
        if widths is None:
            widths = MANY if in_channels > 1 else ONE
        if len(widths) != len(STAGES):
            raise ValueError(f"encoder.widths {list(widths)}: efficientnet1d takes {len(STAGES)}, one per stage")
        self.embedding_dim = EMBEDDING
        inputs = (STEM, *widths[:-1])
        self.body = EfficientNet(
            [f"{stage}_i{i}_o{o}_se0.25" for stage, i, o in zip(STAGES, inputs, widths, strict=True)],
            spatial_dims=1,
            in_channels=in_channels,
            num_classes=EMBEDDING,
            image_size=1,  # only decides the padding; from a size of 1 it is half a kernel on each side
            depth_divisor=1,  # widths as given, not rounded to multiples of 8
            dropout_rate=0.0,
            drop_connect_rate=0.0,
            norm="batch",
        )

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Inner stages in order, by name; each is called once in a forward pass."""
        return {f"stage{k}": stage for k, stage in enumerate(self.body._blocks, 1)}

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (B, 256)."""
        return self.body(x)
