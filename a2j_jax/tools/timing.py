"""Times of calls that take turns, so that what else the machine does meets all of them alike.

Depth frames on disk to read from: rendered, so that timing needs no data set.

What the paper times (Sec. 4.4), in its two parts: reading and warping, then the network and its decoding.
"""

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.predictor import read_frame
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.decoding import Estimate, compile_with_decoding, decode
from a2j_jax.synthetic.body_scene import XTION, BodyView
from a2j_jax.synthetic.hand_scene import HandView, SceneSpec
from a2j_jax.synthetic.scene import KINECT, View, synthetic_frame
from a2j_jax.synthetic.sensor import SensorSpec
from a2j_jax.tracks import TRACKS, TrackSpec
from a2j_jax.training.assembly import expected_variables

Key = TypeVar("Key", bound=Hashable)
WARM_UP_ROUNDS = 1  # the first call of anything is slower, and medians forgive the second


class Call(NamedTuple):
    """What is timed.

    Attributes:
      run: must not return before its work is done: JAX answers at once and computes later.
      frames: that one call handles.
    """

    run: Callable[[], Any]
    frames: int = 1


class Spread(NamedTuple):
    """The middle of some numbers, and the half of them that lies around it."""

    median: float
    lower: float  # quartile
    upper: float


@dataclass(frozen=True)
class Timing:
    """How long a frame took.

    Attributes:
      milliseconds: per frame, a number per round.
    """

    milliseconds: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """Of the rounds, milliseconds per frame."""
        return _spread(self.milliseconds)


