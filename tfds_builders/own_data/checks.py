"""What can be wrong with a table of one's own although every cell of it is a number.

Whatever makes all of it useless is an error: metres for millimetres, another camera's pixels. What
concerns single frames is left out, and counted in a note of the build.
"""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.depth_files import NEAREST_MM
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.geometry import Float64
from a2j_jax.text import printable
from a2j_jax.tracks import ALL_SPLITS, USUAL_SPLITS, TrackSpec
from tfds_builders.files import refuse_backwards
from tfds_builders.wording import WARNING

# So many of the joints may lie outside their frames before units or camera must be wrong.
_MOST_OUTSIDE = 0.9
_SPLIT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")  # file names hold it


def check_split_name(name: str, where: str) -> None:
    """Refuses what TFDS cannot call a split, and slips: `Train`, `trian`, `tets`.

    Any other plain word is a name, and so is a usual one continued by a digit or `_`: `test_seen`.

    Raises:
      UserError: naming the usual split that is nearest.
    """
    if not _SPLIT_NAME.fullmatch(name) or name.lower() == ALL_SPLITS:
        raise UserError(
            f"{where}: split {printable(name, 40)!r} is not a plain word, or `all`; expected train, "
            "validation, test or another word of at most 80 letters"
        )
    if name in USUAL_SPLITS or re.match(rf"({'|'.join(USUAL_SPLITS)})[0-9_]", name):
        return
    meant = did_you_mean(name.lower(), USUAL_SPLITS, cutoff=0.7)
    if meant:
        raise UserError(f"{where}: split {name!r}{meant}")
    if name != name.lower():
        raise UserError(f"{where}: split {name!r}; expected small letters")


def check_units(joints_uvd: Float64, crops: Float64, track: TrackSpec, where: str) -> None:
    """Refuses labels and centers that cannot be in mm or lie behind the camera, and labels that are in no frame.

    Args:
      joints_uvd: (N, K, 3) px, px, mm or (N, K, 2), NaN = not given: all of the table.
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px, NaN = not given.
      track: of the frames.
      where: the table's name.

    Raises:
      UserError: see above; a single odd joint is none.
    """
    depths = {"joints": joints_uvd[..., 2:]}
    if track.crop_by == "center":
        depths["centers"] = crops[:, 2:]
    for what, values in depths.items():
        refuse_backwards(values, what, where)
        given = values[np.isfinite(values) & (values > 0)]  # 0: not labelled
        if given.size and given.max() < NEAREST_MM:
            raise UserError(
                f"{where}: the depths of all {what} are below {NEAREST_MM:g} ({given.min():g} to "
                f"{given.max():g}); expected mm in front of the camera; are these meters?"
            )
    uv = joints_uvd[..., :2]
    labelled: npt.NDArray[np.bool_] = np.all(np.isfinite(uv), axis=-1)
    if track.joint_dims == 2:
        labelled &= np.any(uv > 0, axis=-1)  # 0,0 or -1,-1: not labelled
    outside = labelled & np.any((uv < 0) | (uv > np.array(track.frame_size) - 1), axis=-1)
    if outside.sum() > _MOST_OUTSIDE * labelled.sum():
        raise UserError(
            f"{where}: {outside.sum():,} of {labelled.sum():,} labeled joints lie outside their "
            f"{track.frame_size[0]}x{track.frame_size[1]} frames; are camera and frame_size theirs, "
            "units px and mm, and fy negative if y points up?"
        )


def usable_crops(crops: Float64, track: TrackSpec, where: str) -> tuple[Float64, tuple[str, ...]]:
    """Leaves out centres or boxes that nothing can be cropped by.

    Args:
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px, as given; NaN: not given.
      track: of the frames.
      where: the table's name, for the notes.

    Returns:
      The same, NaN in the rows left out; and notes that count them.
    """
    what, useless = "boxes", "outside the frame or without extent"
    if track.crop_by == "center":
        what, useless = "centers", "outside the frame or without depth"
    given: npt.NDArray[np.bool_] = np.any(np.isfinite(crops), axis=1)
    whole: npt.NDArray[np.bool_] = np.all(np.isfinite(crops), axis=1)
    partial = given & ~whole
    off = np.zeros(len(crops), bool)
    off[whole] = ~_reaches_frame(crops[whole], track)
    notes = tuple(
        f"{WARNING}{where}: {rows.sum():,} of {given.sum():,} {what} not used, {reason}; labels are "
        "used instead for training, else the depth frame alone (docs/centers.md)"
        for rows, reason in ((partial, "some numbers missing"), (off, useless))
        if rows.any()
    )
    return np.where((partial | off)[:, None], np.nan, crops), notes


def _reaches_frame(crops: Float64, track: TrackSpec) -> npt.NDArray[np.bool_]:
    """(N,) whether a whole pixel of the frame is inside; crops are finite."""
    boxes, usable = crops, np.ones(len(crops), bool)
    if track.crop_by == "center":
        assert track.camera is not None
        assert track.half_window_mm is not None
        usable = crops[:, 2] > 0
        somewhere = np.where(usable[:, None], crops, 1.0)
        boxes = geometry.box_from_center(somewhere, track.half_window_mm, track.camera)
    inside = np.floor(geometry.clip_box(boxes, track.frame_size))
    return usable & np.all(inside[:, 2:] > inside[:, :2], axis=1)


def no_training_note(splits: Iterable[str]) -> tuple[str, ...]:
    """A note where no split is called `train`."""
    names = list(splits)
    if "train" in names:
        return ()
    splits_there = f"no frames are of split 'train' (splits: {', '.join(names)})"
    return (f"{WARNING}{splits_there}: nothing can be trained on this",)
