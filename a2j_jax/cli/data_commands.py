"""`a2j build` and `a2j show`: data sets, made and looked at."""

import argparse
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2j_jax.cli.arguments import (
    DEPTH_UNITS_MM,
    Command,
    add_crop_size,
    add_data_arguments,
    add_out,
    bounded,
    check_picture,
    frame_size,
    numbers,
    path_name,
    place_name,
    whole,
)
from a2j_jax.config import LARGEST_SEED, MOST_RENDERED, SCENES, Scenes
from a2j_jax.errors import UserError, printable
from a2j_jax.track_files import checked_camera
from a2j_jax.tracks import USUAL_SPLITS

if TYPE_CHECKING:
    import numpy as np

    from a2j_jax.tracks import TrackSpec


# --- a2j build

_BUILD_EXAMPLES = """\
examples:
  a2j build synthetic_hand
  a2j build synthetic_hand --data_dir data --train 40000 --test 2000 --crop_size 96
  a2j build synthetic_hand --scenes varied --crop_size 96       # into data/varied
  a2j build synthetic_body --crop_size 96
  a2j build nyu --manual_dir ~/nyu_hand_dataset_v2 --centers ~/A2J/data --num_processes 8
  a2j build itop_front --manual_dir ~/ITOP --max_frames 1000
  a2j build icvl --manual_dir ~/ICVL --no_rotations --centers labels
  a2j build ./my_hands                  # custom frames: docs/own_data.md

What to download and where to put it: a2j build TRACK --manual_dir missing, or docs/datasets.md.
"""

# Options of one kind of data set, as argparse calls them.
_RENDERED = ("train", "validation", "test", "seed", "camera", "frame_size", "scenes")
_RAW = (
    *("manual_dir", "centers", "max_frames", "strict", "beam"),
    *("view", "no_rotations", "keypoints_dir", "depth_unit_mm", "allow_outside"),
)
# Of the contact sheet.
_FIRST_SPLIT_FRAMES, _OTHER_SPLIT_FRAMES = 16, 8
_CAPTION_LETTERS = 27


