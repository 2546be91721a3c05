"""Reading state dicts from disk without ever executing what is in them."""

import zipfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from a2j_jax.errors import UserError

SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")
_CONTAINERS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read named tensors from `.safetensors`, `.npz` or `.pth`/`.pt` (the latter with the [torch] extra).

    PyTorch files are opened with `weights_only=True`: a file that needs more than tensors is refused, not run.
    A leading `module.` (DataParallel) and an enclosing `state_dict` are taken off.

    Raises:
      UserError: missing, unreadable or unknown file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file not found: {path}; expected one of {', '.join(SUFFIXES)}")
    readers = {".safetensors": load_file, ".npz": _read_npz, ".pth": _read_torch, ".pt": _read_torch}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: unknown kind of weights file; expected one of {', '.join(SUFFIXES)}"
        )
    try:
        tensors = reader(path)
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read as {path.suffix} ({error}); is it complete?"
        ) from error
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def write_state_dict(path: str | Path, tensors: dict[str, np.ndarray]) -> None:
    """Write named tensors to `.safetensors` or `.npz`, by suffix."""
    path = Path(path)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **tensors)  # type: ignore[arg-type]
    else:
        raise UserError(f"{path}: weights are written as .safetensors or .npz")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
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
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a plain PyTorch state dict ({reason}); save it with "
            "torch.save(net.state_dict(), path)"
        ) from error
    for name in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise UserError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return {key: value.float().numpy() for key, value in content.items()}
