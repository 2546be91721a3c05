"""Hands in a camera's frames: where, which one and how sure, from a trained network alone; `a2j_jax.load`.

`locate.hand_centers` proposes places. From each, the network predicts joints, the crop moves to their mean, and the
network looks again: `_PASSES` times, in one compiled function. Beside each crop it looks at its mirror image, so that
left hands are found by a network that knows right ones only, and to tell the two apart. A score compares what it sees.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry
from a2j_jax.data import augment, targets
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, Float64
from a2j_jax.inference.frame_predictor import (
    DepthFrame,
    PoseEstimate,
    check_box,
    check_center,
    check_finite,
    frame_from_array,
    odd_camera,
)
from a2j_jax.inference.locate import depth_in_box, doubtful, hand_centers
from a2j_jax.log import logger
from a2j_jax.lowering import lowering_for, made_once, options_for_inference
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import at_least_float32, spread_px
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.load import restore
from a2j_jax.tracks import HANDS2017, TrackSpec
from a2j_jax.weights.packed import find_packed, unknown

Handedness = Literal["right", "left"]
Tips = Literal["center", "skin"]
_PASSES = 3  # docs/centers.md has the errors after each
_SURE = 0.9  # a place that scores as much ends the search for others
LOST = 0.3  # a pose that scores less is no hand
_SIDE_KNOWN = (
    0.8  # below this probability of right or left there is a warning, if the two looks differ
)
# Logit of right against left for each of the `features`. Fitted by benchmarks/find_hands.py.
_SIDE = (-6.5, -0.8, 3.1, -2.0)
_FIRST = 1.0  # logit in favor of the likeliest place
_SURFACE_MM = -15.0, 40.0  # of a joint behind the reading at its pixel
_HAND_FILLS = 0.2  # of the crop's window
# A network that knows both hands sees the same joints in the mirror; one that knows right hands, others, 58 mm away.
_AGREE_MM = 25.0
SAME_HAND_MM = 80.0  # between the mean joints of two poses: nearer ones are of one hand
_NO_READING = "no depth reading"
_PLACES = 3  # to look at for each hand that is asked for
_WRIST, _INDEX_MCP, _MIDDLE_MCP, _PINKY_MCP = (
    HANDS2017.joints.index(name) for name in ("wrist", "index_mcp", "middle_mcp", "pinky_mcp")
)
_PALM = np.flatnonzero([name == "wrist" or "_mcp" in name for name in HANDS2017.joints])
_ENDS = np.flatnonzero(["_tip" in name or name == "thumb_dip" for name in HANDS2017.joints])


@dataclass(frozen=True)
class HandPose(PoseEstimate):
    """The joints of one hand; `center_uvd` is that of the last crop.

    Attributes:
      score: in [0, 1], how probably this is a hand, by a `Calibration` on rendered frames with hands and without.
        Below 0.3 there is a warning.
      handedness: "right" or "left", given or decided.
      handedness_probability: of that, in [0.5, 1]; 1 where it was given.
      number: of this hand among those that `HandModel.find` or `follow` has found, from 0.
      expected_error_mm: (K,) how far each joint probably is from the true one, mm, from the confidence; None where the
        network is not calibrated.
    """

    score: float = 0.0
    handedness: Handedness = "right"
    handedness_probability: float = 0.5
    number: int = 0
    expected_error_mm: Float64 | None = None


class Looks(NamedTuple):
    """What the network saw in the last of several looks at two crops: as they are, and in the mirror.

    Attributes:
      joints_uvd: (2, K, 3) px px mm of the frame.
      joints_xyz_mm: (2, K, 3) camera coordinates.
      confidence: (2, K).
      box_px: (2, 4) clipped to the frame.
      center_uvd: (2, 3) of the crops.
      moved_mm: (2,) mean distance of the joints from those of the look before.
      pooled: (2, C) the trunk's last feature map, averaged over its positions; C = 0 for a network without one.
    """

    joints_uvd: Any
    joints_xyz_mm: Any
    confidence: Any
    box_px: Any
    center_uvd: Any
    moved_mm: Any
    pooled: Any


@made_once
def make_looks(
    model: PoseNetwork, track: TrackSpec
) -> Callable[[Any, jax.Array, jax.Array, jax.Array, int, int], Looks]:
    """`looks(variables, frame_mm (H, W), camera (4,), center_uvd (3,), passes, turn) -> Looks`, jitted.

    `passes` looks are taken, each at the mean of the joints of the one before. The network sees crops that are turned
    by `turn` quarters of a circle; joints are turned back.

    Args:
      model: the network.
      track: cropped by center, with relative depth.
    """
    size, half = track.crop_size, track.half_window_mm
    assert half is not None
    middle = (size - 1) / 2.0

    def cut(frame: jax.Array, box: jax.Array) -> jax.Array:
        """(S, S): `geometry.crop_canvas` without a margin."""
        (x, width), (y, height) = (augment.whole_pixels(box[axis::2]) for axis in (0, 1))
        steps = jnp.arange(size)
        rows = augment.take(frame, y + steps * height // size)
        return augment.take(rows, x + steps * width // size, axis=1)

    def look(
        variables: Any, frame: jax.Array, camera: jax.Array, center: jax.Array, turn: jax.Array
    ) -> Looks:
        last = jnp.array(frame.shape[::-1], jnp.float32) - 1.0
        center = jnp.concatenate(
            [jnp.clip(center[:, :2], 0.0, last), jnp.maximum(center[:, 2:], half)], -1
        )
        box = targets.box_from_center(center, camera, half, last)
        crops = jnp.stack([cut(frame, box[0]), cut(frame, box[1])[:, ::-1]])
        quarters = [partial(jnp.rot90, k=k, axes=(1, 2)) for k in range(4)]
        turned = jax.lax.switch(turn, quarters, crops)
        images = augment.normalize(turned / track.storage_unit_mm, center[:, 2], track)
        outputs, pooled = with_features(model, variables, images[..., None])
        found = model.decode(outputs, size)
        u, v = found.joints[..., 0] - middle, found.joints[..., 1] - middle
        cos, sin = jnp.array([1.0, 0.0, -1.0, 0.0])[turn], jnp.array([0.0, 1.0, 0.0, -1.0])[turn]
        across = jnp.array([[1.0], [-1.0]]) * (cos * u - sin * v)  # the second is a mirror image
        joints = jnp.stack(
            [across + middle, sin * u + cos * v + middle, found.joints[..., 2]], axis=-1
        )
        uvd = targets.joints_to_frame(joints, box, center[:, 2], track)
        xyz = targets.uvd_to_xyz(uvd, camera)
        return Looks(uvd, xyz, found.confidence, box, center, jnp.zeros(2), pooled)

    def looks(
        variables: Any,
        frame_mm: jax.Array,
        camera: jax.Array,
        center_uvd: jax.Array,
        passes: jax.Array,
        turn: jax.Array,
    ) -> Looks:
        def again(count: jax.Array, before: tuple[jax.Array, Looks]) -> tuple[jax.Array, Looks]:
            center, earlier = before
            seen = look(variables, frame_mm, camera, center, turn)
            steps = jnp.linalg.norm(seen.joints_xyz_mm - earlier.joints_xyz_mm, axis=-1)
            moved = jnp.where(count > 0, steps.mean(axis=-1), 0.0)
            next_center = targets.xyz_to_uvd(seen.joints_xyz_mm.mean(axis=1), camera)
            return next_center, seen._replace(moved_mm=moved)

        start = jnp.stack([center_uvd] * 2)
        shapes = jax.eval_shape(look, variables, frame_mm, camera, start, turn)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        _, seen = jax.lax.fori_loop(0, passes, again, (start, nothing))
        return seen

    return jax.jit(looks, compiler_options=options_for_inference())


class Calibration(NamedTuple):
    """What one network's scores and expected errors are made of; benchmarks/find_hands.py fits it on rendered frames.

    Attributes:
      kernel: (4 + C,) weights of the `features` and of the C pooled ones in the logit of being a hand; (4,): of the
        features alone.
      bias: of that logit.
      joints_mm: (21,) expected error of each joint where all votes coincide; None: not known.
      spread_mm: what each px of the spread of a joint's votes adds, mm.
      mean_spread_mm: what each px of the mean spread over the joints adds, mm.
      side_by_fingers: logit of right against left for each mm that fingers bend to one side, over both looks.
    """

    kernel: Sequence[float]
    bias: float
    joints_mm: Sequence[float] | None = None
    spread_mm: float = 0.0
    mean_spread_mm: float = 0.0
    side_by_fingers: float = 0.1

    def logits(self, of_looks: Float64, pooled: NDArray[np.float32]) -> Float64:
        """(2,) for `features` (2, 4) and pooled features (2, C); UserError if they are of another network."""
        kernel = np.asarray(self.kernel)
        if kernel.shape not in ((4,), (4 + pooled.shape[1],)):
            raise UserError(
                f"the calibration has {kernel.size} weights: expected {4 + pooled.shape[1]} for this network; fit it "
                "again (benchmarks/find_hands.py)"
            )
        more = pooled @ kernel[4:] if len(kernel) > 4 else 0.0
        found: Float64 = of_looks @ kernel[:4] + more + self.bias
        return found

    def errors_mm(self, spread: Float64) -> Float64 | None:
        """(21,) expected distance of each joint from the true one, mm, for the spread (21,) px of its votes."""
        if self.joints_mm is None:
            return None
        mean = spread.mean() * self.mean_spread_mm
        return np.asarray(self.joints_mm) + self.spread_mm * spread + mean


_UNCALIBRATED = Calibration((-3.4, -1.9, 8.3, -2.8), 15.1)


class Sight(NamedTuple):
    """Looks from one place, their `features` (2, 4), and logits (2,) of being a hand."""

    looks: Looks
    shown: Float64
    logits: Float64

    @property
    def score(self) -> float:
        """Of the better look."""
        return float(sigmoid(self.logits.max()))

    @property
    def middle_mm(self) -> Float64:
        """(3,) mean joint of the better look."""
        return np.asarray(self.looks.joints_xyz_mm[self.logits.argmax()].mean(axis=0), np.float64)


def with_features(model: PoseNetwork, variables: Any, images: jax.Array) -> tuple[Any, jax.Array]:
    """A network's outputs for images (B, S, S, 1), and `Looks.pooled`."""
    kept: list[jax.Array] = []

    def keep(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        found = call(*args, **kwargs)
        if context.method_name == "features":
            kept.append(at_least_float32(found.regression).mean((1, 2)))
        return found

    with nn.intercept_methods(keep):
        outputs: Any = model.apply(variables, images, train=False)
    return outputs, kept[0] if kept else jnp.zeros((len(images), 0))


class HandModel:
    """Finds a hand in depth frames: `hand(depth_mm, camera)` in one, `hand.track(frames, camera)` in a sequence.

    Attributes:
      spec: the track that the network was trained on: crop, normalization, joints.
      camera: of frames that come without one; the track's.
      handedness: of all hands; None: decided for each.
      turns: orientations of a hand's crop whose joints are averaged.
    """

    def __init__(
        self,
        model: PoseNetwork,
        variables: Any,
        track: TrackSpec,
        handedness: Handedness | None = None,
        tips: Tips = "center",
        calibration: Calibration | None = None,
        turns: Literal[1, 2, 4] = 4,
    ) -> None:
        """Binds a network to its variables; it is compiled at the first frame of a size.

        Args:
          model: the network.
          variables: `{"params": ..., "batch_stats": ...}`.
          track: with the joints of HANDS 2017, cropped by center.
          handedness: of all hands to come; None: decided.
          tips: where TIP joints are reported: the center of the ball that ends the finger, or "skin", its end.
          calibration: of this network; None: poses have no expected errors, and the score is made of the spread of the
            votes and of how the joints lie in the depth.
          turns: in how many orientations, a full circle apart, the network looks at the crop of a hand that it has
            found; the joints are their average. 4 is best, 1 fastest (docs/centers.md).

        Raises:
          UserError: a track of other joints.
        """
        if track.skeleton.joints != HANDS2017.joints or track.crop_by != "center":
            raise UserError(
                f"track {track.name!r}: expected the 21 joints of HANDS 2017 in crops around a center; "
                "a2j_jax.Predictor takes any network"
            )
        if handedness not in (None, "right", "left"):
            raise UserError(f"handedness {handedness!r}: expected 'right', 'left' or None")
        if tips not in ("center", "skin"):
            raise UserError(f"tips {tips!r}: expected 'center' or 'skin'")
        if turns not in (1, 2, 4):
            raise UserError(f"turns {turns!r}: expected 1, 2 or 4")
        self._tips, self.turns = tips, turns
        self.spec, self.camera, self.handedness = track, track.camera, handedness
        with lowering_for("gpu"):  # Winograd's kernels triple the time of compilation
            quick = prepare_for_inference(model, variables, track.crop_size)
        self._variables = jax.device_put(quick, jax.local_devices()[0])
        self._model = model
        self._looks = make_looks(model, track)
        self._calibration = calibration or _UNCALIBRATED
        self._compiled = set[tuple[int, ...]]()  # sizes of frames
        self._logged = set[str]()
        self._looked_for_others = False

    def __call__(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        center_uvd: ArrayLike | None = None,
        box_px: ArrayLike | None = None,
        name: str = "depth frame",
    ) -> HandPose:
        """Finds the joints of one hand: near a point, in a box, or the likeliest one in the frame.

        Args:
          depth_mm: (H, W) depth in mm, 0 = no reading; any size.
          camera: of this frame, or its fx, fy, u0, v0 in px; by default `self.camera`.
          center_uvd: (3,) px px mm, a point on or in the hand.
          box_px: (4,) x0 y0 x1 y1 of the hand, px.
          name: of the frame, for warnings, each of which is logged once and is the result's `warning`.

        Raises:
          UserError: a frame that is not a depth image, is in meters or has no reading; both a center and a box, or
            impossible ones.
        """
        depth, camera = self._checked(depth_mm, camera)
        shown = depth.shape
        center, box = check_center(center_uvd, shown, self.spec), check_box(box_px)
        if center is not None and box is not None:
            raise UserError("center_uvd and box_px: expected only one of the two")
        if not depth.any():
            raise UserError(_NO_READING)
        if box is not None:
            inside = geometry.clip_box(box, shown[::-1])
            if (inside[2:] <= inside[:2]).any():
                raise UserError(
                    f"box_px {box.tolist()}: outside the frame of {shown[1]} x {shown[0]} px"
                )
            middle = inside.reshape(2, 2).mean(axis=0)
            center = np.append(
                middle, depth_in_box(depth, inside, self.spec.depth_window_mm or np.inf)
            )
        starts = hand_centers(depth, camera) if center is None else center[None]
        pose, _ = self._best(depth, camera, starts, 0.0, name)
        if center is None:
            self._look_for_others(depth, camera, pose, name)
        return pose

    def find(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        most: int = 2,
        name: str = "depth frame",
    ) -> list[HandPose]:
        """Finds several hands in a frame: up to `most`, the highest score first; none where nothing scores as a hand.

        Arguments and errors as for a call; `most` is at least 1.
        """
        check_most(most)
        depth, camera = self._checked(depth_mm, camera)
        started = perf_counter() + self._compile(depth, camera)
        found: list[HandPose] = []
        for number, sight in enumerate(self._search(depth, camera, most)[:most]):
            pose, _ = self._pose(depth, camera, sight, 0.0, name, started)
            found.append(dataclasses.replace(pose, number=number))
            started = perf_counter()
        return found

    def track(
        self, frames: Iterable[ArrayLike], camera: Camera | Sequence[float] | None = None
    ) -> Iterator[HandPose]:
        """Follows one hand through the frames of a camera: one pose for each frame, at once.

        Each frame is searched around the hand of the one before; entirely, if that scores as no hand. Which hand it is
        is decided from all frames since it was found.

        Args:
          frames: as a call takes them, e.g. a generator that reads a camera.
          camera: of all of them.

        Yields:
          Poses. A frame without any reading has one with NaN joints, a score of 0 and a warning.

        Raises:
          UserError: as a call, for another reason than a frame without readings.
        """
        from a2j_jax.inference.following import OneHand

        follow = OneHand(self)
        for number, frame in enumerate(frames):
            yield follow(frame, camera, f"frame {number}")

    def follow(
        self,
        frames: Iterable[ArrayLike],
        camera: Camera | Sequence[float] | None = None,
        most: int = 2,
    ) -> Iterator[list[HandPose]]:
        """Follows several hands: for each frame up to `most` poses, those that score as hands.

        As `track`; `HandPose.number` says which hand is which. New hands are looked for in every fifth frame, and in
        every frame as long as there are none. A hand that is not seen keeps its number for 5 frames, and for 30 as long
        as another one may hide it: `following.SeveralHands`.
        """
        from a2j_jax.inference.following import SeveralHands

        follow = SeveralHands(self, most)
        for number, frame in enumerate(frames):
            yield follow(frame, camera, f"frame {number}")

    def _checked(
        self, depth_mm: ArrayLike, camera: Camera | Sequence[float] | None
    ) -> tuple[DepthFrame, Camera]:
        """A frame and its camera."""
        if camera is not None and not isinstance(camera, Camera):
            if np.shape(camera) != (4,):
                raise UserError(f"camera {camera!r}: expected a2j_jax.Camera(fx, fy, u0, v0)")
            camera = Camera.from_array(camera)
        camera = camera or self.camera
        assert camera is not None  # tracks that crop by center have one
        return frame_from_array(depth_mm), camera

    def _best(
        self, depth: DepthFrame, camera: Camera, starts: Float64, evidence: float, name: str
    ) -> tuple[HandPose, float]:
        """The pose of the highest score from these places (N, 3) uvd, and this frame's logit for right."""
        started = perf_counter()
        started += self._compile(depth, camera)
        best = None
        for number, start in enumerate(starts):
            seen = self._sight(depth, camera, start)
            rank = seen.logits.max() + (_FIRST if number == 0 else 0.0)
            if best is None or rank > best[0]:
                best = rank, seen
            if seen.score >= _SURE:
                break
        assert best is not None
        return self._pose(depth, camera, best[1], evidence, name, started)

    def _again(
        self, depth: DepthFrame, camera: Camera, before: HandPose, evidence: float, name: str
    ) -> tuple[HandPose, float]:
        """The pose near that of the frame before, and this frame's logit for right."""
        assert before.joints_xyz_mm is not None
        start = geometry.xyz_to_uvd(before.joints_xyz_mm.mean(axis=0), camera)[None]
        return self._best(depth, camera, start, evidence, name)

    def _search(self, depth: DepthFrame, camera: Camera, most: int) -> list[Sight]:
        """What scores as a hand in the entire frame, the best first, each hand once."""
        seen = [self._sight(depth, camera, p) for p in hand_centers(depth, camera, _PLACES * most)]
        found: list[Sight] = []
        for one in sorted(seen, key=lambda one: -one.score):
            away = [np.linalg.norm(one.middle_mm - other.middle_mm) for other in found]
            if one.score >= LOST and min(away, default=np.inf) >= SAME_HAND_MM:
                found.append(one)
        return found

    def _look_for_others(
        self, depth: DepthFrame, camera: Camera, pose: HandPose, name: str
    ) -> None:
        """Warns of a second hand beside the first pose that is one: once, since it takes time."""
        if self._looked_for_others or pose.score < LOST:
            return
        self._looked_for_others = True
        assert pose.joints_xyz_mm is not None
        middle = pose.joints_xyz_mm.mean(axis=0)
        for place in hand_centers(depth, camera):
            sight = self._sight(depth, camera, place)
            away = np.linalg.norm(sight.middle_mm - middle)
            if sight.score >= LOST and away >= SAME_HAND_MM:
                text = "another hand is in view, and one is looked for; several: a2j predict --hands 2, HandModel.find"
                logger.warning(f"{name}: {text}")
                return

    def _compile(self, depth: DepthFrame, camera: Camera) -> float:
        """Compiles the network for frames of this size, if it is not yet; returns the seconds that it took."""
        if depth.shape in self._compiled:
            return 0.0
        started = perf_counter()
        self._compiled.add(depth.shape)
        self._sight(depth, camera, np.array([0.0, 0.0, 1e3]))
        seconds = perf_counter() - started
        shown_size = f"{depth.shape[1]}x{depth.shape[0]}"
        logger.info(f"network compiled for frames of {shown_size} px in {seconds:.1f} s")
        return seconds

    def _sight(self, depth: DepthFrame, camera: Camera, start: Float64) -> Sight:
        """What the network sees from a place (3,) uvd."""
        looks = self._look(depth, camera, start, _PASSES, 0)
        shown = features(looks, depth, camera, self.spec)
        return Sight(looks, shown, self._calibration.logits(shown, looks.pooled))

    def _look(
        self, depth: DepthFrame, camera: Camera, start: ArrayLike, passes: int, turn: int
    ) -> Looks:
        """`make_looks` on the host, from a place (3,) uvd."""
        values = jnp.asarray(camera.as_array(), jnp.float32)
        place = jnp.asarray(start, jnp.float32)
        found = self._looks(self._variables, jnp.asarray(depth), values, place, passes, turn)
        looks: Looks = jax.device_get(found)
        check_finite(looks.joints_uvd, looks.confidence)
        return looks

    def _turned(
        self, depth: DepthFrame, camera: Camera, seen: Looks, chosen: list[int]
    ) -> tuple[Float64, Float64]:
        """Joints (K, 3) mm and confidence (K,) of the chosen looks, averaged with turned ones that see the same."""
        joints, confidence = list(seen.joints_xyz_mm[chosen]), list(seen.confidence[chosen])
        first = np.mean(joints, axis=0)
        center = geometry.xyz_to_uvd(first.mean(axis=0), camera)
        for turn in range(1, self.turns):
            more = self._look(depth, camera, center, 1, turn * 4 // self.turns)
            for look in chosen:
                apart = np.linalg.norm(more.joints_xyz_mm[look] - first, axis=-1).mean()
                if apart < _AGREE_MM:
                    joints.append(more.joints_xyz_mm[look])
                    confidence.append(more.confidence[look])
        return np.mean(joints, axis=0, dtype=np.float64), np.mean(
            confidence, axis=0, dtype=np.float64
        )

    def _pose(
        self,
        depth: DepthFrame,
        camera: Camera,
        sight: Sight,
        evidence: float,
        name: str,
        started: float,
    ) -> tuple[HandPose, float]:
        """The pose of a sight, and its own logit for right; `evidence` is that of earlier frames."""
        seen, logits = sight.looks, sight.logits
        logit, chosen = self._side(sight, camera, evidence)
        xyz, confidence = self._turned(depth, camera, seen, chosen)
        if self._tips == "skin":
            from a2j_jax.synthetic.hand import skin_tips  # imports the renderer

            xyz = np.asarray(skin_tips(xyz))
        is_right = self.handedness == "right" if self.handedness else logit + evidence >= 0
        certain = 1.0 if self.handedness else float(sigmoid(abs(logit + evidence)))
        look = chosen[0]
        total = float(sigmoid(logits[chosen].max()))
        center = seen.center_uvd[look].astype(np.float64)
        unsure = len(chosen) == 1 and certain < _SIDE_KNOWN
        warning = self._warning(depth, camera, seen.box_px[look], center, total, unsure, name)
        return HandPose(
            joints_uvd=geometry.xyz_to_uvd(xyz, camera),
            joints_xyz_mm=xyz,
            confidence=confidence,
            box_px=seen.box_px[look].astype(np.float64),
            center_depth_mm=float(center[2]),
            milliseconds=(perf_counter() - started) * 1e3,
            center_uvd=center,
            warning=warning,
            score=total,
            handedness="right" if is_right else "left",
            handedness_probability=certain,
            expected_error_mm=self._calibration.errors_mm(np.asarray(spread_px(confidence))),
        ), logit

    def _side(self, sight: Sight, camera: Camera, evidence: float) -> tuple[float, list[int]]:
        """`which_hand` of a sight."""
        side_by_fingers = self._calibration.side_by_fingers
        joints = sight.looks.joints_xyz_mm
        return which_hand(joints, sight.shown, camera, evidence, self.handedness, side_by_fingers)

    def _warning(
        self,
        depth: DepthFrame,
        camera: Camera,
        box_px: Float64,
        center_uvd: Float64,
        score: float,
        unsure: bool,
        name: str,
    ) -> str | None:
        """Why the pose is doubtful; logged once for each cause. `unsure`: of right or left."""
        causes = []
        if found := doubtful(depth, box_px, float(center_uvd[2]), self.spec, camera):
            causes.append((found[1], ": ".join(found)))
        elif score < LOST:
            causes.append(("score", f"probably no hand: score {score:.2f}"))
        elif unsure:
            doubt = "a right or a left hand? The joints are wrong if it is the other"
            causes.append(("side", f"{doubt}: say which if you know (--hand, handedness=)"))
        if (odd := odd_camera(depth, camera)) is not None:
            causes.append((odd, odd))
        for cause, text in causes:
            self._log(cause, f"{name}: {text}")
        return "; ".join(text for _, text in causes) or None

    def _log(self, cause: str, text: str) -> None:
        """Warns once of each cause."""
        if cause not in self._logged:
            self._logged.add(cause)
            logger.warning(text)

    def _nothing(self, name: str) -> HandPose:
        """The pose of a frame without readings, of which the first one is logged."""
        self._log("empty", f"{name}: {_NO_READING}")
        joints = np.full((self.spec.num_joints, 3), np.nan)
        return HandPose(
            joints_uvd=joints,
            joints_xyz_mm=joints,
            confidence=np.zeros(self.spec.num_joints),
            box_px=np.zeros(4),
            center_depth_mm=None,
            milliseconds=0.0,
            warning=_NO_READING,
            handedness=self.handedness or "right",
            handedness_probability=1.0 if self.handedness else 0.5,
        )


def features(seen: Looks, depth: DepthFrame, camera: Camera, track: TrackSpec) -> Float64:
    """(2, 4) what the score is made of.

    Log spread and log movement in mm; the share of the joints that lie on the surface; and the logarithm of how much
    more of the window there is at this depth than a hand fills.
    """
    width_px = seen.box_px[:, 2] - seen.box_px[:, 0]
    mm_per_px = width_px / track.crop_size * seen.center_uvd[:, 2] / abs(camera.fx)
    spread = np.asarray(spread_px(seen.confidence)).mean(axis=1) * mm_per_px
    height, width = depth.shape
    column, row = (np.rint(seen.joints_uvd[..., axis]).astype(int) for axis in (0, 1))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    reading = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    behind = seen.joints_uvd[..., 2] - reading
    low, high = _SURFACE_MM
    under = inside & (reading > 0) & (behind > low) & (behind < high)
    fills = []
    for box, center in zip(seen.box_px.astype(int), seen.center_uvd, strict=True):
        inside_mm = depth[box[1] : box[3] + 1, box[0] : box[2] + 1] - center[2]
        near = np.abs(inside_mm) < (track.depth_window_mm or np.inf)
        window_px2 = (2 * (track.half_window_mm or 0) / center[2]) ** 2 * abs(camera.fx * camera.fy)
        fills.append(near.sum() / window_px2)
    more = np.log(np.maximum(fills, _HAND_FILLS) / _HAND_FILLS)
    return np.stack(
        [np.log(spread + 1.0), np.log(seen.moved_mm + 1.0), under.mean(axis=1), more], -1
    )


def check_most(most: int) -> None:
    """`UserError` unless this is a number of hands to find."""
    if most < 1:
        raise UserError(f"most={most}: expected the number of hands to find, 1 or more")


def is_one_of(pose: HandPose, others: Sequence[HandPose]) -> bool:
    """Whether a pose is of the same hand as one of the others."""
    assert pose.joints_xyz_mm is not None
    middle = pose.joints_xyz_mm.mean(axis=0)
    places = [one.joints_xyz_mm.mean(axis=0) for one in others if one.joints_xyz_mm is not None]
    return any(np.linalg.norm(middle - place) < SAME_HAND_MM for place in places)


def sigmoid(x: Any) -> Any:
    """The probability of a logit."""
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))


