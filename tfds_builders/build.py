"""`a2j build`: frames -> examples on disk, all or nothing, one build at a time in a folder; and what it tells of it."""

import contextlib
import dataclasses
import errno
import fcntl
import io
import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import util as multiprocessing_util
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_log

from a2j_jax import stores
from a2j_jax.config import LARGEST_SEED, MOST_RENDERED, Scenes
from a2j_jax.data.pipeline import write_digests
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, is_address, local_path, read_json
from a2j_jax.geometry import Camera
from a2j_jax.interrupts import after_signal, end_at_once, terminable
from a2j_jax.log import PlainTable, logger, print_table
from a2j_jax.track_files import find_track, track_file
from a2j_jax.tracks import PUBLISHED_FRAMES, TrackSpec, near_track, with_crop_size
from tfds_builders.crop_plan import plan_crops
from tfds_builders.folder import CustomFolder
from tfds_builders.hands2017 import Hands2017
from tfds_builders.icvl import Icvl
from tfds_builders.itop import Itop
from tfds_builders.k2hpd import K2hpd
from tfds_builders.nyu import Nyu
from tfds_builders.raw_files import WARNING, RawDataset, RawSplit, counted, outside_frame
from tfds_builders.reader import RawReader
from tfds_builders.rendered import EMBEDDED, reader_for
from tfds_builders.writer import (
    MOST_COUNTS,
    DepthPoseBuilder,
    DepthPoseConfig,
    How,
    Reader,
    builder_named,
    window_mm,
    worker_pool,
)

#: The reader of each track's raw data.
DATASETS: dict[str, type[RawDataset]] = {
    "nyu": Nyu,
    "icvl": Icvl,
    "hands2017": Hands2017,
    "itop_front": Itop,
    "itop_top": Itop,
    "k2hpd": K2hpd,
}
_PATIENCE_SECONDS = 1.0  # for Python's own way out


def get_dataset(track: str) -> type[RawDataset]:
    """The reader of a track's raw data: one of `DATASETS`, or that of custom folders.

    Raises:
      UserError: neither; names the nearest.
    """
    if track in DATASETS or track_file(track) is not None:
        return DATASETS.get(track, CustomFolder)
    known = (*DATASETS, *EMBEDDED)
    raise UserError(
        f"no builder for {track!r}{near_track(track, known)} (there are: {', '.join(known)}; or name a "
        "folder of your own with a track.json)"
    )


def build(
    track: str,
    data_dir: str | Path,
    *,
    train: int = 20_000,
    validation: int = 1_000,
    test: int = 2_000,
    crop_size: int | None = None,
    seed: int = 0,
    camera: Camera | None = None,
    frame_size: tuple[int, int] | None = None,
    scenes: Scenes = "plain",
    num_processes: int = 1,
    num_shards: int | None = None,
) -> Path:
    """Builds an embedded data set, or finds it built already.

    Args:
      track: one of `EMBEDDED`.
      data_dir: TFDS data directory; the examples go to `<data_dir>/<track>/crop<S>/<version>`.
      train, validation, test: frames of each split; a split of 0 frames is left out.
      crop_size: S, px; the track's by default.
      seed: of the rendered scenes.
      camera, frame_size: of the rendered frames, the latter (W, H) px; the track's by default.
      scenes: "varied" and "shifted" are for synthetic_hand; each needs its own data directory.
      num_processes, num_shards: see `How`.

    Returns:
      The folder of the finished data set, for `tfds.builder_from_directory`.

    Raises:
      UserError: unknown track, scenes that it does not have, impossible sizes, or the folder already
        holds a data set built from something else. Nothing is ever overwritten.
    """
    spec = sized_track(track, crop_size)
    if track not in EMBEDDED:
        raise UserError(f"track {track!r} is not rendered here: it is built from its raw data")
    spec = dataclasses.replace(
        spec, camera=camera or spec.camera, frame_size=frame_size or spec.frame_size
    )
    counts = (train, validation, test)
    if not any(counts) or min(counts) < 0 or max(counts) > MOST_RENDERED:
        raise UserError(
            f"frames of train, validation, test {counts}: expected 0 to {MOST_RENDERED:,} of each, not all 0"
        )
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed {seed}: expected an integer from 0 to {LARGEST_SEED}")
    reader = reader_for(
        spec, train=train, validation=validation, test=test, seed=seed, scenes=scenes
    )
    return prepare(spec, reader, data_dir, How(num_processes, num_shards))


