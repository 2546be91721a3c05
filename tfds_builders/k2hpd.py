"""K2HPD (Wang et al. 2016): bodies in 8-bit depth images of a Kinect 2, 19 joints in pixels.

`depth_data/depth_images/` holds the frames of both splits, 212 x 256, most as grey, some as RGB with
three like channels. `train_annos.txt` and `test_annos.txt` name a frame in the first 12 characters
of a line, then x and y of 19 joints; nobody documents the separator. A grey level is not a distance:
every frame is min-max-stretched before it is cropped (`a2j_jax.data.crops.to_storage_units`).
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2j_jax.data.array_files import read_mat
from a2j_jax.data.depth_files import read_depth
from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from tfds_builders import raw_files
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import RawSplit, counted

PUBLISHED_FRAMES = {"train": 55_943, "test": 39_732}
HOMEPAGE = "http://www.sysu-hcp.net/kinect2-human-pose-dataset-k2hpd/"
LICENSE = "For research; the terms are the authors', see their page. Cite their paper."
BIBTEX = """\
@inproceedings{wang2016human,
  title     = {Human Pose Estimation from Depth Images via Inference Embedded Multi-task Learning},
  author    = {Wang, Keze and Zhai, Shengfu and Cheng, Hui and Liang, Xiaodan and Lin, Liang},
  booktitle = {ACM International Conference on Multimedia (ACM MM)},
  year      = {2016}
}"""
DOWNLOAD = f"""\
K2HPD: get the depth images and annotations from
  {HOMEPAGE}
