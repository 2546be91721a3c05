"""What the paper times (Sec. 4.4), in its two parts: reading and warping, then the network and its decoding."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from a2j_jax import augment, crops, geometry
from a2j_jax.errors import UserError
from a2j_jax.inference.frames import read_frame
from a2j_jax.models.decoding import Estimate, compile_with_decoding, decode
from a2j_jax.models.network import PoseNetwork
from a2j_jax.speed.frames import FrameFile
from a2j_jax.speed.timing import Call, take_turns
from a2j_jax.tracks import TrackSpec
from a2j_jax.training.assembly import expected_variables

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
