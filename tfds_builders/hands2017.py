"""The HANDS 2017 challenge as shipped: 16-bit PNG frames, xyz labels in text, boxes for the test set.

| file | line |
| --- | --- |
| `training/Training_Annotation.txt` | `image_D00000001.png`, then 21 x (x y z) mm, tab-separated |
| `frame/BoundingBox.txt` | `image_D00000001.png`, then 4 numbers: a box around the hand, px |
| `frame/Test_Annotation.txt` | as the training labels; not public: optional, yours |

The text files may have any names: their lines show what they hold. Nobody documents whether a box is
`x y width height` or `x0 y0 x1 y1`: `read_boxes` decides. Evaluation without test labels means writing the
challenge's submission file.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import frame_index
from a2j_jax.tracks import TrackSpec
from tfds_builders import raw_files
from tfds_builders.raw_files import Array, Notes, RawDataset, RawSplit, counted

_BOX, _JOINTS = 4, 63  # numbers of a line
_EXPECTED = "21 joints x (x y z mm)"
# Predictions have the lines of labels, but not these names.
_PREDICTIONS = ("submission", "result")
_SLACK_PX = 1.0  # boxes may end on the last pixel or just behind it, and be rounded


@dataclass(frozen=True)
class Hands2017(RawDataset, about="hands2017"):
    """The unpacked archives: `training` and `frame`, or one of these.

    A frame is called `training/images/image_D00000001.png` or `frame/images/...`, as in the
    challenge's submission file. Frames come in the order of their numbers, whatever that of the files.
    """

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`."""
        return self._index_training() if split == "train" else self._index_test()

    def _index_training(self) -> RawSplit | None:
        name = "Training_Annotation.txt"
        path = raw_files.find(self.folder, (f"training/{name}", name))
        if path is None:  # it may have another name
            images = raw_files.find(self.folder, ("training/images",))
            labels = texts_by_contents([images.parent])[_JOINTS] if images else []
            if not labels:
                return None
            if len(labels) > 1:
                raise UserError(
                    f"{labels[0]} and {labels[1]}: both hold labels; keep that of all frames"
                )
            path = labels[0]
        # Some keep the label file one level up.
        images = raw_files.find_in(path.parent, ("images", "training/images"))
        if images is None:
            raise self.download_again(str(path.parent / "images"))
        names, joints = read_labels(path, self.track)
        notes = raw_files.unlabeled_to_nan(joints, path.name)
        on_disk = raw_files.count_files(images)
        faults = raw_files.compare_counts(path.name, len(names), images.name, on_disk)
        rows, repeated = raw_files.first_of_each(names, path.name)
        order, numbers, more = _in_number_order([names[row] for row in rows])
        rows = rows[order]
        if not np.array_equal(rows, np.arange(len(joints))):  # else a copy of all labels is saved
            joints = joints[rows]
        ids, sources = self._names("training/images/", [names[row] for row in rows], images)
        return RawSplit(
            ids,
            sources,
            joints,
            rows=rows,
            total=len(names),
            numbers=numbers,
            notes=notes + repeated + more,
            faults=faults,
        )

    def _index_test(self) -> RawSplit | None:
        images = self._test_images()
        if images is None:
            return None
        place = images.parent
        above = self.folder if place == self.folder else place.parent
        texts = texts_by_contents(dict.fromkeys((place, images, above)))
        notes: Notes = ()
        faults: Notes = ()
        boxes = joints = None
        if texts[None]:
            notes = (
                f"{', '.join(path.name for path in texts[None])}: not read; expected lines of a file name and 4 "
                f"numbers (boxes) or 63 (labels: {_EXPECTED})",
            )
        if len(texts[_BOX]) > 1:
            one, other = texts[_BOX][:2]
            raise UserError(f"{one} and {other}: both hold boxes of the test frames; keep one")
        for path in texts[_BOX]:
            names, boxes, more = read_boxes(path, self.track.frame_size)
            notes += more
            on_disk = raw_files.count_files(images)
            faults = raw_files.compare_counts(path.name, len(names), images.name, on_disk)
        if boxes is None:
            files = (entry.name for entry in raw_files.entries(images))
            names = sorted(_published(name) for name in files if name.lower().endswith(".png"))
            notes += ("no BoundingBox.txt beside the test frames",)
        if not 0 < len(names) == len(set(names)):
            raise UserError(f"{(texts[_BOX] or [images])[0]}: expected every frame once")
        order, numbers, more = _in_number_order(names)
        names = [names[row] for row in order]
        notes += more
        if texts[_JOINTS]:
            joints, more, odd = _labels_of(names, texts[_JOINTS], self.track)
            notes, faults = notes + more, faults + odd
        ids, sources = self._names("frame/images/", names, images)
        boxes = None if boxes is None else boxes[order]
        return RawSplit(
            ids, sources, joints, boxes_px=boxes, numbers=numbers, notes=notes, faults=faults
        )

    def _test_images(self) -> Path | None:
        """The folder of the test frames; that of the training set has an `images` too."""
        found = raw_files.find(self.folder, ("frame/images",))
        if found is not None or not self.folder.is_dir():
            return found
        named = self.folder.resolve().name.lower() == "frame"
        is_frame = named or texts_by_contents([self.folder])[_BOX]
        return raw_files.find_in(self.folder, ("images",)) if is_frame else None

    def _names(self, prefix: str, names: list[str], images: Path) -> tuple[list[str], list[str]]:
        """(ids, sources) of files in `images`; one and the same list where they agree."""
        ids, at = [prefix + name for name in names], raw_files.relative(images, self.folder)
        return ids, ids if at == prefix else [at + name for name in names]


