"""Draw a contact sheet of a data set's crops with their joints."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2j_jax.cli.arguments import add_overwrite, check_picture, path_name, whole
from a2j_jax.errors import UserError, printable
from a2j_jax.tracks import LARGEST_CROP

if TYPE_CHECKING:
    from a2j_jax.tracks import TrackSpec

SPLITS = ("train", "validation", "test")  # of a data set that is rendered here
EXAMPLES = """\
examples:
  a2j show synthetic_hand
  a2j show synthetic_body_top
  a2j show synthetic_hand --data_dir data --split test --frames 24 --out sheet.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j show` takes."""
    parser.add_argument(
        "track", type=path_name, help="data set to show, or a folder with track.json"
    )
    parser.add_argument("--data_dir", type=path_name, help="TFDS data directory (default: data)")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("--crop_size", type=whole(16, LARGEST_CROP), help="pixels (the track's)")
    parser.add_argument("--frames", type=whole(1, 1200), default=24, help="how many (default: 24)")
    parser.add_argument(
        "--out",
        type=path_name,
        default="sheet.png",
        help="PNG or SVG to write (default: sheet.png)",
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show."""
    from a2j_jax.evaluation.plots import example_tile
    from a2j_jax.pictures import contact_sheet
    from a2j_jax.track_files import find_track
    from a2j_jax.tracks import with_crop_size
    from tfds_builders.rendered import EMBEDDED

    track = find_track(arguments.track)
    if arguments.crop_size is not None:
        track = with_crop_size(track, arguments.crop_size)
    check_picture(arguments.out, overwrite=arguments.overwrite)
    data_dir = arguments.data_dir or "data"
    # A folder that was named and is not there is a mistake, and no reason to render something.
    if track.name in EMBEDDED and arguments.data_dir is None and not Path(data_dir).exists():
        examples = _rendered(track, arguments.split, arguments.frames)
    else:
        examples = _stored(track, data_dir, arguments.split, arguments.frames)
    tiles = [example_tile(example, track) for example in examples]
    print(printable(str(contact_sheet(tiles, track.skeleton, arguments.out))))
    return 0


def _stored(
    track: "TrackSpec", data_dir: str | Path, split: str, frames: int
) -> list[dict[str, Any]]:
    from a2j_jax.data import pipeline

    fetch = pipeline.example_reader(data_dir, track, split)
    count = min(frames, pipeline.num_frames(data_dir, track, split))
    return [fetch(index) for index in range(count)]


def _rendered(track: "TrackSpec", split: str, frames: int) -> list[dict[str, Any]]:
    """Examples of an embedded data set that nobody has built yet: its first ones, straight from the renderer."""
    from a2j_jax.log import logger
    from tfds_builders.rendered import reader_for

    if split not in SPLITS:
        raise UserError(f"no split {split!r} (splits: {', '.join(SPLITS)})")
    logger.info(
        "nothing is built in ./data: rendering some frames for this sheet, which are not kept"
    )
    reader = reader_for(track, train=frames, validation=frames, test=frames)
    return list(reader.read(split, range(frames)))
