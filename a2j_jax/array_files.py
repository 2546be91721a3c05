"""Arrays from files: numbers and nothing else, and no more memory than the file's size justifies.

Readers of `.npy`, `.npz`, MATLAB and HDF5 files written elsewhere. Headers are checked against the size of the file
before anything is allocated, checksums are verified where the format has them, and nothing is unpickled.
"""

import ast
import math
import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

_NPY = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes, as in NumPy
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


def parse_npy(contents: bytes) -> npt.NDArray[Any]:
    """The array of a `.npy` file: booleans, integers or floats of any shape; not for writing.

    Raises:
      ValueError: damaged or cut off, or of another type (objects, text, records).
    """
    start = 10 if contents[6:7] == b"\x01" else 12
    if contents[:6] != _NPY or contents[6] not in (1, 2, 3) or len(contents) < start:
        raise ValueError("not a .npy array")
    end = start + int.from_bytes(contents[8:start], "little")
    if end > min(len(contents), _LONGEST_HEADER):
        raise ValueError("damaged .npy header")
    try:
        # Python 2 wrote its long integers as 480L.
        text = re.sub(r"(\d)L\b", r"\1", contents[start:end].decode("latin-1"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged text's escapes
            header = ast.literal_eval(text.strip())
        kind, fortran, shape = (header.pop(k) for k in ("descr", "fortran_order", "shape"))
        whole = not header and isinstance(fortran, bool) and isinstance(shape, tuple)
        whole = whole and all(type(size) is int and size >= 0 for size in shape)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
        MemoryError,
    ):
        whole = False
    if not whole:
        raise ValueError("damaged .npy header")
    if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        raise ValueError("not an array of numbers (objects, text or records)")
    dtype = np.dtype(kind)
    found, declared = len(contents) - end, math.prod(shape) * dtype.itemsize
    if found != declared:
        raise ValueError("truncated .npy array" if found < declared else "damaged .npy array")
    return np.frombuffer(contents, dtype, offset=end).reshape(shape, order="F" if fortran else "C")
