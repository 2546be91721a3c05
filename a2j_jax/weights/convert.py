"""State dicts in the official or ImageNet naming <-> our variables, and the weights a run starts from.

`entries` says which tensor of theirs is which of ours. The two differ in layout (OIHW against HWIO) and in the order of
in-plane coordinates: the official offset head predicts (row, column), ours (u, v). Only this module and the readers of
official predictions know about it. All mismatches are reported at once. Files are read without executing anything
that they hold.
"""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  teaches numpy the bfloat16 that .safetensors files may hold
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from a2j_jax.data.array_files import read_npz, readable
from a2j_jax.errors import UserError, printable
from a2j_jax.files import MARK, check_output, local_path, regular_file, replacing
from a2j_jax.log import logger
from a2j_jax.models.anchors import ANCHORS_PER_CELL

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


# Keys below which training programs keep the weights of a network, beside epochs and optimizers.
_CONTAINERS = ("state_dict", "model_state_dict", "network", "net", "model")
_EXPECTED = (
    f"expected a dict of tensors, alone or below one of {', '.join(_CONTAINERS)}, as "
    "torch.save(net.state_dict(), path) writes it"
)
# What `DataParallel` and `torch.compile` put before the name of each tensor they wrap.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read named tensors from `.safetensors`, `.npz` or `.pth`/`.pt`/`.tar` (the latter with the [torch] extra).

    PyTorch files are opened with `weights_only=True`: nothing in a file is executed, and objects other than tensors
    (arguments, say) are left out. Weights may lie below `state_dict`, `model_state_dict`, `network`, `net` or `model`;
    the prefixes `module.` (DataParallel) and `_orig_mod.` (`torch.compile`) are removed.

    Returns:
      Arrays by name, all float32, whatever precision the file has.

    Raises:
      UserError: missing, unreadable or unknown file, or one that holds something else than numbers.
    """
    path = local_path(path, "weights file")
    known = ", ".join(_READERS)
    if not path.exists():
        raise UserError(f"weights file not found: {path}; expected one of {known}")
    regular_file(path, f"a weights file ({known})")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of weights file; expected one of {known}")
    with readable(path, path.suffix):
        tensors = reader(path)
    if not tensors:
        raise UserError(f"{path}: holds no tensors at all; expected the weights of a network")
    named = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    if len(named) < len(tensors):
        raise UserError(f"{path}: holds tensors both with and without a prefix like module.")
    try:
        return {k: np.asarray(x).astype(np.float32, copy=False) for k, x in named.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: expected tensors of numbers ({error})") from error


def write_state_dict(
    path: str | Path, tensors: dict[str, np.ndarray], overwrite: bool = False
) -> None:
    """Write named tensors to `.safetensors` or `.npz`, by suffix, making the folder.

    A file that this function wrote is replaced, any other only with `overwrite`.

    Raises:
      UserError: another suffix, a file that is not ours, or one that cannot be written.
    """
    path = local_path(path, "weights file")
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"{path}: weights are written as .safetensors or .npz")
    check_output(path, overwrite, "weights file")
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            np.savez(temporary, **tensors)  # type: ignore[arg-type]
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.comment = MARK.encode()
            return
        try:
            save_file(tensors, temporary, {"": MARK})
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: cannot be written ({reason})") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        content = _load_tensors(path)
    except ImportError as error:
        raise UserError(
            f"{path}: reading PyTorch files needs the extra: pip install 'a2j-jax[torch]'"
        ) from error
    except _DAMAGED as error:
        # PyTorch's own message proposes to run what is in the file: not repeated here.
        raise UserError(f"{path}: not a complete PyTorch file; {_EXPECTED}") from error
    while isinstance(content, dict) and not _is_state_dict(content):
        inside = next((n for n in _CONTAINERS if isinstance(content.get(n), dict)), None)
        if inside is None:
            keys = printable(", ".join(map(str, content)), 200)
            raise UserError(f"{path}: {_EXPECTED}; found the keys {keys}")
        content = content[inside]
    if not isinstance(content, dict):
        found = "an object" if isinstance(content, _LeftOut) else type(content).__name__
        raise UserError(f"{path}: {_EXPECTED}; found {found}")
    return {str(key): value.detach().float().numpy() for key, value in content.items()}


def _load_tensors(path: Path) -> Any:
    """The content of a PyTorch file, with a `_LeftOut` for each object that is no tensor, number or container."""
    import torch

    if zipfile.is_zipfile(path):
        # PyTorch verifies no checksum: a changed bit of a tensor would be read as it is.
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} does not match")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        # Names of classes and functions in the file, read without importing any of them.
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_LeftOut, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)


class _LeftOut:
    """Stands for an object of any other class: takes its arguments and its state, and does nothing."""

    def __new__(cls, *_: Any) -> "_LeftOut":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Takes any arguments."""

    def __setstate__(self, _: Any) -> None:
        """Takes any state."""


def _is_state_dict(content: dict[Any, Any]) -> bool:
    return all(hasattr(value, "detach") for value in content.values())


_DAMAGED = (
    *(UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError),  # of PyTorch
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),  # of a damaged archive
)
_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": load_file,
    ".npz": read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".tar": _read_torch,  # `.pth.tar`, and what PyTorch's tutorial calls a checkpoint
}