def take_turns(
    calls: Mapping[Key, Call],
    rounds: int,
    *,
    advance: Callable[[int], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, Timing]:
    """Time calls against each other: every round runs each once, every other round in the opposite order.

    Neighbours leave their traces (caches, threads that still wait for work): turning the order around lets no call
    have the same one before it each time.

    Args:
      calls: name -> call.
      rounds: that are timed, after `WARM_UP_ROUNDS` that are not.
      advance: called with 1 after every call, those of the warm-up too, for a progress bar.
      clock: seconds.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(-WARM_UP_ROUNDS, rounds):
        order = list(calls)
        for key in reversed(order) if number % 2 else order:
            started = clock()
            calls[key].run()
            elapsed = clock() - started
            if number >= 0:
                seconds[key].append(elapsed)
            if advance is not None:
                advance(1)
    return {
        key: Timing(tuple(1e3 * one / calls[key].frames for one in values))
        for key, values in seconds.items()
    }


def ratio(one: Timing, other: Timing) -> Spread:
    """How many times as long `one` took as `other`, round by round: a machine that drifts slows both."""
    pairs = zip(one.milliseconds, other.milliseconds, strict=True)
    return _spread([a / b for a, b in pairs])


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(float(x) for x in np.percentile(values, (50, 25, 75))))


# A camera's frame has readings everywhere, and a file's size is what reading it takes.
_BEFORE_A_WALL = SceneSpec(wall_probability=1.0)


class FrameFile(NamedTuple):
    """A depth frame on disk and where to look in it; one of the two is None.

    Attributes:
      path: PNG, of 16-bit mm or packed as NYU's.
      center_uvd: (3,) px, px, mm, on a track that crops by centre.
      box_px: (4,) on one that crops by box.
    """

    path: Path
    center_uvd: npt.NDArray[np.float64] | None
    box_px: npt.NDArray[np.float64] | None


def write_frames(folder: Path, track: TrackSpec, count: int) -> list[FrameFile]:
    """Render hands or bodies as the track's camera would see them, before a wall, and write them.

    Args:
      folder: exists; gets `count` files.
      track: frame size, camera, file format ("nyu_packed"; PNG of 16-bit mm for all others) and what is cropped.
      count: of frames, the same ones every time.
    """
    files = []
    for number, truth in enumerate(_rendered(track, count)):
        path = folder / f"{number:04d}.png"
        depth = truth["frame"]
        if track.frame_format == "nyu_packed":
            depth = np.stack([depth * 0, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
        Image.fromarray(depth).save(path)
        by_center = track.crop_by == "center"
        center, box = (truth[name].astype(np.float64) for name in ("center_uvd", "window_px"))
        files.append(FrameFile(path, center if by_center else None, None if by_center else box))
    return files


def _rendered(track: TrackSpec, count: int) -> Iterator[dict[str, np.ndarray]]:
    view: View
    sensor: SensorSpec
    if track.crop_by == "center":
        assert track.half_window_mm is not None
        view, sensor = HandView(track.half_window_mm, _BEFORE_A_WALL), KINECT
    else:
        view, sensor = BodyView(track.label_box_margin_px), XTION
    size, camera = track.frame_size, track.camera or _camera_of_bodies(track.frame_size)
    render = jax.jit(
        partial(synthetic_frame, view=view, camera=camera, frame_size=size, sensor=sensor)
    )
    for number in range(count):
        yield jax.device_get(render(jax.random.key(number)))


def _camera_of_bodies(frame_size: tuple[int, int]) -> Camera:
    """ITOP's camera at another resolution, for tracks that have joints in pixels only and name no camera."""
    known = TRACKS["itop_front"]
    assert known.camera is not None
    x, y = (new / old for new, old in zip(frame_size, known.frame_size, strict=True))
    camera = known.camera
    return dataclasses.replace(
        camera, fx=camera.fx * x, fy=camera.fy * y, u0=camera.u0 * x, v0=camera.v0 * y
    )


Images = npt.NDArray[np.float32]
ReadAndWarp = Callable[[FrameFile], Images]
Forward = Callable[[Images], Estimate]


class Speed(NamedTuple):
    """How fast the second part is.

    Attributes:
      frames_per_second: at the median.
      milliseconds: per frame, the median.
      lower, upper: its quartiles.
    """

    frames_per_second: float
    milliseconds: float
    lower: float
    upper: float


def read_and_warp_of(track: TrackSpec) -> ReadAndWarp:
    """The first part: a file on disk -> normalised crop (S, S, 1) float32 in host memory.

    Read, cut and resized by the functions that `a2j predict` uses; normalised on the host's processor, as the official
    program does it, whichever device the network runs on.

    Raises:
      UserError: JAX was told to leave the host's processor out.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            "JAX_PLATFORMS leaves out the CPU, on which crops are normalized: add it, e.g. cuda,cpu"
        ) from error
    stretched = track.frame_format == "stretch8"
    # Frames are in mm as they are read; what data sets store them in does not matter here.
    unit = track.storage_unit_mm if stretched else 1.0
    track = dataclasses.replace(track, storage_unit_mm=unit)
    normalize = jax.jit(partial(augment.normalize, track=track))

    def read_and_warp(frame: FrameFile) -> Images:
        depth: Any = read_frame(frame.path, track.frame_format)
        if stretched:
            depth = crops.to_storage_units(depth, track)
        crop = crops.cut(depth, track, frame.center_uvd, frame.box_px)
        image = geometry.center_crop(crop.canvas, track.crop_size)
        theta = 0.0 if frame.center_uvd is None else frame.center_uvd[2]
        with jax.default_device(host):
            return np.asarray(normalize(image, np.float32(theta)))[..., None]

    return read_and_warp


def forward_of(model: PoseNetwork, variables: Any, track: TrackSpec, batch_size: int) -> Forward:
    """The second part, compiled: crops (B, S, S, 1) in host memory -> `Estimate` in host memory.

    One device works, JAX's default; going there and back is part of it, and it is done when the call returns.

    Args:
      model, variables: the network.
      track: whose crops they are.
      batch_size: B, the only one that the answer takes.
    """
    size = track.crop_size
    images = jax.ShapeDtypeStruct((batch_size, size, size, 1), jnp.float32)
    on_device = jax.device_put(variables)
    network = partial(model.apply, train=False)
    compiled = compile_with_decoding(network, size, on_device, images)

    def forward(images: Images) -> Estimate:
        estimate: Estimate = jax.device_get(compiled(on_device, images))
        return estimate

    return forward


def _program(model: PoseNetwork, crop_size: int) -> Any:
    def program(variables: Any, images: jax.Array) -> Estimate:
        outputs: Any = model.apply(variables, images, train=False)
        return decode(outputs, crop_size)

    return jax.jit(program)


def frames_per_second(
    model: PoseNetwork, variables: Any, track: TrackSpec, batch_size: int, rounds: int
) -> Speed:
    """Time the second part alone, on crops of noise: what is in them does not matter to it.

    Args:
      model, variables, track, batch_size: as `forward_of`.
      rounds: calls that are timed.
    """
    forward = forward_of(model, variables, track, batch_size)
    shape = batch_size, track.crop_size, track.crop_size, 1
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    (timing,) = take_turns({"": Call(lambda: forward(images), batch_size)}, rounds).values()
    return Speed(1e3 / timing.spread.median, *timing.spread)


def flops_per_frame(model: PoseNetwork, track: TrackSpec) -> float:
    """Floating-point operations of network and decoding for one crop, by XLA's count; compiles nothing.

    A multiplication and an addition are two; products with the zeros around a map are none. Counted before XLA's
    optimisation, after which a device's own library calls may hide what they do: it is the same number everywhere.
    """
    images = jax.ShapeDtypeStruct((1, track.crop_size, track.crop_size, 1), jnp.float32)
    lowered = _program(model, track.crop_size).lower(expected_variables(model, track), images)
    return float(lowered.cost_analysis()["flops"])


def parameters(variables: Any) -> int:
    """Trainable numbers of a network; batch statistics are none."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(variables["params"]))


def random_variables(model: PoseNetwork, track: TrackSpec) -> Any:
    """Variables of a network that nobody trained, the same ones every time; its answers are noise.

    Drawn by numpy: compiling the initialisation of a network takes longer than timing it.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> npt.NDArray[np.float32]:
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        return rng.standard_normal(leaf.shape, np.float32) / np.sqrt(
            max(fan_in, 1), dtype=np.float32
        )

    return jax.tree_util.tree_map_with_path(draw, expected_variables(model, track))
