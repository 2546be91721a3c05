"""A2J (paper Fig. 2), whose heads predict proposal, offset and depth of every anchor, and `PoseNetwork`, the base of it
and of every network that takes its place (`a2j_jax.parts`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from a2j_jax.config import ModelConfig
from a2j_jax.errors import UserError
from a2j_jax.lowering import lowering_for, made_once
from a2j_jax.models.anchors import (
    ANCHORS_PER_CELL,
    STRIDE,
    Estimate,
    Heads,
    at_least_float32,
    decode,
)
from a2j_jax.models.layers import BatchNorm, Conv, xavier_normal
from a2j_jax.models.resnet import Features, ResNet, rematerialized
from a2j_jax.tracks import TrackSpec

SIDES_DIVISIBLE_BY = 16  # the trunk halves them four times


class PoseNetwork(nn.Module):
    """Base of the networks that predict joints in a crop.

    `model.apply(variables, images, train=False)` takes normalized depth crops (B, H, W, 1), H and W divisible by 16,
    and returns the network's outputs, any tree of float32 arrays; its `decode` makes joints of them, and its objective
    a loss. With `train=True` and `mutable=["batch_stats"]` it normalizes by batch statistics and updates them; it may
    ask for random keys called "dropout".

    Your own network is a subclass: `__call__` and `decode`, or `trunk_features` alone for another backbone
    (docs/extending.md).

    Attributes:
      num_joints: K.
      joint_dims: 3, or 2 for in-plane joints without depth (K2HPD).
      backbone: "resnet18", "resnet34" or "resnet50".
      width: channels of the trunk's first stage (64 in the paper).
      stem_channels: input channels of the first kernel: 3 (ImageNet) or 1, see `layers.DepthStem`.
      dtype: compute dtype of trunk and heads; None follows the images. Weights stay float32.
      remat: store only the activations between residual blocks and recompute the rest for the gradient.
      axis_name: mapped axis over which batch statistics are shared.
      batch_norm: rows that are normalized together: "global", "local" or a number, see `layers.BatchNorm`.
    """

    paradigm: ClassVar[str] = ""  # its name in reports; the name of the class by default

    num_joints: int
    joint_dims: int = 3
    backbone: str = "resnet50"
    width: int = 64
    stem_channels: int = 3
    dtype: Any = None
    remat: bool = False
    axis_name: str | None = None
    batch_norm: int | str = "global"

    @property
    def label(self) -> str:
        """The network in logs and tables: "A2J resnet50", or the class name alone if it is not this package's."""
        kind = type(self)
        own = not kind.__module__.startswith("a2j_jax.")
        return kind.__name__ if own else f"{self.paradigm or kind.__name__} {self.backbone}"

    @property
    def norm(self) -> Callable[..., BatchNorm]:
        """Makes the batch norms of this network: `self.norm(name="bn1")(x, train)`."""
        return partial(BatchNorm, self.axis_name, self.batch_norm)

    def features(self, images: jax.Array, train: bool, output_stride: int = 16) -> Features:
        """The trunk's feature maps of images (B, H, W, 1), H and W divisible by 16; call it in a compact method.

        Args:
          images: normalized depth crops.
          train: whether to normalize by batch statistics.
          output_stride: s of the maps `regression`: 16, or 32 for a network that asks for it.

        Raises:
          ValueError: images of another shape.
          UserError: a subclass's `trunk_features` returns something other than `Features` with these strides.
        """
        if images.ndim != 4 or images.shape[-1] != 1:
            raise ValueError(f"images must be (B, H, W, 1) depth crops, not {images.shape}")
        if images.shape[1] % SIDES_DIVISIBLE_BY or images.shape[2] % SIDES_DIVISIBLE_BY:
            raise ValueError(
                f"images of {images.shape[1:3]} px: sides must be divisible by {SIDES_DIVISIBLE_BY}"
            )
        images = images if self.dtype is None else images.astype(self.dtype)
        found = self.trunk_features(images, train, output_stride)
        _check_features(type(self).__name__, found, images.shape, output_stride)
        return found

    def trunk_features(self, images: jax.Array, train: bool, output_stride: int) -> Features:
        """The trunk's feature maps in the images' dtype; override it for another backbone.

        Returns:
          `Features` of any number of channels: `common` (B, H/16, W/16, C), `regression` (B, H/s, W/s, C') at output
          stride s, rounded up. A2J asks for s = 16, the heat maps of `a2j_jax.baselines` for 32.
        """
        trunk = ResNet(
            self.backbone,
            self.width,
            output_stride,
            self.stem_channels,
            self.remat,
            self.norm,
            name="trunk",
        )
        features: Features = trunk(images, train)
        return features

    def decode(self, outputs: Any, crop_size: int) -> Estimate:
        """Joints of a batch of square crops, from the network's outputs; a pure function that needs no variables.

        Args:
          outputs: of `apply`.
          crop_size: side of the crops, px.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decode(outputs, crop_size)")


def _check_features(network: str, found: Any, images: tuple[int, ...], output_stride: int) -> None:
    """Refuse what a subclass's `trunk_features` returns if the heads could not read it."""
    if not isinstance(found, Features):
        raise UserError(
            f"{network}.trunk_features returned {type(found).__name__}: expected "
            "a2j_jax.models.resnet.Features(common, regression)"
        )
    for name, stride in (("common", STRIDE), ("regression", output_stride)):
        shape = getattr(found, name).shape
        expected = (images[0], *(-(-side // stride) for side in images[1:3]))
        if len(shape) != 4 or shape[:3] != expected:
            sides = ", ".join(map(str, expected))
            raise UserError(
                f"{network}.trunk_features: {name} has shape {shape}: expected ({sides}, channels), stride {stride}"
            )


def network_settings(settings: ModelConfig, track: TrackSpec) -> dict[str, Any]:
    """The fields of a `PoseNetwork` that a config sets, for the joints of a track."""
    return {
        "num_joints": track.num_joints,
        "joint_dims": track.joint_dims,
        "backbone": settings.backbone,
        "width": settings.width,
        "stem_channels": settings.stem_channels,
        "dtype": None if settings.dtype == "float32" else jnp.dtype(settings.dtype),
        "remat": settings.remat,
        "batch_norm": settings.ghost_size
        if settings.batch_norm == "ghost"
        else settings.batch_norm,
    }


def a2j_settings(settings: ModelConfig, track: TrackSpec) -> dict[str, Any]:
    """The fields of an `A2J` that a config sets: `network_settings`, and those of the heads."""
    return {
        **network_settings(settings, track),
        "head_features": settings.head_features,
        "head_depth": settings.head_depth,
        "proposals": settings.proposals,
        "one_branch": settings.one_branch,
    }


def init_variables(model: PoseNetwork, key: jax.Array, height: int, width: int) -> dict[str, Any]:
    """Initializes parameters and batch statistics for crops of `height` x `width` px (float32)."""
    variables: dict[str, Any] = _initializer(model, height, width)(key)
    return variables


@made_once
def _initializer(model: PoseNetwork, height: int, width: int) -> Callable[[jax.Array], Any]:
    def init(key: jax.Array) -> Any:
        return model.init(key, jnp.zeros((1, height, width, 1), jnp.float32), train=False)

    return jax.jit(init)


def variable_shapes(model: PoseNetwork, crop_size: int) -> Any:
    """Shapes and dtypes of a network's variables for square crops, without computing them."""
    return jax.tree.map(lambda shape: shape, _shapes(model, crop_size))  # dicts of the caller's own


@made_once
def _shapes(model: PoseNetwork, crop_size: int) -> Any:
    images = jax.ShapeDtypeStruct((1, crop_size, crop_size, 1), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)


@made_once
def flops_per_frame(model: PoseNetwork, track: TrackSpec) -> float:
    """Floating-point operations of network and decoding for one crop, by XLA's count; compiles nothing.

    A multiplication and an addition are two; products with the zeros around a map are none. Counted before XLA's
    optimization, after which library calls of a device may hide their work: it is the same number everywhere.
    """
    size = track.crop_size

    def program(variables: Any, images: jax.Array) -> Estimate:
        outputs: Any = model.apply(variables, images, train=False)
        return model.decode(outputs, size)

    images = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    with lowering_for("gpu"):  # the plain operations, not what is quicker on a processor
        lowered = jax.jit(program).lower(variable_shapes(model, track.crop_size), images)
    cost: Any = lowered.cost_analysis()
    return float(cost["flops"])


class AnchorHead(nn.Module):
    """One branch of A2J (paper Sec. 3.1): `depth` x [3x3 convolution, batch norm, ReLU], then the output convolution.

    (B, h, w, C) at stride 16 -> (B, h * w * 16, outputs): cells row-major, then the 16 anchors of a cell
    row-major (`anchors.anchor_grid` has the same order).
    """

    outputs: int
    features: int = 256
    depth: int = 4
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(Conv, size=3, use_bias=True, kernel_init=xavier_normal)
        for index in range(1, self.depth + 1):
            x = conv(self.features, name=f"conv{index}")(x)
            x = self.norm(name=f"bn{index}")(x, train, relu=True)
        x = conv(ANCHORS_PER_CELL * self.outputs, name="output")(x)
        return x.reshape(x.shape[0], -1, self.outputs)


class A2J(PoseNetwork):
    """Anchor-to-joint regression network: images (B, H, W, 1) -> `Heads`, float32.

    `a2j_jax.models.anchors.aggregate` turns heads into joints.

    Attributes, beside those of `PoseNetwork`:
      head_features, head_depth: channels and number of the hidden convolutions of a head (256 and 4 in the paper).
      proposals: whether anchors are weighted; without (Table 7) there is no proposal head.
      one_branch: predict offset and depth by one head, "joint_head" (Table 7).
    """

    paradigm: ClassVar[str] = "A2J"

    head_features: int = 256
    head_depth: int = 4
    proposals: bool = True
    one_branch: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Heads:
        trunk = self.features(images, train)
        proposal = None
        if self.proposals:
            proposal = self._head("proposal_head", 1, trunk.common, train)[..., 0]
        if self.one_branch:
            both = self._head("joint_head", self.joint_dims, trunk.regression, train)
            offset = both[..., :2]
            depth = both[..., 2] if self.joint_dims == 3 else None
        else:
            offset = self._head("offset_head", 2, trunk.regression, train)
            depth = None
            if self.joint_dims == 3:
                depth = self._head("depth_head", 1, trunk.regression, train)[..., 0]
        return Heads(proposal=proposal, offset=offset, depth=depth)

    def decode(self, outputs: Heads, crop_size: int) -> Estimate:
        """The average of the anchors' votes, see `anchors.decode`."""
        return decode(outputs, crop_size)

    def _head(self, name: str, values: int, x: jax.Array, train: bool) -> jax.Array:
        """A head's outputs for every anchor and joint, (B, A, K, values) float32."""
        kind = rematerialized(AnchorHead) if self.remat else AnchorHead
        outputs = values * self.num_joints
        head = kind(outputs, self.head_features, self.head_depth, self.norm, name=name)
        y = head(x, train)
        return at_least_float32(y).reshape(*y.shape[:2], self.num_joints, values)
