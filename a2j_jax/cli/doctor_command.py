"""Check a camera's depth frame: unit, intrinsics, what is found and what the network sees, in a table and a picture."""

import argparse

from a2j_jax.cli.arguments import (
    DEPTH_UNITS_MM,
    Command,
    add_camera,
    add_out,
    bounded,
    camera_of,
    check_picture,
    path_name,
    place_name,
    whole,
)
from a2j_jax.errors import UserError, printable

EXAMPLES = """\
examples:
  a2j doctor frame.png --camera 475,475,316,245
  a2j doctor frame.png --camera 475,475,316,245 --depth_unit_mm 0.125 --out doctor.svg
  a2j doctor clip.mkv --frame 40 --camera 475,475,316,245 --hands 2
  a2j doctor depth_1_0000001.png --track nyu

What is suspicious is listed below the table, with a fix for each; docs/live.md.
"""
_PICTURE = "doctor.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j doctor`."""
    add = parser.add_argument
    text = "a depth frame, as the camera gives it; or a recording or folder of frames, of which one is looked at"
    add("file", type=path_name, metavar="FRAME", help=text)
    text = "which one of a recording or folder, from 0 (0)"
    add("--frame", dest="number", type=whole(0), default=0, metavar="N", help=text)
    add("--hands", type=whole(1, 10), default=1, metavar="N", help="the hands to look for (1)")
    add_camera(parser)
    text = "weights that look for the hand: hand-small, a file of weights, or a run (hand-small)"
    add("--model", type=place_name, metavar="NAME", default="hand-small", help=text)
    add("--track", type=path_name, help="file format of the frame, if it is a data set's")
    unit = "mm per count (1, or a guess where that is impossible)"
    add("--depth_unit_mm", type=bounded(float, *DEPTH_UNITS_MM), help=unit)
    add_out(parser, f"PNG or SVG to write ({_PICTURE})")


def run(arguments: argparse.Namespace) -> None:
    """Diagnose."""
    from rich.console import Console

    from a2j_jax.data.recordings import count_frames, open_recordings, stored_frame
    from a2j_jax.evaluation.tables import Table, print_table
    from a2j_jax.inference.doctor import diagnose, draw, sentences, suspicious
    from a2j_jax.inference.frames import frame_files
    from a2j_jax.inference.hands import load
    from a2j_jax.log import logger
    from a2j_jax.pictures import save_figure
    from a2j_jax.track_files import find_track

    out = arguments.out or _PICTURE
    check_picture(out, [arguments.file], overwrite=arguments.overwrite)
    source = find_track(arguments.track) if arguments.track else None
    camera = camera_of(arguments) or (source.camera if source else None)
    if camera is None:
        raise UserError("--camera FX,FY,CX,CY: expected the intrinsics of the depth stream, px")
    files = open_recordings(frame_files([arguments.file]))
    path, values, kind = stored_frame(
        files, arguments.number, source.frame_format if source else "depth16"
    )
    hand = load(arguments.model)
    name, count = printable(path), count_frames(files)
    if count > 1:
        logger.info(f"{name}: one of {count} frames; another one: --frame N")
    try:
        found = diagnose(values, camera, hand, arguments.depth_unit_mm, arguments.hands)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    height, width = values.shape
    rows = [("file", f"{kind}, {width}x{height} px", "ok")]
    for finding in found.findings:
        rows.append((finding.what, finding.found, "see below" if finding.fix else "ok"))
    fixes = suspicious(found.findings)
    strong = frozenset(number for number, row in enumerate(rows) if row[2] != "ok")
    print_table(Table(name, ("", "found", ""), tuple(rows), strong, tuple(fixes)), Console())
    figure = draw(found, hand.spec, sentences([name, *fixes]), arguments.command_line)
    logger.info(f"picture: {save_figure(figure, out)}")


DOCTOR = Command(__doc__, EXAMPLES, add_arguments, run)
