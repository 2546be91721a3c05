"""Synthetic examples: what a data set builder stores, one per index, and whole frames of the same.

`synthetic_hand_example` renders the crop canvas alone and `synthetic_hand_frame` the whole frame of
the same scene; cutting the canvas out of the frame gives the same pixels (up to the rounding of
float32, which another order of the same sums may turn: a pixel in ten thousand).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.placement import Scene, SceneSpec, look, sample_scene
from a2j_jax.synthetic.sensor import SensorSpec, inside_frame, measure

ARMS_LENGTH = SceneSpec()
KINECT = SensorSpec()


def _image(
    scene: Scene,
    columns: jax.Array,
    rows: jax.Array,
    camera: Camera,
    frame_size: tuple[int, int],
    sensor: SensorSpec | None,
) -> jax.Array:
    """(R, C) uint16 mm, 0 = no reading or outside the frame. No sensor: the truth, rounded."""
    hits = look(scene, columns, rows, camera)
    if sensor is None:
        seen = jnp.isfinite(hits.depth_mm) & inside_frame(columns, rows, frame_size)
        depth = jnp.where(seen, hits.depth_mm, 0.0)
    else:
        depth = measure(scene.noise_key, hits, columns, rows, frame_size, sensor)
    return jnp.clip(jnp.round(depth), 0.0, 65535.0).astype(jnp.uint16)


def project(xyz: jax.Array, camera: Camera) -> jax.Array:
    """`geometry.xyz_to_uvd` on the device: xyz (..., 3) mm → uvd (..., 3) px, px, mm, float32."""
    focal, principal = jnp.array([camera.fx, camera.fy]), jnp.array([camera.u0, camera.v0])
    uv = xyz[..., :2] * focal / xyz[..., 2:] + principal
    return jnp.concatenate([uv, xyz[..., 2:]], axis=-1)


def clipped_box(
    center_uvd: jax.Array, half_window_mm: float, camera: Camera, frame_size: tuple[int, int]
) -> jax.Array:
    """`geometry.clip_box(box_from_center(…))` on the device: (4,) x0 y0 x1 y1 px, float32."""
    reach = half_window_mm * jnp.abs(jnp.array([camera.fx, camera.fy])) / center_uvd[2]
    last = jnp.array(frame_size, jnp.float32) - 1.0
    low, high = center_uvd[:2] - reach, center_uvd[:2] + reach
    return jnp.concatenate([jnp.clip(low, 0.0, last), jnp.clip(high, 0.0, last)])


def crop_lattice(box_px: jax.Array, crop_size: int, margin: int) -> tuple[jax.Array, jax.Array]:
    """Source columns and rows, each (crop_size + 2 margin,) int32, of `geometry.crop_canvas`.

    In exact arithmetic: what OpenCV's rounding does to crops of real frames is not imitated.
    """
    k = jnp.arange(-margin, crop_size + margin)
    x0, y0, x1, y1 = box_px.astype(jnp.int32)
    return x0 + k * (x1 - x0) // crop_size, y0 + k * (y1 - y0) // crop_size


def _truth(
    scene: Scene, camera: Camera, frame_size: tuple[int, int], half_window_mm: float
) -> dict[str, jax.Array]:
    center_uvd = project(scene.center_xyz, camera)
    return {
        "joints_uvd": project(scene.joints_xyz, camera),
        "joints_xyz": scene.joints_xyz,
        "center_uvd": center_uvd,
        "box_px": clipped_box(center_uvd, half_window_mm, camera, frame_size),
    }


def synthetic_hand_example(
    key: jax.Array,
    *,
    camera: Camera,
    frame_size: tuple[int, int],
    crop_size: int,
    margin: int,
    half_window_mm: float,
    scene: SceneSpec = ARMS_LENGTH,
    sensor: SensorSpec | None = KINECT,
) -> dict[str, jax.Array]:
    """One example, a pure function of the key; jit and vmap it over keys, or use `generate_hands`.

    Args:
        key: PRNG key of this example.
        camera: fy may be negative.
        frame_size: (W, H) of the source frame, px.
        crop_size: S, side of the crop, px.
        margin: m, lattice points of the canvas beyond the crop on every side.
        half_window_mm: half the side of the crop window at the centre's depth.
        scene: where the hand is and what is around it.
        sensor: None for the perfect depth.

    Returns:
        canvas: (S + 2m, S + 2m) uint16 mm, 0 = no reading, as `geometry.crop_canvas` would cut it;
        joints_uvd: (21, 3) float32 px, px, mm in the full frame, HANDS 2017 order;
        joints_xyz: (21, 3) float32 mm in the camera frame;
        center_uvd: (3,) float32; box_px: (4,) float32, clipped crop box.
    """
    drawn = sample_scene(
        key, camera=camera, frame_size=frame_size, half_window_mm=half_window_mm, spec=scene
    )
    truth = _truth(drawn, camera, frame_size, half_window_mm)
    columns, rows = crop_lattice(truth["box_px"], crop_size, margin)
    return {"canvas": _image(drawn, columns, rows, camera, frame_size, sensor), **truth}


def synthetic_hand_frame(
    key: jax.Array,
    *,
    camera: Camera,
    frame_size: tuple[int, int],
    half_window_mm: float,
    scene: SceneSpec = ARMS_LENGTH,
    sensor: SensorSpec | None = KINECT,
) -> dict[str, jax.Array]:
    """The whole frame of the same scene: `frame` (H, W) uint16 mm in place of `canvas`."""
    drawn = sample_scene(
        key, camera=camera, frame_size=frame_size, half_window_mm=half_window_mm, spec=scene
    )
    columns, rows = jnp.arange(frame_size[0]), jnp.arange(frame_size[1])
    frame = _image(drawn, columns, rows, camera, frame_size, sensor)
    return {"frame": frame, **_truth(drawn, camera, frame_size, half_window_mm)}


@partial(
    jax.jit,
    static_argnames=("camera", "frame_size", "crop_size", "margin", "half_window_mm"),
)
def _batch(root: jax.Array, indices: jax.Array, **settings: Any) -> dict[str, jax.Array]:
    def example(index: jax.Array) -> dict[str, jax.Array]:
        return synthetic_hand_example(jax.random.fold_in(root, index), **settings)

    return jax.vmap(example)(indices)


def generate_hands(
    seed: int,
    indices: range,
    *,
    camera: Camera,
    frame_size: tuple[int, int],
    crop_size: int,
    margin: int,
    half_window_mm: float,
    scene: SceneSpec = ARMS_LENGTH,
    sensor: SensorSpec | None = KINECT,
    batch_size: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples of the given indices in order, one by one, as numpy arrays.

    Example i is `synthetic_hand_example(fold_in(key(seed), i), …)`: it depends on (seed, i)
    alone. Work is done in batches of one fixed size, the last one padded, so that it does not
    matter which indices are asked for together, or by which process: every example is the same to
    the bit. Another `batch_size` is another program, whose sums may round otherwise; 8 canvases
    fit a CPU's cache. Arguments and fields are those of `synthetic_hand_example`.
    """
    generate = partial(
        _batch,
        jax.random.key(seed),
        camera=camera,
        frame_size=(int(frame_size[0]), int(frame_size[1])),
        crop_size=crop_size,
        margin=margin,
        half_window_mm=half_window_mm,
        scene=scene,
        sensor=sensor,
    )
    pending: tuple[dict[str, jax.Array], int] | None = None
    for start in range(0, len(indices), batch_size):
        wanted = np.asarray(indices[start : start + batch_size], np.uint32)
        batch = generate(np.resize(wanted, batch_size)), len(wanted)
        # The device computes this batch while the caller consumes the previous one.
        if pending is not None:
            yield from _rows(*pending)
        pending = batch
    if pending is not None:
        yield from _rows(*pending)


def _rows(batch: dict[str, jax.Array], count: int) -> Iterator[dict[str, np.ndarray]]:
    arrays = {name: np.asarray(values) for name, values in batch.items()}
    for i in range(count):
        yield {name: values[i] for name, values in arrays.items()}
