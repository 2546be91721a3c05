"""Their key -> ours: which tensor of an official or ImageNet state dict is which of our variables.

The two worlds differ in layout (OIHW against HWIO) and in the order of in-plane coordinates: the official
offset head predicts (row, column), ours (u, v). This module and the official-format readers of predictions are
the only places that know.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from a2j_jax.models.resnet import ARCHITECTURES, Bottleneck

Transform = Callable[[np.ndarray], np.ndarray]
OFFICIAL_TRUNK_PREFIX = "Backbone.model."
STEM_CHANNELS = 3  # of every published first convolution
HEADS = {
    "proposal_head": "classificationModel",
    "offset_head": "regressionModel",
    "depth_head": "DepthRegressionModel",
}


class Entry(NamedTuple):
    """One row of the table; `to_ours` and `to_theirs` are inverse to each other."""

    theirs: str
    ours: tuple[str, ...]  # path in the variables, "params" or "batch_stats" first
    to_ours: Transform
    to_theirs: Transform


def _summed_stem(x: np.ndarray) -> np.ndarray:
    return _oihw_to_hwio(x).sum(axis=2, keepdims=True)


def _shared_out_stem(x: np.ndarray) -> np.ndarray:
    return _hwio_to_oihw((x / STEM_CHANNELS).repeat(STEM_CHANNELS, axis=2))


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _oihw_to_hwio(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 3, 1, 0)


def _hwio_to_oihw(x: np.ndarray) -> np.ndarray:
    return x.transpose(3, 2, 0, 1)


def _swap_row_column(x: np.ndarray) -> np.ndarray:
    """Exchange the last axis's neighbouring pairs: (..., row, column, row, ...) <-> (..., u, v, u, ...)."""
    return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)


def _offset_kernel_to_ours(x: np.ndarray) -> np.ndarray:
    return _swap_row_column(_oihw_to_hwio(x))


def _offset_kernel_to_theirs(x: np.ndarray) -> np.ndarray:
    return _hwio_to_oihw(_swap_row_column(x))


def _conv(theirs: str, *ours: str, bias: bool = False) -> Iterator[Entry]:
    yield Entry(f"{theirs}.weight", ("params", *ours, "kernel"), _oihw_to_hwio, _hwio_to_oihw)
    if bias:
        yield Entry(f"{theirs}.bias", ("params", *ours, "bias"), _same, _same)


def _batch_norm(theirs: str, *ours: str) -> Iterator[Entry]:
    yield Entry(f"{theirs}.weight", ("params", *ours, "scale"), _same, _same)
    yield Entry(f"{theirs}.bias", ("params", *ours, "bias"), _same, _same)
    yield Entry(f"{theirs}.running_mean", ("batch_stats", *ours, "mean"), _same, _same)
    yield Entry(f"{theirs}.running_var", ("batch_stats", *ours, "var"), _same, _same)


def trunk_entries(
    backbone: str, prefix: str = OFFICIAL_TRUNK_PREFIX, stem_channels: int = STEM_CHANNELS
) -> Iterator[Entry]:
    """Rows of the trunk; with `prefix=""` in the naming of torchvision's and timm's ImageNet files.

    Ours may keep the first convolution's three input channels, or one: their sum, which makes the same of a depth
    image as the three make of the image repeated.
    """
    block, counts = ARCHITECTURES[backbone]
    convolutions = 3 if block is Bottleneck else 2
    if stem_channels == STEM_CHANNELS:
        yield from _conv(f"{prefix}conv1", "trunk", "conv1")
    else:
        stem = ("params", "trunk", "conv1", "kernel")
        yield Entry(f"{prefix}conv1.weight", stem, _summed_stem, _shared_out_stem)
    yield from _batch_norm(f"{prefix}bn1", "trunk", "bn1")
    for stage, count in enumerate(counts, start=1):
        for index in range(count):
            theirs, ours = f"{prefix}layer{stage}.{index}", f"layer{stage}_{index}"
            for i in range(1, convolutions + 1):
                yield from _conv(f"{theirs}.conv{i}", "trunk", ours, f"conv{i}")
                yield from _batch_norm(f"{theirs}.bn{i}", "trunk", ours, f"bn{i}")
            if index == 0 and (stage > 1 or block is Bottleneck):
                yield from _conv(f"{theirs}.downsample.0", "trunk", ours, "downsample_conv")
                yield from _batch_norm(f"{theirs}.downsample.1", "trunk", ours, "downsample_bn")


def head_entries(ours: str, depth: int = 4) -> Iterator[Entry]:
    """Rows of one head, "proposal_head", "offset_head" or "depth_head", with `depth` hidden convolutions."""
    theirs = HEADS[ours]
    for i in range(1, depth + 1):
        yield from _conv(f"{theirs}.conv{i}", ours, f"conv{i}", bias=True)
        yield from _batch_norm(f"{theirs}.bn{i}", ours, f"bn{i}")
    if ours != "offset_head":
        yield from _conv(f"{theirs}.output", ours, "output", bias=True)
        return
    yield Entry(
        f"{theirs}.output.weight",
        ("params", ours, "output", "kernel"),
        _offset_kernel_to_ours,
        _offset_kernel_to_theirs,
    )
    yield Entry(
        f"{theirs}.output.bias",
        ("params", ours, "output", "bias"),
        _swap_row_column,
        _swap_row_column,
    )


def official_entries(
    backbone: str,
    joint_dims: int = 3,
    head_depth: int = 4,
    heads: Iterable[str] | None = None,
    stem_channels: int = STEM_CHANNELS,
) -> list[Entry]:
    """The whole table of an A2J network in the official naming, or of its trunk and some of its heads."""
    if heads is None:
        heads = ["proposal_head", "offset_head"] + (["depth_head"] if joint_dims == 3 else [])
    rows = list(trunk_entries(backbone, stem_channels=stem_channels))
    for head in heads:
        rows.extend(head_entries(head, head_depth))
    return rows
