"""ITOP (Haque et al. 2016): bodies from the front ("side" in its file names) and from above.

Per view and split two HDF5 files, plain or `.gz`: `ITOP_{side,top}_{train,test}_depth_map.h5` with
`data` (N, 240, 320) float16 meters and `id` (N,); `..._labels.h5` with `is_valid` (N,),
`real_world_coordinates` (N, 15, 3) float16 meters (x right, y up) and `id`. Only frames with
`is_valid` count, about half. Joints in pixels are the camera's projection of the real-world
coordinates, as the official program has them; the labels' own `image_coordinates` are rounded.
"""

import functools
import gzip
import hashlib
import math
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from a2j_jax.data.array_files import readable
from a2j_jax.errors import UnreadableFrame, UserError, printable
from a2j_jax.files import is_private, regular_file, replacing
from a2j_jax.log import logger, progress
from tfds_builders import raw_files
from tfds_builders.raw_files import Array, RawDataset, RawSplit, counted

_FILES = "https://zenodo.org/record/3932973"

# Room for whole chunks of a file that was compressed again, chunks of several frames each.
_CACHE = {"rdcc_nbytes": 64 << 20, "rdcc_nslots": 10_007}
_BLOCK = 1 << 22  # bytes
_LARGEST = 32 << 30  # bytes unpacked: five times the largest of ITOP's files
_RATIO = 1032  # the most that deflate can compress


_VIEWS = {"itop_front": "side", "itop_top": "top"}


@dataclass(frozen=True)
class Itop(RawDataset, about="itop"):
    """The four files of one view, or the two of one split."""

    @property
    def view(self) -> str:
        """The view as file names have it: "side" or "top"."""
        return _VIEWS[self.track.name]

    def index(self, split: str) -> RawSplit | None:
        """See `RawDataset.index`; `.gz` files are unpacked first.

        Raises:
          UserError: depth without labels or the other way round; a file that is truncated, foreign, or
            does not belong to the other.
        """
        parts = {part: f"ITOP_{self.view}_{split}_{part}.h5" for part in ("depth_map", "labels")}
        # Some programs unpack a file into a folder of its name.
        found = {
            part: raw_files.find(self.folder, (f"{name}/{name}", name, f"{name}.gz"))
            for part, name in parts.items()
        }
        if not any(found.values()):
            return None
        for part, path in found.items():
            if path is None:
                raise UserError(
                    f"{self.folder}: one of two files that belong together is missing: add {parts[part]} "
                    f"(or .gz) from {_FILES}"
                )
        paths = [
            unpacked(path) if path.suffix.lower() == ".gz" else path
            for path in found.values()
            if path
        ]
        return self._index(*paths)

    def _index(self, depth_path: Path, labels_path: Path) -> RawSplit:
        with _open(depth_path) as file:
            frames = len(_depth_data(file))
            depth_ids = _read_ids(file, frames)
        with _open(labels_path) as file:
            valid = _array(file, "is_valid", (None,)) != 0
            xyz_m = _array(file, "real_world_coordinates", (len(valid), 15, 3)).astype(np.float64)
            label_ids = _read_ids(file, len(valid))
        # Where neither file has names for its frames, their rows are.
        ids = label_ids or depth_ids or list(range(frames))
        comparable = depth_ids is not None and {*map(type, ids)} == {*map(type, depth_ids)}
        if len(valid) != frames or (comparable and ids != depth_ids):
            raise UserError(
                f"{depth_path.name} has {frames} frames, {labels_path.name} labels {len(valid)}, and "
                f"their `id`s are not the same; in {depth_path.parent}: do both files belong to one split?"
            )
        rows = np.flatnonzero(valid)
        if not len(rows):
            raise UserError(f"{labels_path}: not one of {frames} frames is marked valid")
        joints = raw_files.project(xyz_m[rows] * 1000.0, self.track)
        label_file = labels_path.name.split(".")[0]
        invalid = f"{frames - len(rows):,} of {counted(frames, 'frame')} marked invalid"
        notes = (f"{label_file}: {invalid}", *raw_files.unlabeled_to_nan(joints, label_file))
        name = os.path.relpath(depth_path, self.folder)
        if name.startswith(os.pardir):
            name = str(depth_path.resolve())
        names = [str(ids[row]) for row in rows]
        if len(set(names)) < len(names):
            names = [f"{name}@{row}" for name, row in zip(names, rows, strict=True)]
        return RawSplit(
            frame_ids=names,
            sources=[(name, int(row)) for row in rows],
            joints_uvd=joints.astype(np.float32),
            rows=rows,
            total=frames,
            notes=notes,
        )

    def read_depth(self, source: tuple[str, int]) -> npt.NDArray[np.float32]:
        """One frame, (240, 320) float32 mm, 0 = no reading.

        Args:
          source: file (relative to the folder, or absolute) and row.
        """
        path, row = self.folder / source[0], source[1]
        try:
            with readable(path, "an HDF5 file"):
                frame = np.asarray(_depth_map(str(path), os.getpid())[row])
        except UserError as error:
            raise UnreadableFrame("not readable", f"{path}, row {row}", str(error)) from error
        with np.errstate(invalid="ignore", over="ignore"):
            depth = frame.astype(np.float32) * np.float32(1000.0)
        if not (depth.min() >= 0 and depth.max() < np.inf):  # NaN fails both
            depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
        return depth

    def spec(self) -> dict[str, Any]:
        """See `RawDataset.spec`."""
        return {"view": self.view}

    def hint(self) -> str:
        """See `RawDataset.hint`: the folder may hold the other view."""
        names = [path.name.lower() for path in self.folder.glob("*")]
        there = [t for t, v in _VIEWS.items() if any(n.startswith(f"itop_{v}_") for n in names)]
        if len(there) != 1 or there == [self.track.name]:
            return ""
        return f" (there are files of the other view: track {there[0]})"


