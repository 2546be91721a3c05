"""The baselines of the paper (Table 8) on A2J's trunk: global regression, and an FCN with heat maps."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import HeatMaps, PoseVector, at_least_float32
from a2j_jax.models.layers import BatchNorm, Conv, Deconv


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
