"""Turn raw files, or rendered hands and bodies, into examples on disk, once; training and evaluation read those."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2j_jax.cli.arguments import DEPTH_UNITS_MM, number, numbers, path_name, whole
from a2j_jax.config import LARGEST_SEED, MOST_RENDERED
from a2j_jax.errors import UserError
from a2j_jax.track_files import checked_camera, checked_frame_size
from a2j_jax.tracks import LARGEST_CROP

if TYPE_CHECKING:
    from a2j_jax.pictures import Tile
    from a2j_jax.tracks import TrackSpec

EXAMPLES = """\
examples:
  a2j build synthetic_hand
  a2j build synthetic_hand --data_dir data --train 40000 --test 2000 --crop_size 96
  a2j build synthetic_body --crop_size 96
  a2j build nyu --manual_dir ~/nyu_hand_dataset_v2 --centers ~/A2J/data --num_processes 8
  a2j build itop_front --manual_dir ~/ITOP --max_frames 1000
  a2j build icvl --manual_dir ~/ICVL --no_rotations --centers labels
  a2j build ./my_hands                  # custom frames: docs/own_data.md

What to download and where to put it: a2j build TRACK --manual_dir missing, or docs/datasets.md.
"""

# Arguments that make sense for one kind of data set only, as argparse calls them.
_RENDERED = ("train", "validation", "test", "seed", "camera", "frame_size")
_RAW = (
    "centers",
    "max_frames",
    "strict",
    "beam",
    "view",
    "no_rotations",
    "keypoints_dir",
    "depth_unit_mm",
    "allow_outside",
)
# Of the contact sheet.
_FIRST_SPLIT_FRAMES, _OTHER_SPLIT_FRAMES = 16, 8
_CAPTION_LETTERS = 27


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `a2j build` takes."""
    parser.add_argument(
        "track", type=path_name, help="data set to build, or a folder with track.json"
    )
    parser.add_argument(
        "--data_dir", type=path_name, default="data", help="TFDS data directory (default: data)"
    )
    parser.add_argument(
        "--crop_size", type=whole(16, LARGEST_CROP), help="pixels, divisible by 16 (the track's)"
    )
    parser.add_argument("--num_processes", type=whole(1, 1024), default=1, help="that read (1)")
    parser.add_argument(
        "--num_shards", type=whole(1, 100_000), help="files per split (1 per 4096 frames)"
    )
    raw = parser.add_argument_group("data sets that were downloaded")
    raw.add_argument("--manual_dir", type=path_name, help="folder of the unpacked download")
    raw.add_argument(
        "--centers",
        type=path_name,
        help="where to crop: a folder of published centers or boxes, `labels` or `depth` "
        "(default: labels for training, the depth itself for the rest)",
    )
    raw.add_argument("--max_frames", type=whole(1), help="of each split (all)")
    raw.add_argument("--strict", action="store_true", help="a frame left out is an error")
    raw.add_argument(
        "--beam",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="build with Apache Beam, on this machine or with pipeline OPTIONS "
        "(e.g. '--runner=DataflowRunner --project=...'); needs a2j-jax[beam]",
    )
    raw.add_argument("--view", type=whole(1, 3), help="nyu: camera 1, 2 or 3 (1)")
    raw.add_argument("--no_rotations", action="store_true", help="icvl: without the rotated copies")
    raw.add_argument(
        "--keypoints_dir",
        type=path_name,
        help="k2hpd: folder of the official .mat files, to check labels against",
    )
    raw.add_argument(
        "--depth_unit_mm",
        type=number(*DEPTH_UNITS_MM),
        help="custom track: mm per count of integer values (track.json's)",
    )
    raw.add_argument(
        "--allow_outside", action="store_true", help="custom track: read frames outside the folder"
    )
    rendered = parser.add_argument_group("data sets that are rendered here")
    rendered.add_argument("--train", type=whole(0, MOST_RENDERED), help="frames (20000)")
    rendered.add_argument("--validation", type=whole(0, MOST_RENDERED), help="frames (1000)")
    rendered.add_argument("--test", type=whole(0, MOST_RENDERED), help="frames (2000)")
    rendered.add_argument("--seed", type=whole(0, LARGEST_SEED), help="of everything random (0)")
    rendered.add_argument(
        "--camera", type=numbers(4, "fx,fy,cx,cy"), help="intrinsics in px (the track's)"
    )
    rendered.add_argument("--frame_size", type=numbers(2, "W,H"), help="pixels (the track's)")