# --- HDF5


def _open(path: Path) -> h5py.File:
    """An HDF5 file, open for reading.

    Raises:
      UserError: missing, not HDF5, or truncated.
    """
    path = regular_file(path, "an HDF5 file")
    with readable(path, "an HDF5 file"):
        return h5py.File(path, "r", **_CACHE)


@functools.lru_cache(maxsize=4)
def _depth_map(path: str, process: int) -> h5py.Dataset:
    """The `data` of a depth file, opened once per process: a fork must not share a file handle."""
    del process
    return _depth_data(_open(Path(path)))


def _depth_data(file: h5py.File) -> h5py.Dataset:
    return find_dataset(file, "data", (None, 240, 320), "f", "depth in meters")


def _read_ids(file: h5py.File, count: int) -> list[Any] | None:
    """`count` strings, or numbers; None: the file has none."""
    with readable(Path(file.filename), "an HDF5 file"):
        if "id" not in file:
            return None
    ids = _array(file, "id", (count,), "biufSOU").tolist()
    return [str(name, "ascii", "replace") if isinstance(name, bytes) else name for name in ids]


def _array(file: h5py.File, key: str, shape: tuple[int | None, ...], kinds: str = "biuf") -> Array:
    data = find_dataset(file, key, shape, kinds, "one row per frame")
    with readable(Path(file.filename), "an HDF5 file"):
        return np.asarray(data[()]).reshape(data.shape[: len(shape)])


