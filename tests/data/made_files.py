"""Bytes of files, whole or damaged, and the line by which a file is refused."""

import io

import numpy as np
import pytest

from a2j_jax.errors import UserError


def refusal(read, *arguments):
    """The message of the error that `read` raises: one line."""
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def npy(array):
    """A `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=np.asarray(array).dtype == object)
    return file.getvalue()


def changed(contents, rng):
    """Cut off, or with some bits or bytes changed, mostly in the headers."""
    out = bytearray(contents)
    if rng.random() < 0.1:
        return bytes(out[: rng.integers(len(out))])
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(len(out) if rng.random() < 0.5 else min(len(out), 600))
        value = [out[at] ^ 1 << int(rng.integers(8)), rng.integers(256), 255, 0][rng.integers(4)]
        out[at : at + 1] = bytes([value])
    return bytes(out)
