"""A trained network as one `.npz` file: weights in half precision, a description in JSON, and a digest of all of it.

Kernels are stored as float16 and vectors (biases, batch norm) as float32; both are read as float32. The description is
the array `about`, UTF-8 bytes. Nothing in a file is unpickled or executed.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.data.array_files import read_npz
from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.files import MARK, local_path, parse_json, replacing

_ABOUT = "about"  # the member that no other .npz of weights has
_DIGEST = "digest"


def packaged() -> dict[str, Path]:
    """The weights that ship with this package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.npz"))}


def find_packed(name_or_path: str | Path) -> Path | None:
    """The file that a name of `packaged` or a path means; None: neither the name nor a file of this format.

    A folder of that name in the working directory comes first.
    """
    path = local_path(name_or_path)
    if not path.exists():
        return packaged().get(str(name_or_path))
    if not path.is_file():  # a named pipe would be waited for
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return path if f"{_ABOUT}.npy" in archive.namelist() else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return None


def unknown(name_or_path: str | Path) -> UserError:
    """The error for a name or path where there are no weights; lists the names that ship."""
    names = packaged()
    near = did_you_mean(str(name_or_path), names, 0.4)
    return UserError(
        f"no weights {printable(str(name_or_path))!r}{near}; expected {', '.join(names)}, a file of "
        "a2j export RUN weights.npz, or a run"
    )


def write_packed(path: Path, about: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Writes a network's variables, with a description that JSON can hold.

    Raises:
      UserError: weights that float16 cannot hold, or a file that cannot be written.
    """
    arrays = {}
    for name, value in flatten_dict(dict(variables), sep="/").items():
        array = np.asarray(value, np.float32)
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(np.float16) if array.ndim > 1 else array
        if not np.isfinite(arrays[name]).all():
            raise UserError(
                f"{printable(str(path))}: {name} is not finite or beyond float16's range; training diverged"
            )
    text = json.dumps({**about, _DIGEST: _digest(about, arrays)}).encode()
    with replacing(path) as temporary:
        np.savez(temporary, **arrays, **{_ABOUT: np.frombuffer(text, np.uint8)})  # type: ignore[arg-type]
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.comment = MARK.encode()


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description and the variables, float32, of a file.

    Raises:
      UserError: missing, damaged, truncated, changed since it was written, or another kind of file.
    """
    shown = printable(str(path))
    arrays = read_npz(path)
    text = arrays.pop(_ABOUT, None)
    if text is None or text.dtype != np.uint8 or text.ndim != 1:
        raise UserError(
            f"{shown}: not a file of a2j export RUN weights.npz: it holds no description"
        )
    about = parse_json(text.tobytes(), shown)
    digest = about.pop(_DIGEST, None) if isinstance(about, dict) else None
    if digest is None or digest != _digest(about, arrays):
        raise UserError(
            f"{shown}: has changed since a2j export wrote it; export it or download it again"
        )
    variables = {name: array.astype(np.float32) for name, array in arrays.items()}
    return about, unflatten_dict(variables, sep="/")


def _digest(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the description, and of the names, types, shapes and bytes of the arrays, hexadecimal."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
