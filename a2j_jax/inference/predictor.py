"""`Predictor`: one depth frame, (H, W) float32 mm with 0 = no reading, -> joints in mm.

`make_predict_fn` is the compiled path from a batch of crops to joints, which evaluation and figures share.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from a2j_jax import geometry
from a2j_jax.data import augment, crops, targets
from a2j_jax.data.crops import Batch
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.inference.exported import (
    TOLERANCE,
    Answer,
    Runtime,
    check_runtime,
    largest_difference,
    made_up_crops,
    onnx_of,
    running,
)
from a2j_jax.inference.frame_predictor import FrameCrop, FramePredictor
from a2j_jax.log import logger
from a2j_jax.lowering import lowering_for, made_once
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
from a2j_jax.runs.load import restore
from a2j_jax.tracks import TrackSpec

if TYPE_CHECKING:
    from a2j_jax.runs.checkpoints import Weights

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


class Predictor(FramePredictor):
    """A trained network and the geometry of its track, compiled for one frame at a time.

    `predictor(depth_mm)` locates the nearest hand, or the person in view; `center_uvd=(u, v, d)` gives its place on
    tracks that crop around a point (hands), `box_px=(x0, y0, x1, y1)` on any. The network is compiled when the object
    is created (`compile_seconds`), so that every frame costs the same.

    A call is `crop` and then the network; `batch` does the latter for many crops. `outputs` and `votes` show what a
    crop gives before it is decoded, and `core` is all of it after the crop as a pure function, to be jitted, mapped
    and differentiated: these three are JAX's, whatever the runtime.

    Attributes:
      model: the network.
      variables: of it, on the device.
      track: the track the network was trained on: crop, normalization, joints.
      camera: of the frames, unless a call names another; None on 2D tracks.
      step: of the checkpoint; None where the predictor was not made from one.
      core: see `make_core`.
      runtime: that runs the network in calls and `batch`.
      compile_seconds: time of compilation.
    """

    def __init__(
        self,
        model: PoseNetwork,
        variables: Any,
        track: TrackSpec,
        camera: geometry.Camera | None = None,
        step: int | None = None,
        runtime: Runtime = "jax",
    ) -> None:
        """Binds a model to its variables and compiles it.

        Args:
          model: the network; its number and dimension of joints must be the track's.
          variables: `{"params": …, "batch_stats": …}`.
          track: the track it was trained on.
          camera: of the frames to come; the track's own by default.
          step: of the checkpoint that the variables are from.
          runtime: "jax"; "onnxruntime" or "openvino" on a processor, for which the network is translated to ONNX, run
            once on a made-up crop, and compared with JAX's answer. An exported file (`ExportedPredictor`) starts
            sooner: it was compared when it was written.

        Raises:
          UserError: model and track disagree about the joints; variables of another network; no such runtime, or it is
            not installed, or cannot run this network.
        """
        if (model.num_joints, model.joint_dims) != (track.num_joints, track.joint_dims):
            raise UserError(
                f"the network predicts {model.num_joints} joints × {model.joint_dims}, track "
                f"'{track.name}' has {track.num_joints} × {track.joint_dims}: name the track that the "
                "checkpoint was trained on"
            )
        check_runtime(runtime)
        super().__init__(track, camera)
        self.model, self.step, self.runtime = model, step, runtime
        self.core = make_core(model, track)
        self._sizes = {1}  # of batches that are compiled
        devices = jax.local_devices()[:1]
        started = time.perf_counter()
        self.variables = place_variables(variables, devices)
        quick = prepare_for_inference(model, self.variables, track.crop_size)
        self._prepared = place_variables(quick, devices)
        self._outputs, self._network = make_network_fns(model, track, devices)
        blank = np.zeros((1, track.canvas_size, track.canvas_size), np.float32)
        nothing: Batch = {"canvas": blank, "center_uvd": np.ones((1, 3), np.float32)}
        try:
            jax.block_until_ready(self._network(self._prepared, nothing))
        except FlaxError as error:
            text = " ".join(str(error).split())
            raise UserError(
                f"variables do not fit {type(model).__name__}, or it cannot be run: {text}"
            ) from error
        self._translated = None if runtime == "jax" else self._translate(runtime)
        self.compile_seconds = time.perf_counter() - started

    @classmethod
    def from_checkpoint(
        cls,
        directory: str | Path,
        camera: geometry.Camera | None = None,
        step: int | str = "best",
        weights: "Weights" = "best",
        runtime: Runtime = "jax",
    ) -> "Predictor":
        """Loads a work directory of `a2j train`, the output of `a2j convert`, or a file of weights.

        Args:
          directory: of the checkpoints; or a file of `a2j export RUN weights.npz`, or the name of one that ships.
          camera: of the frames; the track's by default.
          step: of the checkpoint: a number, "best" or "latest".
          weights: "raw", their moving average "ema", or "best": the average where one was kept.
          runtime: as for `Predictor`.

        Raises:
          UserError: no checkpoint there, no such step or average, or not readable; or as `Predictor`.
        """
        check_runtime(runtime)
        found = restore(directory, step, weights)
        return cls(found.model, found.variables, found.track, camera, found.step, runtime)

    def _translate(self, runtime: Runtime) -> Answer:
        """`core` without a camera, by another program than JAX.

        Raises:
          UserError: it cannot run this network, or answers otherwise.
        """
        size, name = self.track.crop_size, type(self.model).__name__
        with lowering_for("gpu"):  # without what is for XLA's CPU compiler alone
            quick = prepare_for_inference(self.model, self.variables, size)

        def function(
            crop_mm: jax.Array, box_px: jax.Array, center_depth_mm: jax.Array
        ) -> dict[str, jax.Array]:
            found = self.core(quick, crop_mm, box_px, center_depth_mm)
            return {"joints_uvd": found.uvd, "confidence": found.confidence}

        rows = jax.export.symbolic_shape("batch")[0]
        shapes = {"crop_mm": (size, size), "box_px": (4,), "center_depth_mm": ()}
        inputs = {
            name: jax.ShapeDtypeStruct((rows, *shape), jnp.float32)
            for name, shape in shapes.items()
        }
        run = running(onnx_of(function, inputs, name).SerializeToString(), runtime)
        difference = largest_difference(
            lambda *given: run(dict(zip(inputs, given, strict=True))),
            function,
            [(crop, box, center[:, 2]) for crop, center, box in made_up_crops(self.track)],
        )
        if not difference <= TOLERANCE:
            raise UserError(
                f"runtime {runtime}: its joints differ from JAX's by {difference:g} px or mm, more than {TOLERANCE:g}; "
                "use runtime jax"
            )
        return run

    def _joints(self, frame_crops: Sequence[FrameCrop]) -> tuple[Float64, Float64]:
        """Joints (B, K, D) in the frames of B crops, px px mm, and confidences (B, K).

        JAX takes batches filled up to 1, 2, 4, 8 ... crops: the network is compiled once for each of these sizes.
        """
        count = len(frame_crops)
        boxes = np.stack([crop.box_px for crop in frame_crops])
        depths = np.array([crop.center_depth_mm or 0.0 for crop in frame_crops])
        if self._translated is not None:
            given = {
                "crop_mm": np.stack([crop.image_mm for crop in frame_crops]),
                "box_px": boxes.astype(np.float32),
                "center_depth_mm": depths.astype(np.float32),
            }
            found = self._translated(given)
            return found["joints_uvd"].astype(np.float64), found["confidence"].astype(np.float64)
        size = 1 << (count - 1).bit_length()
        if size not in self._sizes:
            logger.info(f"compiling the network for batches of {size}")
            self._sizes.add(size)
        filled = [*frame_crops, *[frame_crops[0]] * (size - count)]
        estimate = self._network(self._prepared, _batch_of(filled))
        joints, confidence = (np.asarray(part, np.float64)[:count] for part in estimate)
        return crops.joints_to_frame(joints, boxes, depths, self.track), confidence

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


def _batch_of(frame_crops: Sequence[FrameCrop]) -> Batch:
    """Crops (canvases in storage units, not rounded) as a batch."""
    depths = [[0.0, 0.0, crop.center_depth_mm or 0.0] for crop in frame_crops]
    canvas = np.stack([crop.canvas for crop in frame_crops]).astype(np.float32)
    return {"canvas": canvas, "center_uvd": np.array(depths, np.float32)}
