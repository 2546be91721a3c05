"""`a2j build`: raw data -> examples on disk, with one clear ending."""

import contextlib
import dataclasses
import errno
import io
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from a2j_jax.config import LARGEST_SEED, MOST_RENDERED
from a2j_jax.data.pipeline import write_digests
from a2j_jax.errors import UserError
from a2j_jax.files import check_folder_name, local_path
from a2j_jax.geometry import Camera
from a2j_jax.interrupts import terminable
from a2j_jax.log import logger
from a2j_jax.track_files import find_track
from a2j_jax.tracks import TrackSpec, with_crop_size
from tfds_builders.base import DepthPoseBuilder, DepthPoseConfig, Reader, config_name
from tfds_builders.build_lock import claimed
from tfds_builders.rendered import EMBEDDED, RENDERED, reader_for
from tfds_builders.shards import worker_pool
from tfds_builders.summary import read_spec as read_spec
from tfds_builders.summary import reuse, say_crops, say_labels, summarise


@dataclass(frozen=True)
class How:
    """How a build is carried out; the examples do not depend on it.

    Attributes:
      num_processes: that read, cut and write.
      num_shards: files per split; None: one for every 4,096 frames.
      beam_options: build with Apache Beam, with these pipeline options ("" : the local runner);
        None: without.
    """

    num_processes: int = 1
    num_shards: int | None = None
    beam_options: str | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if self.num_processes < 1:
            raise UserError(f"num_processes {self.num_processes}: expected 1 or more")
        if self.num_shards is not None and self.num_shards < 1:
            raise UserError(f"num_shards {self.num_shards}: expected 1 or more")


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
    num_processes: int = 1,
    num_shards: int | None = None,
) -> Path:
    """Builds an embedded data set, or finds it built already.

    Args:
      track: what to build, one of `EMBEDDED`.
      data_dir: TFDS data directory; the examples go to `<data_dir>/<track>/crop<S>/<version>`.
      train: frames of the training split; a split of 0 frames is left out.
      validation: frames of the validation split.
      test: frames of the test split.
      crop_size: S, px; the track's by default.
      seed: of the rendered scenes.
      camera: that the frames are rendered for; the track's by default.
      frame_size: (W, H) of the rendered frames, px; the track's by default.
      num_processes: that render; the result does not depend on it.
      num_shards: files per split.

    Returns:
      The folder of the finished data set, for `tfds.builder_from_directory`.

    Raises:
      UserError: unknown track, impossible sizes, or the folder already holds a data set built from
        something else. Nothing is ever overwritten.
    """
    spec = sized_track(track, crop_size)
    if track not in EMBEDDED:
        raise UserError(f"track {track!r} is not rendered here: it is built from its raw data")
    spec = dataclasses.replace(
        spec, camera=camera or spec.camera, frame_size=frame_size or spec.frame_size
    )
    frames = {"train": train, "validation": validation, "test": test}
    if not any(frames.values()) or not all(
        0 <= count <= MOST_RENDERED for count in frames.values()
    ):
        raise UserError(
            f"frames per split {frames}: expected none below 0 or above {MOST_RENDERED:,} and at least one above 0"
        )
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed {seed}: expected a whole number from 0 to {LARGEST_SEED}")
    reader = reader_for(spec, train=train, validation=validation, test=test, seed=seed)
    return prepare(RENDERED[track].builder, spec, reader, data_dir, How(num_processes, num_shards))


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
    """Builds a data set from what its authors ship, or finds it built already.

    Args:
      track: one of `tfds_builders.datasets.DATASETS`.
      manual_dir: the unpacked download.
      data_dir: TFDS data directory; the examples go to `<data_dir>/<track>/crop<S>/<version>`.
      centers: a folder of published centres or boxes, "labels" or "depth"; see
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
    from tfds_builders.crop_plan import plan_crops
    from tfds_builders.datasets import get_dataset
    from tfds_builders.reader import RawReader

    spec = sized_track(track, crop_size)
    dataset = get_dataset(track)
    distribution = dataset.open(manual_dir, **options)
    splits = dict(distribution.splits())
    for name, split in splits.items():
        say_labels(name, split, spec, dataset.published_frames.get(name), max_frames, strict)
    plans = {name: plan_crops(spec, name, split, centers) for name, split in splits.items()}
    reader = RawReader(spec, distribution, splits, plans, max_frames, strict)
    for name, plan in plans.items():
        say_crops(name, spec, plan.notes, reader.provenance()["centers"][name])
    return prepare(
        dataset.builder,
        spec,
        reader,
        data_dir,
        how,
        strict=strict,
        manual_download=dataset.download,
        check=reader.check,
    )


def sized_track(track: str, crop_size: int | None) -> TrackSpec:
    """The track called `track`, at another crop size if one is given."""
    spec = find_track(track)
    return spec if crop_size is None else with_crop_size(spec, crop_size)


def prepare(
    builder_class: type[DepthPoseBuilder],
    track: TrackSpec,
    reader: Reader,
    data_dir: str | Path,
    how: How | None = None,
    *,
    strict: bool = False,
    manual_download: str = "",
    check: Callable[[], None] | None = None,
) -> Path:
    """Runs one builder, or finds its data set built already, and says how it went; see `build_raw`.

    `check` is called before a build writes anything.
    """
    how = how or How()
    data_dir = local_path(data_dir, "data directory")
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir} is a file; name a folder")
    check_folder_name(data_dir)
    folder = data_dir / builder_class.name / config_name(track) / str(builder_class.VERSION)
    started = time.monotonic()
    config = DepthPoseConfig(
        name=config_name(track),
        track=track,
        reader=reader,
        num_shards=how.num_shards,
        beam=how.beam_options is not None,
        manual_download=manual_download,
    )
    if not folder.exists():
        with _one_clear_ending(folder), terminable(), claimed(folder):
            if not folder.exists():  # still: another build may have had the claim until now
                if check is not None:
                    check()
                builder = _run(builder_class, config, data_dir, folder, how)
                write_digests(folder)
                summarise(builder, folder, track, time.monotonic() - started)
                return folder
    reuse(folder, reader.spec(), how.num_shards, strict)
    return folder


def _run(
    builder_class: type[DepthPoseBuilder],
    config: DepthPoseConfig,
    data_dir: Path,
    folder: Path,
    how: How,
) -> DepthPoseBuilder:
    with (
        _quiet_tfds(),
        # TFDS makes its folder for downloads whether or not there are any; removed with what killed builds leave.
        _removed(folder.parent / f"incomplete.downloads_{folder.name}") as downloads,
        worker_pool(how.num_processes) as workers,
    ):
        config = dataclasses.replace(config, workers=workers)
        builder = builder_class(data_dir=str(data_dir), config=config)
        builder.download_and_prepare(
            download_dir=str(downloads),
            file_format="array_record",
            download_config=_download_config(how),
        )
    return builder


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download_config(how: How) -> tfds.download.DownloadConfig:
    if how.beam_options is None:
        return tfds.download.DownloadConfig()
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("--beam needs Apache Beam: pip install 'a2j-jax[beam]'") from error
    options = PipelineOptions(how.beam_options.split())
    return tfds.download.DownloadConfig(beam_options=options, num_shards=how.num_shards)


@contextlib.contextmanager
def _one_clear_ending(folder: Path) -> Iterator[None]:
    """Whatever stops a build, TFDS removes what it wrote: says so, and what happened."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            f"building {folder}: a worker process was killed (out of memory?); nothing was kept; "
            "try again with fewer --num_processes"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        left = "nothing was kept; rerun the same command"
        if folder.exists():  # all was written, only the summary is missing
            left = "but it is complete"
        logger.warning(f"building {folder} was interrupted; {left}")
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # Where no lock could keep another build away, it may have been faster.
        overtaken = isinstance(error, FileExistsError) and folder.is_dir()
        reason = "another build has finished there" if overtaken else _disk_trouble(error)
        if reason is None:
            raise
        raise UserError(f"building {folder}: {reason}; nothing was kept") from error


def _disk_trouble(error: BaseException) -> str | None:
    """What is wrong with the disk, if that is what an exception is about."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "the disk is full; free some space or name another --data_dir"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM) or "Permission denied" in text:
        return "the folder cannot be written; name another --data_dir"
    return None


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keeps TFDS from talking: stdout belongs to results, and the progress bar is our own."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