def build_raw(
    track: str,
    manual_dir: str | Path,
    data_dir: str | Path,
    *,
    centers: str | Path | None = None,
    crop_size: int | None = None,
    max_frames: int | None = None,
    strict: bool = False,
    how: How | None = None,
    **options: Any,
) -> Path:
    """Builds a data set from the files its authors ship, or finds it built already.

    Args:
      track: one of `DATASETS`, or a folder with a `track.json`.
      manual_dir: the unpacked download.
      data_dir: TFDS data directory; the examples go to `<data_dir>/<track>/crop<S>/<version>`.
      centers: a folder of published centers or boxes, "labels" or "depth"; see
        `tfds_builders.crop_plan`.
      crop_size: S, px; the track's by default.
      max_frames: of each split, from its beginning; None: all.
      strict: a frame that cannot be used is an error, rather than counted and left out.
      how: processes, shards, Beam.
      **options: of the data set, e.g. `view` of NYU.

    Returns:
      The folder of the finished data set.

    Raises:
      UserError: unknown track or option, nothing to read (with what to download), labels that do
        not fit, or the folder already holds a data set built from something else.
    """
    spec, source = sized_track(track, crop_size), get_dataset(track)
    folder = local_path(manual_dir, "raw data")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of raw data", source.DOWNLOAD)
    known = [field.name for field in dataclasses.fields(source)][2:]  # beside folder and track
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"track {track!r} has no option {unknown[0]!r} (options: {', '.join(known) or 'none'})"
        )
    dataset = source(folder, spec, **options)
    splits = dict(dataset.splits())
    for name, split in splits.items():
        published = PUBLISHED_FRAMES.get(spec.name, {}).get(name)
        report_labels(name, split, spec, published, max_frames, strict)
    plans = {name: plan_crops(spec, name, split, centers) for name, split in splits.items()}
    reader = RawReader(dataset, splits, plans, max_frames, strict)
    for name, plan in plans.items():
        report_crops(name, spec, plan.notes, reader.provenance()["centers"][name])
    return prepare(spec, reader, data_dir, how, strict=strict, source=source, check=reader.check)


def sized_track(track: str, crop_size: int | None) -> TrackSpec:
    """The track called `track`, at another crop size if one is given."""
    spec = find_track(track)
    return spec if crop_size is None else with_crop_size(spec, crop_size)


def prepare(
    track: TrackSpec,
    reader: Reader,
    data_dir: str | Path,
    how: How | None = None,
    *,
    strict: bool = False,
    source: type[RawDataset] | None = None,
    check: Callable[[], None] | None = None,
) -> Path:
    """Builds the data set called as a track from a reader, or finds it built already, and reports; see `build_raw`.

    `source` is for the metadata; `check` is called before a build writes anything.
    """
    config = DepthPoseConfig(track=track, reader=reader, how=how or How(), source=source)
    if is_address(data_dir) and config.how.beam_options is not None:
        raise UserError(
            f"--beam: its workers write to a folder that all share, not to {data_dir}; name one, and copy the data set"
        )
    data_dir = stores.local_copy(data_dir, "data directory", _is_description(track, config.name))
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir} is a file; name a folder")
    check_folder_name(data_dir)
    folder = data_dir / track.name / config.name / str(DepthPoseBuilder.VERSION)
    started = time.monotonic()
    if not folder.exists():
        with _one_clear_ending(folder), terminable(), claimed(folder):
            if not folder.exists():  # still: another build may have had the claim until now
                stores.check_writable(folder)
                if check is not None:
                    check()
                builder = _run(config, data_dir, folder)
                write_digests(folder)
                stores.push(folder)
                summarize(builder, folder, track, time.monotonic() - started)
                return folder
    reuse(folder, reader.spec(), config.how.num_shards, strict)
    return folder


def _is_description(track: TrackSpec, config: str) -> Callable[[str], bool]:
    """Whether a file of an object store, by name, is needed to see whether a data set is there: no examples are."""
    start = f"{track.name}/{config}/"
    return lambda name: name.startswith(start) and ".array_record" not in name


