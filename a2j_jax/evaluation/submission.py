"""Names of frames, and the text file that carries them: what one submits to the HANDS 2017 challenge.

One line per frame: `frame/images/image_D00000001.png` (frames count from 1; the annotations have
no folder), then x y z in mm of the 21 joints, every field ended by a tab.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.errors import UserError
from a2j_jax.files import replacing
from a2j_jax.text import printable

# HANDS 2017's names and NYU's, of the view that labels and results are published of.
_SUBMITTED = re.compile(r"(?:.*[/\\])?image_D(\d{8})\.png", re.IGNORECASE)
_NYU = re.compile(r"(?:.*[/\\])?depth_1_(\d{7})\.png", re.IGNORECASE)
# Suffixes of frames: the same frame may be stored as another kind of file.
_FRAME_SUFFIX = re.compile(r"\.(?:png|npy|npz|tiff?|pgm|exr|bin|jpe?g|h5)$", re.IGNORECASE)


def frame_index(
    names: Sequence[str], patterns: Sequence[re.Pattern[str]] = (_SUBMITTED,)
) -> NDArray[np.int64] | None:
    """Position of each frame in the data set, (N,) from 0; None unless all are named by one pattern.

    Args:
        names: of frames, with or without folders.
        patterns: whose first group is the frame's number, from 1; the challenge's by default.
    """
    for pattern in patterns:
        found = [pattern.fullmatch(name) for name in names]
        if all(found):
            return np.array([int(match[1]) - 1 for match in found if match], np.int64)
    return None


def numbered(names: Sequence[str]) -> NDArray[np.int64] | None:
    """As `frame_index`, of names of HANDS 2017 or NYU: data sets whose frames are numbered by their names."""
    return frame_index(names, (_SUBMITTED, _NYU))


def match_names(names: Sequence[str], wanted: Sequence[str], where: str) -> NDArray[np.int64]:
    r"""Which of some frames is meant by each of others, by their names.

    Leading folders may be missing on either side (`test_seq_1/image_0000.png` is
    `D:\icvl\Testing\Depth\test_seq_1\image_0000.PNG`), as long as one frame alone is meant.

    Args:
        names: of M frames.
        wanted: names of N frames.
        where: the file that `names` are from, for messages.

    Returns:
        (N,) positions in `names`, -1 where there is none.

    Raises:
        UserError: a name that stands twice, or fits several.
    """
    rows = _match(names, wanted, _key, where)
    if (rows < 0).any() and np.count_nonzero(rows >= 0) < len(names):
        loosely = _match(names, wanted, _loose_key, where)
        if np.count_nonzero(loosely >= 0) > np.count_nonzero(rows >= 0):
            return loosely
    return rows


def _key(name: str) -> str:
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    stem, dot, suffix = (parts[-1] if parts else "").rpartition(".")
    return "/".join([*parts[:-1], stem + dot + suffix.lower() if dot else suffix])


def _loose_key(name: str) -> str:
    return _FRAME_SUFFIX.sub("", _key(name)).casefold()


def _tails(name: str) -> Iterator[str]:
    """`a/b/c` -> itself, `b/c`, `c`."""
    yield name
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def _match(
    names: Sequence[str], wanted: Sequence[str], key: Callable[[str], str], where: str
) -> NDArray[np.int64]:
    keys, wanted_keys = [key(name) for name in names], [key(name) for name in wanted]
    if keys == wanted_keys:
        return np.arange(len(keys))
    whole: dict[str, int] = {}
    tails: dict[str, list[int]] = {}
    for row, one in enumerate(keys):
        first = whole.setdefault(one, row)
        if first != row:
            raise UserError(
                f"{where}: rows {first + 1} and {row + 1} are both frame {_shown(names[row])}; expected every "
                "frame once"
            )
        for tail in _tails(one):
            tails.setdefault(tail, []).append(row)
    rows = np.full(len(wanted), -1, np.int64)
    meant: dict[int, int] = {}
    for position, one in enumerate(wanted_keys):
        fits = [whole[one]] if one in whole else tails.get(one)
        if fits is None:
            fits = [whole[tail] for tail in _tails(one) if tail in whole][:1]
        if len(fits) > 1:
            raise UserError(
                f"{where}: frame {_shown(wanted[position])} may be {_shown(names[fits[0]])} or "
                f"{_shown(names[fits[1]])}; write the names with their folders"
            )
        for row in fits:
            other = meant.setdefault(row, position)
            if other != position:
                raise UserError(
                    f"{where}: frame {_shown(names[row])} may be {_shown(wanted[other])} or "
                    f"{_shown(wanted[position])}; write the names with their folders"
                )
            rows[position] = row
    return rows


def _shown(name: str) -> str:
    return repr(printable(name, 80))


def write_submission(
    path: str | Path, joints_xyz_mm: ArrayLike, index: ArrayLike | None = None
) -> None:
    """Write the file the challenge takes (zip it to submit), numbers with 4 decimals.

    Args:
        path: of the text file.
        joints_xyz_mm: (N, 21, 3) camera coordinates, mm, in the order of the skeleton.
        index: (N,) position of each frame in the data set, from 0; None: 0 … N−1.

    Raises:
        UserError: a joint is not finite, or the file cannot be written.
        ValueError: another shape.
    """
    path = Path(path)
    xyz = np.asarray(joints_xyz_mm, np.float64)
    if xyz.ndim != 3 or xyz.shape[-1] != 3:
        raise ValueError(f"joints_xyz_mm has shape {xyz.shape}, expected (frames, joints, 3)")
    frames = np.arange(len(xyz)) if index is None else np.asarray(index)
    bad = ~np.isfinite(xyz).all((1, 2))
    if bad.any():
        raise UserError(
            f"{path}: not written: {bad.sum()} frames have joints that are not finite, "
            f"the first is frame {frames[np.flatnonzero(bad)[0]]}"
        )
    line = "frame/images/image_D%08d.png\t" + "%.4f\t" * (xyz.shape[1] * 3) + "\n"
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for frame, row in zip(frames.tolist(), xyz.reshape(len(xyz), -1), strict=True):
            file.write(line % (frame + 1, *row.tolist()))
