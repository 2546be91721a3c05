"""The three branches of A2J (paper Sec. 3.1.1, 3.1.2): proposal, offset and depth of every anchor and joint."""

import jax
from flax import linen as nn

from a2j_jax.models.anchors import ANCHORS_PER_CELL
from a2j_jax.models.layers import BatchNorm, Conv, xavier_normal


class AnchorHead(nn.Module):
    """`depth` x [3x3 convolution, batch norm, ReLU], then the output convolution.

    (B, h, w, C) at stride 16 -> (B, h * w * 16, outputs): cells row-major, then the 16 anchors of a cell
    row-major (`anchors.anchor_grid` has the same order).
    """

    outputs: int
    features: int = 256
    depth: int = 4
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for index in range(1, self.depth + 1):
            x = Conv(
                self.features, 3, use_bias=True, kernel_init=xavier_normal, name=f"conv{index}"
            )(x)
            x = nn.relu(BatchNorm(self.axis_name, name=f"bn{index}")(x, train))
        x = Conv(
            ANCHORS_PER_CELL * self.outputs,
            3,
            use_bias=True,
            kernel_init=xavier_normal,
            name="output",
        )(x)
        return x.reshape(x.shape[0], -1, self.outputs)
