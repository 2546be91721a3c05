"""State dicts on disk, read without ever executing anything in them."""

import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import ml_dtypes  # noqa: F401  teaches numpy the bfloat16 that .safetensors files may hold
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from a2j_jax.data.array_files import read_npz, readable
from a2j_jax.errors import UserError, printable
from a2j_jax.files import MARK, check_output, local_path, regular_file, replacing

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
