"""`a2j build`: raw data -> examples on disk, with one clear ending."""

import contextlib
import dataclasses
import difflib
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.progress import say
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from tfds_builders.depth_pose import (
    DepthPoseBuilder,
    DepthPoseConfig,
    Reader,
    config_name,
    worker_pool,
)
from tfds_builders.synthetic_hand.synthetic_hand import SyntheticHand, SyntheticHandReader


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
) -> Path:
    """Builds a data set, or finds it built already.

    Args:
      track: what to build; today `synthetic_hand`.
      data_dir: TFDS data directory; the examples go to `<data_dir>/<track>/crop<S>/<version>`.
      train: frames of the training split; a split of 0 frames is left out.
      validation: frames of the validation split.
      test: frames of the test split.
      crop_size: S, px; the track's by default.
      seed: of the rendered scenes.
      camera: that the frames are rendered for; the track's by default.
      frame_size: (W, H) of the rendered frames, px; the track's by default.
      num_processes: that read or render; the result does not depend on it.

    Returns:
      The folder of the finished data set, for `tfds.builder_from_directory`.

    Raises:
      UserError: unknown track, impossible sizes, or the folder already holds a data set built from
        something else. Nothing is ever overwritten.
    """
    if track not in _READERS:
        near = difflib.get_close_matches(track, _READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no builder for {track!r}{hint} (there are: {', '.join(_READERS)})")
    spec = get_track(track)
    spec = with_crop_size(spec, crop_size or spec.crop_size)
    spec = dataclasses.replace(
        spec, camera=camera or spec.camera, frame_size=frame_size or spec.frame_size
    )
    frames = {"train": train, "validation": validation, "test": test}
    if min(frames.values()) < 0 or not any(frames.values()):
        raise UserError(f"frames per split {frames}: expected none below 0 and at least one above")
    if num_processes < 1:
        raise UserError(f"num_processes {num_processes}: expected 1 or more")
    builder_class, make_reader = _READERS[track]
    return prepare(builder_class, spec, make_reader(spec, frames, seed), data_dir, num_processes)


def _synthetic_hand(track: TrackSpec, frames: dict[str, int], seed: int) -> Reader:
    return SyntheticHandReader(
        track, frames["train"], frames["validation"], frames["test"], seed=seed
    )


_READERS: dict[str, tuple[type[DepthPoseBuilder], Callable[..., Reader]]] = {
    "synthetic_hand": (SyntheticHand, _synthetic_hand),
}
# Tracks whose frames we make ourselves: nothing has to be brought or downloaded.
EMBEDDED = ("synthetic_hand",)


def prepare(
    builder_class: type[DepthPoseBuilder],
    track: TrackSpec,
    reader: Reader,
    data_dir: str | Path,
    num_processes: int = 1,
) -> Path:
    """Runs one builder and says how it went; see `build`."""
    data_dir = Path(data_dir).expanduser()
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"data directory {data_dir} is a file; name a folder")
    folder = data_dir / builder_class.name / config_name(track) / str(builder_class.VERSION)
    if folder.exists():
        _check_same_spec(folder, reader)
        say(f"{folder} is built already; nothing to do")
        return folder
    for leftover in sorted(folder.parent.glob("incomplete.*")):
        say(f"note: {leftover} is left of a build that did not finish; it can be deleted")
    started = time.monotonic()
    try:
        with _quiet_tfds(), worker_pool(num_processes) as workers:
            config = DepthPoseConfig(
                name=config_name(track), track=track, reader=reader, workers=workers
            )
            builder = builder_class(data_dir=str(data_dir), config=config)
            builder.download_and_prepare(file_format="array_record")
    except BrokenProcessPool as error:
        raise UserError(
            f"building {folder}: a worker process was killed (out of memory?); "
            "try again with fewer --num_processes"
        ) from error
    _summarise(builder.info, folder, time.monotonic() - started)
    return folder


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


def read_spec(folder: Path) -> dict[str, Any] | None:
    """What the data set in a folder was built from; None where it does not say."""
    try:
        stored = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError):
        return None
    return stored.get("spec")


def _check_same_spec(folder: Path, reader: Reader) -> None:
    stored, wanted = read_spec(folder), json.loads(json.dumps(reader.spec()))
    if stored == wanted:
        return
    keys = sorted(set(stored or {}) | set(wanted))
    changed = [
        f"{key}: {stored.get(key)} there, {wanted.get(key)} wanted"
        for key in keys
        if stored and stored.get(key) != wanted.get(key)
    ]
    raise UserError(
        f"{folder} holds another data set ({'; '.join(changed) or 'not built by this program'}); "
        "build into another --data_dir, ask for the same, or delete that folder"
    )


def _summarise(info: tfds.core.DatasetInfo, folder: Path, seconds: float) -> None:
    frames = sum(split.num_examples for split in info.splits.values())
    on_disk = sum(path.stat().st_size for path in folder.iterdir())
    counts = ", ".join(f"{name} {split.num_examples}" for name, split in info.splits.items())
    say(
        f"{folder}: {frames} frames ({counts}), {on_disk / 1e6:.1f} MB "
        f"({on_disk / frames / 1e3:.1f} kB per frame), {frames / seconds:.0f} frames/s"
    )
