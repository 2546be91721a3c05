"""The dilated ResNet trunk of A2J (paper Sec. 3.1.3): stride 16, stage 4 dilated instead of strided.

Residual stages are numbered 1 to 4, as in the official state dict (`layer1` .. `layer4`).
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
from flax import linen as nn

from a2j_jax.models.layers import BatchNorm, Conv, DepthStem, max_pool_3x3_stride_2


class Features(NamedTuple):
    """The trunk's feature maps."""

    common: jax.Array  # (B, H/16, W/16, C3): stage 3, read by the proposal head
    regression: jax.Array  # (B, H/s, W/s, C4): stage 4 at output stride s, read by all other heads


class _Block(nn.Module):
    """Convolutions around a shortcut: (B, H, W, C) -> (B, H/s, W/s, expansion * planes).

    Attributes:
      planes: channels of the convolutions; the last one has `expansion` times as many.
      stride: s, of the first 3x3; output sides are rounded up.
      dilation: of the last 3x3.
      norm: makes a `layers.BatchNorm`.
    """

    planes: int
    stride: int = 1
    dilation: int = 1
    norm: Callable[..., nn.Module] = BatchNorm
    expansion: ClassVar[int] = 1

    def with_shortcut(self, x: jax.Array, y: jax.Array, name: str, train: bool) -> jax.Array:
        """Y normalized, plus x, which is projected where the block changes the shape."""
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            x = Conv(y.shape[-1], 1, self.stride, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x, train)
        return self.norm(name=name)(y, train, shortcut=x, relu=True)


class BasicBlock(_Block):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.planes, 3, self.stride, name="conv1")(x)
        y = self.norm(name="bn1")(y, train, relu=True)
        # Only the second convolution is dilated, as in the official code.
        y = Conv(self.planes, 3, dilation=self.dilation, name="conv2")(y)
        return self.with_shortcut(x, y, "bn2", train)


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions (ResNet-50)."""

    expansion: ClassVar[int] = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.planes, 1, name="conv1")(x)
        y = self.norm(name="bn1")(y, train, relu=True)
        y = Conv(self.planes, 3, self.stride, self.dilation, name="conv2")(y)
        y = self.norm(name="bn2")(y, train, relu=True)
        y = Conv(self.planes * self.expansion, 1, name="conv3")(y)
        return self.with_shortcut(x, y, "bn3", train)


class Architecture(NamedTuple):
    """The block of a ResNet, and its number in each of the four stages."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Architecture(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
}
# Output stride of the trunk -> strides and dilations of its stages: 16 is A2J's, 32 the original ResNet's.
STAGE_STRIDES = {16: (1, 2, 2, 1), 32: (1, 2, 2, 2)}
STAGE_DILATIONS = {16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}


def rematerialized(module: Any) -> Any:
    """A module class `(x, train)` that recomputes its inner activations for the gradient."""
    return nn.remat(module, static_argnums=(2,))


class ResNet(nn.Module):
    """The trunk: normalized depth (B, H, W, 1), H and W divisible by 16 -> `Features`.

    Attributes:
      architecture: a key of `ARCHITECTURES`.
      width: channels of the first stage; 64 is the paper's, and what published weights need.
      output_stride: 16: stage 4 is dilated (A2J); 32: it is strided (and odd sides are rounded up).
      stem_channels: input channels of the first kernel, see `layers.DepthStem`.
      remat: recompute the inside of each block for the gradient instead of storing it.
      norm: makes a `layers.BatchNorm`.
    """

    architecture: str = "resnet50"
    width: int = 64
    output_stride: int = 16
    stem_channels: int = 3
    remat: bool = False
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> Features:
        block, counts = ARCHITECTURES[self.architecture]
        block = rematerialized(block) if self.remat else block
        strides = STAGE_STRIDES[self.output_stride]
        dilations = STAGE_DILATIONS[self.output_stride]
        x = DepthStem(self.width, self.stem_channels, name="conv1")(x)
        x = self.norm(name="bn1")(x, train, relu=True)
        x = max_pool_3x3_stride_2(x)
        for stage, count in enumerate(counts):
            common = x
            for index in range(count):
                x = block(
                    planes=self.width * 2**stage,
                    stride=strides[stage] if index == 0 else 1,
                    # The official code dilates every block of stage 4 but its first.
                    dilation=dilations[stage] if index > 0 else 1,
                    norm=self.norm,
                    name=f"layer{stage + 1}_{index}",
                )(x, train)
        return Features(common=common, regression=x)
