"""What the networks of all paradigms share: a depth crop goes through one trunk."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from a2j_jax.models.resnet import Features, ResNet

SIDES_DIVISIBLE_BY = 16  # what the trunk halves four times must not be odd


class PoseNetwork(nn.Module):
    """Base of the networks that answer a crop with joints.

    `model.apply(variables, images, train=False)` takes normalised depth crops (B, H, W, 1), H and W divisible
    by 16. What it returns is the paradigm's own, in float32; `decoding.decode` makes joints of it and
    `losses.objective` a loss. With `train=True` and `mutable=["batch_stats"]` it normalises by, and updates,
    batch statistics.

    Attributes:
      num_joints: K.
      joint_dims: 3, or 2 for in-plane joints without depth (K2HPD).
      backbone: "resnet18", "resnet34" or "resnet50".
      width: channels of the trunk's first stage (64 in the paper).
      stem_channels: input channels of the first kernel: 3, as ImageNet's, or their sum, see `layers.DepthStem`.
      dtype: compute dtype of trunk and heads; None follows the images. Weights stay float32.
      remat: keep only what goes from one residual block to the next, and compute the rest anew for the gradient.
      axis_name: mapped axis over which batch statistics are shared.
    """

    paradigm: ClassVar[str] = ""  # what reports call it

    num_joints: int
    joint_dims: int = 3
    backbone: str = "resnet50"
    width: int = 64
    stem_channels: int = 3
    dtype: Any = None
    remat: bool = False
    axis_name: str | None = None

    def features(self, images: jax.Array, train: bool, output_stride: int = 16) -> Features:
        """The trunk's feature maps of images (B, H, W, 1); for the compact method of a network.

        Raises:
          ValueError: images of another shape.
        """
        if images.ndim != 4 or images.shape[-1] != 1:
            raise ValueError(f"images must be (B, H, W, 1) depth crops, not {images.shape}")
        if images.shape[1] % SIDES_DIVISIBLE_BY or images.shape[2] % SIDES_DIVISIBLE_BY:
            raise ValueError(
                f"images of {images.shape[1:3]} px: sides must be divisible by {SIDES_DIVISIBLE_BY}"
            )
        trunk = ResNet(
            self.backbone,
            self.width,
            output_stride,
            self.stem_channels,
            self.remat,
            self.axis_name,
            name="trunk",
        )
        features: Features = trunk(
            images if self.dtype is None else images.astype(self.dtype), train
        )
        return features


def init_variables(model: PoseNetwork, key: jax.Array, height: int, width: int) -> dict[str, Any]:
    """Initialise parameters and batch statistics for crops of `height` x `width` px (float32)."""
    images = jnp.zeros((1, height, width, 1), jnp.float32)
    return jax.jit(lambda k: model.init(k, images, train=False))(key)
