"""The A2J network (paper Fig. 2): one trunk, three heads, dense predictions for every anchor."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from a2j_jax.models.anchors import STRIDE, Heads, at_least_float32
from a2j_jax.models.heads import AnchorHead
from a2j_jax.models.resnet import ResNet, rematerialised


class A2J(nn.Module):
    """Anchor-to-joint regression network.

    `model.apply(variables, images, train=False)` takes normalised depth crops (B, H, W, 1), H and W divisible
    by 16, and returns `Heads` in float32. With `train=True` and `mutable=["batch_stats"]` it normalises by, and
    updates, batch statistics. `a2j_jax.models.anchors.aggregate` turns heads into joints.

    Attributes:
      num_joints: K.
      joint_dims: 3, or 2 for in-plane joints without a depth head (K2HPD).
      backbone: "resnet18", "resnet34" or "resnet50".
      width: channels of the trunk's first stage (64 in the paper).
      head_features, head_depth: channels and number of the hidden convolutions of a head (256 and 4 in the paper).
      dtype: compute dtype of trunk and heads; None follows the images. Weights stay float32.
      remat: keep only what goes from one residual block to the next, and compute the rest anew for the gradient.
      axis_name: mapped axis over which batch statistics are shared.
    """

    num_joints: int
    joint_dims: int = 3
    backbone: str = "resnet50"
    width: int = 64
    head_features: int = 256
    head_depth: int = 4
    dtype: Any = None
    remat: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Heads:
        _check_images(images)
        x = images if self.dtype is None else images.astype(self.dtype)
        trunk = ResNet(self.backbone, self.width, self.remat, self.axis_name, name="trunk")(
            x, train
        )
        proposal = self._head("proposal_head", self.num_joints)(trunk.common, train)
        offset = self._head("offset_head", 2 * self.num_joints)(trunk.regression, train)
        depth = None
        if self.joint_dims == 3:
            depth = self._head("depth_head", self.num_joints)(trunk.regression, train)
            depth = at_least_float32(depth)
        return Heads(
            proposal=at_least_float32(proposal),
            offset=at_least_float32(offset).reshape(*offset.shape[:2], self.num_joints, 2),
            depth=depth,
        )

    def _head(self, name: str, outputs: int) -> AnchorHead:
        head = rematerialised(AnchorHead) if self.remat else AnchorHead
        return head(outputs, self.head_features, self.head_depth, self.axis_name, name=name)


def init_variables(model: A2J, key: jax.Array, height: int, width: int) -> dict[str, Any]:
    """Initialise parameters and batch statistics for crops of `height` x `width` px (float32)."""
    images = jnp.zeros((1, height, width, 1), jnp.float32)
    return jax.jit(lambda k: model.init(k, images, train=False))(key)


def _check_images(images: jax.Array) -> None:
    if images.ndim != 4 or images.shape[-1] != 1:
        raise ValueError(f"images must be (B, H, W, 1) depth crops, not {images.shape}")
    if images.shape[1] % STRIDE or images.shape[2] % STRIDE:
        raise ValueError(f"images of {images.shape[1:3]} px: sides must be divisible by {STRIDE}")
