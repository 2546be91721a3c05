"""Draw a contact sheet of a data set's crops with their joints."""

import argparse
from pathlib import Path

from a2j_jax.cli.arguments import (
    add_crop_size,
    add_data_arguments,
    add_out,
    check_picture,
    path_name,
    whole,
)
from a2j_jax.errors import UserError, printable

SPLITS = ("train", "validation", "test")  # of an embedded data set
EXAMPLES = """\
examples:
  a2j show synthetic_hand
  a2j show synthetic_body_top
  a2j show synthetic_hand --data_dir data --split test --frames 24 --out sheet.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j show`."""
    parser.add_argument("track", type=path_name, help="data set, or a folder with track.json")
    add_data_arguments(parser, split="train")
    add_crop_size(parser)
    parser.add_argument("--frames", type=whole(1, 1200), default=24, help="how many (default: 24)")
    add_out(parser, "PNG or SVG to write (default: %(default)s)", default="sheet.png")


def run(arguments: argparse.Namespace) -> None:
    """Show."""
    from a2j_jax.data import pipeline
    from a2j_jax.evaluation.plots import example_tile
    from a2j_jax.log import logger
    from a2j_jax.pictures import contact_sheet
    from tfds_builders.build import sized_track
    from tfds_builders.rendered import EMBEDDED, reader_for

    track = sized_track(arguments.track, arguments.crop_size)
    split, count = arguments.split, arguments.frames
    check_picture(arguments.out, overwrite=arguments.overwrite)
    data_dir = arguments.data_dir or "data"
    # A missing folder that was named is a mistake, and no reason to render frames instead.
    if track.name in EMBEDDED and arguments.data_dir is None and not Path(data_dir).exists():
        if split not in SPLITS:
            raise UserError(f"no split {split!r} (splits: {', '.join(SPLITS)})")
        logger.info(
            "nothing is built in ./data: rendering some frames for this sheet, which are not kept"
        )
        reader = reader_for(track, **dict.fromkeys(SPLITS, count))
        examples = list(reader.read(split, range(count)))
    else:
        fetch = pipeline.example_reader(data_dir, track, split)
        count = min(count, pipeline.num_frames(data_dir, track, split))
        examples = [fetch(index) for index in range(count)]
    tiles = [example_tile(example, track) for example in examples]
    print(printable(str(contact_sheet(tiles, track.skeleton, arguments.out))))
