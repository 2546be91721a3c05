"""Model of a Kinect-like sensor: noise, quantization and missing pixels.

All randomness is a function of the *source pixel* (its row and column in the full frame) and of a key, not of the
position in the crop: a crop rendered alone equals the same crop cut out of the full frame, and a source pixel that
occurs twice has one value.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from a2j_jax.synthetic.render import Hits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SensorSpec:
    """Parameters of a structured-light sensor; the defaults are the 2010 Kinect that took NYU. A pytree."""

    # (σ0, σ1, z0): standard deviation of depth σ = σ0 + σ1 (z − z0)² mm, z and z0 in meters. Nguyen, Izadi,
    # Lovell, "Modeling Kinect sensor noise for improved 3D reconstruction and tracking", 3DIMPVT 2012, Eq. for
    # 10°–60°: 1.2 + 1.9 (z − 0.4)².
    axial_mm: tuple[float, float, float] = (1.2, 1.9, 0.4)
    # Factor g of the term g/√z · θ²/(π/2 − θ)² mm that the same paper adds beyond 60° of incidence θ (0.1 mm
    # there).
    grazing_mm: float = 0.1
    # Share of the variance that is common to neighboring pixels. The sensor matches windows of several pixels,
    # so its noise comes in patches.
    smooth_fraction: float = 0.75
    patch_px: int = field(default=6, metadata={"static": True})  # size of those patches, frame px
    # Depth × disparity in the sensor's smallest disparity step: depths are disparity_mm / n for integer n, a
    # step of z²/disparity_mm. 580 px · 75 mm · 8 per px for the Kinect (Khoshelham & Elberink, Sensors 2012):
    # 1.6 mm at 0.75 m, as in NYU's frames.
    disparity_mm: float = 580.0 * 75.0 * 8.0
    # Pixels with cosine of incidence c below this are lost with probability (1 − c/this)², in blocks of 2×2
    # frame px: ragged outlines.
    edge_cosine: float = 0.4
    # A pixel is lost where a smooth unit Gaussian field exceeds this: rare round holes.
    hole_sigma: float = 3.0
    hole_px: int = field(default=10, metadata={"static": True})  # cells of that field, frame px
    range_mm: tuple[float, float] = (250.0, 4000.0)  # (nearest, farthest) measurable depth


def measure(
    key: jax.Array,
    hits: Hits,
    columns: jax.Array,
    rows: jax.Array,
    frame_size: tuple[int, int],
    spec: SensorSpec,
) -> jax.Array:
    """The sensor's depth readings of what was hit: (R, C) float32 mm, 0 = no reading; not rounded to whole mm.

    The image has source columns (C,) and rows (R,), integers; nothing is read outside the frame of size (W, H).
    """
    k_patch, k_hole, k_white, k_edge = jax.random.split(key, 4)
    z_mm, cosine = hits
    at = (columns, rows, frame_size)
    white = gaussian_hash(k_white, columns, rows)
    smooth = smooth_gaussian(k_patch, *at, spec.patch_px)
    noise = (1.0 - spec.smooth_fraction) ** 0.5 * white + spec.smooth_fraction**0.5 * smooth
    noisy_mm = z_mm + axial_sigma_mm(z_mm, cosine, spec) * noise
    quantized_mm = spec.disparity_mm / jnp.round(spec.disparity_mm / noisy_mm)

    ragged = uniform_hash(k_edge, columns // 2, rows // 2)
    lost = cosine < spec.edge_cosine * (1.0 - jnp.sqrt(ragged))
    lost |= smooth_gaussian(k_hole, *at, spec.hole_px) > spec.hole_sigma
    seen = (noisy_mm > spec.range_mm[0]) & (noisy_mm < spec.range_mm[1]) & ~lost
    return jnp.where(seen & inside_frame(*at), quantized_mm, 0.0)


def axial_sigma_mm(z_mm: jax.Array, cosine: jax.Array, spec: SensorSpec) -> jax.Array:
    """Standard deviation of a depth reading, mm, for depth z_mm and cosine of incidence."""
    base, growth, origin = spec.axial_mm
    z = z_mm * 1e-3
    # Capped at 85°: the formula diverges at 90°, where no readings remain anyway.
    c = jnp.clip(cosine, 0.087, 0.5)
    elevation = c * (1.0 + c * c * (1 / 6 + c * c * (3 / 40)))  # π/2 − θ = arcsin c, within 0.03°
    ratio = 0.5 * jnp.pi / elevation - 1.0  # θ / (π/2 − θ)
    grazing = jnp.where(cosine < 0.5, spec.grazing_mm * jax.lax.rsqrt(z) * ratio * ratio, 0.0)
    return base + growth * jnp.square(z - origin) + grazing


def inside_frame(columns: jax.Array, rows: jax.Array, frame_size: tuple[int, int]) -> jax.Array:
    """(R, C) bool: whether the source pixel exists."""
    width, height = frame_size
    inside_x = (columns >= 0) & (columns < width)
    inside_y = (rows >= 0) & (rows < height)
    return inside_y[:, None] & inside_x[None, :]


def _hash(key: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    """(R, C) uint32: a hash of (key, row, column).

    Multiplicative mixing of the coordinates, then the finalizer of MurmurHash3 (Appleby, public domain). A
    counter-based generator keyed per pixel is several times slower.
    """
    seed = jax.random.key_data(key).reshape(-1)[-2:].astype(jnp.uint32)
    u = columns.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) + seed[0]
    v = rows.astype(jnp.uint32) * jnp.uint32(0x85EBCA77) ^ seed[1]
    h = u[None, :] ^ (v[:, None] * jnp.uint32(0xC2B2AE3D))
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def uniform_hash(key: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    """(R, C) float32 uniform on [0, 1), a pure function of key, row and column."""
    return (_hash(key, columns, rows) >> 8).astype(jnp.float32) * (1.0 / (1 << 24))


def gaussian_hash(key: jax.Array, columns: jax.Array, rows: jax.Array) -> jax.Array:
    """(R, C) float32, nearly standard normal, a pure function of key, row and column.

    The sum of the four bytes of the hash (Irwin–Hall, n = 4): exact mean and variance, |x| < 3.5.
    """
    h = _hash(key, columns, rows)
    total = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
    return (total.astype(jnp.float32) - 510.0) * (1.0 / (4 * (256**2 - 1) / 12) ** 0.5)


def smooth_gaussian(
    key: jax.Array, columns: jax.Array, rows: jax.Array, frame_size: tuple[int, int], cell_px: int
) -> jax.Array:
    """(R, C) float32: a smooth field over the frame, mean 0, variance 1 on average.

    Gaussian values at the corners of square cells of `cell_px`, interpolated bilinearly.
    """
    width, height = frame_size
    corners = jax.random.normal(key, (height // cell_px + 2, width // cell_px + 2))

    def place(pixels: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        position = jnp.clip(pixels, 0, size - 1).astype(jnp.float32) / cell_px
        cell = jnp.floor(position).astype(jnp.int32)
        return cell, position - cell

    column, across = place(columns, width)
    row, down = place(rows, height)
    lines = corners[row] * (1.0 - down[:, None]) + corners[row + 1] * down[:, None]
    field = lines[:, column] * (1.0 - across) + lines[:, column + 1] * across
    return field * 1.5  # linear interpolation leaves 2/3 of the standard deviation per axis squared
