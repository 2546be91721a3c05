"""Draw a contact sheet of a data set's crops with their joints."""

import argparse

from a2j_jax.cli.arguments import whole

EXAMPLES = """\
examples:
  a2j show synthetic_hand
  a2j show synthetic_hand --data_dir data --split test --frames 24 --out sheet.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j show` takes."""
    parser.add_argument("track", help="data set to show")
    parser.add_argument("--data_dir", default="data", help="TFDS data directory (default: data)")
    parser.add_argument("--split", default="train", help="default: train")
    parser.add_argument("--crop_size", type=whole(16), help="pixels (the track's)")
    parser.add_argument("--frames", type=whole(1), default=24, help="how many (default: 24)")
    parser.add_argument("--out", default="sheet.png", help="PNG to write (default: sheet.png)")


def run(arguments: argparse.Namespace) -> int:
    """Show."""
    from a2j_jax import input_pipeline
    from a2j_jax.evaluation.report import examples_sheet
    from a2j_jax.tracks import get_track, with_crop_size

    track = get_track(arguments.track)
    if arguments.crop_size is not None:
        track = with_crop_size(track, arguments.crop_size)
    fetch = input_pipeline.example_reader(arguments.data_dir, track, arguments.split)
    frames = input_pipeline.num_frames(arguments.data_dir, track, arguments.split)
    examples = [fetch(index) for index in range(min(arguments.frames, frames))]
    print(examples_sheet(examples, track, arguments.out))
    return 0
