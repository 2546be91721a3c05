"""From a depth frame to joints: what is cut, and where. Which network looks at the crop is left to subclasses.

`Predictor` has a checkpoint's network, `ExportedPredictor` a file's.
"""

import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry
from a2j_jax.data import crops
from a2j_jax.data.depth_files import IN_METRES, in_metres
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.inference.locate import depth_in_box, doubtful, hand_center, person_box
from a2j_jax.log import logger
from a2j_jax.tracks import TrackSpec

DepthFrame = NDArray[np.float32]


def frame_from_array(depth_mm: Any, any_unit: bool = False) -> DepthFrame:
    """Checks an array given as a depth frame: (H, W) numeric, in mm -> float32, NaN and below 0 -> 0.

    Raises:
      UserError: not 2-D, not numeric, 8-bit, empty; decimal numbers in meters, unless any unit will do.
    """
    if isinstance(depth_mm, str | os.PathLike):
        raise UserError(
            "depth frame: expected an array in mm, found a path; read it with "
            "a2j_jax.data.depth_files.read_depth(path).depth"
        )
    array = np.asarray(depth_mm)
    if array.dtype.kind not in "uif":
        raise UserError(f"depth frame: expected numbers in mm, found dtype {array.dtype}")
    if array.dtype.itemsize == 1 and not any_unit:
        raise UserError(
            "depth frame: expected depth in mm, found 8-bit values, a picture of it: use the camera's 16-bit frames"
        )
    if array.ndim != 2 or array.size == 0:
        raise UserError(
            f"depth frame: expected one depth image (height, width) in mm, found shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf: no reading
        depth = array.astype(np.float32)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    if array.dtype.kind == "f" and not any_unit and in_metres(depth):
        raise UserError(IN_METRES)
    return depth


@dataclass(frozen=True)
class PoseEstimate:
    """The joints of one frame.

    Attributes:
      joints_uvd: (K, 3) px px mm in the full frame; (K, 2) px on a 2D track.
      joints_xyz_mm: (K, 3) camera coordinates; None on a 2D track.
      confidence: (K,) in (0, 1], 1 where all anchors agree.
      box_px: (4,) x0 y0 x1 y1, the clipped box of the crop.
      center_depth_mm: the depth that joints are relative to; None where there is no such depth.
      milliseconds: crop, network and mapping back; without reading the file, compiling or `Predictor.locate`.
      center_uvd: (3,) px px mm, the center of the crop, given or found; None where a box was cropped.
      warning: why the crop probably does not show the object (`locate.doubtful`); None where nothing is suspicious.
    """

    joints_uvd: Float64
    joints_xyz_mm: Float64 | None
    confidence: Float64
    box_px: Float64
    center_depth_mm: float | None
    milliseconds: float
    center_uvd: Float64 | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Location:
    """The place of the object in a frame: a center on tracks that crop around a point (hands), else a box.

    Attributes:
      center_uvd: (3,) u px, v px, d mm; None where there is a box.
      box_px: (4,) x0 y0 x1 y1, px; None where there is a center.
    """

    center_uvd: Float64 | None = None
    box_px: Float64 | None = None


@dataclass(frozen=True)
class FrameCrop:
    """What the network sees of one frame.

    Attributes:
      image_mm: (S, S) float32 depth in mm, 0 = no reading; gray levels on K2HPD.
      box_px: (4,) x0 y0 x1 y1 that it was cut from, px of the frame.
      center_depth_mm: theta; None on tracks of absolute depth.
      center_uvd: (3,) px px mm that it was cut around; None where a box was given or found.
      camera: of the frame; None: unknown.
      warning: why it probably shows no hand or person; None: nothing is suspicious.
      canvas: (S + 2m, S + 2m) with its surroundings, in the track's storage unit.
      track: name of the track that it was cut for.
      frame_size: (W, H) of the frame, px.
    """

    image_mm: NDArray[np.float32]
    box_px: Float64
    center_depth_mm: float | None
    center_uvd: Float64 | None
    camera: geometry.Camera | None
    warning: str | None
    canvas: NDArray[Any]
    track: str
    frame_size: tuple[int, int]


class FramePredictor:
    """Finds joints in whole frames: `crop`, then a subclass's network.

    Attributes:
      track: what the network was trained on: crop, normalization, joints.
      camera: of the frames, unless a call names another; None on 2D tracks.
    """

    def __init__(self, track: TrackSpec, camera: geometry.Camera | None = None) -> None:
        """For frames of this camera; the track's own by default."""
        self.track = track
        self.camera = _check_camera(camera) or track.camera
        self._logged: set[str] = set()

    @property
    def spec(self) -> TrackSpec:
        """The earlier name of `track`, which `hands.HandModel` has for it."""
        return self.track

    def _joints(self, frame_crops: Sequence[FrameCrop]) -> tuple[Float64, Float64]:
        """Joints (B, K, D) in the frames of B crops, px px mm, and confidences (B, K)."""
        raise NotImplementedError

    def __call__(
        self,
        depth_mm: ArrayLike,
        center_uvd: ArrayLike | None = None,
        box_px: ArrayLike | None = None,
        camera: geometry.Camera | None = None,
        name: str = "depth frame",
    ) -> PoseEstimate:
        """Finds the joints of one object: around a point, in a box, or where `locate` finds it.

        Args:
          depth_mm: (H, W) depth in mm, 0 = no reading; any size. On a track whose `frame_format`
            is `stretch8`, any unit.
          center_uvd: (3,) px px mm, a point on or in the object; tracks with `crop_by="center"`.
          box_px: (4,) x0 y0 x1 y1 of the object, px; may extend beyond the frame. On a track that crops by center,
            the depth comes from the readings (`locate.depth_in_box`). Without center and box, `locate` is used.
          camera: of this frame, instead of `self.camera`.
          name: of the frame, for warnings. A crop that probably shows no hand or person (too near or far, a flat
            wall, hardly any readings) is logged once per cause, and sets the result's `warning`.

        Raises:
          UserError: a frame that is not a depth image, or in meters; both a center and a box; a center outside
            the image or without a positive depth; an empty box; no reading at that depth.
        """
        started = time.perf_counter()
        (found,) = self._estimates([self.crop(depth_mm, center_uvd, box_px, camera, name)])
        elapsed = time.perf_counter() - started
        return dataclasses.replace(found, milliseconds=elapsed * 1e3)

    def crop(
        self,
        depth_mm: ArrayLike,
        center_uvd: ArrayLike | None = None,
        box_px: ArrayLike | None = None,
        camera: geometry.Camera | None = None,
        name: str = "depth frame",
    ) -> FrameCrop:
        """What the network sees of a frame: the first half of a call, with the same arguments and errors."""
        depth = frame_from_array(depth_mm, self.track.frame_format == "stretch8")
        camera = _check_camera(camera) or self.camera
        if center_uvd is None and box_px is None:
            found = self.locate(depth, camera)
            center_uvd, box_px = found.center_uvd, found.box_px
        center, box = check_center(center_uvd, depth.shape, self.track), check_box(box_px)
        if center is not None and box is not None:
            raise UserError("center_uvd and box_px: expected only one of the two")
        # Gray levels are stretched; depth keeps its fractions of a storage unit.
        frame: NDArray[Any] = depth / np.float32(self.track.storage_unit_mm)
        if self.track.frame_format == "stretch8":
            frame = crops.to_storage_units(depth, self.track)
        cut = crops.cut(frame, self.track, center, box, camera)
        center_depth = self._center_depth(depth, center, cut.box_px)
        seen: NDArray[Any] = geometry.center_crop(cut.canvas, self.track.crop_size)
        _check_something_near(seen, center_depth, self.track)
        image_mm = seen.astype(np.float32) * np.float32(self.track.storage_unit_mm)
        warning = None
        if doubt := doubtful(depth, cut.box_px, center_depth, self.track, camera):
            warning = ": ".join(doubt)
            if doubt[1] not in self._logged:
                self._logged.add(doubt[1])
                logger.warning(f"{name}: {warning}")
        return FrameCrop(
            image_mm,
            cut.box_px,
            center_depth,
            center,
            camera,
            warning,
            cut.canvas,
            self.track.name,
            (depth.shape[1], depth.shape[0]),
        )

    def batch(self, frame_crops: Iterable[FrameCrop]) -> list[PoseEstimate]:
        """Finds the joints of any number of crops at once; each result is that of a call with its frame, but for time.

        Args:
          frame_crops: from `crop`.

        Returns:
          One estimate each; `milliseconds` is its share of the batch.

        Raises:
          UserError: something else than crops, or crops for a network of another track or size.
        """
        frame_crops = self._checked(frame_crops)
        if not frame_crops:
            return []
        started = time.perf_counter()
        found = self._estimates(frame_crops)
        share = (time.perf_counter() - started) * 1e3 / len(found)
        return [dataclasses.replace(one, milliseconds=share) for one in found]

    def _estimates(self, frame_crops: Sequence[FrameCrop]) -> list[PoseEstimate]:
        """Runs the network; times are left at 0."""
        joints, confidence = self._joints(frame_crops)
        check_finite(joints, confidence)
        found = []
        for crop, uvd, certain in zip(frame_crops, joints, confidence, strict=True):
            xyz = None
            if crop.camera is not None and self.track.joint_dims == 3:
                xyz = geometry.uvd_to_xyz(uvd, crop.camera)
            found.append(
                PoseEstimate(
                    joints_uvd=uvd,
                    joints_xyz_mm=xyz,
                    confidence=certain,
                    box_px=crop.box_px,
                    center_depth_mm=crop.center_depth_mm,
                    milliseconds=0.0,
                    center_uvd=crop.center_uvd,
                    warning=crop.warning,
                )
            )
        return found

    def _checked(self, frame_crops: Iterable[FrameCrop]) -> list[FrameCrop]:
        """The crops, if all are from `crop` of a predictor for the same track and size."""
        expected = "expected what Predictor.crop returns"
        if not isinstance(frame_crops, Iterable):
            raise UserError(f"crops: {expected}, in a list; found {type(frame_crops).__name__}")
        found, size = list(frame_crops), self.track.canvas_size
        for crop in found:
            if not isinstance(crop, FrameCrop):
                raise UserError(f"crops: {expected}, found {type(crop).__name__}")
            if (crop.track, crop.canvas.shape) != (self.track.name, (size, size)):
                raise UserError(
                    f"crops: one was cut for track '{crop.track}', with a canvas of {len(crop.canvas)} px; expected "
                    f"'{self.track.name}' and {size} px: cut the frame with this predictor's crop"
                )
        return found

    def locate(self, depth_mm: ArrayLike, camera: geometry.Camera | None = None) -> Location:
        """Locates the nearest hand, or the person in view, from the frame alone; see the module `locate`.

        Args:
          depth_mm: (H, W), as for a call.
          camera: of this frame, instead of `self.camera`.

        Returns:
          A center where the track crops by center, else a box.

        Raises:
          UserError: no reading in the frame.
        """
        depth = frame_from_array(depth_mm, self.track.frame_format == "stretch8")
        camera = _check_camera(camera) or self.camera
        if self.track.crop_by == "center" and camera is not None:
            return Location(center_uvd=hand_center(depth, camera))
        return Location(box_px=person_box(depth, self.track.label_box_margin_px / 2, camera))

    def _center_depth(
        self, depth: DepthFrame, center: Float64 | None, box_px: Float64
    ) -> float | None:
        """θ in mm: of the given center, or of the object in the box; None where it is not used."""
        if self.track.depth_reference == "zero":
            return None
        if center is not None:
            return float(center[2])
        return depth_in_box(depth, box_px, self.track.depth_window_mm or np.inf)


def check_finite(*predicted: Any) -> None:
    """Refuse what a network predicts, unless all of it is finite.

    Raises:
      UserError: something is NaN or infinite.
    """
    if not all(np.isfinite(np.asarray(part)).all() for part in predicted):
        raise UserError(
            "the network predicts numbers that are not finite: its training diverged or its weights are "
            "damaged; use another checkpoint"
        )


def frames_of(source: TrackSpec, trained: TrackSpec) -> TrackSpec:
    """The track of frames, for a network that may have been trained on another one.

    A network trained on synthetic hands can read NYU's frames: file format, unit and camera are then `source`'s, all
    else is the network's. A custom track without a unit takes the one recorded in the checkpoint.

    Raises:
      UserError: the two have nothing in common (a hand network on bodies, 2D on 3D).
    """
    if source.name != trained.name and (
        (source.crop_by, source.joint_dims) != (trained.crop_by, trained.joint_dims)
    ):
        raise UserError(
            f"this checkpoint was trained on track '{trained.name}' and cannot read frames of "
            f"'{source.name}': expected a checkpoint of that track"
        )
    if source.name == trained.name and source.depth_unit_mm == 1.0:
        return dataclasses.replace(source, depth_unit_mm=trained.depth_unit_mm)
    return source


_OFF_MIDDLE = (
    0.15  # of a principal point, as a share of the frame; that of half the size is 0.25 off
)


def odd_camera(depth: DepthFrame, camera: geometry.Camera) -> str | None:
    """A warning where a camera is probably that of another frame size: its principal point is not near the middle."""
    height, width = depth.shape
    off = max(abs(camera.u0 / width - 0.5), abs(camera.v0 / height - 0.5))
    if off <= _OFF_MIDDLE:
        return None
    where = "lies outside" if off >= 0.5 else "is far from its middle"
    return (
        f"is {width}x{height}, the camera's principal point {camera.u0:g},{camera.v0:g} {where}: crop and mm are "
        "right only with the camera of the frame (fx, fy, cx, cy)"
    )


def _check_camera(camera: geometry.Camera | None) -> geometry.Camera | None:
    if not isinstance(camera, geometry.Camera | None):
        raise UserError(f"camera {camera!r}: expected a2j_jax.Camera(fx, fy, u0, v0)")
    return camera


def check_center(
    center_uvd: ArrayLike | None, shape: tuple[int, ...], track: TrackSpec
) -> Float64 | None:
    """A center (3,) inside a frame of this shape; `UserError` otherwise, or where the track crops by box."""
    if center_uvd is None:
        return None
    if track.crop_by == "box":
        raise UserError(
            f"track '{track.name}' crops by box: give the person's box_px (x0, y0, x1, y1) instead of center_uvd"
        )
    center = _finite_numbers(center_uvd, 3, "center_uvd", "u px, v px, depth mm")
    height, width = shape
    if not (0 <= center[0] <= width - 1 and 0 <= center[1] <= height - 1):
        raise UserError(
            f"center_uvd {center[0]:g},{center[1]:g} px lies outside the {width}×{height} frame"
        )
    if center[2] <= 0:
        raise UserError(
            f"center_uvd depth {center[2]:g} mm: expected the positive depth of the hand, in mm"
        )
    return center


def check_box(box_px: ArrayLike | None) -> Float64 | None:
    """A box (4,) that is not empty; `UserError` otherwise."""
    if box_px is None:
        return None
    box = _finite_numbers(box_px, 4, "box_px", "x0, y0, x1, y1 px")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"box_px {','.join(f'{x:g}' for x in box)}: expected x0 < x1 and y0 < y1")
    return box


def _finite_numbers(values: ArrayLike, count: int, what: str, meaning: str) -> Float64:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise UserError(f"{what} {values!r}: expected {count} finite numbers, {meaning}")
    return array


def _check_something_near(
    crop: NDArray[Any], center_depth_mm: float | None, track: TrackSpec
) -> None:
    """Rejects a crop without any reading for the network: the center or a unit is wrong."""
    if center_depth_mm is None or track.depth_window_mm is None:
        if not (crop > 0).any():
            raise UserError("no depth reading inside the box: expected box_px around the object")
        return
    readings = crop[crop > 0] * track.storage_unit_mm
    if not (np.abs(readings - center_depth_mm) < track.depth_window_mm).any():
        found = f"{readings.min():.0f}–{readings.max():.0f} mm" if readings.size else "none at all"
        raise UserError(
            f"no reading within {track.depth_window_mm:g} mm of the center depth "
            f"{center_depth_mm:g} mm (readings in the crop: {found}): check center_uvd and the "
            "unit of the depth"
        )