def _run(config: DepthPoseConfig, data_dir: Path, folder: Path) -> DepthPoseBuilder:
    # TFDS makes its folder for downloads whether or not there are any.
    downloads = folder.parent / f"incomplete.downloads_{folder.name}"
    try:
        with _quiet_tfds(), worker_pool(config.how.num_processes) as workers:
            builder = builder_named(config.track.name)(
                data_dir=str(data_dir), config=dataclasses.replace(config, workers=workers)
            )
            builder.download_and_prepare(
                download_dir=str(downloads),
                file_format="array_record",
            )
    finally:
        shutil.rmtree(downloads, ignore_errors=True)
    return builder


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keeps TFDS from printing: stdout belongs to results, and the progress bar is our own."""
    tfds.disable_progress_bar()
    verbosity = absl_log.get_verbosity()
    absl_log.set_verbosity(absl_log.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_log.set_verbosity(verbosity)


# --- Endings


@contextlib.contextmanager
def _one_clear_ending(folder: Path) -> Iterator[None]:
    """Reports why a build stopped, and that nothing was kept: TFDS removes what it wrote."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            f"building {folder}: a worker process was killed (out of memory?); nothing was kept; "
            "try again with fewer --num_processes"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        logger.warning(_interrupted(folder))
        raise
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # Where no lock could keep another build away, it may have been faster.
        overtaken = isinstance(error, FileExistsError) and folder.is_dir()
        reason = "another build has finished there" if overtaken else _disk_trouble(error)
        if reason is None:
            raise
        raise UserError(f"building {folder}: {reason}; nothing was kept") from error


def _interrupted(folder: Path) -> str:
    # If it is there, only the summary is missing.
    left = "it is complete" if folder.exists() else "nothing was kept; rerun the same command"
    return f"building {folder} was interrupted; {left}"


def _disk_trouble(error: Exception) -> str | None:
    """Explains an exception that is about the disk; None: it is about something else."""
    number, text = getattr(error, "errno", None), str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "the disk is full; free some space or name another --data_dir"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM) or "Permission denied" in text:
        return "the folder cannot be written; name another --data_dir"
    return None


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder that will hold a data set's, for one build at a time.

    The claim is a lock on the directory itself: the system releases it when the process ends, even if
    killed, and it leaves no file behind. Whoever holds it removes what killed builds have left. Folders that
    were made here are removed at the end if they are empty, also if a signal comes in a compilation.

    Args:
      folder: of the data set, `<data_dir>/<track>/crop<S>/<version>`; TFDS makes it when all is done.

    Raises:
      UserError: another build is running there, or something that cannot be removed is in the way.
    """
    parent = folder.parent
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise UserError(f"{place}: is a symbolic link that leads nowhere; remove it")
    made = [place for place in (parent, *parent.parents) if not place.exists()]
    lock = None
    try:
        lock = _lock(parent)
        with contextlib.ExitStack() as stack:
            if lock is not None:
                _remove_leftovers(folder)
                if threading.current_thread() is threading.main_thread():
                    end = partial(_end_at_once, folder, made)
                    stack.enter_context(after_signal(_PATIENCE_SECONDS, end, ctrl_c=True))
            yield
    finally:
        _remove_if_empty(made)
        if lock is not None:
            os.close(lock)


def _remove_if_empty(places: Sequence[Path]) -> None:
    for place in places:
        with contextlib.suppress(OSError):  # it is not empty
            place.rmdir()


def _end_at_once(folder: Path, made: Sequence[Path], number: int) -> None:
    """Cleans up beside a main thread that does not respond to a signal, and ends the program."""
    text = _interrupted(folder)
    for process in multiprocessing.active_children():
        process.kill()
    for leftover in _temporary(folder):
        shutil.rmtree(leftover, ignore_errors=True)
    _remove_if_empty(made)
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    # Semaphores: their tracker would complain of those left over.
    with contextlib.suppress(Exception):
        multiprocessing_util._run_finalizers(0)  # type: ignore[attr-defined]
    end_at_once(number)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where the file system has no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # removed in between, by a build that kept nothing
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                return None
            raise UserError(
                f"{folder}: another build is running there; wait until it has ended, or name "
                "another --data_dir"
            ) from error
        os.close(descriptor)


def _temporary(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob(f"incomplete.*_{folder.name}"))


def _remove_leftovers(folder: Path) -> None:
    """Removes the temporary folders of this data set that dead builds have left.

    Raises:
      UserError: one cannot be removed: it is a link, say, or belongs to another user.
    """
    for leftover in _temporary(folder):
        try:
            if leftover.lstat().st_uid != os.getuid():  # which root could remove
                raise PermissionError(errno.EPERM, "belongs to another user")
            shutil.rmtree(leftover)  # which refuses symbolic links
        except OSError as error:
            raise UserError(
                f"{leftover}: cannot be removed ({error.strerror or error}), where a build keeps its "
                "temporary files; remove it, or name another --data_dir"
            ) from error
        logger.info(f"note: removed {leftover}, left of a build that did not finish")


SKIPPED_FILE = "skipped.tsv"
_LONGEST = 60  # characters of one value in a message
_FAULTS_NAMED = 3  # in an error
# Shares of a split's frames up to which disagreement is a note, not a warning.
_FEW, _SOME = 0.01, 0.05


def _log(text: str) -> None:
    """Logs a line, as a warning if it contains that word."""
    logger.log(logging.WARNING if WARNING in text else logging.INFO, text)


# --- A data set that is there already


def reuse(
    folder: Path, spec: Mapping[str, Any], num_shards: int | None = None, strict: bool = False
) -> None:
    """Reports that a finished data set is used as it is, and what a user may not expect of it.

    Raises:
      UserError: it was built from something else than the wanted spec (`writer.Reader.spec`) or an unknown
        source, or (strict) misses frames.
    """
    stored, wanted = read_spec(folder), json.loads(json.dumps(spec))
    if stored != wanted:
        changed = "; ".join(differences(stored, wanted)) if stored else "not built by this program"
        raise UserError(
            f"{folder} holds another data set ({changed or 'by another version of this program'}); "
            "delete that folder to build it again, or name another --data_dir"
        )
    again = f"delete {folder} to build it again"
    left_out = [
        f"{counted(sum(reasons.values()), 'frame')} of {split} ({', '.join(reasons)})"
        for split, reasons in _read_metadata(folder).get("skipped", {}).items()
        if reasons
    ]
    if strict and left_out:
        raise UserError(f"{folder} was built without {' and '.join(left_out)} (--strict); {again}")
    _log(f"{folder} is built already; nothing to do")
    for part in left_out:
        _log(f"{WARNING}{part}: left out when it was built; once fixed, {again}")
    splits = tfds.builder_from_directory(folder).info.splits
    shards = {name: split.num_shards for name, split in splits.items()}
    if num_shards is not None and set(shards.values()) != {num_shards}:
        there = ", ".join(f"{counted(count, 'shard')} of {name}" for name, count in shards.items())
        _log(f"{WARNING}--num_shards {num_shards} changes nothing, it has {there}; {again}")


def read_spec(folder: Path) -> dict[str, Any] | None:
    """The spec that the data set in a folder was built from; None where there is none."""
    spec: dict[str, Any] | None = _read_metadata(folder).get("spec")
    return spec


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Lists the differences between two specs, one short phrase each, e.g. "half_window_mm: 110 there, 120 wanted".

    Digests of a split (`digest: split: what`) are not shown: they "differ", which adds nothing where
    the number of frames does.
    """
    one, other = _leaves(there), _leaves(wanted)
    differing = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    resized = {path[-1] for path in differing if path[0] == "frames"}
    phrases = []
    for path in differing:
        name, values = " ".join(path), [str(leaves.get(path, "nothing")) for leaves in (one, other)]
        if path[0] == "digest" and path[1] in resized:
            continue
        if path[0] == "digest":
            phrases.append(f"{' '.join(path[2:]) or 'contents'} of split {path[1]} differ")
        elif max(map(len, values)) > _LONGEST:
            phrases.append(f"{name} differ")
        else:
            phrases.append(f"{name}: {values[0]} there, {values[1]} wanted")
    return phrases


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    stored = read_json(path, "the metadata of a data set") if path.exists() else {}
    if not isinstance(stored, dict):
        raise UserError(f"{path}: damaged; delete {folder} and build it again")
    return stored


