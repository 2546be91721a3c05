"""Weights a run starts from: a file in the official or ImageNet naming."""

from collections.abc import Iterable, Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.progress import say
from a2j_jax.weights.convert import CLASSIFIER, load_imagenet_trunk, parts_from_official
from a2j_jax.weights.files import read_state_dict
from a2j_jax.weights.table import HEADS


def initial_variables(
    source: str, variables: dict[str, Any], *, backbone: str, head_depth: int
) -> dict[str, Any]:
    """Fill `variables` from a file: an A2J network, or an ImageNet trunk; says what was taken and what was not.

    Which of the two a file is shows in its names.

    Args:
      source: `.pth`, `.safetensors` or `.npz`.
      variables: freshly initialised {"params", "batch_stats"} of any network of ours.
      backbone, head_depth: of that network.

    Returns:
      The same tree; every tensor that the file has is its, float32, the others as they came.

    Raises:
      UserError: a file that cannot be read or does not fit.
    """
    loaded, there, unused = _loaded(source, variables, backbone, head_depth)
    left = names_below(variables, set(variables["params"]) - {"trunk"} - set(there))
    say_initialised(source, len(flatten_dict(variables)) - len(left), left, unused)
    return loaded


def check_weights(source: str, variables: Any, *, backbone: str, head_depth: int) -> None:
    """Raise what `initial_variables` would; variables may be shapes alone."""
    _loaded(source, variables, backbone, head_depth)


def _loaded(
    source: str, variables: dict[str, Any], backbone: str, head_depth: int
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Filled variables, A2J's heads that the file has, and what of the file has no use."""
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
    ours = set(variables["params"])
    unused = [head for head in there if head not in ours]
    if any(key.startswith(CLASSIFIER) for key in state_dict):
        unused.append("ImageNet's classifier (fc)")
    return loaded, there, unused


def names_below(variables: Mapping[str, Any], modules: Iterable[str]) -> list[str]:
    """Names ("params/depth_head/output/bias") of the variables of some modules."""
    chosen = set(modules)
    return [name for name in flatten_dict(dict(variables), sep="/") if name.split("/")[1] in chosen]


def say_initialised(source: str, taken: int, left: Iterable[str], unused: Iterable[str]) -> None:
    """What a run starts with.

    Args:
      source: the file or folder.
      taken: number of tensors that come from it.
      left: names of ours that it does not have: they stay as initialised.
      unused: what it has beside.
    """
    said = f"initialized from {source}: {taken} tensors"
    heads: dict[str, int] = {}
    for name in left:
        head = name.split("/")[1]
        heads[head] = heads.get(head, 0) + 1
    if heads:
        listed = ", ".join(f"{head} ({count} tensors)" for head, count in sorted(heads.items()))
        said += f"; no tensors that fit, left as initialized: {listed}"
    dropped = ", ".join(unused)
    say(said + (f"; not used: {dropped}" if dropped else ""))
