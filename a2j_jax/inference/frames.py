"""Prediction on files: frames on disk -> joints -> JSON, CSV, an overlay picture and a video, for `a2j predict`."""

import contextlib
import itertools
import logging
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageOps

from a2j_jax.data.depth_files import EXPECTED, read_depth
from a2j_jax.data.recordings import (
    Recording,
    Source,
    count_frames,
    depth_frames,
    open_recordings,
    video_library,
)
from a2j_jax.errors import UserError, as_utf8, printable
from a2j_jax.files import MARK, local_path, regular_file, replacing
from a2j_jax.geometry import Camera, Float64
from a2j_jax.inference.following import OneHand, SeveralHands
from a2j_jax.inference.frame_predictor import (
    DepthFrame,
    FramePredictor,
    Location,
    PoseEstimate,
    odd_camera,
)
from a2j_jax.inference.hands import HandModel, HandPose
from a2j_jax.log import logger
from a2j_jax.pictures import LIMB_COLORS, Tile, contact_sheet, depth_to_gray
from a2j_jax.track_files import checked_camera
from a2j_jax.tracks import Skeleton, TrackRecord, TrackSpec

#: Columns of `a2j predict --csv`, and the further ones of a hand model.
CSV_COLUMNS = (
    "path", "frame", "joint", "u_px", "v_px", "depth_mm", "x_mm", "y_mm", "z_mm", "confidence", "warning",
)  # fmt: skip
CSV_HAND_COLUMNS = ("hand", "score", "handedness", "handedness_probability", "expected_error_mm")
#: A rendered hand, to try `a2j predict` on: a2j show synthetic_hand --scenes varied --seed 165 --frame example.png
EXAMPLE_FRAME = Path(__file__).parent / "example.png"
# Of the frames in a folder.
_FRAME_SUFFIXES = (".npy", ".png", ".tif", ".tiff", ".pgm")
_OVERLAY_PX = 960  # largest width


@dataclass(frozen=True)
class FilePrediction:
    """The joints of one frame's file, and the part of the frame they were found in.

    Attributes:
      path: as given; in a recording with the number of the frame, `clip.mkv#12`.
      estimate: the joints.
      region: (h, w) depth inside the crop box, mm; for pictures.
      origin_px: (u, v) of the region's first pixel in the frame.
      located: the center or box found in the depth; None where one was given.
      number: of the frame among all that were named, from 0.
    """

    path: str
    estimate: PoseEstimate
    region: DepthFrame
    origin_px: tuple[int, int]
    located: Location | None = None
    number: int = 0

    def to_json(self) -> dict[str, Any]:
        """One object of `--json`, rounded to four decimals of a pixel or millimeter.

        `path`, `joints_uvd`, `joints_xyz_mm` (3D only), `confidence`, `box_px` (the crop, clipped to the
        frame), `center_uvd` (null where a box was cropped), `milliseconds` and `warning` (or null); of a `HandModel`
        also `hand` (its number), `score`, `handedness`, `handedness_probability` and `expected_error_mm` (null without
        a calibration).
        """
        frame: dict[str, Any] = {"path": self.path}
        for name in ("joints_uvd", "joints_xyz_mm", "confidence", "box_px", "center_uvd"):
            values = getattr(self.estimate, name)
            if values is not None:
                frame[name] = np.round(values, 4).tolist()
            elif name == "center_uvd":
                frame[name] = None
        frame["milliseconds"] = round(self.estimate.milliseconds, 3)
        frame["warning"] = self.estimate.warning
        if isinstance(self.estimate, HandPose):
            frame["hand"] = self.estimate.number
            frame["score"] = round(self.estimate.score, 4)
            frame["handedness"] = self.estimate.handedness
            frame["handedness_probability"] = round(self.estimate.handedness_probability, 4)
            errors = self.estimate.expected_error_mm
            frame["expected_error_mm"] = None if errors is None else np.round(errors, 4).tolist()
        return frame

    def csv_rows(self, joint_names: Sequence[str]) -> list[tuple[Any, ...]]:
        """A row for each joint: `CSV_COLUMNS`, then `CSV_HAND_COLUMNS` of a `HandModel`; numbers as in `to_json`.

        Depth and camera coordinates are None, an empty cell, on a 2D track.
        """
        pose, hand = self.estimate, self.to_json()
        xyz = pose.joints_xyz_mm
        of_frame = (pose.warning, *(hand[name] for name in CSV_HAND_COLUMNS[:-1] if name in hand))
        errors = hand.get("expected_error_mm")
        rows = []
        for k, joint in enumerate(joint_names):
            uvd = [*pose.joints_uvd[k].tolist(), None][:3]
            numbers = uvd + ([None] * 3 if xyz is None else xyz[k].tolist())
            numbers.append(float(pose.confidence[k]))
            rounded = [None if number is None else round(number, 4) for number in numbers]
            last = () if "hand" not in hand else (errors and errors[k],)
            rows.append((as_utf8(self.path), self.number, joint, *rounded, *of_frame, *last))
        return rows

    def tile(self, track: TrackSpec) -> Tile:
        """The region with its joints, for a picture; readings beyond the track's depth window are background."""
        far = None
        if self.estimate.center_depth_mm is not None and track.depth_window_mm is not None:
            far = self.estimate.center_depth_mm + track.depth_window_mm
        uv = self.estimate.joints_uvd[:, :2] - self.origin_px
        return Tile(depth=self.region, joints_uv=uv, title=Path(self.path).name, far=far)


def read_frame(
    path: str | Path, frame_format: str = "depth16", depth_unit_mm: float = 1.0
) -> DepthFrame:
    """The depth of a file, (H, W) float32 mm; arguments and errors of `a2j_jax.data.depth_files.read_depth`."""
    return read_depth(path, frame_format, depth_unit_mm).depth.astype(np.float32)


def predict_files(
    predictor: FramePredictor | HandModel,
    paths: Sequence[Source],
    centers_uvd: Sequence[ArrayLike] | None = None,
    boxes_px: Sequence[ArrayLike] | None = None,
    camera: Camera | None = None,
    track: TrackSpec | None = None,
    depth_unit_mm: float | None = None,
    skipped: list[tuple[str, str]] | None = None,
    draw: Callable[[DepthFrame | None, Float64, str], None] | None = None,
    hands: int = 1,
) -> Iterator[FilePrediction]:
    """Finds the joints in each file, one frame at a time.

    A `HandModel` follows the hand through a recording (`HandModel.track`), unless centers or boxes are given. All
    other frames are independent of each other.

    Args:
      predictor: the network.
      paths: frames, see `a2j_jax.data.depth_files`, and recordings, see `a2j_jax.data.recordings`; each kind of file is
        logged once, with its unit.
      centers_uvd: one (u px, v px, d mm) for all frames, or one for each.
      boxes_px: one (x0, y0, x1, y1) px for all frames, or one for each. Without centers and boxes,
        the object is found in each frame.
      camera: of the frames; the track's by default, with a warning about frames of another size.
      track: of the frames (format, unit and camera); the predictor's by default. A network trained on synthetic
        hands reads NYU's frames with "nyu".
      depth_unit_mm: of integer images and integer `.npy` files; the track's by default.
      skipped: collects path and error of frames that cannot be read or used; None: the first one is raised.
      draw: called for each frame, as of `video_file`: with the depth, the `joints_uvd` (N, K, D) and no note;
        for one that is left out with the depth or None, no joints, and the error.
      hands: of a `HandModel` without centers and boxes: the most in a frame. With 1 there is one prediction for each
        frame; with more, one for each that scores as a hand.

    Raises:
      UserError: as `read_depth`, `open_recording` and `Predictor.__call__`, with the file's name; a number of
        centers or boxes that is neither one nor the number of frames; no frames.
    """
    if not paths:
        raise UserError("no depth frames given")
    sources = open_recordings(paths, keep_damaged=True)
    count = count_frames(sources)
    centers = _one_for_each(centers_uvd, count, "centers_uvd")
    boxes = _one_for_each(boxes_px, count, "boxes_px")
    spec = track or predictor.spec
    unit_mm = spec.depth_unit_mm if depth_unit_mm is None else depth_unit_mm
    expected_size = None
    if camera is None:
        camera = spec.camera if track else predictor.camera
        # Intrinsics are for one frame size; 2D tracks have none.
        expected_size = spec.frame_size if camera and camera == spec.camera else None
    nothing = np.empty((0, spec.num_joints, spec.joint_dims))
    logged: set[str] = set()
    doubted, without, numbers = 0, 0, itertools.count()
    for source in sources:
        is_searched = centers_uvd is None and boxes_px is None
        find = _Finder(predictor, camera, is_searched and isinstance(source, Recording), hands)
        for path, read in depth_frames(source, spec.frame_format, unit_mm, depth_unit_mm is None):
            number, name = next(numbers), printable(path)
            if isinstance(read, UserError):
                _skip(path, read, skipped, count)
                if draw is not None:
                    draw(None, nothing, str(read))
                continue
            depth = read.depth.astype(np.float32)
            wrong_size = _wrong_size(depth, camera, expected_size)
            if isinstance(predictor, HandModel) and camera and odd_camera(depth, camera):
                wrong_size = None  # it warns of that
            for line, level in ((read.description, logging.INFO), (wrong_size, logging.WARNING)):
                if line is not None and line not in logged:
                    logged.add(line)
                    logger.log(level, f"{name}: {line}")
            # The header of a video may count a frame too few.
            center, box = (given[min(number, len(given) - 1)] for given in (centers, boxes))
            try:
                found = find(depth, center, box, name)
            except UserError as error:
                error = UserError(f"{name}: {error}")
                _skip(path, error, skipped, count)
                if draw is not None:
                    draw(depth, nothing, str(error))
                continue
            if draw is not None:
                draw(depth, np.array([one.joints_uvd for one, _ in found] or nothing), "")
            without += not found
            doubted += any(one.warning is not None for one, _ in found)
            for estimate, located in found:
                x0, y0, x1, y1 = (int(edge) for edge in estimate.box_px)
                region = depth[y0 : y1 + 1, x0 : x1 + 1].copy()
                yield FilePrediction(path, estimate, region, (x0, y0), located, number)
    if without:
        logger.info(f"no hand in {without} of {count} frames")
    if doubted > 1:
        logger.warning(f"{doubted} of {count} frames look like that")
    if skipped:
        logger.warning(f"{len(skipped)} of {count} frames left out")


class _Finder:
    """Finds the object in the frames of one file, given one by one.

    Args:
      predictor: the network.
      camera: of the frames.
      is_sequence: whether a hand model is to follow hands from frame to frame.
      hands: the most in a frame.
    """

    def __init__(
        self,
        predictor: FramePredictor | HandModel,
        camera: Camera | None,
        is_sequence: bool,
        hands: int,
    ) -> None:
        self._predictor, self._camera, self._hands = predictor, camera, hands
        self._follow: OneHand | SeveralHands | None = None
        if is_sequence and isinstance(predictor, HandModel):
            self._follow = SeveralHands(predictor, hands) if hands > 1 else OneHand(predictor)

    def __call__(
        self, depth: DepthFrame, center: ArrayLike | None, box: ArrayLike | None, name: str
    ) -> list[tuple[PoseEstimate, Location | None]]:
        """The joints of the next frame's objects, and where they were found, unless a center or box is given."""
        predictor, located = self._predictor, None
        if isinstance(predictor, HandModel) and center is None and box is None:
            if self._follow is not None:
                found = self._follow(depth, self._camera, name)
            elif self._hands > 1:
                found = predictor.find(depth, self._camera, self._hands, name)
            else:
                found = predictor(depth, self._camera, name=name)
            poses = found if isinstance(found, list) else [found]
            return [(pose, Location(pose.center_uvd)) for pose in poses]
        if center is None and box is None and not isinstance(predictor, HandModel):
            located = predictor.locate(depth, self._camera)
            center, box = located.center_uvd, located.box_px
        estimate = predictor(depth, center_uvd=center, box_px=box, camera=self._camera, name=name)
        return [(estimate, located)]


def _skip(path: str, error: UserError, skipped: list[tuple[str, str]] | None, count: int) -> None:
    """Notes a frame that is left out, or raises what is wrong with it."""
    if skipped is None:
        hint = "; --on_bad_frame skip leaves such frames out" if count > 1 else ""
        raise UserError(f"{error}{hint}", error.instructions) from error
    skipped.append((path, str(error)))
    logger.warning(f"left out: {error}")


def _wrong_size(
    depth: DepthFrame, camera: Camera | None, expected: tuple[int, int] | None
) -> str | None:
    """A warning where a camera is probably not that of a frame, because its frames have another size."""
    height, width = depth.shape
    if expected is not None and expected != (width, height):
        return (
            f"is {width}x{height}, the track's camera takes {expected[0]}x{expected[1]}: crop and mm are right only "
            "with the camera of the frame (fx, fy, cx, cy)"
        )
    return odd_camera(depth, camera) if camera and expected is None else None


def to_json(
    predictions: Sequence[FilePrediction],
    track: TrackSpec,
    source: TrackSpec | None = None,
    camera: Camera | None = None,
    skipped: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """The object that `a2j predict --json` prints.

    `{"track": ..., "joint_names": [...], "about": {...}, "frames": [...]}`: the network's track, the names of the K
    rows of `joints_uvd`, `joints_xyz_mm` and `confidence`, and what evaluation compares with the labels (`TrackRecord`,
    and how many crops came from the depth or were given).

    Args:
      predictions: of some frames.
      track: the track of the network.
      source: the track of the frames; that of the network by default.
      camera: of the frames; the source's by default.
      skipped: path and error of frames that were left out; listed as "skipped", if there are any.
    """
    source = source or track
    record = replace(TrackRecord.of(source), joints=track.skeleton.joints)
    if camera is not None:
        record = replace(record, camera=astuple(camera))
    if source.name != track.name:  # the crop windows are those of the network's track
        record = replace(record, half_window_mm=None, depth_window_mm=None)
    found = sum(prediction.located is not None for prediction in predictions)
    centers = {"depth": found, "given": len(predictions) - found}
    return {
        "about": {
            "written_by": MARK,
            "track": record.to_json(),
            "centers": {name: count for name, count in centers.items() if count},
        },
        "track": track.name,
        "joint_names": list(track.skeleton.joints),
        "frames": [prediction.to_json() for prediction in predictions],
        **(
            {"skipped": [dict(zip(("path", "error"), each, strict=True)) for each in skipped]}
            if skipped
            else {}
        ),
    }


def write_overlay(
    predictions: Sequence[FilePrediction], track: TrackSpec, path: str | Path, columns: int = 4
) -> Path:
    """Draws each crop region with its skeleton, side by side, as a PNG.

    Raises:
      UserError: matplotlib is not installed, or the file cannot be written.
    """
    tiles = [prediction.tile(track) for prediction in predictions]
    inches = 4.0 if len(tiles) <= 2 else 2.0  # one or two frames are drawn larger
    return contact_sheet(tiles, track.skeleton, path, columns=columns, tile_inches=inches)


def overlay(depth: NDArray[Any], joints_uvd: Float64, skeleton: Skeleton) -> Image.Image:
    """A frame (H, W) in gray with joints (K, 3), or (N, K, 3), in color, at most 960 px wide, by Pillow: some 10 ms."""
    step = -(-depth.shape[1] // _OVERLAY_PX)
    gray = (depth_to_gray(depth[::step, ::step]) * 255).astype(np.uint8)
    picture = Image.fromarray(gray).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for joints in joints_uvd.reshape(-1, len(skeleton.joints), joints_uvd.shape[-1]):
        if not np.isfinite(joints).all():
            continue
        places = [tuple(uv) for uv in (joints[:, :2] / step).tolist()]
        for (parent, child), limb in zip(skeleton.bones, skeleton.bone_limbs, strict=True):
            color = LIMB_COLORS[limb % len(LIMB_COLORS)]
            draw.line([places[parent], places[child]], color, width=3)
    return picture


@contextlib.contextmanager
def video_file(
    path: str | Path, skeleton: Skeleton, rate_hz: float = 30.0
) -> Iterator[Callable[[NDArray[Any] | None, Float64, str], None]]:
    """Writes the overlays of frames as an MP4 video: H.264 where PyAV has an encoder, else MPEG-4.

    Args:
      path: of the file. It is replaced at the end, and kept if there was an error.
      skeleton: of the joints.
      rate_hz: frames a second.

    Yields:
      A function that adds a frame: depth (H, W), joints (K, 3), as of `overlay`, and a note that is written over it.
      Depth is None for a frame that cannot be read: an empty picture. Frames of other sizes are fitted into the size
      of the first one that can.

    Raises:
      UserError: PyAV is not installed, or the file cannot be written.
    """
    av = video_library()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with (
        replacing(local_path(path)) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        container.metadata["comment"] = MARK
        stream = container.add_stream(codec, rate=Fraction(rate_hz).limit_denominator(1001))
        stream.pix_fmt, stream.width = "yuv420p", 0

        waiting: list[str] = []  # notes of frames before the size is known

        def encode(picture: Image.Image, note: str) -> None:
            size = stream.width, stream.height
            if picture.size != size:
                picture = ImageOps.pad(picture, size, color="white")
            _write(note, picture)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))

        def add(depth: NDArray[Any] | None, joints_uvd: Float64, note: str = "") -> None:
            if depth is None and not stream.width:
                waiting.append(note)
                return
            if depth is None:
                picture = Image.new("RGB", (stream.width, stream.height), "white")
            else:
                picture = overlay(depth, joints_uvd, skeleton)
            if not stream.width:
                # Colors have half the resolution.
                stream.width, stream.height = (max(side // 2 * 2, 2) for side in picture.size)
            for earlier in waiting:
                encode(Image.new("RGB", (stream.width, stream.height), "white"), earlier)
            waiting.clear()
            encode(picture, note)

        yield add
        container.mux(stream.encode(None))


def _write(note: str, picture: Image.Image) -> None:
    """Writes a note at the top of a picture, black on white, in as many lines as it takes."""
    if note:
        draw = ImageDraw.Draw(picture)
        letter_px = draw.textlength("m")
        text = textwrap.fill(note, max(int((picture.width - 8) / letter_px), 1))
        draw.rectangle(draw.multiline_textbbox((4, 4), text), "white")
        draw.multiline_text((4, 4), text, "black")


def frame_files(paths: Sequence[str | Path]) -> list[Path]:
    """Expands paths of a command line: a file stays, a folder becomes the frames directly in it, sorted by name.

    Hidden files (`.DS_Store`, macOS's `._x.png`) and files of other kinds are skipped.

    Raises:
      UserError: no such file or folder, or a folder without frames.
    """
    found: list[Path] = []
    for named in paths:
        path = local_path(named, "depth frame")
        if not path.is_dir():
            found.append(regular_file(path, EXPECTED))
            continue
        named_so = [file for file in path.iterdir() if file.suffix.lower() in _FRAME_SUFFIXES]
        frames = sorted(file for file in named_so if file.name[0] != "." and file.is_file())
        if not frames:
            raise UserError(
                f"{path}: no depth frames in this folder itself; expected {', '.join(_FRAME_SUFFIXES)} files"
            )
        found += frames
    return found


def camera_from(
    fx: float | None = None,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
) -> Camera | None:
    """The camera of four numbers in px; None where none of them is given.

    Raises:
      UserError: some of the four are missing, or as `track_files.checked_camera`.
    """
    given = {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    there = [f"--{name}" for name, value in given.items() if value is not None]
    if there and missing:
        raise UserError(
            f"{' '.join(there)} without {' '.join(missing)}: a camera is all four numbers, in px"
        )
    return checked_camera(given) if there else None


def _one_for_each(
    values: Sequence[ArrayLike] | None, count: int, what: str
) -> Sequence[ArrayLike | None]:
    """One value, which may be None, or one for each frame."""
    given: list[ArrayLike | None] = [None] if values is None or not len(values) else list(values)
    if len(given) not in (1, count):
        raise UserError(
            f"{len(given)} {what} for {count} frames: expected one for all, or one per frame"
        )
    return given