def texts_by_contents(folders: Iterable[Path]) -> dict[int | None, list[Path]]:
    """The `.txt` files of some folders, those of the training set by name left out, by their first lines.

    Returns:
      4: files of boxes; 63: of labels; None: of neither, or predictions by their name.
    """
    texts: dict[int | None, list[Path]] = {_BOX: [], _JOINTS: [], None: []}
    for folder in folders:
        found = (
            entry for entry in raw_files.entries(folder) if entry.name.lower().endswith(".txt")
        )
        for path in sorted(Path(entry.path) for entry in found):
            name = path.name.lower()
            kind = None if name.startswith(_PREDICTIONS) else raw_files.count_numbers(path)
            if not name.startswith("train"):
                texts[kind if kind in (_BOX, _JOINTS) else None].append(path)
    return texts


def read_labels(path: Path, track: TrackSpec) -> tuple[list[str], npt.NDArray[np.float32]]:
    """A label file of the challenge, projected with the track's camera.

    Its lines are a file name, with or without folders, and 21 x (x y z) mm.

    Returns:
      The file names without folders; (N, 21, 3) px, px, mm, not finite where z is 0.
    """

    def to_uvd(values: Array) -> Array:
        return raw_files.project(values.reshape(-1, 21, 3), track, np.float32)

    names, joints = raw_files.read_numbers(path, _JOINTS, _EXPECTED, convert=to_uvd)
    return [name.rpartition("/")[2] for name in names], joints


def read_boxes(
    path: Path, frame_size: tuple[int, int]
) -> tuple[list[str], npt.NDArray[np.float64], Notes]:
    """Boxes of the test frames: lines of a file name, with or without folders, and four numbers.

    Returns:
      The file names without folders; (N, 4) x0, y0, x1, y1 px, clipped to the frame, the entire frame
      where the line makes no box; notes, one of which says how the file was understood.

    Raises:
      UserError: see `raw_files.read_numbers`; or neither format fits most lines.
    """
    names, values = raw_files.read_numbers(path, _BOX, "a box")
    boxes, found = to_corners(values, frame_size)
    if found is None:
        raise UserError(
            f"{path}: neither as x y width height nor as x0 y0 x1 y1 do most lines lie in the "
            f"{frame_size[0]}x{frame_size[1]} frame; is this the boxes of the test frames?"
        )
    notes: Notes = (f"{path.name}: read as {found}",)
    empty = np.isnan(boxes[:, 0])
    if empty.any():
        boxes[empty] = 0, 0, frame_size[0] - 1, frame_size[1] - 1
        notes += (
            f"{path.name}: {counted(empty.sum(), 'line')} without a box; the entire frame is taken",
        )
    return [name.rpartition("/")[2] for name in names], boxes, notes


