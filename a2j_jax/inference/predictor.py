"""`Predictor`: one depth frame, (H, W) float32 mm with 0 = no reading, -> joints in mm.

`make_predict_fn` is the compiled path from a batch of crops to joints, which evaluation and figures share.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry
from a2j_jax.data import augment, crops, targets
from a2j_jax.data.crops import Batch
from a2j_jax.data.depth_files import IN_METRES, in_metres
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.inference.locate import depth_in_box, doubtful, hand_center, person_box
from a2j_jax.log import logger
from a2j_jax.lowering import made_once
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import (
    Estimate,
    Heads,
    Prediction,
    aggregate,
    anchor_grid,
    jit_with_decoding,
)
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs import sharding
from a2j_jax.runs.checkpoints import Weights
from a2j_jax.runs.load import restore
from a2j_jax.tracks import TrackSpec

DepthFrame = NDArray[np.float32]
#: (variables, batch) -> joints (B, K, D) in crop coordinates and confidence (B, K)
Predict = Callable[[Any, Batch], Estimate]


def make_predict_fn(
    model: PoseNetwork, track: TrackSpec, devices: Sequence[jax.Device] | None = None
) -> Predict:
    """Network and decoding, compiled for the crops of a track.

    Args:
      model: the network.
      track: sizes and normalization of the crops.
      devices: of this process, which share the rows of a batch, whatever their number; all by default.

    Returns:
      A function of variables, plain or prepared (`models.prepared`), as `place_variables` places them on these devices,
      and of a batch, of which it reads `canvas` and `center_uvd`. It does not wait for the device.
    """
    return make_network_fns(model, track, devices)[1]


def make_network_fns(
    model: PoseNetwork, track: TrackSpec, devices: Sequence[jax.Device] | None = None
) -> tuple[Callable[[Any, Batch], Any], Predict]:
    """`make_predict_fn`, and before it the function that stops at the network's outputs; they share its program."""
    return _network_fns(model, track, sharding.local_layout(devices))


@made_once
def _network_fns(
    model: PoseNetwork, track: TrackSpec, layout: sharding.Layout
) -> tuple[Callable[[Any, Batch], Any], Predict]:
    def network(variables: Any, canvas: jax.Array, center_depth_mm: jax.Array) -> Any:
        return model.apply(
            variables, augment.evaluation_images(canvas, center_depth_mm, track), train=False
        )

    jitted, decode = jit_with_decoding(
        network,
        partial(model.decode, crop_size=track.crop_size),
        in_shardings=(layout.everywhere, layout.spread, layout.spread),
        out_shardings=layout.spread,
    )

    def outputs(variables: Any, batch: Batch) -> Any:
        rows: tuple[np.ndarray, ...] = (
            np.asarray(batch["canvas"]),
            np.asarray(batch["center_uvd"])[:, 2],
        )
        padding = -len(rows[0]) % len(layout.devices)
        if padding:
            rows = tuple(np.concatenate([x, x[:1].repeat(padding, 0)]) for x in rows)
        return jitted(variables, *jax.device_put(rows, layout.spread))

    def predict(variables: Any, batch: Batch) -> Estimate:
        found, count = decode(outputs(variables, batch)), len(batch["canvas"])
        padded = count % len(layout.devices)
        return jax.tree.map(lambda x: np.asarray(x)[:count], found) if padded else found

    return outputs, predict


class Joints(NamedTuple):
    """What `core` finds in B crops, float32.

    Attributes:
      uvd: (B, K, 3) px px mm in the full frame; (B, K, 2) px on a 2D track.
      xyz_mm: (B, K, 3) camera coordinates; None on a 2D track.
      confidence: (B, K) in [0, 1].
    """

    uvd: jax.Array
    xyz_mm: jax.Array | None
    confidence: jax.Array


def make_core(model: PoseNetwork, track: TrackSpec) -> Callable[..., Joints]:
    """Everything after the crop as one pure function, which jits, maps and differentiates, on any device.

    Args:
      model: the network.
      track: sizes and constants.

    Returns:
      `core(variables, crop_mm, box_px, center_depth_mm, camera) -> Joints`, for B crops: `crop_mm` (B, S, S) depth in
      mm, 0 = no reading (gray levels on K2HPD); `box_px` (B, 4) that they were cut from; `center_depth_mm` (B,),
      ignored on tracks of absolute depth; `camera` (B, 4) or (4,) fx fy u0 v0, ignored on a 2D track. `FrameCrop` has
      them all.
    """

    def core(
        variables: Any,
        crop_mm: jax.Array,
        box_px: jax.Array,
        center_depth_mm: jax.Array,
        camera: jax.Array | None = None,
    ) -> Joints:
        _check_core(track, crop_mm, box_px, center_depth_mm, camera)
        stored = jnp.asarray(crop_mm) / track.storage_unit_mm
        images = augment.normalize(stored, center_depth_mm, track)[..., None]
        found = model.decode(model.apply(variables, images, train=False), track.crop_size)
        uvd = targets.joints_to_frame(found.joints, box_px, center_depth_mm, track)
        xyz = None
        if track.joint_dims == 3 and camera is not None:
            xyz = targets.uvd_to_xyz(uvd, camera)
        return Joints(uvd, xyz, found.confidence)

    return core


