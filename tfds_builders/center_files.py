"""Published files that say where to crop: which names they have, where they lie, what is in them.

| published by | name | holds, frame by frame |
| --- | --- | --- |
| A2J | `<track>_center_<split>.mat` | `centre_pixel` (N, 1, 3): u px, v px, depth mm of a hand |
| A2J | `<track>_bndbox_<split>.mat` | `FRbndbox_test`, `bndbox` (N, 4): x0 y0 x1 y1 px of a person |
| V2V-PoseNet, DeepPrior++ | `center_<split>_refined.txt`, `center_<split>.txt` | `x y z` mm, or `invalid` |
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from a2j_jax import geometry
from a2j_jax.array_files import read_mat
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.tracks import TRACKS, TrackSpec
from tfds_builders import folders
from tfds_builders.raw import RawSplit
from tfds_builders.wording import counted

# The authors call the front view of ITOP by another name than we do.
_PUBLISHED_NAME = {"itop_front": "itop_side"}
# Variables of the `.mat` files, by how many numbers a row has.
_VARIABLES = {3: ("centre_pixel",), 4: ("FRbndbox_test", "bndbox", "FRbndbox_train")}
# A depth in metres is below this, one in mm above it.
_LARGEST_METRES = 50.0


def file_names(track: TrackSpec, split: str) -> tuple[str, ...]:
    """Names a split's file may have, the authors' own first."""
    name = _PUBLISHED_NAME.get(track.name, track.name)
    kind = "center" if track.crop_by == "center" else "bndbox"
    texts = (f"center_{split}_refined.txt", f"center_{split}.txt")
    return (f"{name}_{kind}_{split}.mat", *(texts if track.camera else ()))


def find(folder: Path, name: str, track: TrackSpec) -> Path | None:
    """The file of that name in a folder, or in one directly below it.

    Folders called after another track are left out: V2V's files have the same name for every data
    set, one folder each.

    Raises:
      UserError: it is in several folders, and none of them is called after this track.
    """
    here = folders.find_in(folder, (name,))
    if here is not None and here.is_file():
        return here
    below = (folders.find_in(place, (name,)) for place in folders.subfolders(folder))
    found = [path for path in below if path is not None and path.is_file()]
    found = [path for path in found if _named_after(path.parent.name) in (None, track.name)]
    own = [path for path in found if _named_after(path.parent.name) == track.name]
    if own or len(found) == 1:
        return (own or found)[0]
    if found:
        places = ", ".join(path.parent.name for path in found)
        raise UserError(
            f"{folder}: {name} is in several folders ({places}); name the folder of track "
            f"{track.name!r} itself as --centers"
        )
    return None


def _named_after(folder: str) -> str | None:
    """The track whose name is in the name of a folder, the longest if there are several."""
    folder = folder.lower().replace("-", "_")
    names = {name: name for name in TRACKS} | {p: name for name, p in _PUBLISHED_NAME.items()}
    inside = [name for name in names if name in folder]
    return names[max(inside, key=len)] if inside else None


def read_centers_or_boxes(path: Path, track: TrackSpec) -> Float64:
    """One of the authors' `.mat` files.

    Returns:
      (M, 3) u px, v px, depth mm for a track that crops by centre, else (M, 4) x0 y0 x1 y1 px;
      float64, as published.

    Raises:
      UserError: not readable, no variable of a known name, or not of that shape.
    """
    columns = 3 if track.crop_by == "center" else 4
    values = read_mat(path, *_VARIABLES[columns])
    if values.ndim not in (2, 3) or values.shape[-1] != columns or values.size % columns:
        meaning = "u v depth" if columns == 3 else "x0 y0 x1 y1"
        raise UserError(
            f"{path}: has shape {values.shape}; expected (frames, {columns}): {meaning}"
        )
    return values.reshape(-1, columns).astype(np.float64)


def read_text_centers(path: Path, track: TrackSpec) -> Float64:
    """`x y z` per line, in mm or (ITOP) metres -> uvd; a line `invalid` is a row of NaN.

    V2V's files were made with the tracks' cameras (ICVL's with a focal length 0.2 % larger: at most
    0.3 px).

    Returns:
      (M, 3) float64 u px, v px, depth mm.

    Raises:
      UserError: a line of another form, or no line at all; names the line.
    """
    assert track.camera is not None
    rows = list(_text_rows(path))
    if not rows:
        raise UserError(f"{path}: is empty; expected a line `x y z` for every frame")
    xyz = np.array(rows, np.float64)
    readable = xyz[np.isfinite(xyz[:, 2]), 2]
    if readable.size and np.median(readable) < _LARGEST_METRES:
        xyz *= 1000.0
    xyz[~(np.isfinite(xyz).all(axis=1) & (xyz[:, 2] > 0))] = np.nan
    return geometry.xyz_to_uvd(xyz, track.camera)


def _text_rows(path: Path) -> Iterator[tuple[float, ...]]:
    try:
        # A blank line at the end is no frame; one in between would be, so it is an error below.
        lines = path.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if words and words[0].lower() == "invalid":
            yield (np.nan, np.nan, np.nan)
            continue
        try:
            row = tuple(float(word) for word in words)
        except ValueError:
            row = ()
        if len(row) != 3:
            raise UserError(
                f"{path} line {number}: expected `x y z` or `invalid`, found {line.strip()[:60]!r}"
            )
        yield row


def rows_of_split(
    values: Float64, path: Path, name: str, split: RawSplit
) -> tuple[Float64, tuple[str, ...]]:
    """The rows of a file that belong to the frames of a split, in their order.

    Args:
      values: (M, ...) the whole file.
      path: of the file, for the messages.
      name: of the split, for the messages.
      split: of N frames.

    Returns:
      (N, ...), and notes. M = N: `values` itself. M = `split.total`: its rows `split.rows`. M larger, and
      the frames have numbers: its rows `split.numbers`, for it covers the published split, of which only
      some frames are here; that is noted.

    Raises:
      UserError: none of these. No guess is made: a centre that belongs to another frame is a bug
        that nothing shows.
    """
    frames, total, numbers = len(split), split.total, split.numbers
    if len(values) == frames:
        return values, ()
    if split.rows is not None and len(values) == total:
        return values[split.rows], ()
    if numbers is not None and max(frames, total or 0, numbers.max(initial=-1) + 1) <= len(values):
        note = f"{path.name}: has {len(values):,} rows; the rows of {counted(frames, 'frame')} were taken "
        return values[numbers], (note + "by the numbers in the names of the frames",)
    also = f" (of {total:,} in the distribution)" if total not in (None, frames) else ""
    raise UserError(
        f"{path}: has {counted(len(values), 'row')}, but split {name!r} has "
        f"{counted(frames, 'frame')}{also}; expected "
        "one row per frame: give the file of this data set and split and the complete data set, or "
        "use --centers labels or --centers depth"
    )
