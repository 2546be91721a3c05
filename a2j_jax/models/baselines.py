"""The baselines of the paper (Table 8) on A2J's trunk: global regression, and an FCN with heat maps."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import at_least_float32
from a2j_jax.models.layers import BatchNorm, Conv, Deconv

MAP_STRIDE = 4  # px of the crop per px of a heat map


class PoseVector(NamedTuple):
    """Outputs of global regression, float32.

    Attributes:
      joints: (B, K, 3) u px, v px of the crop, depth in network units; (B, K, 2) in 2D mode.
    """

    joints: jax.Array


class HeatMaps(NamedTuple):
    """Outputs of the FCN, float32; pixel (i, j) of a map lies at (4 j, 4 i) px of the crop.

    Attributes:
      maps: (B, h, w, K) scores of each position.
      depth: (B, h, w, K) depth of the joint at each position, network units; None in 2D mode.
    """

    maps: jax.Array
    depth: jax.Array | None


class GlobalRegression(PoseNetwork):
    """One vector for the entire crop: features pooled over all positions, then one fully connected layer.

    Images (B, H, W, 1) -> `PoseVector`. The layer's outputs are in units of the crop's side, relative to its middle
    (depth: to zero), so that its weights have the scale that initialization and Adam expect.
    """

    paradigm: ClassVar[str] = "global regression"

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> PoseVector:
        pooled = at_least_float32(self.features(images, train).regression).mean((1, 2))
        outputs = nn.Dense(self.num_joints * self.joint_dims, name="output")(pooled)
        height, width = images.shape[1:3]
        middle = np.array([width / 2, height / 2, 0.0], np.float32)[: self.joint_dims]
        joints = outputs.reshape(-1, self.num_joints, self.joint_dims) * width + middle
        return PoseVector(joints)


class HeatMapFCN(PoseNetwork):
    """The fully convolutional network of "Simple Baselines" (Xiao, Wu and Wei, ECCV 2018).

    Images (B, H, W, 1) -> `HeatMaps`: a ResNet of stride 32, three deconvolutions, one 1x1 convolution. The published
    network is in-plane only; in 3D the last convolution adds a depth map for each joint.

    Attributes, beside those of `PoseNetwork`:
      deconv_features: channels of the deconvolutions.
    """

    paradigm: ClassVar[str] = "FCN with heat maps"

    deconv_features: int = 256

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> HeatMaps:
        x = self.features(images, train, output_stride=32).regression
        for index in range(1, 4):
            x = Deconv(self.deconv_features, name=f"deconv{index}")(x)
            x = nn.relu(BatchNorm(self.axis_name, name=f"deconv_bn{index}")(x, train))
        # As published: small weights, so that training starts from empty maps.
        x = Conv(
            self.num_joints * (self.joint_dims - 1),
            1,
            use_bias=True,
            kernel_init=nn.initializers.normal(0.001),
            name="output",
        )(x)
        maps = at_least_float32(x)
        if self.joint_dims == 2:
            return HeatMaps(maps, None)
        maps, depth = jnp.split(maps, 2, axis=-1)
        return HeatMaps(maps, depth * images.shape[2])  # scaled as in `GlobalRegression`


def peaks(outputs: HeatMaps) -> tuple[jax.Array, jax.Array]:
    """The highest pixel of each map, moved a quarter of a pixel toward its higher neighbors.

    As published, except near the edge of a map, where the published program moves along neither axis and this one along
    each axis with two neighbors: a difference of at most 1 px of the crop.

    Returns:
      Joints (B, K, 3) in crop coordinates, u px, v px, depth in network units read at the highest pixel, or
      (B, K, 2) without depth; and (B, K) the height there.
    """
    maps = outputs.maps
    batch, height, width, joints = maps.shape
    flat = maps.reshape(batch, height * width, joints)
    best = flat.argmax(axis=1)  # (B, K)
    row, column = best // width, best % width

    def at(i: jax.Array, j: jax.Array) -> jax.Array:
        index = i.clip(0, height - 1) * width + j.clip(0, width - 1)
        return jnp.take_along_axis(flat, index[:, None], axis=1)[:, 0]

    # On the border there is no neighbor to compare with.
    across = jnp.sign(at(row, column + 1) - at(row, column - 1))
    down = jnp.sign(at(row + 1, column) - at(row - 1, column))
    across = jnp.where((column > 0) & (column < width - 1), across, 0.0)
    down = jnp.where((row > 0) & (row < height - 1), down, 0.0)
    uv = MAP_STRIDE * jnp.stack([column + 0.25 * across, row + 0.25 * down], axis=-1)
    score = at(row, column)
    if outputs.depth is None:
        return uv, score
    depth = outputs.depth.reshape(batch, height * width, joints)
    depth = jnp.take_along_axis(depth, best[:, None], axis=1)[:, 0]
    return jnp.concatenate([uv, depth[..., None]], axis=-1), score