def _check_core(
    track: TrackSpec, crop_mm: Any, box_px: Any, center_depth_mm: Any, camera: Any
) -> None:
    """Refuse arguments of `core` by their shapes, which are known while it is traced.

    Raises:
      UserError: naming the argument, its shape and the one expected.
    """
    size = track.crop_size

    def refuse(name: str, value: Any, expected: str) -> NoReturn:
        found = "None" if value is None else f"{type(value).__name__} of shape {np.shape(value)}"
        raise UserError(f"core: {name}: expected {expected}, found {found}")

    if np.ndim(crop_mm) != 3 or np.shape(crop_mm)[1:] != (size, size):
        refuse("crop_mm", crop_mm, f"(B, {size}, {size}), as FrameCrop.image_mm[None]")
    if np.shape(box_px)[-1:] != (4,) or np.ndim(box_px) > 2:
        refuse("box_px", box_px, "(B, 4), as FrameCrop.box_px[None]")
    relative = track.depth_reference != "zero"
    if np.ndim(center_depth_mm) > 1 or (relative and center_depth_mm is None):
        refuse("center_depth_mm", center_depth_mm, "(B,), mm")
    if camera is not None and (np.shape(camera)[-1:] != (4,) or np.ndim(camera) > 2):
        refuse("camera", camera, "(B, 4) or (4,), as Camera.as_array()")


def place_variables(variables: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Variables, whole on each of these devices of this process; on all of them by default."""
    return jax.device_put(sharding.whole_here(variables), sharding.local_layout(devices).everywhere)


def frame_from_array(depth_mm: Any, any_unit: bool = False) -> DepthFrame:
    """Checks an array given as a depth frame: (H, W) numeric, in mm -> float32, NaN and below 0 -> 0.

    Raises:
      UserError: not 2-D, not numeric, empty; decimal numbers in meters, unless any unit will do.
    """
    if isinstance(depth_mm, str | os.PathLike):
        raise UserError(
            "depth frame: expected an array in mm, found a path; read it with "
            "a2j_jax.data.depth_files.read_depth(path).depth"
        )
    array = np.asarray(depth_mm)
    if array.dtype.kind not in "uif":
        raise UserError(f"depth frame: expected numbers in mm, found dtype {array.dtype}")
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
    """

    image_mm: NDArray[np.float32]
    box_px: Float64
    center_depth_mm: float | None
    center_uvd: Float64 | None
    camera: geometry.Camera | None
    warning: str | None
    canvas: NDArray[Any]
    track: str


class Predictor:
    """A trained network and the geometry of its track, compiled for one frame at a time.

    `predictor(depth_mm)` locates the nearest hand, or the person in view; `center_uvd=(u, v, d)` gives its place on
    tracks that crop around a point (hands), `box_px=(x0, y0, x1, y1)` on any. The network is compiled when the object
    is created (`compile_seconds`), so that every frame costs the same.

    A call is `crop` and then the network; `batch` does the latter for many crops. `outputs` and `votes` show what a
    crop gives before it is decoded, and `core` is all of it after the crop as a pure function, to be jitted, mapped
    and differentiated.

    Attributes:
      model: the network.
      variables: of it, on the device.
      track: the track the network was trained on: crop, normalization, joints.
      camera: of the frames, unless a call names another; None on 2D tracks.
      step: of the checkpoint; None where the predictor was not made from one.
      core: see `make_core`.
      compile_seconds: time of compilation.
    """

    def __init__(
        self,
        model: PoseNetwork,
        variables: Any,
        track: TrackSpec,
        camera: geometry.Camera | None = None,
        step: int | None = None,
    ) -> None:
        """Binds a model to its variables and compiles it.

        Args:
          model: the network; its number and dimension of joints must be the track's.
          variables: `{"params": …, "batch_stats": …}`.
          track: the track it was trained on.
          camera: of the frames to come; the track's own by default.
          step: of the checkpoint that the variables are from.

        Raises:
          UserError: model and track disagree about the joints; variables of another network.
        """
        if (model.num_joints, model.joint_dims) != (track.num_joints, track.joint_dims):
            raise UserError(
                f"the network predicts {model.num_joints} joints × {model.joint_dims}, track "
                f"'{track.name}' has {track.num_joints} × {track.joint_dims}: name the track that the "
                "checkpoint was trained on"
            )
        self.model, self.track, self.step = model, track, step
        self.camera = _check_camera(camera) or track.camera
        self.core = make_core(model, track)
        self._logged: set[str] = set()
        self._sizes = {1}  # of batches that are compiled
        devices = jax.local_devices()[:1]
        started = time.perf_counter()
        self.variables = place_variables(variables, devices)
        quick = prepare_for_inference(model, self.variables, track.crop_size)
        self._prepared = place_variables(quick, devices)
        self._outputs, self._network = make_network_fns(model, track, devices)
        blank = np.zeros((track.canvas_size, track.canvas_size), np.float32)
        nothing = FrameCrop(blank, np.zeros(4), 1.0, None, None, None, blank, track.name)
        try:
            jax.block_until_ready(self._network(self._prepared, _batch_of([nothing])))
        except FlaxError as error:
            text = " ".join(str(error).split())
            raise UserError(
                f"variables do not fit {type(model).__name__}, or it cannot be run: {text}"
            ) from error
        self.compile_seconds = time.perf_counter() - started

    @classmethod
    def from_checkpoint(
        cls,
        directory: str | Path,
        camera: geometry.Camera | None = None,
        step: int | str = "best",
        weights: Weights = "best",
    ) -> "Predictor":
        """Loads a work directory of `a2j train`, or the output of `a2j convert`.

        Args:
          directory: of the checkpoints.
          camera: of the frames; the track's by default.
          step: of the checkpoint: a number, "best" or "latest".
          weights: "raw", their moving average "ema", or "best": the average where one was kept.

        Raises:
          UserError: no checkpoint there, no such step or average, or not readable.
        """
        found = restore(directory, step, weights)
        return cls(found.model, found.variables, found.track, camera, found.step)

    @property
    def spec(self) -> TrackSpec:
        """The earlier name of `track`, for programs that use it."""
        return self.track

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
        crop = self.crop(depth_mm, center_uvd, box_px, camera, name)
        estimate = self._network(self._prepared, _batch_of([crop]))
        (found,) = self._estimates([crop], estimate)
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
        center, box = _check_center(center_uvd, depth.shape, self.track), _check_box(box_px)
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
        )

    def batch(self, frame_crops: Iterable[FrameCrop]) -> list[PoseEstimate]:
        """Finds the joints of any number of crops at once; each result is that of a call with its frame, but for time.

        Batches are filled up to 1, 2, 4, 8 ... crops: the network is compiled once for each of these sizes.

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
        size = 1 << (len(frame_crops) - 1).bit_length()
        if size not in self._sizes:
            logger.info(f"compiling the network for batches of {size}")
            self._sizes.add(size)
        filled = [*frame_crops, *[frame_crops[0]] * (size - len(frame_crops))]
        estimate = self._network(self._prepared, _batch_of(filled))
        found = self._estimates(
            frame_crops, jax.tree.map(lambda x: x[: len(frame_crops)], estimate)
        )
        share = (time.perf_counter() - started) * 1e3 / len(frame_crops)
        return [dataclasses.replace(one, milliseconds=share) for one in found]

    def outputs(self, crop: FrameCrop) -> Any:
        """The network's outputs for one crop, in numpy: A2J's are `Heads` of (1, A, K, ...).

        Raises:
          UserError: several crops, or one of another track or size.
        """
        if not isinstance(crop, FrameCrop):
            raise UserError(
                f"crop: expected one of those that Predictor.crop returns, found {type(crop).__name__}; "
                "Predictor.batch takes a list of them"
            )
        batch = _batch_of(self._checked([crop]))
        return jax.tree.map(np.asarray, self._outputs(self._prepared, batch))

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

    def votes(self, crop: FrameCrop) -> Prediction:
        """The anchors' votes on one crop: joints (1, K, 3), their spread (1, K) px and weights (1, A, K), in numpy.

        Raises:
          UserError: the network has no anchors; or as `outputs`.
        """
        heads = self.outputs(crop)
        if not isinstance(heads, Heads):
            raise UserError(f"{type(self.model).__name__} has no anchors: use Predictor.outputs")
        size = self.track.crop_size
        votes: Prediction = jax.tree.map(np.asarray, aggregate(heads, anchor_grid(size, size)))
        return votes

    def _estimates(
        self, frame_crops: Sequence[FrameCrop], estimate: Estimate
    ) -> list[PoseEstimate]:
        """Joints of crops in the network's units -> in the frames they are from."""
        joints, confidence = (np.asarray(part, np.float64) for part in estimate)
        check_finite(joints, confidence)
        found = []
        for crop, in_crop, certain in zip(frame_crops, joints, confidence, strict=True):
            depth = crop.center_depth_mm or 0.0
            uvd = crops.joints_to_frame(in_crop, crop.box_px, depth, self.track)
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


def _check_camera(camera: geometry.Camera | None) -> geometry.Camera | None:
    if not isinstance(camera, geometry.Camera | None):
        raise UserError(f"camera {camera!r}: expected a2j_jax.Camera(fx, fy, u0, v0)")
    return camera


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


def _batch_of(frame_crops: Sequence[FrameCrop]) -> Batch:
    """Crops (canvases in storage units, not rounded) as a batch."""
    depths = [[0.0, 0.0, crop.center_depth_mm or 0.0] for crop in frame_crops]
    canvas = np.stack([crop.canvas for crop in frame_crops]).astype(np.float32)
    return {"canvas": canvas, "center_uvd": np.array(depths, np.float32)}


def _check_center(
    center_uvd: ArrayLike | None, shape: tuple[int, ...], track: TrackSpec
) -> Float64 | None:
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


def _check_box(box_px: ArrayLike | None) -> Float64 | None:
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
