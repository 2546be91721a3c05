"""Resampling on the device: where a jittered, rotated, scaled crop reads its pixels in a stored canvas."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from a2j_jax import lowering
from a2j_jax.tracks import TrackSpec


def for_each_example(function: Callable[..., jax.Array], *batched: jax.Array) -> jax.Array:
    """`jax.vmap(function)(*batched)`, and on the CPU a loop with the same result.

    XLA:CPU fuses whatever is vmapped into the gathers that read it, and so would look up and
    normalise every pixel of the crop again for each of the four taps of each pixel of the warp:
    37 ms instead of 2.5 ms for 64 crops of 96 x 96. A loop is a boundary that it does not fuse
    across.
    """
    if lowering.platform() == "cpu":
        return jax.lax.map(lambda example: function(*example), batched)
    return jax.vmap(function)(*batched)


def take(image: jax.Array, index: jax.Array) -> jax.Array:
    """Pixels of a 2-D image by row-major index; the caller keeps the indices in bounds."""
    return image.reshape(-1).at[index].get(mode="promise_in_bounds")


def canvas_lookup(
    box: jax.Array, jittered: jax.Array, track: TrackSpec, reach: int
) -> tuple[jax.Array, jax.Array]:
    """Along one axis: canvas index of every lattice point of the jittered crop.

    Exact arithmetic: the points where OpenCV's rounding is one pixel short (`geometry.lattice`) may be
    off by that pixel in a jittered crop; without jitter every point finds itself.

    Args:
      box: (2,) start and end of the box the canvas was cut from, px.
      jittered: (2,) start and end of the jittered box, px.
      track: crop size S and margin.
      reach: lattice points to add on both sides of the jittered crop, <= S. The outermost one of
        either side is declared unknown.

    Returns:
      (S + 2 reach,) int32 indices into the canvas, and whether the canvas reaches that far.
    """
    size = track.crop_size
    start, extent = whole_pixels(jittered)
    canvas_start, canvas_extent = whole_pixels(box)
    # lax.div truncates; all its operands are kept >= 0 here (by adding whole periods), where that
    # is the floor. jnp's // handles signs, and that costs more than the warp itself.
    k = jnp.arange(-reach, size + reach, dtype=jnp.int32)
    source = start + jax.lax.div((k + size) * extent, jnp.int32(size)) - extent
    # Canvas point j shows source pixel canvas_start + floor(j canvas_extent / S). The first j that
    # shows `source` or a later one is ceil((source - canvas_start) S / canvas_extent); its
    # predecessor may be nearer where the crop skips source pixels.
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
    """M^-1 of every pixel of the output: where cv2.warpAffine samples the crop. Two (S, S)."""
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
    width = frame.shape[1]
    corner = row * width + column
    above = take(frame, corner) * (1 - right) + take(frame, corner + 1) * right
    corner = corner + width
    below = take(frame, corner) * (1 - right) + take(frame, corner + 1) * right
    return above * (1 - down) + below * down
