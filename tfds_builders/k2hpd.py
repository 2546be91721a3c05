"""K2HPD (Wang et al. 2016): bodies in 8-bit depth images of a Kinect 2, 19 joints in pixels.

`depth_data/depth_images/` holds the frames of both splits, 212 x 256, most as gray, some as RGB with
three equal channels. `train_annos.txt` and `test_annos.txt` name a frame in the first 12 characters
of a line, as the official reader takes them, then x and y of 19 joints; nobody documents the separator. A
gray level is not a distance: every frame is min-max-stretched before it is cropped
(`a2j_jax.data.crops.to_storage_units`).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2j_jax.data.array_files import read_mat
from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from tfds_builders import raw_files
from tfds_builders.raw_files import Notes, RawDataset, RawSplit, counted

_IMAGES = "depth_images"
_OFFICIAL = {"train": "keypointsTrain", "test": "keypointsTest"}


@dataclass(frozen=True)
class K2hpd(RawDataset, about="k2hpd"):
    """The unpacked downloads: `depth_data/depth_images` and the annotations. Frames are read as shipped, not stretched.

    Attributes:
      keypoints_dir: folder of the official A2J program's `k2hpd_keypoints_{train,test}.mat`, to
        compare the labels with; None: no comparison.
    """

    keypoints_dir: Path | None = None

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`."""
        name = f"{split}_annos.txt"
        below = (name, f"depth_data/{name}", f"depth_data/{_IMAGES}/{name}")
        path = raw_files.find(self.folder, below)
        if path is None:
            return None
        images = raw_files.find(self.folder, (f"depth_data/{_IMAGES}", _IMAGES))
        if images is None:
            raise self.download_again(str(self.folder / "depth_data" / _IMAGES))
        names, joints = read_annotations(path)
        notes = raw_files.unlabeled_to_nan(joints, path.name)
        faults: Notes = ()
        on_disk = {entry.name.lower() for entry in raw_files.entries(images)}
        missing = [name for name in names if name.lower() not in on_disk]
        prefix = raw_files.relative(images, self.folder)
        if missing:
            faults = (
                f"{path.name}: {len(missing)} of {len(names)} frames are not in {prefix} (the "
                f"first: {missing[0]}) and will be skipped",
            )
        seen: Counter[str] = Counter()
        ids = []
        for name in names:  # a name that comes again: `name#2`, `name#3`
            seen[name] += 1
            ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        if repeated := len(names) - len(seen):
            notes += (
                f"{path.name}: {counted(repeated, 'line')} naming a frame again; all are kept",
            )
        notes += self._compare(split, joints)
        return RawSplit(ids, [prefix + name for name in names], joints, notes=notes, faults=faults)

    def _compare(self, split: str, joints: npt.NDArray[np.float32]) -> Notes:
        """Compares the labels with the official program's, which are whole pixels; notes."""
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


def read_annotations(path: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The N names and (N, 19, 2) joints, px, of one `{train,test}_annos.txt`."""
    names, values = raw_files.read_numbers(path, 38, "19 pairs x y", name_width=12)
    return names, values.astype(np.float32).reshape(-1, 19, 2)
