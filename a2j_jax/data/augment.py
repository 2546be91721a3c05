"""Canvas -> network input on the device: normalization, and the official training augmentation.

`draw` draws the random numbers of a batch; `augment` is a deterministic function of a batch and its draws. Both are to
be traced inside the train step. Evaluation uses `evaluation_images`, without resampling.

The official program crops the frame with jittered box edges (nearest neighbor), normalizes, then rotates and scales
(bilinear). Here only the canvas is left of the frame, so the jittered crop is looked up in the canvas: along each axis,
each lattice point of the jittered crop has a source pixel, and the nearest canvas point to it is read. Wherever the
canvas holds that pixel, the result equals the official crop.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax import lowering
from a2j_jax.data.crops import Batch
from a2j_jax.tracks import TrackSpec


def for_each_example(function: Callable[..., jax.Array], *batched: jax.Array) -> jax.Array:
    """`jax.vmap(function)(*batched)`, on the CPU as a loop with the same result.

    XLA:CPU would fuse the vmapped function into the gathers that read its result, and so look up and normalize every
    pixel of the crop for each of the four taps of each pixel of the warp: 37 ms instead of 2.5 ms for 64 crops of
    96 x 96. It does not fuse across a loop.
    """
    if lowering.platform() == "cpu":
        return jax.lax.map(lambda example: function(*example), batched)
    return jax.vmap(function)(*batched)


def take(array: jax.Array, index: jax.Array, axis: int = 0) -> jax.Array:
    """`jnp.take` of indices that are in bounds."""
    return array.at[(slice(None),) * axis + (index,)].get(mode="promise_in_bounds")


def taps(frame: jax.Array, row: jax.Array, column: jax.Array) -> list[jax.Array]:
    """Four neighbors in a frame (F, F) of each place: above left, above right, below left, below right.

    GPU and TPU are given one gather of four neighbors that lie together: what an index costs there is more than what
    it fetches, and a TPU would look up windows of 2 x 2 one after the other, in a loop. A CPU reads each of the four
    from the frame: writing neighbors side by side takes it ten times as long as the warp.

    Args:
      frame: (F, F).
      row, column: (S, S) int32, in [0, F - 2].
    """
    width = frame.shape[1]
    if lowering.platform() == "cpu":
        pixels, corner = frame.reshape(-1), row * width + column
        return [take(pixels, corner + step) for step in (0, 1, width, width + 1)]
    windows = jnp.stack([frame[:-1, :-1], frame[:-1, 1:], frame[1:, :-1], frame[1:, 1:]], axis=-1)
    found = take(windows.reshape(-1, 4), row * (width - 1) + column)
    return [found[..., tap] for tap in range(4)]


def canvas_lookup(
    box: jax.Array, jittered: jax.Array, track: TrackSpec, reach: int
) -> tuple[jax.Array, jax.Array]:
    """Along one axis: canvas index of every lattice point of the jittered crop.

    This computes the exact floor, where OpenCV sometimes shows the pixel before (`geometry.lattice`): a jittered crop
    may differ from OpenCV's by that pixel; without jitter every point finds itself.

    Args:
      box: (2,) start and end of the box the canvas was cut from, px.
      jittered: (2,) start and end of the jittered box, px.
      track: crop size S and margin.
      reach: lattice points to add on both sides of the jittered crop, <= S; the outermost ones count as unknown.

    Returns:
      (S + 2 reach,) int32 indices into the canvas, and whether the canvas reaches that far.
    """
    size = track.crop_size
    start, extent = whole_pixels(jittered)
    canvas_start, canvas_extent = whole_pixels(box)
    # lax.div truncates; adding periods keeps its operands >= 0, where that is the floor. jnp's // handles signs, which
    # costs more than the warp.
    k = jnp.arange(-reach, size + reach, dtype=jnp.int32)
    source = start + jax.lax.div((k + size) * extent, jnp.int32(size)) - extent
    # Canvas point j shows source pixel canvas_start + floor(j canvas_extent / S). The first j that shows `source` or a
    # later one is ceil((source - canvas_start) S / canvas_extent); its predecessor may be nearer where the crop skips
    # source pixels.
    offset = jnp.clip(source - canvas_start, -canvas_extent, 2 * canvas_extent)
    later = jax.lax.div((offset + canvas_extent) * size + canvas_extent - 1, canvas_extent) - size
    shown = jax.lax.div((later + size) * canvas_extent, jnp.int32(size)) - canvas_extent
    shown_before = (
        jax.lax.div((later - 1 + 2 * size) * canvas_extent, jnp.int32(size)) - 2 * canvas_extent
    )
    index = jnp.where(offset - shown_before < shown - offset, later - 1, later) + track.margin
    known = (index >= 0) & (index < track.canvas_size) & (k > -reach) & (k < size + reach - 1)
    return jnp.clip(index, 0, track.canvas_size - 1), known


def whole_pixels(edges: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First pixel and number of pixels (>= 1) of a clipped box along one axis, as it is cut."""
    start, stop = edges[0].astype(jnp.int32), edges[1].astype(jnp.int32)
    return start, jnp.maximum(stop - start, 1)


def source_coordinates(
    size: int, rotation_deg: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """M^-1 of every output pixel, two (S, S): where cv2.warpAffine samples the crop."""
    angle = jnp.deg2rad(rotation_deg)
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    ramp = jnp.arange(size, dtype=jnp.float32) - size / 2
    u, v = ramp[None, :], ramp[:, None]
    return cos * u - sin * v + size / 2, sin * u + cos * v + size / 2


def bilinear(frame: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Samples (F, F) at (x, y); coordinates beyond the frame read its outermost ring."""
    last = frame.shape[0] - 1
    x, y = jnp.clip(x, 0, last), jnp.clip(y, 0, last)
    column = jnp.minimum(x.astype(jnp.int32), last - 1)
    row = jnp.minimum(y.astype(jnp.int32), last - 1)
    right, down = x - column, y - row
    above_left, above_right, below_left, below_right = taps(frame, row, column)
    above = above_left * (1 - right) + above_right * right
    below = below_left * (1 - right) + below_right * right
    return above * (1 - down) + below * down


Border = Literal["canvas", "crop"]

# Random erasing (Zhong et al. 2017) with the official program's ranges. The official program draws until a rectangle
# fits, which about one in thirty does not.
_NOISE_AREA = (0.02, 0.4)
_NOISE_ASPECT = (0.3, 1 / 0.3)
_NOISE_ATTEMPTS = 4


class Draws(NamedTuple):
    """The random numbers of a batch of B examples.

    Attributes:
      box_jitter_px: (B, 4) float32, added to the box's x0, y0, x1, y1, px of the full frame.
      rotation_deg: (B,) float32, counter-clockwise on the screen.
      scale: (B,) float32, in-plane, and of the depth where the track's depth is relative.
      noise: (B, S, S) float32, added to the finished image, normalized units.
    """

    box_jitter_px: jax.Array
    rotation_deg: jax.Array
    scale: jax.Array
    noise: jax.Array


def example_keys(key: jax.Array, batch_size: int, first: jax.Array | int = 0) -> jax.Array:
    """One key for each row of a batch, by its position in the global batch, independent of the number of devices.

    Args:
      key: the step's.
      batch_size: B, number of these rows.
      first: position of the first of them in the global batch.

    Returns:
      (B,) JAX random keys.
    """
    return jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(batch_size))


def draw(keys: jax.Array, track: TrackSpec) -> Draws:
    """Draws the official augmentation of a track, for each example from its key.

    Args:
      keys: (B,) JAX random keys, from `example_keys`.
      track: its `augmentation` gives the ranges, its `crop_size` the size of the noise.
    """
    ranges = track.augmentation
    jitter, turn = ranges.box_jitter_px, ranges.max_rotation_deg
    low, high = ranges.scale_range

    def draw_one(key: jax.Array) -> Draws:
        jitter_key, rotation_key, scale_key, noise_key = jax.random.split(key, 4)
        # Whole pixels in [-jitter, jitter), as in the official program.
        jitter_px = jax.random.randint(jitter_key, (4,), -jitter, max(jitter, 1 - jitter))
        return Draws(
            box_jitter_px=jitter_px.astype(jnp.float32),
            rotation_deg=jax.random.uniform(rotation_key, minval=-turn, maxval=turn),
            scale=jax.random.uniform(scale_key, minval=low, maxval=high),
            noise=_rectangle_noise(noise_key, track),
        )

    return jax.vmap(draw_one)(keys)


# The share of examples whose center moves farther, and how many times as far: detectors have outliers.
_TAIL_SHARE, _TAIL_FACTOR = 0.15, 2.0
_CENTER_SHIFT = 1  # folded into an example's key, whose other draws stay the same


def draw_center_shifts(keys: jax.Array, track: TrackSpec) -> jax.Array:
    """Draws the vectors (B, 3) mm by which the centers of the crops move, for each example from its key."""

    def draw_one(key: jax.Array) -> jax.Array:
        vector_key, tail_key = jax.random.split(jax.random.fold_in(key, _CENTER_SHIFT))
        tail = jax.random.uniform(tail_key) < _TAIL_SHARE
        sigma = track.augmentation.center_shift_mm * jnp.where(tail, _TAIL_FACTOR, 1.0)
        return sigma * jax.random.normal(vector_key, (3,))

    return jax.vmap(draw_one)(keys)


def recenter(batch: Batch, shift_mm: jax.Array) -> dict[str, jax.Array]:
    """The batch as if a detector had found other centers: another crop of the same frames, with the same joints.

    The window follows the center: it moves, and has its size in mm at the new depth. The center's depth is also the
    reference of normalization, depth window and targets. The canvas stays: a window that reaches beyond its margin
    shows "no reading" there, as at the border of a frame.

    Args:
      batch: B examples with a center and a camera.
      shift_mm: (B, 3) in camera coordinates, mm. A depth is at least halved, whatever the shift.
    """
    center, camera, window = (
        jnp.asarray(batch[name], jnp.float32) for name in ("center_uvd", "camera", "window_px")
    )
    depth = center[:, 2:]
    found = jnp.maximum(depth + shift_mm[:, 2:], 0.5 * depth)
    closer = depth / found
    # A pixel is f x/z + c: shifted in x, then seen at another depth.
    uv = center[:, :2] - camera[:, 2:]
    uv = (uv + camera[:, :2] * shift_mm[:, :2] / depth) * closer + camera[:, 2:]
    edges = (window.reshape(-1, 2, 2) - center[:, None, :2]) * closer[:, None] + uv[:, None]
    moved = {"center_uvd": jnp.concatenate([uv, found], axis=1), "window_px": edges.reshape(-1, 4)}
    return {**batch, **moved}


def no_draws(batch_size: int, track: TrackSpec) -> Draws:
    """Draws that change nothing: `augment` then returns the evaluation image and target."""
    size = track.crop_size
    return Draws(
        box_jitter_px=jnp.zeros((batch_size, 4)),
        rotation_deg=jnp.zeros((batch_size,)),
        scale=jnp.ones((batch_size,)),
        noise=jnp.zeros((batch_size, size, size)),
    )


def _rectangle_noise(key: jax.Array, track: TrackSpec) -> jax.Array:
    """Gaussian noise on a random rectangle of an S x S image with probability p, zero elsewhere."""
    size = track.crop_size
    apply_key, area_key, aspect_key, place_key, noise_key = jax.random.split(key, 5)
    low, high = _NOISE_AREA
    area = jax.random.uniform(area_key, (_NOISE_ATTEMPTS,), minval=low, maxval=high) * size**2
    aspect = jax.random.uniform(
        aspect_key, (_NOISE_ATTEMPTS,), minval=_NOISE_ASPECT[0], maxval=_NOISE_ASPECT[1]
    )
    extents = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], axis=-1)))
    # The first attempt that fits; if none of four does (1 in 10^6), the first, cut to the image.
    fits = jnp.all(extents < size, axis=-1)
    extent = jnp.minimum(extents[jnp.argmax(fits)], size)
    corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (size - extent + 1))
    inside = [
        (axis >= corner[i]) & (axis < corner[i] + extent[i])
        for i, axis in enumerate((jnp.arange(size)[:, None], jnp.arange(size)[None, :]))
    ]
    applied = jax.random.uniform(apply_key, ()) < track.augmentation.noise_probability
    noise = track.augmentation.noise_sigma * jax.random.normal(noise_key, (size, size))
    return jnp.where(applied & inside[0] & inside[1], noise, 0.0)


def normalize(
    depth: jax.Array | np.ndarray,
    center_depth_mm: jax.Array | np.ndarray,
    track: TrackSpec,
    scale: jax.Array | float = 1.0,
) -> jax.Array:
    """Stored depth -> the network's input units.

    Where the track's depth is relative to a center c: depths with |d - c| >= the depth window become c, then
    ((d - c) scale - mean) / std. Otherwise (d - mean) / std, in the track's image unit, without `scale`: the depth is
    an absolute distance, and the official program for those tracks was never published.

    0 (no reading) gets no special treatment: beyond the depth window of every center that is farther away than the
    window, it becomes the center's depth; where depth is absolute it stays a depth of 0.

    Args:
      depth: (..., H, W) integer or float, in `track.storage_unit_mm`.
      center_depth_mm: (...) mm; ignored where the reference is zero.
      track: the constants.
      scale: (...) or scalar, the augmentation's scale.

    Returns:
      (..., H, W) float32.
    """
    unit = track.storage_unit_mm / track.image_unit_mm
    image = jnp.asarray(depth).astype(jnp.float32) * unit
    if track.depth_reference == "center":
        center = jnp.asarray(center_depth_mm, jnp.float32)[..., None, None] / track.image_unit_mm
        image = image - center
        if track.depth_window_mm is not None:
            image = jnp.where(
                jnp.abs(image) >= track.depth_window_mm / track.image_unit_mm, 0.0, image
            )
        image = image * jnp.asarray(scale, jnp.float32)[..., None, None]
    return (image - track.mean) / track.std


def evaluation_images(
    canvas: jax.Array | np.ndarray, center_depth_mm: jax.Array | np.ndarray, track: TrackSpec
) -> jax.Array:
    """The official test-time input: the center of the canvas, normalized, not resampled.

    Args:
      canvas: (B, S + 2m, S + 2m) uint16, storage units.
      center_depth_mm: (B,) mm.
      track: sizes and constants.

    Returns:
      (B, S, S, 1) float32.
    """
    window = slice(track.margin, track.margin + track.crop_size)
    return normalize(canvas[..., window, window], center_depth_mm, track)[..., None]


def augment(
    batch: Batch, draws: Draws, track: TrackSpec, border: Border = "canvas"
) -> tuple[jax.Array, jax.Array]:
    """Applies draws to a batch: images and targets for training.

    Args:
      batch: B examples (`a2j_jax.data.crops`); its jitter is applied to `window_px`, the box before clipping.
      draws: from `draw`.
      track: sizes and constants.
      border: values beyond the jittered crop, for rotation and scaling. "crop": 0.0 in normalized units, as the
        official program; "canvas": the real pixels of the margin, and "no reading" beyond them.

    Returns:
      images: (B, S, S, 1) float32, normalized.
      joints: (B, K, 3 or 2) float32, px, px of the crop, depth in network units, as `crops.joints_to_crop`.
    """
    box, window, theta, joints = (
        jnp.asarray(batch[name], jnp.float32)
        for name in ("box_px", "window_px", "center_uvd", "joints_uvd")
    )
    theta = theta[:, 2]
    jittered = _jittered_box(window, draws, track)
    # One ring of background surrounds the crop; coordinates beyond it are clipped onto it.
    reach = 1 + (track.margin if border == "canvas" else 0)
    jittered_crop = partial(_jittered_crop, track=track, border=border, reach=reach)
    crops = for_each_example(jittered_crop, batch["canvas"], box, jittered, theta, draws.scale)
    x, y = jax.vmap(partial(source_coordinates, track.crop_size))(draws.rotation_deg, draws.scale)
    images = jax.vmap(bilinear)(crops, x + reach, y + reach)

    origin = jittered[:, None, :2]
    extent = jnp.maximum(jittered[:, None, 2:] - origin, 1.0)
    uv = (joints[..., :2] - origin) * track.crop_size / extent
    uv = _rotate_and_scale(uv, draws.rotation_deg, draws.scale, track.crop_size)
    depth = joints[..., 2:]
    if track.depth_reference == "center":
        depth = (depth - theta[:, None, None]) * draws.scale[:, None, None]
    targets = jnp.concatenate([uv, depth * track.joint_depth_scale], axis=-1)
    return (images + draws.noise)[..., None], targets


def _jittered_box(window_px: jax.Array, draws: Draws, track: TrackSpec) -> jax.Array:
    """The boxes (B, 4) that the official program would crop by: jittered, then clipped to the frame."""
    last = jnp.array([track.frame_size[0] - 1, track.frame_size[1] - 1] * 2, jnp.float32)
    return jnp.clip(window_px + draws.box_jitter_px, 0.0, last)


def crop_from_frame(batch: Batch, draws: Draws, track: TrackSpec) -> jax.Array:
    """The maps from frame to augmented crop, px: (B, 2, 3) float32; `augment` moves the joints by them.

    Args:
      batch, draws, track: as for `augment`.
    """
    window = jnp.asarray(batch["window_px"], jnp.float32)
    jittered = _jittered_box(window, draws, track)
    factor = track.crop_size / jnp.maximum(jittered[:, 2:] - jittered[:, :2], 1.0)
    # Columns are where the map moves the axes, and the origin. The axes by themselves: as differences of points far
    # from the crop they would lose digits, a hundredth of a px at the other end of the frame.
    turn = partial(_rotate_and_scale, rotation_deg=draws.rotation_deg, scale=draws.scale)
    axes = turn(jnp.eye(2) * factor[:, None], crop_size=0)
    origin = turn(-jittered[:, None, :2] * factor[:, None], crop_size=track.crop_size)
    return jnp.concatenate([axes, origin], axis=1).swapaxes(1, 2)


def _rotate_and_scale(
    uv: jax.Array, rotation_deg: jax.Array, scale: jax.Array, crop_size: int
) -> jax.Array:
    """Maps crop points (B, K, 2) by M = cv2.getRotationMatrix2D((S/2, S/2), rotation, scale)."""
    angle = jnp.deg2rad(rotation_deg)[:, None]
    cos, sin = jnp.cos(angle) * scale[:, None], jnp.sin(angle) * scale[:, None]
    u, v = uv[..., 0] - crop_size / 2, uv[..., 1] - crop_size / 2
    return jnp.stack([cos * u + sin * v, -sin * u + cos * v], axis=-1) + crop_size / 2


def _jittered_crop(
    canvas: jax.Array,
    box: jax.Array,
    jittered: jax.Array,
    center_depth_mm: jax.Array,
    scale: jax.Array,
    track: TrackSpec,
    border: Border,
    reach: int,
) -> jax.Array:
    """One example's jittered crop, looked up in its canvas and normalized, with its surroundings.

    Returns:
      (S + 2 reach, S + 2 reach) float32; the outermost ring is background.
    """
    columns, column_known = canvas_lookup(box[0::2], jittered[0::2], track, reach)
    rows, row_known = canvas_lookup(box[1::2], jittered[1::2], track, reach)
    pixels = take(take(canvas, rows), columns, axis=1)
    pixels = jnp.where(row_known[:, None] & column_known[None, :], pixels, 0)
    image = normalize(pixels, center_depth_mm, track, scale)
    if border == "crop":
        k = jnp.arange(-reach, track.crop_size + reach)
        inside = (k >= 0) & (k < track.crop_size)
        image = jnp.where(inside[:, None] & inside[None, :], image, 0.0)
    return image