so that --manual_dir holds
  depth_data/depth_images/*.png
  train_annos.txt
  test_annos.txt
The two text files may also lie in depth_data/. One split is enough."""

_IMAGES = "depth_images"
_JOINTS = 19
_NAME_CHARACTERS = 12
_NAME = re.compile(r"\S+\.[A-Za-z]{3,4}")
# What may stand between numbers, besides blanks.
_SEPARATORS = str.maketrans(dict.fromkeys(",;()[]", " "))
_OFFICIAL = {"train": "keypointsTrain", "test": "keypointsTest"}


@dataclass(frozen=True)
class K2hpdDistribution:
    """The unpacked downloads.

    Attributes:
      folder: that holds `depth_data/depth_images` and the annotations.
      keypoints_dir: where the official A2J program's `k2hpd_keypoints_{train,test}.mat` lie, to
        compare the labels with; None: no comparison.
    """

    folder: Path
    keypoints_dir: Path | None = None

    def splits(self) -> Mapping[str, RawSplit]:
        """Index the frames; none is opened. See `tfds_builders.raw_files.Distribution`.

        Raises:
          UserError: no frames or no labels (with what to download), a malformed line of labels, or
            a `keypoints_dir` that is none.
        """
        images = raw_files.find(self.folder, (f"depth_data/{_IMAGES}", _IMAGES))
        annotations = {split: self._annotations(split) for split in PUBLISHED_FRAMES}
        there = {split: path for split, path in annotations.items() if path is not None}
        if images is None or not there:
            missing = f"{_IMAGES} folder" if images is None else "train_annos.txt or test_annos.txt"
            raise UserError(f"{self.folder}: no {missing} in depth_data or here", DOWNLOAD)
        on_disk = {entry.name.lower() for entry in raw_files.entries(images)}
        where = raw_files.relative(images, self.folder)
        return {split: self._index(split, path, where, on_disk) for split, path in there.items()}

    def _annotations(self, split: str) -> Path | None:
        name = f"{split}_annos.txt"
        return raw_files.find(
            self.folder, (name, f"depth_data/{name}", f"depth_data/{_IMAGES}/{name}")
        )

    def _index(self, split: str, path: Path, where: str, on_disk: set[str]) -> RawSplit:
        """One split; `on_disk`: the names of the frames in small letters."""
        names, joints = read_annotations(path)
        notes = raw_files.unlabelled_to_nan(joints, path.name)
        faults: tuple[str, ...] = ()
        missing = [name for name in names if name.lower() not in on_disk]
        if missing:
            faults = (
                f"{path.name}: {len(missing)} of {len(names)} frames are not in {where} (the "
                f"first: {missing[0]}) and will be skipped",
            )
        frame_ids = _numbered(names)
        repeated = sum(name != frame_id for name, frame_id in zip(names, frame_ids, strict=True))
        if repeated:
            notes += (
                f"{path.name}: {counted(repeated, 'line')} naming a frame for another time; all are kept",
            )
        notes += self._compare(split, joints)
        sources = [f"{where}/{name}" for name in names]
        return RawSplit(frame_ids, sources, joints, notes=notes, faults=faults)

    def _compare(self, split: str, joints: npt.NDArray[np.float32]) -> tuple[str, ...]:
        """Notes on how the labels agree with the official program's, which are whole pixels."""
        if self.keypoints_dir is None:
            return ()
        folder = local_path(self.keypoints_dir, "keypoints_dir")
        if not folder.is_dir():
            raise UserError(
                f"keypoints_dir {folder}: no such folder; expected the one of the official program's "
                "k2hpd_keypoints_{train,test}.mat"
            )
        path = folder / f"k2hpd_keypoints_{split}.mat"
        if not path.is_file():
            return (f"{path.name} not found: {split} labels not compared with the official ones",)
        official = read_mat(path, _OFFICIAL[split])
        if official.shape != joints.shape:
            return (
                f"{path.name}: {official.shape} numbers where the annotations have {joints.shape}: "
                f"{split} labels not compared; is one of the files of another version?",
            )
        # Rounded or cut off, a coordinate moves by less than a pixel.
        away = np.abs(joints - official.astype(np.float64)).max(axis=-1)
        apart = ~(away < 1.0)
        if not apart.any():
            return (f"{path.name}: all {apart.size} joints agree with {split}_annos.txt",)
        frames, worst = int(apart.any(axis=-1).sum()), np.nanmax(away, initial=0.0)
        return (
            f"{path.name}: {int(apart.sum())} of {apart.size} joints, in {frames} frames, are a pixel "
            f"or more from {split}_annos.txt (at most {worst:.1f} px); the text file's are used",
        )

    def read_depth(self, source: str) -> npt.NDArray[Any]:
        """One frame, (212, 256) grey levels 0..255 as shipped (uint16), not stretched."""
        return read_depth(raw_files.spelled(self.folder, source), "stretch8").depth

    def spec(self) -> dict[str, Any]:
        """What the examples depend on: nothing but the files."""
        return {}


def read_annotations(path: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The names and joints of one `{train,test}_annos.txt`.

    Args:
      path: the file. The name is the first 12 characters of a line, as in the official reader,
        whether a separator follows or not; numbers are separated by blanks, commas or brackets.

    Returns:
      N names, and (N, 19, 2) px, px.

    Raises:
      UserError: unreadable, empty, or a line of another form; names the line.
    """
    try:
        lines = path.read_text("utf-8-sig", "replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from error
    names: list[str] = []
    numbers: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        line = line.translate(_SEPARATORS)
        if not line.strip():
            continue
        name, words = line[:_NAME_CHARACTERS].strip(), line[_NAME_CHARACTERS:].split()
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if not _NAME.fullmatch(name) or len(values) != 2 * _JOINTS:
            raise UserError(
                f"{path} line {number}: expected a file name in the first {_NAME_CHARACTERS} "
                f"characters and {_JOINTS} pairs x y, found {name!r} and {len(words)} words; is this "
                "the right file, and whole?"
            )
        names.append(name)
        numbers.append(values)
    if not names:
        raise UserError(f"{path}: is empty; expected lines of a file name and {_JOINTS} pairs x y")
    return names, np.array(numbers, np.float32).reshape(-1, _JOINTS, 2)


def _numbered(names: list[str]) -> list[str]:
    """The names, each made unique: `name`, `name#2`, `name#3`."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


class K2hpd(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `k2hpd`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD
