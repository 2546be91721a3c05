"""`a2j live` and `a2j doctor`: a depth camera, followed and checked."""

import argparse
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from a2j_jax.cli.arguments import (
    DEPTH_UNITS_MM,
    Command,
    add_camera,
    add_out,
    bounded,
    camera_of,
    check_picture,
    keep_stdout_for_results,
    path_name,
    place_name,
    whole,
)
from a2j_jax.errors import Stopped, UserError, printable
from a2j_jax.log import logger

if TYPE_CHECKING:
    from a2j_jax.inference.hands import HandModel, HandPose
    from a2j_jax.inference.live import Frames, SourceFrame, Viewer


# --- a2j live

_LIVE_EXAMPLES = """\
examples:
  a2j live --source realsense
  a2j live --source oak --viewer rerun --smooth
  a2j live --source folder --folder recording/ --camera 475,475,316,245 --viewer window
  a2j live --source folder --folder clip.mkv --camera 475,475,316,245
  a2j live --source kinect --viewer none --json > hands.jsonl

--json prints a line of JSON for each frame, and one with the times of all stages at the end; docs/live.md. Ctrl-C, or
closing the window, ends it.
"""
_SOURCES = ("folder", "realsense", "oak", "orbbec", "kinect")
_STAGES = ("read", "find", "network", "draw")
_LOST = 1  # exit status of a camera that was unplugged


def _add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j live`."""
    add = parser.add_argument
    add("--source", choices=_SOURCES, required=True, help="a camera, or a folder of frames")
    add("--folder", type=path_name, help="of frames, or a recording of many; of --source folder")
    add_camera(parser)
    add(
        "--depth_unit_mm", type=bounded(float, *DEPTH_UNITS_MM), help="mm per count of a folder (1)"
    )
    text = "frames a second of a folder, 0: as fast as possible (by its timestamps.txt or video, or 30)"
    add("--rate", type=bounded(float, 0.0, 1000.0), metavar="HZ", help=text)
    text = "weights: hand-small, a file of `a2j export RUN weights.npz`, or a run (hand-small)"
    add("--model", type=place_name, metavar="NAME", default="hand-small", help=text)
    add("--hand", choices=("right", "left"), help="which one it is (decided)")
    text = "where fingers end, at the center of the last ball or on the skin (center)"
    add("--tips", choices=("center", "skin"), default="center", help=text)
    add("--smooth", action="store_true", help="smooth joints over time, bones of constant length")
    add("--viewer", choices=("window", "rerun", "none"), default="window", help="(window)")
    add("--frames", type=whole(1), metavar="N", help="stop after as many (never)")
    add("--json", action="store_true", help="print a line of JSON for each frame on stdout")


def _run_live(arguments: argparse.Namespace) -> None:
    """Follow."""
    from a2j_jax.inference.hands import load
    from a2j_jax.inference.live import VIEWERS, CameraLost

    frames = _frames(arguments)
    hand = load(arguments.model, handedness=arguments.hand, tips=arguments.tips, turns=1)
    viewer = VIEWERS[arguments.viewer](hand.spec.skeleton)
    live = _Live(hand, viewer, arguments)
    try:
        with contextlib.closing(frames):  # lets go of the camera
            live.run(frames)
    except CameraLost as error:
        raise Stopped(f"{error}, after {live.count} frames", _LOST) from error
    finally:
        viewer.close()
        live.report()


def _frames(arguments: argparse.Namespace) -> "Frames":
    """The source."""
    from a2j_jax.inference import live

    camera = camera_of(arguments)
    if arguments.source != "folder":
        for name in ("folder", "depth_unit_mm", "rate"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name} goes with --source folder, not with a camera")
        if camera is not None:
            raise UserError("--camera goes with --source folder: a camera knows its intrinsics")
        if arguments.json:
            keep_stdout_for_results()
        return live.camera_frames(arguments.source)
    if arguments.folder is None or camera is None:
        raise UserError("--source folder needs --folder FOLDER and --camera FX,FY,CX,CY")
    unit, rate = arguments.depth_unit_mm or 1.0, arguments.rate
    in_real_time = rate != 0
    return live.folder_frames(arguments.folder, camera, unit, rate or None, in_real_time)


class _Live:
    """One run: its frames, their poses, and the time of each stage."""

    def __init__(self, hand: "HandModel", viewer: "Viewer", arguments: argparse.Namespace) -> None:
        self.count = 0
        self._hand, self._viewer, self._arguments = hand, viewer, arguments
        self._times: dict[str, list[float]] = {stage: [] for stage in _STAGES}
        self._smoothed: Any = None
        self._before: HandPose | None = None

    def run(self, frames: "Frames") -> None:
        """Until the source, the viewer or `--frames` ends it."""
        from a2j_jax.inference.following import OneHand

        follow = OneHand(self._hand)
        started = time.perf_counter()
        for frame in frames:
            handed = time.perf_counter()
            if self._arguments.json and not self.count:
                self._print({"joint_names": list(self._hand.spec.skeleton.joints)})
            pose = follow(frame.depth_mm, frame.camera, frame.name or f"frame {self.count}")
            found = time.perf_counter()
            stages = {
                "read": (handed - started) * 1e3,
                "find": max((found - handed) * 1e3 - pose.milliseconds, 0.0),
                "network": pose.milliseconds,
            }
            is_open = self._frame(frame, pose, stages)
            if not is_open or self.count == self._arguments.frames:
                return
            started = time.perf_counter()

    def _frame(self, frame: "SourceFrame", pose: "HandPose", stages: dict[str, float]) -> bool:
        """Smooths, prints and shows one frame; returns whether to go on."""
        from a2j_jax.geometry import xyz_to_uvd
        from a2j_jax.inference.following import goes_on
        from a2j_jax.inference.smoothing import smooth

        uvd, xyz = pose.joints_uvd, pose.joints_xyz_mm
        assert xyz is not None
        if self._arguments.smooth:
            bones = self._hand.spec.skeleton.bones
            if not goes_on(self._before, pose):
                self._smoothed = None
            self._before = pose
            self._smoothed = smooth(self._smoothed, xyz, frame.time_s, bones)
            xyz = self._smoothed.xyz_mm
            uvd = xyz_to_uvd(xyz, frame.camera)
        started = time.perf_counter()
        spent = sum(stages.values()) - stages["read"]
        text = f"{pose.handedness} hand, score {pose.score:.2f}, {spent:.0f} ms"
        is_open = self._viewer.show(frame, uvd, xyz, text)
        stages["draw"] = (time.perf_counter() - started) * 1e3
        self.count += 1
        if self.count > 1:  # the first one compiles, and opens what draws
            for stage, spent in stages.items():
                self._times[stage].append(spent)
        if self._arguments.json:
            known = bool(np.isfinite(xyz).all())
            self._print(
                {
                    "time_s": round(frame.time_s, 6),
                    "joints_xyz_mm": np.round(xyz, 3).tolist() if known else None,
                    "joints_uvd": np.round(uvd, 3).tolist() if known else None,
                    "confidence": None
                    if pose.confidence is None
                    else np.round(pose.confidence, 4).tolist(),
                    "score": round(pose.score, 4),
                    "handedness": pose.handedness,
                    "handedness_probability": round(pose.handedness_probability, 4),
                    "warning": pose.warning,
                    "milliseconds": {stage: round(spent, 3) for stage, spent in stages.items()},
                }
            )
        return is_open

    def report(self) -> None:
        """The median and the 95th percentile of each stage, in a table on stderr, and in JSON."""
        from a2j_jax.evaluation.tables import Table, print_table

        measured = len(self._times["read"])
        if not measured:
            logger.info(f"{self.count} frames; stages are timed from the second one on")
            return
        latency = {
            stage: {"median": float(np.median(spent)), "p95": float(np.percentile(spent, 95))}
            for stage, spent in self._times.items()
        }
        if self._arguments.json:
            rounded = {
                stage: {name: round(value, 3) for name, value in both.items()}
                for stage, both in latency.items()
            }
            self._print({"frames": self.count, "latency_ms": rounded})
        rows = tuple(
            (stage, f"{both['median']:.1f}", f"{both['p95']:.1f}")
            for stage, both in latency.items()
        )
        title = f"{self.count} frames, ms"
        print_table(Table(title, ("stage", "median", "p95"), rows))

    def _print(self, contents: dict[str, Any]) -> None:
        """A line of JSON, which is kept whatever happens to the next one."""
        print(json.dumps(contents, allow_nan=False))
        sys.stdout.flush()


LIVE = Command(
    "Follow a hand through the frames of a depth camera, or of a folder in its place.",
    _LIVE_EXAMPLES,
    _add_live_arguments,
    _run_live,
)


# --- a2j doctor

_DOCTOR_EXAMPLES = """\
examples:
  a2j doctor frame.png --camera 475,475,316,245
  a2j doctor frame.png --camera 475,475,316,245 --depth_unit_mm 0.125 --out doctor.svg
  a2j doctor clip.mkv --frame 40 --camera 475,475,316,245 --hands 2
  a2j doctor depth_1_0000001.png --track nyu

What is suspicious is listed below the table, with a fix for each; docs/live.md.
"""
_PICTURE = "doctor.png"


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
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


def _run_doctor(arguments: argparse.Namespace) -> None:
    """Diagnose."""
    from rich.console import Console

    from a2j_jax.data.recordings import count_frames, open_recordings, stored_frame
    from a2j_jax.evaluation.tables import Table, print_table
    from a2j_jax.inference.doctor import diagnose, draw, sentences, suspicious
    from a2j_jax.inference.frames import frame_files
    from a2j_jax.inference.hands import load
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
        found = diagnose(values, camera, hand, arguments.depth_unit_mm, arguments.hands, name)
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


DOCTOR = Command(
    "Check a camera's depth frame: unit, intrinsics, what is found and what the network sees, in a table and a "
    "picture.",
    _DOCTOR_EXAMPLES,
    _add_doctor_arguments,
    _run_doctor,
)