def find_dataset(
    file: h5py.File, key: str, shape: tuple[int | None, ...], kinds: str, meaning: str
) -> h5py.Dataset:
    """A dataset at the top of a file, of a plausible size and with all its data in this file.

    Args:
      file, key: where it is.
      shape: None stands for any length; MATLAB writes a column where others write a list.
      kinds: of the dtype, as NumPy calls them.
      meaning: for the message.

    Raises:
      UserError: missing, damaged, of another shape or type, declares more than the file can hold, or leads to another
        place or file.
    """
    path = Path(file.filename)
    with readable(path, f"an HDF5 file with `{key}`"):
        link = file.get(key, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"`{key}` leads to another place or file")
        data = file.get(key)
        if not isinstance(data, h5py.Dataset):
            names = ", ".join(map(printable, file)) or "nothing"
            raise UserError(
                f"{path}: has no `{key}` (it has: {names}); is this ITOP's file of that name?"
            )
        if data.external or data.is_virtual:
            raise ValueError(f"`{key}` leads to another place or file")
        chunk = math.prod(data.chunks or ()) * data.dtype.itemsize
        if data.shape is None or data.nbytes > _RATIO * path.stat().st_size or chunk > _LARGEST:
            raise ValueError(f"`{key}` declares more data than the file can hold")
    found = data.shape[:-1] if data.shape[len(shape) :] == (1,) else data.shape
    same = [size in (None, there) for size, there in zip(shape, found, strict=False)]
    if len(found) != len(shape) or not all(same) or data.dtype.kind not in kinds:
        expected = ", ".join("N" if size is None else str(size) for size in shape)
        raise UserError(
            f"{path}: `{key}` is {data.shape} {data.dtype}; expected ({expected}), {meaning}"
        )
    return data


# --- gzip: HDF5 needs random access, which a gzip stream does not have


def unpacked(packed: Path) -> Path:
    """The unpacked copy of a gzip file, made at the first call and reused while it is the newer one.

    `X.h5.gz` becomes `X.unpacked.h5` beside it; where that folder is read-only, a file of the user's
    own folder below the temporary one. The copy gets its name when it is complete, not before.

    Raises:
      UserError: truncated or no gzip file, absurdly large, or no room for the copy.
    """
    copy = packed.with_name(packed.name[: -len(".h5.gz")] + ".unpacked.h5")
    changed = packed.stat().st_mtime_ns
    if _is_newer(copy, changed):
        return copy
    if not os.access(copy.parent, os.W_OK):
        digest = hashlib.sha256(os.fsencode(packed.resolve())).hexdigest()[:16]
        copy = _temporary_folder() / f"{digest}.{copy.name}"
        if _is_newer(copy, changed):
            return copy
    for leftover in sorted(copy.parent.glob(f".{copy.stem[:40]}-*{copy.suffix}")):
        logger.info(
            f"note: {leftover} may be left of a run that did not finish; it can be deleted then"
        )
    logger.info(f"{packed.name}: unpacking to {copy}, once (it can be deleted after the build)")
    with replacing(copy) as part:
        try:
            with part.open("wb") as out:
                _unpack(packed, out)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{packed}: truncated, or not a gzip file ({error}); download it again"
            ) from error
        # Never older than its source, even where clocks disagree.
        changed = max(part.stat().st_mtime_ns, changed)
        os.utime(part, ns=(changed, changed))
    return copy


def _is_newer(copy: Path, changed_ns: int) -> bool:
    return copy.is_file() and copy.stat().st_mtime_ns >= changed_ns


def _temporary_folder() -> Path:
    """A folder of this user alone: others may write into the temporary folder itself.

    Raises:
      UserError: it cannot be made, or somebody else controls what has its name.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"a2j_jax-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if is_private(folder) and not folder.is_symlink():
            return folder
    except OSError as error:
        where = error.filename or "temporary folder"
        raise UserError(f"{where}: cannot be used for unpacking ({error.strerror})") from error
    raise UserError(
        f"{folder}: is a link, or somebody else's, or others may write there; remove it, or set TMPDIR to a "
        "folder of yours"
    )


def _unpack(packed: Path, out: BinaryIO) -> None:
    megabytes = max(packed.stat().st_size >> 20, 1)
    with (
        packed.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) as stream,
        progress(f"unpacking {packed.name}", megabytes, "MiB") as advance,
    ):
        shown = 0
        while block := stream.read(_BLOCK):
            out.write(block)
            if out.tell() > _LARGEST:
                raise UserError(f"{packed}: larger than 32 GiB unpacked; is it ITOP's file?")
            read = min(raw.tell() >> 20, megabytes)
            if read > shown:
                advance(read - shown)
                shown = read
