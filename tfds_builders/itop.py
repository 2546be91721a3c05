"""`.gz` -> a plain file, once: HDF5 needs random access, a gzip stream has none.

ITOP (Haque et al. 2016): bodies from the front ("side" in its file names) and from above.

Per view and split two HDF5 files, plain or `.gz`: `ITOP_{side,top}_{train,test}_depth_map.h5` with
`data` (N, 240, 320) float16 metres and `id` (N,); `..._labels.h5` with `is_valid` (N,),
`real_world_coordinates` (N, 15, 3) float16 metres (x right, y up) and `id`. Only frames with
`is_valid` count, about half. Joints in pixels are the camera's projection of the real-world
coordinates, as the official program has them; the labels' own `image_coordinates` are rounded.
"""

import functools
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from a2j_jax import geometry
from a2j_jax.data.array_files import hdf5_array, hdf5_dataset, hdf5_names, open_hdf5
from a2j_jax.errors import UserError
from a2j_jax.files import is_private
from a2j_jax.log import logger, progress
from a2j_jax.tracks import get_track
from tfds_builders import raw_files
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import RawSplit, UnreadableFrame, counted, refuse_backwards

_BLOCK = 1 << 22  # bytes
_LARGEST = 32 << 30  # unpacked: five times the largest of ITOP's files


def unpacked(packed: Path) -> Path:
    """The unpacked copy of a gzip file, made at the first call and reused while it is the newer one.

    `X.h5.gz` becomes `X.unpacked.h5` beside it; where that folder is read-only, a file of the user's
    own folder below the temporary one. The copy gets its name when it is complete, not before.

    Raises:
      UserError: truncated or no gzip file, absurdly large, or no room for the copy.
    """
    beside = packed.with_name(packed.name[: -len(".h5.gz")] + ".unpacked.h5")
    copies = [beside]
    if not os.access(beside.parent, os.W_OK):
        copies.append(_temporary_folder() / f"{_fingerprint(packed)}.{beside.name}")
    for copy in copies:
        if copy.is_file() and copy.stat().st_mtime_ns >= packed.stat().st_mtime_ns:
            return copy
    copy = copies[-1]
    for leftover in sorted(copy.parent.glob(f".{copy.name}.*.part")):
        logger.info(
            f"note: {leftover} may be left of a run that did not finish; it can be deleted then"
        )
    logger.info(f"{packed.name}: unpacking to {copy}, once (it can be deleted after the build)")
    _unpack(packed, copy)
    return copy


