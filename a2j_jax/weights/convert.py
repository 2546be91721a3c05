"""State dicts in the official or ImageNet naming <-> our variables, and the weights a run starts from.

One table says which tensor of theirs is which of ours. The two differ in layout (OIHW against HWIO) and in the order of
in-plane coordinates: the official offset head predicts (row, column), ours (u, v). Only this module and the readers of
official predictions know about it. All mismatches are reported at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.log import logger
from a2j_jax.models.resnet import ARCHITECTURES, Bottleneck
from a2j_jax.weights.formats import read_state_dict

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


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _oihw_to_hwio(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 3, 1, 0)


def _hwio_to_oihw(x: np.ndarray) -> np.ndarray:
    return x.transpose(3, 2, 0, 1)


def _summed_stem(x: np.ndarray) -> np.ndarray:
    return _oihw_to_hwio(x).sum(axis=2, keepdims=True)


def _shared_out_stem(x: np.ndarray) -> np.ndarray:
    return _hwio_to_oihw((x / STEM_CHANNELS).repeat(STEM_CHANNELS, axis=2))


def _swap_row_column(x: np.ndarray) -> np.ndarray:
    """Exchange the last axis's neighboring pairs: (..., row, column, row, ...) <-> (..., u, v, u, ...)."""
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

    Our first convolution may have three input channels, or one: their sum, which makes the same of a depth image as the
    three make of the image repeated.
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
    weight, bias = (("params", ours, "output", name) for name in ("kernel", "bias"))
    yield Entry(f"{theirs}.output.weight", weight, _offset_kernel_to_ours, _offset_kernel_to_theirs)
    yield Entry(f"{theirs}.output.bias", bias, _swap_row_column, _swap_row_column)


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


# ImageNet's classifier, carried along unused by the official network, and PyTorch's step counters.
CLASSIFIER = ("fc.", "Backbone.model.fc.")
IGNORED_SUFFIX = "num_batches_tracked"
_SHOWN = 3  # of a kind: one line should stay one line
_ANCHORS_PER_CELL = 16


def variables_from_official(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    backbone: str,
    joint_dims: int,
    head_depth: int = 4,
    source: str = "state dict",
) -> dict[str, Any]:
    """Put an official A2J state dict into the shape of `variables`.

    Args:
      state_dict: tensors by official name, any float dtype.
      variables: freshly initialized variables of the model (or their shapes): what is expected.
      backbone, joint_dims, head_depth: of that model.
      source: named in errors.

    Returns:
      {"params": ..., "batch_stats": ...} of float arrays in the dtype of the state dict.

    Raises:
      UserError: how many keys are missing, unexpected and misshapen, with the first of each, and what network
        the file looks like; or tensors that are not finite.
    """
    channels = _stem_channels(variables)
    entries = official_entries(backbone, joint_dims, head_depth, stem_channels=channels)
    return _filled(state_dict, entries, variables, source)


def parts_from_official(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    backbone: str,
    head_depth: int = 4,
    source: str = "state dict",
) -> dict[str, Any]:
    """Replace what `variables` share with an official A2J state dict: the trunk, and heads of the same name.

    A network of Table 7 or 8 has fewer heads than A2J, or others: those stay as they are, and A2J's are left out.

    Args, Raises: as `variables_from_official`; heads that both have must fit.
    """
    shared = [head for head in HEADS if head in variables["params"]]
    others = tuple(f"{theirs}." for head, theirs in HEADS.items() if head not in shared)
    channels = _stem_channels(variables)
    entries = official_entries(
        backbone, head_depth=head_depth, heads=shared, stem_channels=channels
    )
    wanted = {key: x for key, x in state_dict.items() if not key.startswith(others)}
    return _filled(wanted, entries, variables, source)


def load_imagenet_trunk(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    backbone: str,
    source: str = "state dict",
) -> dict[str, Any]:
    """Replace the trunk of `variables` by an ImageNet ResNet in torchvision's or timm's naming.

    Heads stay as they are; the ImageNet classifier is dropped. Raises `UserError` as `variables_from_official`.
    """
    entries = trunk_entries(backbone, prefix="", stem_channels=_stem_channels(variables))
    return _filled(state_dict, entries, variables, source)


def imagenet_trunk(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    backbone: str,
    source: str = "state dict",
) -> dict[str, np.ndarray]:
    """The tensors of an ImageNet ResNet that a trunk starts from, in their own naming; arguments as above."""
    load_imagenet_trunk(state_dict, variables, backbone=backbone, source=source)
    return {key: np.ascontiguousarray(x) for key, x in state_dict.items() if not _is_ignored(key)}


def official_from_variables(
    variables: Mapping[str, Any], *, backbone: str, joint_dims: int, head_depth: int = 4
) -> dict[str, np.ndarray]:
    """Our variables as a state dict in the official naming; the inverse of `variables_from_official`."""
    flat, channels = flatten_dict(dict(variables)), _stem_channels(variables)
    return {
        entry.theirs: np.ascontiguousarray(entry.to_theirs(np.asarray(flat[entry.ours])))
        for entry in official_entries(backbone, joint_dims, head_depth, stem_channels=channels)
    }


def _stem_channels(variables: Mapping[str, Any]) -> int:
    """Input channels of our first convolution, (7, 7, channels, features)."""
    channels: int = variables["params"]["trunk"]["conv1"]["kernel"].shape[2]
    return channels


def _filled(
    state_dict: Mapping[str, np.ndarray],
    entries: Iterable[Entry],
    variables: Mapping[str, Any],
    source: str,
) -> dict[str, Any]:
    """`variables` with the tensors of all entries; errors as `variables_from_official`."""
    filled = flatten_dict(dict(variables))
    wrong: dict[str, list[str]] = {"missing": [], "unexpected": [], "misshapen": []}
    known: set[str] = set()
    for entry in entries:
        known.add(entry.theirs)
        if entry.theirs not in state_dict:
            wrong["missing"].append(entry.theirs)
            continue
        theirs = np.asarray(state_dict[entry.theirs])
        # Compared in their layout: a tensor of the wrong shape may not be transformable at all.
        like_ours = np.broadcast_to(np.float32(0), tuple(filled[entry.ours].shape))
        wanted = entry.to_theirs(like_ours).shape
        if theirs.shape != wanted:
            wrong["misshapen"].append(f"{entry.theirs} is {theirs.shape}, expected {wanted}")
        else:
            filled[entry.ours] = np.ascontiguousarray(entry.to_ours(theirs))
    wrong["unexpected"] = [key for key in state_dict if key not in known and not _is_ignored(key)]
    if any(wrong.values()):
        parts = [f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in wrong.items() if keys]
        if found := looks_like(state_dict):
            parts.append(f"the file looks like {found}")
        raise UserError(
            f"{source} does not fit this model; {'; '.join(parts)}; name the backbone, and the track if it is A2J, "
            "that the weights were made for"
        )
    broken = [key for key in state_dict if key in known and not np.isfinite(state_dict[key]).all()]
    if broken:
        raise UserError(
            f"{source}: {len(broken)} tensors hold NaN or infinity: {_listed(broken)}; the training "
            "that wrote them has broken"
        )
    return unflatten_dict(filled)


def looks_like(state_dict: Mapping[str, np.ndarray]) -> str:
    """What network a state dict is of, in words, by its names and shapes; "" where that is unclear."""
    heads = f"{HEADS['proposal_head']}.output.weight"
    prefix = OFFICIAL_TRUNK_PREFIX if heads in state_dict else ""
    if f"{prefix}conv1.weight" not in state_dict:
        return ""

    def has(block: str) -> bool:
        return f"{prefix}layer{block}.weight" in state_dict

    if has("1.0.conv3"):  # three convolutions in a block
        backbone = "resnet50" if has("3.5.conv3") and not has("3.6.conv3") else "a deeper ResNet"
    else:
        backbone = "resnet34" if has("1.2.conv2") else "resnet18"
    if not prefix:
        return f"a {backbone} without A2J's heads"
    outputs = np.shape(state_dict[heads])[:1] or (0,)
    joints, rest = divmod(outputs[0], _ANCHORS_PER_CELL)
    if rest or not joints:
        return ""
    deep = any(key.startswith(HEADS["depth_head"]) for key in state_dict)
    return f"A2J of {joints} joints in {'3D' if deep else '2D'} with {backbone}"


def _is_ignored(key: str) -> bool:
    return key.startswith(CLASSIFIER) or key.endswith(IGNORED_SUFFIX)


def _listed(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")


def initial_variables(
    source: str, variables: dict[str, Any], *, backbone: str, head_depth: int
) -> dict[str, Any]:
    """Fill `variables` from a file, an A2J network or an ImageNet trunk by its names; logs what was taken and what not.

    Args:
      source: `.pth`, `.safetensors` or `.npz`.
      variables: freshly initialized {"params", "batch_stats"} of any network of ours.
      backbone, head_depth: of that network.

    Returns:
      The same tree: every tensor that the file has is its, float32, the others as they came.

    Raises:
      UserError: a file that cannot be read or does not fit.
    """
    loaded, there, unused = _loaded(source, variables, backbone, head_depth)
    names, taken = list(flatten_dict(variables, sep="/")), {"trunk", *there}
    left = [name for name in names if name.split("/")[1] not in taken]
    log_initialized(source, len(names) - len(left), left, unused)
    return loaded


def check_weights(source: str, variables: Any, *, backbone: str, head_depth: int) -> None:
    """Raise what `initial_variables` would; variables may be shapes alone."""
    _loaded(source, variables, backbone, head_depth)


def _loaded(
    source: str, variables: dict[str, Any], backbone: str, head_depth: int
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Filled variables, A2J's heads that the file has, and the parts of the file that are not used."""
    if not local_path(source).exists():
        raise UserError(
            f"--config.model.init_from: weights file not found: {source}; docs/weights.md has the two commands "
            "that fetch ImageNet's, --config.model.init_from=none starts from random weights"
        )
    state_dict = read_state_dict(source)
    there = [h for h, theirs in HEADS.items() if any(k.startswith(theirs) for k in state_dict)]
    if there:
        loaded = parts_from_official(
            state_dict, variables, backbone=backbone, head_depth=head_depth, source=source
        )
    else:
        loaded = load_imagenet_trunk(state_dict, variables, backbone=backbone, source=source)
    unused = [head for head in there if head not in variables["params"]]
    if any(key.startswith(CLASSIFIER) for key in state_dict):
        unused.append("ImageNet's classifier (fc)")
    return loaded, there, unused


def log_initialized(source: str, taken: int, left: Iterable[str], unused: Iterable[str]) -> None:
    """Log what a run starts with.

    Args:
      source: the file or folder.
      taken: number of tensors that come from it.
      left: names of ours that it does not have ("params/depth_head/output/bias"): they stay as initialized.
      unused: parts of it that are not used.
    """
    text = f"initialized from {source}: {taken} tensors"
    heads = Counter(name.split("/")[1] for name in left)
    if heads:
        listed = ", ".join(f"{head} ({count} tensors)" for head, count in sorted(heads.items()))
        text += f"; no tensors that fit, left as initialized: {listed}"
    dropped = ", ".join(unused)
    logger.info(text + (f"; not used: {dropped}" if dropped else ""))