def run(arguments: argparse.Namespace) -> int:
    """Build, and draw a contact sheet."""
    from tfds_builders.rendered import EMBEDDED

    if arguments.track in EMBEDDED:
        _refuse(arguments, ("manual_dir", *_RAW), "is rendered here")
        folder = _rendered(arguments)
    else:
        _refuse(arguments, _RENDERED, "comes from its raw data")
        folder = _raw(arguments)
    _draw(arguments, folder)
    return 0


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], because: str) -> None:
    given = [name for name in names if getattr(arguments, name) not in (None, False)]
    if given:
        raise UserError(f"--{given[0]} is not for {arguments.track!r}, which {because}")


def _rendered(arguments: argparse.Namespace) -> Path:
    from tfds_builders.build import build

    given = {name: getattr(arguments, name) for name in ("train", "validation", "test", "seed")}
    size = arguments.frame_size
    return build(
        arguments.track,
        arguments.data_dir,
        **{name: value for name, value in given.items() if value is not None},
        crop_size=arguments.crop_size,
        camera=checked_camera(dict(zip(("fx", "fy", "cx", "cy"), arguments.camera, strict=True)))
        if arguments.camera
        else None,
        frame_size=checked_frame_size([int(x) if x == int(x) else x for x in size])
        if size
        else None,
        num_processes=arguments.num_processes,
        num_shards=arguments.num_shards,
    )


def _raw(arguments: argparse.Namespace) -> Path:
    from a2j_jax.track_files import track_file
    from tfds_builders.build import How, build_raw, get_dataset

    # A folder of one's own is both: what the track is, and where its frames are.
    own = track_file(arguments.track)
    manual_dir = arguments.manual_dir or (own.parent if own else None)
    if manual_dir is None:
        download = get_dataset(arguments.track).DOWNLOAD
        raise UserError(f"--manual_dir FOLDER is needed to build {arguments.track!r}", download)
    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("view", "keypoints_dir", "depth_unit_mm")
        if getattr(arguments, name) is not None
    }
    if arguments.allow_outside:
        options["allow_outside"] = True
    if arguments.no_rotations:
        options["rotations"] = False
    return build_raw(
        arguments.track,
        manual_dir,
        arguments.data_dir,
        centers=arguments.centers,
        crop_size=arguments.crop_size,
        max_frames=arguments.max_frames,
        strict=arguments.strict,
        how=How(arguments.num_processes, arguments.num_shards, arguments.beam),
        **options,
    )


def _draw(arguments: argparse.Namespace, folder: Path) -> None:
    """A contact sheet beside the data set, of examples from all over every split."""
    from a2j_jax import pictures
    from a2j_jax.data import pipeline
    from a2j_jax.log import logger
    from tfds_builders.build import sized_track

    if not pictures.have_matplotlib():
        logger.info("no contact sheet: it needs matplotlib, pip install 'a2j-jax[viz]'")
        return
    track = sized_track(arguments.track, arguments.crop_size)
    splits = list(pipeline.find_dataset(folder, track).info.splits)
    wanted = [_FIRST_SPLIT_FRAMES, *[_OTHER_SPLIT_FRAMES] * (len(splits) - 1)]
    tiles = [
        tile
        for split, count in zip(splits, wanted, strict=True)
        for tile in _tiles(folder, track, split, count)
    ]
    sheet = pictures.contact_sheet(tiles, track.skeleton, folder / "examples.png", columns=4)
    logger.info(f"examples to look at ({', '.join(splits)}): {sheet}")


def _tiles(folder: Path, track: "TrackSpec", split: str, wanted: int) -> "list[Tile]":
    """Evenly spaced examples of a split, called by split and frame."""
    from a2j_jax.data import pipeline
    from a2j_jax.evaluation.plots import example_tile

    fetch = pipeline.example_reader(folder, track, split)
    count = pipeline.num_frames(folder, track, split)
    examples = [fetch(i) for i in sorted({i * (count - 1) // (wanted - 1) for i in range(wanted)})]
    return [
        example_tile(example, track, title=_caption(split, example["frame_id"].decode()))
        for example in examples
    ]


def _caption(split: str, frame_id: str) -> str:
    """Split and frame in a line as wide as a tile: of a long name, its end."""
    room = _CAPTION_LETTERS - len(split) - 2
    return f"{split}: {frame_id if len(frame_id) <= room else '…' + frame_id[1 - room :]}"