def to_corners(
    values: npt.NDArray[np.float64], frame_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], str | None]:
    """Boxes of unknown format -> corners.

    The entire file has one format: the one that contradicts itself (a box of no size, or beyond the
    frame) on fewer lines. Corners read as sizes leave the frame wherever a hand is right of or
    below its middle; sizes read as corners turn inside out wherever a hand is farther from the
    left or upper edge than it is large. A file that fits both is read as corners: as sizes, every
    single box would have to be that large.

    Args:
      values: (N, 4) either x0, y0, x1, y1 or x, y, width, height; px.
      frame_size: (W, H) px.

    Returns:
      (N, 4) x0, y0, x1, y1 px, clipped to the frame, NaN where the line makes no box; and the
      format, or None where neither fits at least half of the lines.
    """
    origin, other = values[:, :2], values[:, 2:]
    readings = {"x0 y0 x1 y1": other, "x y width height": origin + other}
    last = np.array(frame_size, np.float64)
    fits = {
        # NaN compares false: it fits neither.
        name: ((far > origin) & (far <= last + _SLACK_PX) & (origin >= -_SLACK_PX)).all(axis=1)
        for name, far in readings.items()
    }
    # max keeps the first of equals: corners.
    found = max(fits, key=lambda name: int(fits[name].sum()))
    boxes = np.concatenate([origin, readings[found]], axis=1)
    boxes = np.clip(boxes, 0.0, np.concatenate([last, last]) - 1.0)
    empty = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes[empty] = np.nan
    return boxes, found if 2 * fits[found].sum() >= len(values) else None


def _labels_of(
    names: list[str], paths: list[Path], track: TrackSpec
) -> tuple[npt.NDArray[np.float32], Notes, Notes]:
    """(N, 21, 3) labels of the named frames, NaN where the files have none; notes; faults."""
    where, full = (
        " + ".join(some) for some in zip(*((p.name, str(p)) for p in paths), strict=True)
    )
    parts = [read_labels(path, track) for path in paths]
    files = Counter(name for labeled, _ in parts for name in set(labeled))
    if twice := [name for name, count in files.items() if count > 1]:
        raise UserError(
            f"{full}: label {counted(len(twice), 'frame')} twice (the first: {min(twice)}); keep the file that is right"
        )
    joints = np.concatenate([joints for _, joints in parts])
    labeled = (name for some, _ in parts for name in some)
    row_of = {name: row for row, name in enumerate(labeled)}
    rows = np.array([row_of.get(name, -1) for name in names])
    found = int((rows >= 0).sum())
    if not found:
        raise UserError(f"{full}: labels none of the test frames ({min(row_of)} is not one)")
    notes: Notes = (
        f"{where}: read as labels of the test frames",
        *raw_files.unlabeled_to_nan(joints, where),
    )
    if found < len(names):
        notes += (
            f"{where}: {len(names) - found:,} of {counted(len(names), 'frame')} without a label",
        )
    faults: Notes = ()
    if len(row_of) > found:
        faults = (f"{where}: {counted(len(row_of) - found, 'line')} of no test frame",)
    return np.where((rows >= 0)[:, None, None], joints[rows], np.float32(np.nan)), notes, faults


def _published(name: str) -> str:
    """The name of a frame as published, whatever the letter case of the file's."""
    found = re.fullmatch(r"image_d(\d+)\.png", name, re.IGNORECASE)
    return f"image_D{found[1]}.png" if found else name[: -len(".png")] + ".png"


def _in_number_order(
    names: list[str],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, Notes]:
    """The rows of frames in the order of their numbers; those numbers, from 0; notes."""
    numbers = frame_index(names)
    if numbers is None or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        note = (
            "not all frames are called image_D00000001.png and so on: they are numbered in their "
            "order, also in a submission file"
        )
        return np.arange(len(names)), None, (note,)
    order = np.argsort(numbers)
    return order, numbers[order], ()
