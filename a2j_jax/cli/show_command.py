"""Draw a contact sheet of crops with their joints, of a data set or rendered for it, or write one rendered frame."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from a2j_jax.cli.arguments import (
    add_crop_size,
    add_data_arguments,
    add_out,
    check_picture,
    path_name,
    whole,
)
from a2j_jax.config import SCENES, Scenes
from a2j_jax.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np

    from a2j_jax.tracks import TrackSpec

SPLITS = ("train", "validation", "test")  # of an embedded data set
EXAMPLES = """\
examples:
  a2j show synthetic_hand
  a2j show synthetic_body_top
  a2j show synthetic_hand --data_dir data --split test --frames 24 --out sheet.png
  a2j show synthetic_hand --scenes varied --crop_size 96    # nothing has to be built
  a2j show synthetic_hand --frame frame.png --seed 3    # a frame to try `a2j predict` on

--scenes renders the first frames of a split for this sheet alone. --frame renders one depth frame, as large as the
camera's, and prints the line that predicts on it. It is in no split.
"""
_SHEET, _SPLIT, _COUNT = "sheet.png", "train", 24
_OF_A_SHEET = ("out", "data_dir", "crop_size", "split", "frames")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j show`."""
    add = parser.add_argument
    add("track", type=path_name, help="data set, or a folder with track.json")
    add_data_arguments(parser, split=_SPLIT)
    add_crop_size(parser)
    add("--frames", type=whole(1, 1200), default=_COUNT, help="how many (default: %(default)s)")
    add_out(parser, f"PNG or SVG to write (default: {_SHEET})")
    scenes = "render frames of these (synthetic_hand; docs/datasets/rendered.md)"
    add("--scenes", choices=SCENES, help=scenes)
    frame = "write one rendered frame there instead, 16-bit PNG in mm"
    add("--frame", type=path_name, metavar="FRAME.png", help=frame)
    add("--seed", type=whole(0, 2**32 - 1), help="of --scenes and --frame (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    """Show."""
    if arguments.frame is not None:
        _write_frame(arguments)
    elif arguments.seed is not None and arguments.scenes is None:
        raise UserError(
            "--seed goes with --frame or --scenes: a sheet shows the examples of a data set"
        )
    else:
        _draw_sheet(arguments)


def _draw_sheet(arguments: argparse.Namespace) -> None:
    from a2j_jax.data import pipeline
    from a2j_jax.evaluation.plots import example_tile
    from a2j_jax.log import logger
    from a2j_jax.pictures import contact_sheet
    from tfds_builders.build import sized_track
    from tfds_builders.rendered import EMBEDDED, reader_for

    track = sized_track(arguments.track, arguments.crop_size)
    split, count, out = arguments.split, arguments.frames, arguments.out or _SHEET
    check_picture(out, overwrite=arguments.overwrite)
    data_dir, scenes = arguments.data_dir or "data", arguments.scenes
    if scenes and arguments.data_dir is not None:
        raise UserError("--scenes renders frames, --data_dir has built ones; leave one out")
    # A missing folder that was named is a mistake, and no reason to render frames instead.
    absent = arguments.data_dir is None and not Path(data_dir).exists()
    if scenes or (track.name in EMBEDDED and absent):
        _check_rendered(track, "--scenes")
        if split not in SPLITS:
            raise UserError(f"no split {split!r} (splits: {', '.join(SPLITS)})")
        why = "" if scenes else "nothing is built in ./data: "
        logger.info(f"{why}rendering {count} frames for this sheet, which are not kept")
        frames, seed = dict.fromkeys(SPLITS, count), arguments.seed or 0
        reader = reader_for(track, **frames, seed=seed, scenes=scenes or "plain")
        examples = list(reader.read(split, range(count)))
    else:
        fetch = pipeline.example_reader(data_dir, track, split)
        count = min(count, pipeline.num_frames(data_dir, track, split))
        examples = [fetch(index) for index in range(count)]
    tiles = [example_tile(example, track) for example in examples]
    print(printable(str(contact_sheet(tiles, track.skeleton, out))))


def _write_frame(arguments: argparse.Namespace) -> None:
    from PIL import Image, PngImagePlugin

    from a2j_jax.files import MARK, check_output, replacing
    from a2j_jax.log import logger
    from a2j_jax.synthetic.views import full_frames
    from a2j_jax.track_files import find_track
    from tfds_builders.rendered import reader_for

    track = find_track(arguments.track)
    for name in _OF_A_SHEET:
        if name in arguments.given:
            raise UserError(f"--{name} goes without --frame, which is rendered and is no sheet")
    _check_rendered(track, "--frame")
    path = check_output(arguments.frame, arguments.overwrite, "--frame")
    if path.suffix.lower() != ".png":
        raise UserError(f"--frame {arguments.frame}: expected a name that ends in .png")
    scenes: Scenes = arguments.scenes or "plain"
    reader = reader_for(track, train=0, validation=0, test=0, scenes=scenes)
    size = track.frame_size
    scene = {"view": reader.view, "sensor": reader.sensor, "unit_mm": track.depth_unit_mm}
    (truth,) = full_frames(arguments.seed or 0, 1, **scene, camera=track.camera, frame_size=size)
    about = PngImagePlugin.PngInfo()
    about.add_text("Creator", MARK)
    with replacing(path) as new:
        Image.fromarray(truth["frame"]).save(new, pnginfo=about)
    logger.info(
        f"wrote {path}: {size[0]} x {size[1]} px, 16-bit PNG in mm; predict on it by a run of yours, RUN:"
    )
    print(printable(_predict_line(path, track, truth)))


def _check_rendered(track: "TrackSpec", option: str) -> None:
    from tfds_builders.rendered import EMBEDDED

    if track.name not in EMBEDDED:
        raise UserError(f"{option}: {track.name!r} is not rendered; name {' or '.join(EMBEDDED)}")


def _predict_line(path: Path, track: "TrackSpec", truth: "dict[str, np.ndarray]") -> str:
    """The command that predicts on a rendered frame, with its true center or box, and its camera."""
    by_center, camera = track.crop_by == "center", track.camera
    assert camera is not None
    where = ",".join(f"{x:.1f}" for x in truth["center_uvd" if by_center else "box_px"])
    intrinsics = zip(("fx", "fy", "cx", "cy"), camera.as_array().tolist(), strict=True)
    options = " ".join(f"--{name} {value:.8g}" for name, value in intrinsics)
    look = f"--{'center' if by_center else 'box'} {where}"
    return f"a2j predict RUN {shlex.quote(str(path))} {look} {options} --out overlay.png"
