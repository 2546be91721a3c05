"""State dicts in the official or ImageNet naming <-> our variables, and the weights a run starts from.

`entries` says which tensor of theirs is which of ours. The two differ in layout (OIHW against HWIO) and in the order of
in-plane coordinates: the official offset head predicts (row, column), ours (u, v). Only this module and the readers of
official predictions know about it. All mismatches are reported at once.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.log import logger
from a2j_jax.models.anchors import ANCHORS_PER_CELL
from a2j_jax.weights.formats import read_state_dict

Transform = Callable[[np.ndarray], np.ndarray]
TRUNK = "Backbone.model."
STEM_CHANNELS = 3  # of every published first convolution
HEADS = {
    "proposal_head": "classificationModel",
    "offset_head": "regressionModel",
    "depth_head": "DepthRegressionModel",
}
A2J_HEADS = (*HEADS, "joint_head")  # the last: of one branch, which the official program has not
# Our names of layers and of tensors, and PyTorch's.
_LAYERS = {
    r"^(layer\d)_": r"\1.",
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
}
_TENSORS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


class Entry(NamedTuple):
    """A tensor in both namings; `to_ours` and `to_theirs` are inverse to each other."""

    theirs: str
    ours: tuple[str, ...]  # path in the variables, "params" or "batch_stats" first
    to_ours: Transform
    to_theirs: Transform


_oihw_to_hwio = partial(np.transpose, axes=(2, 3, 1, 0))
_hwio_to_oihw = partial(np.transpose, axes=(3, 2, 0, 1))


def _swap_row_column(x: np.ndarray) -> np.ndarray:
    """Exchange the last axis's neighboring pairs: (..., row, column, row, ...) <-> (..., u, v, u, ...)."""
    return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)


def entries(variables: Mapping[str, Any], imagenet: bool = False) -> list[Entry]:
    """The tensors that variables share with A2J in the official naming: the trunk, and heads of the same name.

    Variables may be those of any network of ours, or their shapes. For `imagenet`: the trunk alone, as torchvision and
    timm name it.
    """
    found = []
    for ours, x in flatten_dict(dict(variables)).items():
        _, part, *layers, name = ours
        if part != "trunk" and (imagenet or part not in HEADS):
            continue
        theirs = ".".join([*layers, _TENSORS.get(name, name)])
        for pattern, replacement in _LAYERS.items():
            theirs = re.sub(pattern, replacement, theirs)
        if part in HEADS:
            theirs = f"{HEADS[part]}.{theirs}"
        elif not imagenet:
            theirs = TRUNK + theirs
        found.append(Entry(theirs, ours, *_transforms(part, layers, name, x.shape)))
    return sorted(found, key=lambda entry: (entry.ours[-1] != "kernel", entry.theirs.lower()))


def _transforms(
    part: str, layers: list[str], name: str, shape: tuple[int, ...]
) -> tuple[Transform, Transform]:
    to_ours: Transform = np.asarray
    to_theirs: Transform = np.asarray
    if name == "kernel" and len(shape) == 4:  # the trunk of another network has others, too
        to_ours, to_theirs = _oihw_to_hwio, _hwio_to_oihw
    if (part, layers) == ("offset_head", ["output"]):
        return lambda x: _swap_row_column(to_ours(x)), lambda x: to_theirs(_swap_row_column(x))
    if (part, layers, name) == ("trunk", ["conv1"], "kernel") and shape[2] != STEM_CHANNELS:
        # One input channel: the sum of three makes the same of a depth image as they do of the image repeated.
        return (
            lambda x: to_ours(x).sum(axis=2, keepdims=True),
            lambda x: to_theirs((x / STEM_CHANNELS).repeat(STEM_CHANNELS, axis=2)),
        )
    return to_ours, to_theirs


# ImageNet's classifier, carried along unused by the official network, and PyTorch's step counters.
CLASSIFIER = ("fc.", f"{TRUNK}fc.")
IGNORED_SUFFIX = "num_batches_tracked"
_SHOWN = 3  # of a kind: one line should stay one line


def variables_from_official(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    source: str = "state dict",
    imagenet: bool = False,
) -> dict[str, Any]:
    """Replace what `variables` share with A2J by an official state dict: all of an A2J network.

    Args:
      state_dict: tensors by official name, any float dtype.
      variables: freshly initialized variables of the model (or their shapes): what is expected.
      source: named in errors.
      imagenet: it is one of an ImageNet ResNet instead, in torchvision's or timm's naming: replace the trunk.

    Returns:
      {"params": ..., "batch_stats": ...} of float arrays in the dtype of the state dict; what A2J does not have (the
      heads of a baseline) stays as it is in `variables`.

    Raises:
      UserError: how many keys are missing, unexpected and misshapen, with the first of each, and what network
        the file looks like; or tensors that are not finite.
    """
    filled = flatten_dict(dict(variables))
    wrong: dict[str, list[str]] = {"missing": [], "unexpected": [], "misshapen": []}
    known: set[str] = set()
    for entry in entries(variables, imagenet):
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