def _add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j build`."""
    add = parser.add_argument
    add("track", type=path_name, help="data set to build, or a folder with track.json")
    default = "TFDS data directory (default: data, or data/SCENES)"
    add("--data_dir", type=place_name, default="data", help=default)
    add_crop_size(parser)
    add("--num_processes", type=whole(1, 1024), default=1, help="that read (1)")
    add("--num_shards", type=whole(1, 100_000), help="files per split (1 per 4096 frames)")
    add = parser.add_argument_group("data sets that were downloaded").add_argument
    path = partial(add, type=path_name)
    path("--manual_dir", help="folder of the unpacked download")
    path(
        "--centers",
        help="where to crop: a folder of published centers or boxes, `labels` or `depth` "
        "(default: labels for training, the depth itself for the rest)",
    )
    add("--max_frames", type=whole(1), help="of each split (all)")
    add("--strict", action="store_true", help="a frame left out is an error")
    add(
        "--beam",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="build with Apache Beam, on this machine or with pipeline OPTIONS "
        "(--beam='--runner=FlinkRunner ...', docs/datasets.md); needs a2j-jax[beam]",
    )
    add("--view", type=whole(1, 3), help="nyu: camera 1, 2 or 3 (1)")
    add("--no_rotations", action="store_true", help="icvl: without the rotated copies")
    path(
        "--keypoints_dir", help="k2hpd: folder of the official .mat files, to check labels against"
    )
    unit = "custom track: mm per count of integer values (track.json's)"
    add("--depth_unit_mm", type=bounded(float, *DEPTH_UNITS_MM), help=unit)
    outside = "custom track: read frames outside the folder"
    add("--allow_outside", action="store_const", const=True, help=outside)
    add = parser.add_argument_group("data sets that are rendered here").add_argument
    for split, frames in (("train", 20000), ("validation", 1000), ("test", 2000)):
        add(f"--{split}", type=whole(0, MOST_RENDERED), help=f"frames ({frames})")
    add("--seed", type=whole(0, LARGEST_SEED), help="of everything random (0)")
    scenes = "synthetic_hand: what is rendered (plain)"
    add("--scenes", choices=SCENES, default="plain", help=scenes)
    add("--camera", type=numbers(4, "fx,fy,cx,cy"), help="intrinsics in px (the track's)")
    add("--frame_size", type=frame_size, help="pixels (the track's)")


def _run_build(arguments: argparse.Namespace) -> None:
    """Build, and draw a contact sheet."""
    from a2j_jax.stores import push
    from tfds_builders.rendered import EMBEDDED

    embedded = arguments.track in EMBEDDED
    refused, because = (_RAW, "is rendered") if embedded else (_RENDERED, "comes from raw data")
    for name in refused:
        if name in arguments.given:
            raise UserError(f"--{name} is not for {arguments.track!r}, which {because}")
    folder = _rendered(arguments) if embedded else _raw(arguments)
    _draw(arguments, folder)
    push(folder)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names if name in arguments.given}


def _rendered(arguments: argparse.Namespace) -> Path:
    from tfds_builders.build import build

    names = ("train", "validation", "test", "seed", "frame_size", "crop_size", "num_shards")
    options = _given(arguments, *names, "scenes")
    data_dir = arguments.data_dir
    if arguments.scenes != "plain" and "data_dir" not in arguments.given:
        data_dir = f"{data_dir}/{arguments.scenes}"
    if arguments.camera:
        camera = zip(("fx", "fy", "cx", "cy"), arguments.camera, strict=True)
        options["camera"] = checked_camera(dict(camera))
    processes = arguments.num_processes
    return build(arguments.track, data_dir, **options, num_processes=processes)


def _raw(arguments: argparse.Namespace) -> Path:
    from a2j_jax.track_files import track_file
    from tfds_builders.build import How, build_raw, get_dataset

    # A custom folder is both: the track's description, and its frames.
    own = track_file(arguments.track)
    manual_dir = arguments.manual_dir or (own.parent if own else None)
    if manual_dir is None:
        download = get_dataset(arguments.track).DOWNLOAD
        raise UserError(f"--manual_dir FOLDER is needed to build {arguments.track!r}", download)
    options = _given(arguments, "view", "keypoints_dir", "depth_unit_mm", "allow_outside")
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
    """A contact sheet beside the data set, of evenly spaced examples of every split."""
    from a2j_jax import pictures
    from a2j_jax.data import pipeline
    from a2j_jax.evaluation.plots import example_tile
    from a2j_jax.log import logger
    from tfds_builders.build import sized_track

    if not pictures.have_matplotlib():
        logger.info("no contact sheet: it needs matplotlib, pip install 'a2j-jax[viz]'")
        return
    track = sized_track(arguments.track, arguments.crop_size)
    splits = list(pipeline.find_dataset(folder, track).info.splits)
    tiles = []
    for number, split in enumerate(splits):
        wanted = _OTHER_SPLIT_FRAMES if number else _FIRST_SPLIT_FRAMES
        fetch = pipeline.example_reader(folder, track, split)
        last = pipeline.num_frames(folder, track, split) - 1
        for position in sorted({i * last // (wanted - 1) for i in range(wanted)}):
            example = fetch(position)
            title = _caption(split, example["frame_id"].decode())
            tiles.append(example_tile(example, track, title=title))
    sheet = pictures.contact_sheet(tiles, track.skeleton, folder / "examples.png", columns=4)
    logger.info(f"examples to look at ({', '.join(splits)}): {sheet}")


def _caption(split: str, frame_id: str) -> str:
    """Split and frame in a line as wide as a tile; a long name is cut at its beginning."""
    room = _CAPTION_LETTERS - len(split) - 2
    return f"{split}: {frame_id if len(frame_id) <= room else '…' + frame_id[1 - room :]}"


BUILD = Command(
    "Turn raw files, or rendered hands and bodies, into examples on disk, once; training and evaluation read those.",
    _BUILD_EXAMPLES,
    _add_build_arguments,
    _run_build,
)


# --- a2j show

_SHOW_EXAMPLES = """\
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


def _add_show_arguments(parser: argparse.ArgumentParser) -> None:
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


def _run_show(arguments: argparse.Namespace) -> None:
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
        if split not in USUAL_SPLITS:
            raise UserError(f"no split {split!r} (splits: {', '.join(USUAL_SPLITS)})")
        why = "" if scenes else "nothing is built in ./data: "
        logger.info(f"{why}rendering {count} frames for this sheet, which are not kept")
        frames, seed = dict.fromkeys(USUAL_SPLITS, count), arguments.seed or 0
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


SHOW = Command(
    "Draw a contact sheet of crops with their joints, of a data set or rendered for it, or write one rendered frame.",
    _SHOW_EXAMPLES,
    _add_show_arguments,
    _run_show,
)
