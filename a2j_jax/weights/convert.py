"""State dicts in the official or ImageNet naming <-> our variables; all mismatches are reported at once."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.errors import UserError
from a2j_jax.weights.table import Entry, official_entries, trunk_entries

# ImageNet's classifier, carried along unused by the official network, and PyTorch's step counters.
IGNORED_PREFIXES = ("fc.", "Backbone.model.fc.")
IGNORED_SUFFIX = "num_batches_tracked"
_SHOWN = 12


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
      UserError: listing every missing, unexpected and misshapen key together.
    """
    entries = official_entries(backbone, joint_dims, head_depth)
    return unflatten_dict(_convert(state_dict, entries, flatten_dict(dict(variables)), source))


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
    loaded = _convert(state_dict, list(trunk_entries(backbone, prefix="")), expected, source)
    return unflatten_dict({**expected, **loaded})


def official_from_variables(
    variables: Mapping[str, Any], *, backbone: str, joint_dims: int, head_depth: int = 4
) -> dict[str, np.ndarray]:
    """Our variables as a state dict in the official naming; the inverse of `variables_from_official`."""
    flat = flatten_dict(dict(variables))
    return {
        entry.theirs: np.ascontiguousarray(entry.to_theirs(np.asarray(flat[entry.ours])))
        for entry in official_entries(backbone, joint_dims, head_depth)
    }


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
        raise UserError(_mismatch_message(source, missing, unexpected, misshapen))
    return converted


def _is_ignored(key: str) -> bool:
    return key.startswith(IGNORED_PREFIXES) or key.endswith(IGNORED_SUFFIX)


def _mismatch_message(
    source: str, missing: list[str], unexpected: list[str], misshapen: list[str]
) -> str:
    parts = [f"{source} does not fit this model"]
    for title, items in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("misshapen", misshapen),
    ):
        if items:
            shown = ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
            parts.append(f"{len(items)} {title}: {shown}")
    parts.append("choose the track and backbone the weights were made for")
    return "; ".join(parts)