def imagenet_trunk(
    state_dict: Mapping[str, np.ndarray], variables: Mapping[str, Any], source: str = "state dict"
) -> dict[str, np.ndarray]:
    """The tensors of an ImageNet ResNet that a trunk starts from, in their own naming; arguments as above."""
    variables_from_official(state_dict, variables, source=source, imagenet=True)
    return {key: np.ascontiguousarray(x) for key, x in state_dict.items() if not _is_ignored(key)}


def official_from_variables(variables: Mapping[str, Any], **_: Any) -> dict[str, np.ndarray]:
    """Our variables as a state dict in the official naming; the inverse of `variables_from_official`.

    Keywords that describe the network (`backbone`, `joint_dims`, `head_depth`) are accepted and not needed.
    """
    flat = flatten_dict(dict(variables))
    return {
        entry.theirs: np.ascontiguousarray(entry.to_theirs(np.asarray(flat[entry.ours])))
        for entry in entries(variables)
    }


def looks_like(state_dict: Mapping[str, np.ndarray]) -> str:
    """What network a state dict is of, in words, by its names and shapes; "" where that is unclear."""
    heads = f"{HEADS['proposal_head']}.output.weight"
    prefix = TRUNK if heads in state_dict else ""
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
    joints, rest = divmod(outputs[0], ANCHORS_PER_CELL)
    if rest or not joints:
        return ""
    deep = any(key.startswith(HEADS["depth_head"]) for key in state_dict)
    return f"A2J of {joints} joints in {'3D' if deep else '2D'} with {backbone}"


def _is_ignored(key: str) -> bool:
    return key.startswith(CLASSIFIER) or key.endswith(IGNORED_SUFFIX)


def _listed(items: list[str], shown: int = _SHOWN) -> str:
    return ", ".join(items[:shown]) + (", ..." if len(items) > shown else "")


def initial_variables(
    source: str, variables: dict[str, Any], *, quiet: bool = False
) -> dict[str, Any]:
    """Fill fresh `variables` (or shapes) of any network from a file, of an A2J network or an ImageNet trunk.

    A network of Table 7 or 8 has fewer heads than A2J, or others: those stay as they are, and A2J's are left out. Logs
    what was taken and what not, unless `quiet`.

    Returns:
      The same tree: tensors found in the file replace ours (float32), the rest are unchanged.

    Raises:
      UserError: a file that cannot be read or does not fit, or of which the network has not one tensor.
    """
    if not local_path(source).exists():
        raise UserError(
            f"--config.model.init_from: weights file not found: {source}; docs/weights.md has the two commands "
            "that fetch ImageNet's, --config.model.init_from=none starts from random weights"
        )
    state_dict = read_state_dict(source)
    there = [h for h, theirs in HEADS.items() if any(k.startswith(theirs) for k in state_dict)]
    names = list(flatten_dict(variables, sep="/"))
    left = [name for name in names if name.split("/")[1] not in {"trunk", *there}]
    if len(left) == len(names):
        raise UserError(
            f"--config.model.init_from={source}: not one of its tensors fits this network: it has "
            f"{looks_like(state_dict) or _listed(list(state_dict))}, the network {parts_named(names)}; name a file for "
            "this network, or --config.model.init_from=none"
        )
    unused = [head for head in there if head not in variables["params"]]
    left_out = tuple(f"{HEADS[head]}." for head in unused)
    wanted = {key: x for key, x in state_dict.items() if not key.startswith(left_out)}
    loaded = variables_from_official(wanted, variables, source=source, imagenet=not there)
    if any(key.startswith(CLASSIFIER) for key in state_dict):
        unused.append("ImageNet's classifier (fc)")
    if not quiet:
        log_initialized(source, len(names) - len(left), left, unused)
    return loaded


def parts_named(names: Iterable[str]) -> str:
    """The modules of variables of these names ("params/trunk/conv1/kernel"), as a message lists them."""
    return _listed(sorted({name.split("/")[1] for name in names}), 2 * _SHOWN)


def log_initialized(source: str, taken: int, left: Iterable[str], unused: Iterable[str]) -> None:
    """Log how many tensors a run takes from a file or folder, and of which parts of it none is used.

    `left` are the names of ours that it does not have ("params/depth_head/output/bias"): they stay as initialized.
    """
    text = f"initialized from {source}: {taken} tensors"
    heads = Counter(name.split("/")[1] for name in left)
    if heads:
        listed = ", ".join(f"{head} ({count} tensors)" for head, count in sorted(heads.items()))
        text += f"; no tensors that fit, left as initialized: {listed}"
    dropped = ", ".join(unused)
    logger.info(text + (f"; not used: {dropped}" if dropped else ""))
