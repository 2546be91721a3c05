"""State dicts in the official or ImageNet naming <-> our variables; all mismatches are reported at once."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.errors import UserError
from a2j_jax.weights.table import (
    HEADS,
    OFFICIAL_TRUNK_PREFIX,
    Entry,
    official_entries,
    trunk_entries,
)

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
      variables: freshly initialised variables of the model (or their shapes): what is expected.
      backbone, joint_dims, head_depth: of that model.
      source: named in errors.

    Returns:
      {"params": ..., "batch_stats": ...} of float arrays in the dtype of the state dict.

    Raises:
      UserError: how many keys are missing, unexpected and misshapen, with the first of each, and what network
        the file looks like; or tensors that are not finite.
    """
    expected = flatten_dict(dict(variables))
    entries = official_entries(
        backbone, joint_dims, head_depth, stem_channels=_stem_channels(expected)
    )
    return unflatten_dict(_convert(state_dict, entries, expected, source))


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
    expected = flatten_dict(dict(variables))
    channels = _stem_channels(expected)
    entries = official_entries(
        backbone, head_depth=head_depth, heads=shared, stem_channels=channels
    )
    wanted = {key: x for key, x in state_dict.items() if not key.startswith(others)}
    return unflatten_dict({**expected, **_convert(wanted, entries, expected, source)})


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
    expected = flatten_dict(dict(variables))
    entries = list(trunk_entries(backbone, prefix="", stem_channels=_stem_channels(expected)))
    loaded = _convert(state_dict, entries, expected, source)
    return unflatten_dict({**expected, **loaded})


def imagenet_trunk(
    state_dict: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    *,
    backbone: str,
    source: str = "state dict",
) -> dict[str, np.ndarray]:
    """The tensors of an ImageNet ResNet that a trunk starts from, in their own naming; args and errors as above."""
    load_imagenet_trunk(state_dict, variables, backbone=backbone, source=source)
    return {key: np.ascontiguousarray(x) for key, x in state_dict.items() if not _is_ignored(key)}


def official_from_variables(
    variables: Mapping[str, Any], *, backbone: str, joint_dims: int, head_depth: int = 4
) -> dict[str, np.ndarray]:
    """Our variables as a state dict in the official naming; the inverse of `variables_from_official`."""
    flat = flatten_dict(dict(variables))
    entries = official_entries(backbone, joint_dims, head_depth, stem_channels=_stem_channels(flat))
    return {
        entry.theirs: np.ascontiguousarray(entry.to_theirs(np.asarray(flat[entry.ours])))
        for entry in entries
    }


def _stem_channels(flat: Mapping[tuple[str, ...], Any]) -> int:
    """Input channels of our first convolution, (7, 7, channels, features)."""
    channels: int = flat["params", "trunk", "conv1", "kernel"].shape[2]
    return channels


def _convert(
    state_dict: Mapping[str, np.ndarray],
    entries: Iterable[Entry],
    expected: Mapping[tuple[str, ...], Any],
    source: str,
) -> dict[tuple[str, ...], np.ndarray]:
    converted: dict[tuple[str, ...], np.ndarray] = {}
    missing, misshapen, known = [], [], set()
    for entry in entries:
        known.add(entry.theirs)
        if entry.theirs not in state_dict:
            missing.append(entry.theirs)
            continue
        theirs = np.asarray(state_dict[entry.theirs])
        # Compared in their layout: a tensor of the wrong shape may not be transformable at all.
        like_ours = np.broadcast_to(np.float32(0), tuple(expected[entry.ours].shape))
        wanted = entry.to_theirs(like_ours).shape
        if theirs.shape != wanted:
            misshapen.append(f"{entry.theirs} is {theirs.shape}, expected {wanted}")
        else:
            converted[entry.ours] = np.ascontiguousarray(entry.to_ours(theirs))
    unexpected = [key for key in state_dict if key not in known and not _is_ignored(key)]
    if missing or unexpected or misshapen:
        parts = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        raise UserError(_mismatch_message(source, parts, looks_like(state_dict)))
    _check_finite(state_dict, known, source)
    return converted


def looks_like(state_dict: Mapping[str, np.ndarray]) -> str:
    """What network a state dict is of, in words, by its names and shapes; "" where that is not clear."""
    prefix = OFFICIAL_TRUNK_PREFIX
    heads = f"{HEADS['proposal_head']}.output.weight"
    if heads not in state_dict:
        prefix = ""
    if f"{prefix}conv1.weight" not in state_dict:
        return ""
    backbone = _backbone(state_dict, f"{prefix}layer")
    if not prefix:
        return f"a {backbone} without A2J's heads"
    outputs = np.shape(state_dict[heads])[:1] or (0,)
    joints, rest = divmod(outputs[0], _ANCHORS_PER_CELL)
    if rest or not joints:
        return ""
    deep = any(key.startswith(HEADS["depth_head"]) for key in state_dict)
    return f"A2J of {joints} joints in {'3D' if deep else '2D'} with {backbone}"


def _backbone(state_dict: Mapping[str, np.ndarray], layer: str) -> str:
    def has(block: str) -> bool:
        return f"{layer}{block}.weight" in state_dict

    if has("1.0.conv3"):  # three convolutions in a block
        return "resnet50" if has("3.5.conv3") and not has("3.6.conv3") else "a deeper ResNet"
    return "resnet34" if has("1.2.conv2") else "resnet18"


def _check_finite(state_dict: Mapping[str, np.ndarray], known: set[str], source: str) -> None:
    broken = [key for key in state_dict if key in known and not np.isfinite(state_dict[key]).all()]
    if broken:
        raise UserError(
            f"{source}: {len(broken)} tensors hold NaN or infinity: {_listed(broken)}; the training "
            "that wrote them has broken"
        )


def _is_ignored(key: str) -> bool:
    return key.startswith(CLASSIFIER) or key.endswith(IGNORED_SUFFIX)


def _mismatch_message(source: str, parts: Mapping[str, list[str]], found: str) -> str:
    said = [f"{source} does not fit this model"]
    said += [f"{len(keys)} {title}: {_listed(keys)}" for title, keys in parts.items() if keys]
    if found:
        said.append(f"the file looks like {found}")
    said.append("name the backbone, and the track if it is A2J, that the weights were made for")
    return "; ".join(said)


def _listed(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