def fingers_in_front(joints_xyz_mm: Any, camera: Camera, xp: Any = np) -> Any:
    """How far the ends of the fingers lie out of the palm, on its inner side if it is a right hand's, mm.

    Fingers bend to the inner side alone, and the thumb stands there, too: negative means a left hand.

    Args:
      joints_xyz_mm: (..., 21, 3) in the order of HANDS 2017.
      camera: its y axis may point up, where coordinates are a mirror image.
      xp: numpy, in float64; or jax.numpy, to be traced, in the dtype of the joints.

    Returns:
      (...).
    """
    joints = np.asarray(joints_xyz_mm, np.float64) if xp is np else joints_xyz_mm
    along = joints[..., _MIDDLE_MCP, :] - joints[..., _WRIST, :]
    across = joints[..., _INDEX_MCP, :] - joints[..., _PINKY_MCP, :]
    normal = xp.cross(across, along)
    normal = normal / xp.maximum(xp.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    ends = joints[..., _ENDS, :].mean(axis=-2) - joints[..., _PALM, :].mean(axis=-2)
    return (ends * normal).sum(axis=-1) * np.sign(camera.fx * camera.fy)


def which_hand(
    joints_xyz_mm: NDArray[Any],
    of_looks: Float64,
    camera: Camera,
    evidence: float = 0.0,
    given: Handedness | None = None,
    side_by_fingers: float = _UNCALIBRATED.side_by_fingers,
) -> tuple[float, list[int]]:
    """Decides between right and left, and which of two looks to believe.

    A network that knows both hands sees the same joints in a crop and in its mirror image: the fingers decide, and both
    looks are averaged. One that knows right hands alone sees a right hand in the crop and, mirrored back, a left one in
    the other: what looks better decides.

    Args:
      joints_xyz_mm: (2, 21, 3) of the crop and of its mirror image.
      of_looks: (2, 4) their `features`.
      camera: of the frame.
      evidence: logit for right from elsewhere.
      given: the answer, where it is known.
      side_by_fingers: of the network's `Calibration`.

    Returns:
      The logit for right of these looks alone, and the looks (one or both) that show the hand decided for.
    """
    fingers = fingers_in_front(joints_xyz_mm, camera)
    left, right = np.argsort(fingers)
    apart_mm = np.linalg.norm(joints_xyz_mm[0] - joints_xyz_mm[1], axis=-1).mean()
    agree = apart_mm < _AGREE_MM and (fingers[0] > 0) == (fingers[1] > 0)
    if agree:
        logit = side_by_fingers * float(fingers.sum())
    else:
        logit = float((of_looks[right] - of_looks[left]) @ _SIDE)
    is_right = logit + evidence >= 0 if given is None else given == "right"
    return logit, [0, 1] if agree else [int(right if is_right else left)]


def load(
    name_or_path: str | Path = "hand-small",
    *,
    handedness: Handedness | None = None,
    tips: Tips = "center",
    turns: Literal[1, 2, 4] = 4,
) -> HandModel:
    """A trained network that finds hands in a camera's frames.

    Args:
      name_or_path: weights that ship (docs/models.md), a file of `a2j export RUN weights.npz`, or a run.
      handedness: "right" or "left", if all hands to come are; None: decided for each.
      tips: where TIP joints are: "center" of the ball that ends the finger, or its end on the "skin", some 7 mm on.
      turns: orientations in which a hand's crop is looked at, to be averaged: 4 is best, 1 fastest.

    Raises:
      UserError: no such weights (naming those that ship), damaged ones, or a network of other joints.
    """
    if find_packed(name_or_path) is None and not Path(name_or_path).exists():
        raise unknown(name_or_path)
    found = restore(name_or_path)
    known = Calibration(**found.calibration) if found.calibration else None
    return HandModel(found.model, found.variables, found.track, handedness, tips, known, turns)
