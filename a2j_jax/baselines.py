"""What Table 8 compares A2J with: global regression, and an FCN with heat maps; both share A2J's trunk.

Each is made of `Parts`, as your own network is: `--config.parts=a2j_jax.baselines:heat_maps`.
"""

from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from a2j_jax.config import Config
from a2j_jax.losses import DEPTH_TERMS, Losses, Targets, masked_mean, regression_loss
from a2j_jax.models.a2j import PoseNetwork, network_settings
from a2j_jax.models.anchors import Estimate, at_least_float32
from a2j_jax.models.layers import Conv, Deconv
from a2j_jax.parts import Parts
from a2j_jax.tracks import TrackSpec

MAP_STRIDE = 4  # px of the crop per px of a heat map
HEAT_SIGMA = 2.0  # px of a heat map, as Xiao et al. (ECCV 2018)
# Weight of a heat map's depth, which their network lacks: both terms are then about equal throughout training.
HEAT_DEPTH_WEIGHT = 0.1


def global_regression(config: Config, track: TrackSpec) -> Parts:
    """One vector for the entire crop, trained by Eq. (4)."""
    constants: dict[str, Any] = {
        "alpha": config.loss.alpha,
        "depth_term": DEPTH_TERMS[config.loss.preset],
    }
    return Parts(
        network=GlobalRegression(**network_settings(config.model, track)),
        objective=partial(vector_losses, **constants),
    )


def heat_maps(config: Config, track: TrackSpec) -> Parts:
    """An FCN that is trained to paint a Gaussian around each joint; `model.head_features` are its deconvolutions'."""
    network = HeatMapFCN(
        **network_settings(config.model, track), deconv_features=config.model.head_features
    )
    return Parts(network=network, objective=heat_map_losses)


class PoseVector(NamedTuple):
    """Outputs of global regression, float32."""

    joints: (
        jax.Array
    )  # (B, K, 3) u px, v px of the crop, depth in network units; (B, K, 2) in 2D mode


class HeatMaps(NamedTuple):
    """Outputs of the FCN, float32; pixel (i, j) of a map lies at (4 j, 4 i) px of the crop."""

    maps: jax.Array  # (B, h, w, K) scores of each position
    depth: jax.Array | None  # (B, h, w, K) at each position, network units; None in 2D mode


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

    def decode(self, outputs: PoseVector, crop_size: int) -> Estimate:
        """The vector itself, with confidence 1."""
        joints = outputs.joints
        return Estimate(joints, jnp.ones(joints.shape[:2], joints.dtype))


def vector_losses(
    outputs: PoseVector,
    targets: Targets,
    *,
    count: jax.Array,
    step: jax.Array | None = None,
    **constants: Any,
) -> Losses:
    """Eq. (4) of the vector, the term "regression"; `constants` are those of `losses.regression_loss`."""
    joints, valid = targets["joints"], targets["valid"]
    loss = regression_loss(outputs.joints, joints, valid, count=count, **constants)
    return Losses(loss, {"regression": loss})


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
            x = self.norm(name=f"deconv_bn{index}")(x, train, relu=True)
        # As published: small weights, so that training starts from empty maps.
        small = nn.initializers.normal(0.001)
        channels = self.num_joints * (self.joint_dims - 1)
        x = Conv(channels, 1, use_bias=True, kernel_init=small, name="output")(x)
        maps = at_least_float32(x)
        if self.joint_dims == 2:
            return HeatMaps(maps, None)
        maps, depth = jnp.split(maps, 2, axis=-1)
        return HeatMaps(maps, depth * images.shape[2])  # scaled as in `GlobalRegression`

    def decode(self, outputs: HeatMaps, crop_size: int) -> Estimate:
        """The highest pixel of each map, with its height, clipped to [0, 1], as confidence."""
        joints, height = peaks(outputs)
        return Estimate(joints, height.clip(0.0, 1.0))


def heat_map_losses(
    outputs: HeatMaps, targets: Targets, *, count: jax.Array, step: jax.Array | None = None
) -> Losses:
    """Half the squared distance to Gaussian maps, summed over pixels, as "Simple Baselines" (Xiao et al. 2018).

    They average over pixels; the sum keeps the loss far above Adam's L2 for any size of maps. In 3D there is a term
    "depth" beside "heat": the mean of |depth - truth| (network units) weighted by the Gaussian. Joints outside the map
    do not count; the step is not used.
    """
    joints = targets["joints"]
    target, on_map = gaussian_maps(joints[..., :2], *outputs.maps.shape[1:3])
    valid = targets["valid"].astype(bool) & on_map
    mean = partial(masked_mean, valid=valid, count=count)
    heat = mean(0.5 * jnp.square(outputs.maps - target).sum((1, 2)))
    if outputs.depth is None:
        return Losses(heat, {"heat": heat})
    error = jnp.abs(outputs.depth - joints[:, None, None, :, 2])
    weight = jnp.maximum(target.sum((1, 2)), jnp.finfo(target.dtype).tiny)
    depth = mean((error * target).sum((1, 2)) / weight)
    return Losses(heat + HEAT_DEPTH_WEIGHT * depth, {"heat": heat, "depth": depth})


def gaussian_maps(joints_uv: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Target maps of joints: a Gaussian of height 1 around each joint's pixel.

    Joints (B, K, 2), px of the crop -> (B, height, width, K) float32, and (B, K) bool: whether the pixel is on the map.
    """
    pixel = jnp.round(joints_uv / MAP_STRIDE)
    on_map = ((pixel >= 0) & (pixel < jnp.array([width, height]))).all(-1)

    def bump(size: int, center: jax.Array) -> jax.Array:
        distance = jnp.arange(size, dtype=center.dtype)[:, None] - center[:, None, :]
        return jnp.exp(-jnp.square(distance) / (2 * HEAT_SIGMA**2))

    across, down = bump(width, pixel[..., 0]), bump(height, pixel[..., 1])  # (B, size, K)
    return down[:, :, None, :] * across[:, None, :, :], on_map