def _leaves(spec: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is no mapping, by the keys that lead to it."""
    leaves: dict[tuple[str, ...], Any] = {}
    for key, value in spec.items():
        here = (*path, str(key))
        leaves |= _leaves(value, here) if isinstance(value, Mapping) else {here: value}
    return leaves


# --- Before a build


def report_labels(
    name: str,
    split: RawSplit,
    track: TrackSpec,
    published: int | None,
    max_frames: int | None,
    strict: bool = False,
) -> None:
    """Prints how many frames a split has, and what is unusual about it and its labels.

    The authors state `published` frames (None: not known), of which the first `max_frames` (None: all) will be used.

    Raises:
      UserError: the labels are another skeleton's; or, strict, there are faults.
    """
    found = len(split) if split.total is None else split.total
    used = "" if max_frames is None else f", the first {min(max_frames, len(split)):,} to be used"
    _log(f"{name}: {counted(len(split), 'frame')}{used}")
    if published is not None and published not in (len(split), found):
        _log(f"{name}: {WARNING}{published:,} frames were published; is the download complete?")
    _report_notes(name, split.notes)
    if strict and split.faults:
        more = len(split.faults) - _FAULTS_NAMED
        faults = "; ".join(split.faults[:_FAULTS_NAMED]) + (f"; {more:,} more" if more > 0 else "")
        raise UserError(f"split {name!r}: {faults} (--strict)")
    _report_notes(name, [WARNING + fault for fault in split.faults])
    joints = split.joints_uvd
    if joints is None:
        _log(f"{name}: no labels: these frames can be predicted, not scored")
        return
    expected = (len(split), track.num_joints, track.joint_dims)
    if joints.shape != expected:
        raise UserError(
            f"{name}: labels of shape {joints.shape}, track {track.name!r} needs "
            f"{expected}: is this the right version of the data set?"
        )
    outside = outside_frame(joints, track)
    if outside.any():
        frames = counted(np.any(outside, axis=1).sum(), "frame")
        note = f"{counted(outside.sum(), 'joint')} in {frames}: outside the frame; kept, and they count"
        _report_notes(name, [note])


def report_crops(
    name: str, track: TrackSpec, notes: Sequence[str], sources: Mapping[str, int]
) -> None:
    """Prints where the crops of a split come from: the notes of its `CropPlan`, and source -> number of frames."""
    _report_notes(name, notes)
    what = "centers" if track.crop_by == "center" else "boxes"
    counts = ", ".join(f"{count:,} ({source})" for source, count in sources.items())
    _log(f"{name}: {what}: {counts}")


def _report_notes(name: str, notes: Sequence[str]) -> None:
    for note in notes:
        _log(f"{name}: {note if note.startswith(WARNING) else f'note: {note}'}")


# --- After a build


def summarize(builder: DepthPoseBuilder, folder: Path, track: TrackSpec, seconds: float) -> None:
    """Prints what was written, what was left out and why, and the statistics of the crops."""
    splits = builder.info.splits
    _log(f"built {folder}")
    table = PlainTable()
    for column in ("split", "frames", "left out", "shards", "MB"):
        table.add_column(column, justify="left" if column == "split" else "right")
    total_bytes = 0
    for name, split in splits.items():
        num_bytes = sum(Path(path).stat().st_size for path in split.filepaths)
        total_bytes += num_bytes
        skipped = len(builder.tallies[name].skipped)
        numbers = (f"{split.num_examples:,}", f"{skipped:,}", f"{len(split.filepaths)}")
        table.add_row(name, *numbers, f"{num_bytes / 1e6:.1f}")
    print_table(table)
    frames = sum(split.num_examples for split in splits.values())
    _log(
        f"{counted(frames, 'frame')} in {seconds:.1f} s ({frames / seconds:.0f} frames/s), "
        f"{total_bytes / frames / 1e3:.1f} kB per frame"
    )
    _report_skipped(builder, folder)
    _report_disagreement(builder, track)
    if found := builder.info.metadata.get("statistics"):
        _log(
            f"training crops: mean {found['mean']:.4f}, std {found['std']:.4f} "
            f"(track {track.name!r}: {track.mean:.4f}, {track.std:.4f})"
        )


def _report_skipped(builder: DepthPoseBuilder, folder: Path) -> None:
    skipped = [(name, s) for name, tally in builder.tallies.items() for s in tally.skipped]
    if not skipped:
        return
    for (name, reason), count in Counter((name, s.reason) for name, s in skipped).items():
        first = next(s.frame_id for n, s in skipped if (n, s.reason) == (name, reason))
        _log(
            f"{WARNING}{counted(count, 'frame')} of {name} left out: {reason} (the first: {first})"
        )
    lines = ["split\tindex\tframe\treason"]
    lines += [f"{name}\t{s.index}\t{s.frame_id}\t{s.reason}" for name, s in skipped]
    (folder / SKIPPED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    _log(f"all of them: {folder / SKIPPED_FILE}")


def _report_disagreement(builder: DepthPoseBuilder, track: TrackSpec) -> None:
    """Frames where depth, center and labels disagree; few of them are a note."""
    near = f"no reading within {window_mm(track):g} mm of their"
    farthest = f"beyond {MOST_COUNTS * track.storage_unit_mm:,.0f} mm, stored as that"
    for name, found in builder.tallies.items():
        frames = builder.info.splits[name].num_examples
        for count, what, share in (
            (found.no_center, f"{near} center", _FEW),
            (found.no_labels, f"{near} labels", _FEW),
            (found.apart, "labels outside the crop, or far from its center", _SOME),
            (found.beyond, f"readings {farthest}", 1.0),
        ):
            if count:
                kind = WARNING if count > share * frames else "note: "
                _log(f"{kind}{name}: {count:,} of {counted(frames, 'frame')}: {what}")
