"""Render or convert a data set into examples on disk, once; training and evaluation read those."""

import argparse

from a2j_jax.cli.arguments import numbers, whole
from a2j_jax.geometry import Camera

EXAMPLES = """\
examples:
  a2j build synthetic_hand
  a2j build synthetic_hand --data_dir data --train 40000 --test 2000 --crop_size 96
  a2j build synthetic_hand --camera 475.07,475.07,315.9,245.3 --frame_size 640,480
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j build` takes."""
    parser.add_argument("track", help="data set to build, e.g. synthetic_hand")
    parser.add_argument("--data_dir", default="data", help="TFDS data directory (default: data)")
    parser.add_argument("--train", type=whole(0), default=20_000, help="frames (default: 20000)")
    parser.add_argument("--validation", type=whole(0), default=1_000, help="frames (1000)")
    parser.add_argument("--test", type=whole(0), default=2_000, help="frames (2000)")
    parser.add_argument("--crop_size", type=whole(16), help="pixels, divisible by 16 (the track's)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of everything random (0)")
    parser.add_argument(
        "--camera", type=numbers(4, "fx,fy,cx,cy"), help="intrinsics in px (the track's)"
    )
    parser.add_argument("--frame_size", type=numbers(2, "W,H"), help="pixels (the track's)")
    parser.add_argument("--num_processes", type=whole(1), default=1, help="that render (1)")


def run(arguments: argparse.Namespace) -> int:
    """Build."""
    from tfds_builders.build import build

    size = arguments.frame_size
    build(
        arguments.track,
        arguments.data_dir,
        train=arguments.train,
        validation=arguments.validation,
        test=arguments.test,
        crop_size=arguments.crop_size,
        seed=arguments.seed,
        camera=Camera(*arguments.camera) if arguments.camera else None,
        frame_size=(int(size[0]), int(size[1])) if size else None,
        num_processes=arguments.num_processes,
    )
    return 0
