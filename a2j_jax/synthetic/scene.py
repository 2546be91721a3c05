"""Synthetic examples as a data set builder stores them, and full frames of the same scenes.

A *view* composes a random scene: `views.HandView` hands at arm's length, `views.BodyView` people in a room.
`synthetic_example` renders the crop canvas alone, `synthetic_frame` the full frame of the same scene; a canvas cut out
of the frame has the same pixels (up to float32 rounding in another order of the same sums: one pixel in ten thousand),
but for outlines and shadows of sensors with `effects`, which depend on the neighbors in the image.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.data.targets import xyz_to_uvd
from a2j_jax.geometry import Camera
from a2j_jax.synthetic.render import (
    KINECT,
    Hits,
    RoundCones,
    SensorMix,
    SensorSpec,
    inside_frame,
    measure,
    pixel_rays,
    render,
)


class Scene(NamedTuple):
    """A composed scene, camera coordinates, mm."""

    joints_xyz: jax.Array  # (K, 3)
    center_xyz: jax.Array  # (3,) center of the crop, or of the joints where a box is cropped
    window_px: jax.Array  # (4,) x0 y0 x1 y1 of the crop in the frame, not clipped to it
    cones: RoundCones  # every surface but the planes
    # (P, 4) walls and floor (a, b, c, e) with a x + b y + c z = e > 0; e = inf for none.
    planes: jax.Array
    noise_key: jax.Array  # key of the sensor's noise


class View(Protocol):
    """Composes scenes. A pytree, so that other numbers in it do not recompile anything."""

    def compose(self, key: jax.Array, camera: Camera, frame_size: tuple[int, int]) -> Scene:
        """A random scene as the camera sees it, a pure function of the key."""
        ...


def look(scene: Scene, columns: jax.Array, rows: jax.Array, camera: Camera) -> Hits:
    """Casts rays through columns (C,) × rows (R,) of the frame: `Hits`, each (R, C)."""
    hits = render(columns, rows, camera, scene.cones)
    x, y = pixel_rays(columns, rows, camera)
    for plane in scene.planes:
        normal, offset = plane[:3], plane[3]
        facing = normal[0] * x + normal[1] * y + normal[2]  # n·d
        plane_mm = jnp.where(facing > 1e-3, offset / facing, jnp.inf)
        cosine = facing * jax.lax.rsqrt((x * x + y * y + 1.0) * (normal @ normal))
        nearer = plane_mm < hits.depth_mm
        hits = Hits(
            jnp.where(nearer, plane_mm, hits.depth_mm), jnp.where(nearer, cosine, hits.cosine)
        )
    return hits


def project(xyz: jax.Array, camera: Camera) -> jax.Array:
    """`geometry.xyz_to_uvd` in JAX: xyz (..., 3) mm -> uvd (..., 3) px, px, mm, float32."""
    return xyz_to_uvd(xyz, jnp.asarray(camera.as_array(), jnp.float32))


def crop_lattice(box_px: jax.Array, crop_size: int, margin: int) -> tuple[jax.Array, jax.Array]:
    """Source columns and rows, each (crop_size + 2 margin,) int32, of `geometry.crop_canvas`, without its rounding."""
    k = jnp.arange(-margin, crop_size + margin)
    x0, y0, x1, y1 = box_px.astype(jnp.int32)
    return x0 + k * (x1 - x0) // crop_size, y0 + k * (y1 - y0) // crop_size


def synthetic_example(
    key: jax.Array, *, crop_size: int, margin: int, **settings: Any
) -> dict[str, jax.Array]:
    """One example, a pure function of the key; jit and vmap it over keys, or use `generate`.

    The canvas has the crop of side S, px, and m lattice points (`margin`) beyond it on every side; `settings` are the
    other arguments of `depth_image`.

    Returns:
      canvas: (S + 2m, S + 2m) uint16 in units, 0 = no reading, as `geometry.crop_canvas` would cut it; joints_uvd:
      (K, 3) float32 px, px, mm in the full frame; joints_xyz: (K, 3) float32 mm in the camera frame; center_uvd: (3,)
      float32; box_px and window_px: (4,) float32, crop box clipped to the frame and unclipped.
    """
    canvas, truth = depth_image(key, lambda box: crop_lattice(box, crop_size, margin), **settings)
    return {"canvas": canvas, **truth}


def synthetic_frame(key: jax.Array, **settings: Any) -> dict[str, jax.Array]:
    """The full frame of the same scene: `frame` (H, W) uint16 in units in place of `canvas`."""
    width, height = settings["frame_size"]
    frame, truth = depth_image(key, lambda _: (jnp.arange(width), jnp.arange(height)), **settings)
    return {"frame": frame, **truth}


def full_frames(seed: int, count: int, **settings: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yields full frames in order, as numpy arrays: frame i is `synthetic_frame(key(seed + i), **settings)`."""
    render = jax.jit(partial(synthetic_frame, **settings))
    for number in range(seed, seed + count):
        yield jax.device_get(render(jax.random.key(number)))


def depth_image(
    key: jax.Array,
    lattice: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    *,
    view: View,
    camera: Camera,
    frame_size: tuple[int, int],
    unit_mm: float = 1.0,
    sensor: SensorSpec | SensorMix | None = KINECT,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The depth image of a random scene on a lattice, and the truth about it.

    Args:
      key, view: which scene, and what composes it.
      lattice: the clipped crop box -> columns (C,) and rows (R,) of the image.
      camera, frame_size: fy may be negative; (W, H) of the source frame, px.
      unit_mm: of the image, mm per count.
      sensor: of a mixture the scene draws one; None for the perfect depth.

    Returns:
      (R, C) uint16 in units, 0 = no reading or outside the frame; and the other fields of `synthetic_example`.
    """
    scene = view.compose(key, camera, frame_size)
    last = jnp.array(frame_size, jnp.float32) - 1.0
    truth = {
        "joints_uvd": project(scene.joints_xyz, camera),
        "joints_xyz": scene.joints_xyz,
        "center_uvd": project(scene.center_xyz, camera),
        "window_px": scene.window_px,
        "box_px": jnp.clip(scene.window_px, 0.0, jnp.concatenate([last, last])),
    }
    columns, rows = lattice(truth["box_px"])
    depth = _readings(scene, columns, rows, camera, frame_size, sensor)
    return jnp.clip(jnp.round(depth / unit_mm), 0.0, 65535.0).astype(jnp.uint16), truth


_SENSOR = 3  # folded into the key of the noise, whose draws stay the same


def _readings(
    scene: Scene,
    columns: jax.Array,
    rows: jax.Array,
    camera: Camera,
    frame_size: tuple[int, int],
    sensor: SensorSpec | SensorMix | None,
) -> jax.Array:
    """Depth (R, C) float32 mm at columns (C,) and rows (R,) of the frame as the sensor reads it, 0 = no reading."""
    inside = inside_frame(columns, rows, frame_size)
    if sensor is None:
        hits = look(scene, columns, rows, camera)
        return jnp.where(jnp.isfinite(hits.depth_mm) & inside, hits.depth_mm, 0.0)
    if isinstance(sensor, SensorMix):
        sensor = sensor.draw(jax.random.fold_in(scene.noise_key, _SENSOR))
    if not sensor.effects:
        hits = look(scene, columns, rows, camera)
        return measure(scene.noise_key, hits, columns, rows, frame_size, sensor)
    block = jnp.round(sensor.pixel_px).astype(jnp.int32)
    columns, rows = columns // block, rows // block
    middle = (block - 1) / 2
    hits = look(scene, columns * block + middle, rows * block + middle, camera)
    depth = measure(scene.noise_key, hits, columns, rows, frame_size, sensor)
    return jnp.where(inside, depth, 0.0)


@partial(jax.jit, static_argnames=("camera", "frame_size", "crop_size", "margin", "unit_mm"))
def _batch(root: jax.Array, indices: jax.Array, **settings: Any) -> dict[str, jax.Array]:
    def example(index: jax.Array) -> dict[str, jax.Array]:
        return synthetic_example(jax.random.fold_in(root, index), **settings)

    return jax.vmap(example)(indices)


def generate(
    seed: int, indices: range, *, batch_size: int = 8, **settings: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples of the given indices in order, as numpy arrays.

    Example i is `synthetic_example(fold_in(key(seed), i), **settings)`: it depends on (seed, i) alone. All batches have
    one size, the last one being padded, so an example is the same to the bit whichever indices are generated together,
    and in whichever process. Another `batch_size` is another program, which may round differently; 8 canvases fit a
    CPU's cache.
    """
    root = jax.random.key(seed)
    pending: Iterable[dict[str, np.ndarray]] = ()
    for start in range(0, len(indices), batch_size):
        wanted = np.asarray(indices[start : start + batch_size], np.uint32)
        batch = _batch(root, np.resize(wanted, batch_size), **settings)
        # The device computes this batch while the caller consumes the previous one.
        yield from pending
        pending = _rows(batch, len(wanted))
    yield from pending


def _rows(batch: dict[str, jax.Array], count: int) -> Iterator[dict[str, np.ndarray]]:
    arrays = {name: np.asarray(values) for name, values in batch.items()}
    for i in range(count):
        yield {name: values[i] for name, values in arrays.items()}