def _unpack(packed: Path, copy: Path) -> None:
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{copy.name}.", copy.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb") as out:
            _write(packed, out)
        part.chmod(packed.stat().st_mode & 0o666)
        # Never older than its source, even where clocks disagree.
        changed = max(part.stat().st_mtime_ns, packed.stat().st_mtime_ns)
        os.utime(part, ns=(changed, changed))
        part.replace(copy)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{packed}: truncated, or not a gzip file ({error}); download it again"
        ) from error
    except OSError as error:
        raise UserError(
            f"{packed}: cannot be unpacked to {copy} ({error.strerror or error}); ITOP's files need "
            "several GB each: make room, or unpack it elsewhere with gunzip and name that folder"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _write(packed: Path, out: BinaryIO) -> None:
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


def _temporary_folder() -> Path:
    """A folder of this user alone: others may write into the temporary folder itself.

    Raises:
      UserError: something of that name is there that somebody else controls.
    """
    try:
        folder = (
            Path(tempfile.gettempdir()) / f"a2j_jax-{os.getuid() if hasattr(os, 'getuid') else 0}"
        )
        folder.mkdir(mode=0o700, exist_ok=True)
        private = is_private(folder) and not folder.is_symlink()
    except OSError as error:
        where = error.filename or "temporary folder"
        raise UserError(f"{where}: cannot be used for unpacking ({error.strerror})") from error
    if not private:
        raise UserError(
            f"{folder}: is a link, or somebody else's, or others may write there; remove it, or set TMPDIR to a "
            "folder of yours"
        )
    return folder


def _fingerprint(packed: Path) -> str:
    """Tells files of one name in several folders apart."""
    return hashlib.sha256(os.fsencode(packed.resolve())).hexdigest()[:16]


PUBLISHED_FRAMES = {"train": 17_991, "test": 4_863}  # valid ones, of 39,795 and 10,501
HOMEPAGE = "https://www.alberthaque.com/projects/viewpoint_3d_pose/"
LICENSE = "As stated on the record the files are downloaded from. Cite the authors' paper."
BIBTEX = """@inproceedings{haque2016towards,
  title = {Towards Viewpoint Invariant {3D} Human Pose Estimation},
  author = {Haque, Albert and Peng, Boya and Luo, Zelun and Alahi, Alexandre and Yeung, Serena
            and Fei-Fei, Li},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2016}
}"""
_FILES = "https://zenodo.org/record/3932973"
DOWNLOAD = f"""\
ITOP: get from {_FILES}, so that --manual_dir holds for track itop_front
  ITOP_side_train_depth_map.h5.gz   ITOP_side_train_labels.h5.gz
  ITOP_side_test_depth_map.h5.gz    ITOP_side_test_labels.h5.gz
and for track itop_top the four files called ITOP_top_*. They may stay packed (the first build
unpacks them beside, about 12 GB per view) or be unpacked. The `images` and `point_cloud` files are
not needed. One split is enough."""

_VIEWS = {"itop_front": "side", "itop_top": "top"}
_FRAME = (240, 320)
_JOINTS = 15
# Room for whole chunks of a file that was compressed again, chunks of several frames each.
_CACHE = {"rdcc_nbytes": 64 << 20, "rdcc_nslots": 10_007}


@dataclass(frozen=True)
class ItopDistribution:
    """ITOP as downloaded.

    Attributes:
      folder: with the HDF5 files.
      track: "itop_front" or "itop_top": the view.
    """

    folder: Path
    track: str = "itop_front"

    def splits(self) -> Mapping[str, RawSplit]:
        """Indexes the valid frames; `.gz` files are unpacked first.

        Raises:
          UserError: no file of the view; depth without labels or the other way round; a file that is
            truncated, foreign, or does not belong to the other.
        """
        found = {split: self._files(split) for split in ("train", "test")}
        splits = {split: self._index(*files) for split, files in found.items() if files}
        if not splits:
            raise UserError(self._nothing_found(), DOWNLOAD)
        return splits

    def read_depth(self, source: tuple[str, int]) -> npt.NDArray[np.float32]:
        """One frame, (240, 320) float32 mm, 0 = no reading.

        Args:
          source: file (relative to the folder, or absolute) and row.
        """
        name, row = source
        path = self.folder / name
        try:
            frame = hdf5_array(_depth_map(str(path), os.getpid()), row)
        except UserError as error:
            raise UnreadableFrame("not readable", f"{path}, row {row}", str(error)) from error
        with np.errstate(invalid="ignore", over="ignore"):
            depth = frame.astype(np.float32) * np.float32(1000.0)
        if not (depth.min() >= 0 and depth.max() < np.inf):  # NaN fails both
            depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
        return depth

    def spec(self) -> dict[str, Any]:
        """What the examples depend on."""
        return {"view": _VIEWS[self.track]}

    def _files(self, split: str) -> tuple[Path, Path] | None:
        """Depth and label file of a split; None where neither is there."""
        stems = [f"ITOP_{_VIEWS[self.track]}_{split}_{part}" for part in ("depth_map", "labels")]
        depth, labels = (_find(self.folder, stem) for stem in stems)
        if depth and labels:
            return _plain(depth), _plain(labels)
        if depth or labels:
            there, missing = (depth, stems[1]) if depth else (labels, stems[0])
            raise UserError(
                f"{self.folder}: {there.name if there else ''} without {missing}.h5 (or .h5.gz); the "
                f"two belong together: add the missing one from {_FILES}"
            )
        return None

    def _index(self, depth_path: Path, labels_path: Path) -> RawSplit:
        frames, depth_ids = _read_depth_ids(depth_path)
        labels = _read_labels(labels_path)
        # Where neither file says how its frames are called, by their rows.
        ids = labels.ids or depth_ids or list(range(frames))
        if len(labels.valid) != frames or not _same(ids, depth_ids):
            raise UserError(
                f"{depth_path.name} has {frames} frames, {labels_path.name} labels "
                f"{len(labels.valid)}, and their `id`s are not the same; in {depth_path.parent}: do "
                "both files belong to one split?"
            )
        rows = np.flatnonzero(labels.valid)
        if not len(rows):
            raise UserError(f"{labels_path}: not one of {frames} frames is marked valid")
        joints, lost = _project(labels.xyz_m[rows], self.track)
        name = os.path.relpath(depth_path, self.folder)
        if name.startswith(os.pardir):
            name = str(depth_path.resolve())
        label_file = labels_path.name.split(".")[0]
        notes = [
            f"{label_file}: {frames - len(rows):,} of {counted(frames, 'frame')} marked invalid"
        ]
        if lost:
            notes.append(
                f"{label_file}: {counted(lost, 'joint')} without a usable position: not labeled"
            )
        return RawSplit(
            frame_ids=_unique([str(ids[row]) for row in rows], rows),
            sources=[(name, int(row)) for row in rows],
            joints_uvd=joints,
            rows=rows,
            total=frames,
            notes=tuple(notes),
        )

    def _nothing_found(self) -> str:
        view, where = _VIEWS[self.track], self.folder
        hint = "" if where.is_dir() else " (there is no such folder)"
        names = sorted(path.name.lower() for path in where.glob("*.*"))
        there = {track for track, v in _VIEWS.items() for n in names if n.startswith(f"itop_{v}_")}
        if there and self.track not in there:
            hint = f" (there are files of the other view: track {there.pop()})"
        return f"no ITOP_{view}_*_depth_map.h5 and labels in {where}{hint}"


_Ids = list[Any] | None  # N strings, or N numbers; None: the file has none


class _Labels(NamedTuple):
    ids: _Ids
    valid: npt.NDArray[np.bool_]  # (N,)
    xyz_m: npt.NDArray[np.float64]  # (N, 15, 3) metres


def _find(folder: Path, stem: str) -> Path | None:
    """`stem.h5`, also in a folder of that name (some programs unpack so), else `stem.h5.gz`."""
    name = f"{stem}.h5"
    return raw_files.find(folder, (f"{name}/{name}", name, f"{name}.gz"))


def _plain(path: Path) -> Path:
    return unpacked(path) if path.suffix.lower() == ".gz" else path


def _project(xyz_m: npt.NDArray[np.float64], track: str) -> tuple[npt.NDArray[np.float32], int]:
    """(N, 15, 3) metres -> px, px, mm and how many joints became NaN, not being before the camera."""
    camera = get_track(track).camera
    assert camera is not None
    refuse_backwards(xyz_m[..., 2], "joints", f"labels of {track}")
    usable = np.isfinite(xyz_m).all(axis=-1, keepdims=True) & (xyz_m[..., 2:] > 0)
    uvd = geometry.xyz_to_uvd(np.where(usable, xyz_m, 0.001) * 1000.0, camera)
    return np.where(usable, uvd, np.nan).astype(np.float32), int((~usable).sum())


def _unique(ids: list[str], rows: npt.NDArray[np.int64]) -> list[str]:
    """The ids; with their rows where the file repeats any."""
    if len(set(ids)) == len(ids):
        return ids
    return [f"{name}@{row}" for name, row in zip(ids, rows, strict=True)]


def _read_depth_ids(path: Path) -> tuple[int, _Ids]:
    """How many frames a depth file holds, and their ids."""
    with _open(path) as file:
        count = len(_depth_data(file, path))
        return count, _read_ids(file, path, count)


def _read_labels(path: Path) -> _Labels:
    with _open(path) as file:
        valid = _array(file, path, "is_valid", (None,))
        xyz = _array(file, path, "real_world_coordinates", (len(valid), _JOINTS, 3))
        return _Labels(_read_ids(file, path, len(valid)), valid != 0, xyz.astype(np.float64))


def _read_ids(file: h5py.File, path: Path, count: int) -> _Ids:
    if hdf5_dataset(file, "id") is None:
        return None
    ids = _array(file, path, "id", (count,)).tolist()
    return [str(name, "ascii", "replace") if isinstance(name, bytes) else name for name in ids]


def _same(ids: list[Any], others: _Ids) -> bool:
    """Whether two files are of the same frames, as far as their ids can tell."""
    comparable = others is not None and {*map(type, ids)} == {*map(type, others)}
    return not comparable or ids == others


@functools.lru_cache(maxsize=4)
def _depth_map(path: str, process: int) -> h5py.Dataset:
    """The `data` of a depth file, opened once per process: a fork must not share a file handle."""
    del process
    return _depth_data(_open(Path(path)), Path(path))


def _open(path: Path) -> h5py.File:
    return open_hdf5(path, **_CACHE)


def _depth_data(file: h5py.File, path: Path) -> h5py.Dataset:
    data = _dataset(file, path, "data")
    if data.ndim != 3 or data.shape[1:] != _FRAME or data.dtype.kind != "f":
        raise UserError(
            f"{path}: `data` is {data.shape} {data.dtype}; expected ITOP's depth in meters, "
            "(N, 240, 320) float16"
        )
    return data


def _dataset(file: h5py.File, path: Path, key: str) -> h5py.Dataset:
    data = hdf5_dataset(file, key)
    if data is None:
        raise UserError(
            f"{path}: has no `{key}` (it has: {hdf5_names(file)}); is this ITOP's file of "
            "that name?"
        )
    return data


def _array(
    file: h5py.File, path: Path, key: str, shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    data = _dataset(file, path, key)
    # MATLAB writes a column where others write a list.
    found = data.shape[:-1] if data.shape[len(shape) :] == (1,) else data.shape
    fits = len(found) == len(shape) and all(
        size is None or size == there for size, there in zip(shape, found, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if size is None else str(size) for size in shape)
        raise UserError(
            f"{path}: `{key}` has shape {data.shape}; expected ({expected}), one row per frame"
        )
    if key != "id" and data.dtype.kind not in "biuf":
        raise UserError(f"{path}: `{key}` holds no numbers ({data.dtype})")
    return hdf5_array(data).reshape(found)


class ItopFront(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `itop_front`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD


class ItopTop(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder `itop_top`."""

    HOMEPAGE, LICENSE, BIBTEX = HOMEPAGE, LICENSE, BIBTEX
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD
