"""Reading state dicts from disk without ever executing what is in them."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import ml_dtypes  # noqa: F401  teaches numpy the bfloat16 that .safetensors files may hold
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from a2j_jax.errors import UserError
from a2j_jax.files import local_path

_CONTAINERS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read named tensors from `.safetensors`, `.npz` or `.pth`/`.pt` (the latter with the [torch] extra).

    PyTorch files are opened with `weights_only=True`: a file that needs more than tensors is refused, not run.
    A leading `module.` (DataParallel) and an enclosing `state_dict` are taken off.

    Returns:
      Arrays by name, all float32, whatever precision the file has.

    Raises:
      UserError: missing, unreadable or unknown file, or one that holds something else than numbers.
    """
    path = local_path(path, "weights file")
    if not path.is_file():
        raise UserError(f"weights file not found: {path}; expected one of {', '.join(_READERS)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of weights file; expected one of {', '.join(_READERS)}"
        )
    try:
        tensors = reader(path)
    except UserError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as {path.suffix} ({reason}); is it complete?"
        ) from error
    if not tensors:
        raise UserError(f"{path}: holds no tensors at all; expected the weights of a network")
    try:
        return {
            key.removeprefix("module."): np.asarray(value).astype(np.float32, copy=False)
            for key, value in tensors.items()
        }
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: expected tensors of numbers ({error})") from error


def write_state_dict(path: str | Path, tensors: dict[str, np.ndarray]) -> None:
    """Write named tensors to `.safetensors` or `.npz`, by suffix, making the folder.

    Raises:
      UserError: another suffix, or a file that cannot be written.
    """
    path = local_path(path, "weights file")
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"{path}: weights are written as .safetensors or .npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            np.savez(path, **tensors)  # type: ignore[arg-type]
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written ({' '.join(str(error).split())})") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    # Of anything else numpy says that it may be a pickle, and how to run it: not repeated here.
    if not zipfile.is_zipfile(path) and not path.read_bytes()[:6] == b"\x93NUMPY":
        raise ValueError("not a whole archive")
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise UserError(f"{path}: is a single .npy array under another name; expected named arrays")
    with archive:
        return {key: archive[key] for key in archive.files}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: reading PyTorch files needs the extra: pip install 'a2j-jax[torch]'"
        ) from error
    from pickle import UnpicklingError

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        # PyTorch's own message proposes to run what is in the file: not repeated here.
        raise UserError(
            f"{path}: not a complete PyTorch file of tensors alone, and nothing else is opened; save it "
            "with torch.save(net.state_dict(), path)"
        ) from error
    for name in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return {str(key): value.detach().float().numpy() for key, value in content.items()}


_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    SafetensorError,
)
_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": load_file,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
}
