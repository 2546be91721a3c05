"""Depth images of round cones by closed-form ray intersection, sets of such cones, and what a sensor makes of them.

A *round cone* is the convex hull of two spheres: two ball caps and the cone tangent to both. About forty make up a
hand or a body. There is no mesh, rasterizer or ray marching. On a pixel lattice a ray is d = (x(column), y(row), 1), so
every dot product in the equations below is *a function of the column plus a function of the row*: a primitive costs a
few vectors of length C and R, and some forty operations per pixel.

A sensor has noise, quantization and missing pixels. By default it is a Kinect; there are others by their principle, and
mixtures of them: what a camera of unknown make may deliver. Its randomness is a function of the *source pixel*
(its row and column in the full frame) and of a key, not of the position in the crop: a crop rendered alone equals the
same crop cut out of the full frame, and a source pixel that occurs twice has one value.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.sampling import draw

_NEAREST_MM = 10.0  # surfaces nearer than this to the camera plane are not seen


class RoundCones(NamedTuple):
    """N round cones in camera coordinates."""

    ends_mm: jax.Array  # (N, 2, 3) float32, centers of the two end spheres, camera xyz in mm
    # (N, 2) float32, radii of the spheres, mm. Where one lies inside the other, the larger is rendered.
    radii_mm: jax.Array


class Hits(NamedTuple):
    """The nearest surface along each ray."""

    depth_mm: jax.Array  # (R, C) float32, z of the surface point in mm, +inf where nothing is hit
    # (R, C) float32 in [0, 1], cosine between the surface normal and the direction back to the camera: 1 is
    # frontal, 0 is grazing or no hit.
    cosine: jax.Array


def pixel_rays(columns: jax.Array, rows: jax.Array, camera: Camera) -> tuple[jax.Array, jax.Array]:
    """Slopes x/z (1, C) and y/z (R, 1) of the rays through the given pixel columns and rows (px).

    The camera's fy may be negative (y up); the slopes are in the camera's own xyz frame.
    """
    x = (columns.astype(jnp.float32) - camera.u0) / camera.fx
    y = (rows.astype(jnp.float32) - camera.v0) / camera.fy
    return x[None, :], y[:, None]


def render(columns: jax.Array, rows: jax.Array, camera: Camera, cones: RoundCones) -> Hits:
    """Casts one ray through every (row, column) of a pixel lattice.

    Columns u (C,) and rows v (R,), px, may be in any order, repeat, or lie outside the frame; the camera's fy may be
    negative. Surfaces nearer than 10 mm to the camera plane are not seen.
    """
    x, y = pixel_rays(columns, rows, camera)
    dd = x * x + y * y + 1.0  # |d|²
    # Rays start on a plane in the middle of the scene, not at the camera: lengths are then of the order of the subject,
    # not of its distance, and float32 resolves about 1 µm instead of 0.1 mm.
    z0 = jnp.mean(cones.ends_mm[..., 2])
    inverse_dd = 1.0 / dd
    prepared = jax.vmap(_prepare, (None, None, None, 0))(x, y, z0, cones)

    def nearer(best: tuple[jax.Array, jax.Array], cone: _Prepared) -> tuple[tuple, None]:
        t, slope = _intersect(cone, dd, inverse_dd)
        closer = (t < best[0]) & (t > _NEAREST_MM - z0)  # false for NaN, a miss
        return (jnp.where(closer, t, best[0]), jnp.where(closer, slope, best[1])), None

    nothing = jnp.full(dd.shape, jnp.inf, jnp.float32), jnp.zeros(dd.shape, jnp.float32)
    (t, slope), _ = jax.lax.scan(nearer, nothing, prepared)
    return Hits(z0 + t, jnp.clip(slope * jax.lax.rsqrt(dd), 0.0, 1.0))


class _Prepared(NamedTuple):
    """One round cone on one lattice; the pairs are a (1, C) and an (R, 1) part to be added."""

    length: jax.Array
    ra: jax.Array  # r_a, the radius at the first end
    q: jax.Array  # (r_a − r_b) / length
    wp: tuple[jax.Array, jax.Array]  # w·p − q r_a
    wd: tuple[jax.Array, jax.Array]  # w·d
    pd: tuple[jax.Array, jax.Array]  # p·d
    pp: tuple[jax.Array, jax.Array]  # |p|² − r_a²


def _prepare(x: jax.Array, y: jax.Array, z0: jax.Array, cone: RoundCones) -> _Prepared:
    """The per-column and per-row terms of one cone, for slopes x (1, C), y (R, 1) and rays from z = z0."""
    (a, b), (ra, rb) = cone.ends_mm, cone.radii_mm
    # Where one ball contains the other, both ends become the larger ball.
    inside = jnp.linalg.norm(b - a) <= jnp.abs(ra - rb)
    larger = jnp.where(ra > rb, a, b), jnp.maximum(ra, rb)
    a, ra = jnp.where(inside, larger[0], a), jnp.where(inside, larger[1], ra)
    b, rb = jnp.where(inside, larger[0], b), jnp.where(inside, larger[1], rb)

    length = jnp.maximum(jnp.linalg.norm(b - a), 1e-3)
    w = (b - a) / length
    q = (ra - rb) / length
    px, py, pz = x * z0 - a[0], y * z0 - a[1], z0 - a[2]
    return _Prepared(
        length=length,
        ra=ra,
        q=q,
        wp=(w[0] * px, w[1] * py + (w[2] * pz - q * ra)),
        wd=(w[0] * x, w[1] * y + w[2]),
        pd=(x * px, y * py + pz),
        pp=(px * px, py * py + (pz * pz - ra * ra)),
    )


def _intersect(
    cone: _Prepared, dd: jax.Array, inverse_dd: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """First intersection of every ray o + t d with one round cone: t (NaN: none) and −n·d there.

    A round cone is a family of balls: at height s ∈ [0, l] along the axis, center a + s w, radius r(s) = r_a − q s,
    with w the unit axis, l its length and q = (r_a − r_b)/l the sine of the half angle. Which ball the ray meets first
    follows from the infinite cone that envelops the family: with p = o − a and D = 1 − q²,

        F(t) = D (|p + t d|² − r_a²) − (w·(p + t d) − q r_a)² = k2 t² + 2 k1 t + k0 = 0

    and the point t of the envelope lies on the ball at s = (w·(p + t d) − q r_a) / D. The first root gives s, clipped
    to the axis: beyond its ends only the end balls can be met. Only a ray inside the cone toward its apex (k2 < 0,
    q w·d > 0) meets the ball that faces it, the wide end, before that root. A ray that misses the envelope misses all
    balls: the last square root is then NaN.
    """
    wp, wd, pd, pp = (a + b for a, b in (cone.wp, cone.wd, cone.pd, cone.pp))
    ra, q, length = cone.ra, cone.q, cone.length
    big_d = 1.0 - q * q

    k2 = big_d * dd - wd * wd
    k1 = big_d * pd - wp * wd
    k0 = big_d * pp - wp * wp
    t_envelope = -(jnp.sqrt(jnp.maximum(k1 * k1 - k0 * k2, 0.0)) + k1) / k2
    s = (wp + t_envelope * wd) * (1.0 / big_d)
    facing = jnp.where(wd < 0.0, length, 0.0)
    s = jnp.clip(jnp.where((k2 > 0.0) | (q * wd < 0.0), s, facing), 0.0, length)

    # The ball at s: p' = p − s w, |p'|² − r(s)² and p'·d follow from those of the first ball.
    radius = ra - q * s
    pd = pd - s * wd
    pp = pp - s * (2.0 * (wp + q * ra) - s) + (ra - radius) * (ra + radius)
    root = jnp.sqrt(pd * pd - dd * pp)
    return -(pd + root) * inverse_dd, root / radius


def along(a: jax.Array, b: jax.Array, fraction: float | jax.Array) -> jax.Array:
    """The point (..., 3) a fraction of the way from a to b."""
    return a + fraction * (b - a)


def stack_cones(*rows: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> RoundCones:
    """Combines rows of (end a, end b, radius a, radius b), leading axes allowed, into one set."""
    starts, ends, ra, rb = zip(*rows, strict=True)

    def points(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1, 3)) for x in xs])

    def radii(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1,)) for x in xs])

    return RoundCones(
        jnp.stack([points(starts), points(ends)], axis=1), jnp.stack([radii(ra), radii(rb)], axis=1)
    )


def join_cones(*sets: RoundCones) -> RoundCones:
    """Concatenates sets in their order."""
    return RoundCones(*(jnp.concatenate(field) for field in zip(*sets, strict=True)))


def overlap(center: jax.Array, radius: jax.Array, counted: np.ndarray) -> jax.Array:
    """How far balls overlap: the sum of overlap², () mm².

    Flesh yields: overlap counts only beyond a fifth of the touching distance. Balls have centers (N, 3) and radii (N,)
    in mm; `counted` (N, N) bool says which pairs count.
    """
    gap = jnp.linalg.norm(center[:, None] - center[None, :] + 1e-6, axis=-1)
    depth = jnp.maximum(0.8 * (radius[:, None] + radius[None, :]) - gap, 0.0)
    return jnp.sum(jnp.where(counted, depth, 0.0) ** 2)


# --- Sensors


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SensorSpec:
    """Parameters of a depth sensor; the defaults are the 2010 Kinect that took NYU. A pytree.

    `effects` False: the fields after it have no effect, and cost nothing.
    """

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
    effects: bool = field(default=False, metadata={"static": True})
    # Side of the block of frame px that one pixel of the sensor covers: 2 is a sensor of half the resolution with the
    # same view. All sizes in px above and below are then in its pixels.
    pixel_px: float = 1.0
    # Baseline × focal length, mm px, between camera and projector (or the other eye): what is nearer casts a shadow
    # without readings to one side, as wide as the difference of disparities.
    shadow_mm_px: float = 0.0
    # Width of outlines, px, along which readings are anywhere between what is in front and what is behind.
    flying_px: float = 0.0
    # Width, px, by which outlines grow sideways, in patches: windows of pixels are matched.
    fatten_px: float = 0.0
    # Errors by paths of light over other surfaces, σ in mm: of an offset of the frame, and of a smooth field.
    offset_mm: float = 0.0
    bias_mm: float = 0.0
    bias_px: int = field(default=40, metadata={"static": True})  # cells of that field, px


KINECT = SensorSpec()
# The PrimeSense camera that took ITOP: the Kinect's optics, at half the resolution.
XTION = SensorSpec(edge_cosine=0.25, patch_px=3, hole_px=6, range_mm=(400.0, 8000.0))

# The range of the sensors below begins nearer than that of a Kinect: where a hand would be lost, nobody puts it.
_RANGE_MM = (120.0, 5000.0)
_FINE = 1e9  # disparity_mm without steps

# Structured light: a Kinect with the shadow that its projector, 75 mm beside the camera, casts.
STRUCTURED_LIGHT = SensorSpec(effects=True, shadow_mm_px=580.0 * 75.0, range_mm=_RANGE_MM)
# Close range, an Intel SR300 or SR305, 0.2 to 1.2 m: hardly any steps, little and smooth noise, rims without readings.
CLOSE_RANGE = SensorSpec(
    axial_mm=(0.5, 2.0, 0.2),
    smooth_fraction=0.85,
    disparity_mm=_FINE,
    edge_cosine=0.5,
    hole_sigma=3.3,
    range_mm=_RANGE_MM,
    effects=True,
    shadow_mm_px=475.0 * 50.0,
    offset_mm=1.0,
    bias_mm=0.5,
)
# Time of flight, as in a Kinect v2 or Azure Kinect: noise of single pixels that grows with distance and at grazing
# angles, flying pixels, a few mm of bias by multiple paths, few holes.
TIME_OF_FLIGHT = SensorSpec(
    axial_mm=(1.2, 3.5, 0.2),
    grazing_mm=0.4,
    smooth_fraction=0.3,
    disparity_mm=_FINE,
    edge_cosine=0.12,
    hole_sigma=4.0,
    range_mm=_RANGE_MM,
    effects=True,
    pixel_px=1.5,
    flying_px=0.6,
    offset_mm=3.0,
    bias_mm=2.0,
)
# Active stereo, as in an Intel D400: coarser steps, noise in patches, outlines that are fat, holes.
STEREO = SensorSpec(
    axial_mm=(1.2, 6.0, 0.3),
    smooth_fraction=0.9,
    disparity_mm=600.0 * 50.0 * 6.0,
    edge_cosine=0.3,
    hole_sigma=2.4,
    range_mm=_RANGE_MM,
    effects=True,
    shadow_mm_px=600.0 * 50.0,
    flying_px=0.25,
    fatten_px=1.5,
    offset_mm=1.5,
    bias_mm=1.0,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SensorMix:
    """Several sensors with the same static fields, of which every scene draws one with other numbers. A pytree."""

    sensors: tuple[SensorSpec, ...] = (STRUCTURED_LIGHT, CLOSE_RANGE, TIME_OF_FLIGHT, STEREO)
    jitter: float = 0.3  # σ of the natural logarithm of each number's factor; ranges stay
    # Factors of `SensorSpec.pixel_px`, equally likely: sensors of full, half and a third of the resolution.
    pixels: tuple[float, ...] = (1.0, 1.0, 1.0, 2.0, 2.0, 3.0)

    def draw(self, key: jax.Array) -> SensorSpec:
        """The sensor of one scene, whose numbers are arrays ()."""
        leaves, structure = jax.tree.flatten(self.sensors[0])
        table = jnp.array([jax.tree.leaves(sensor) for sensor in self.sensors], jnp.float32)
        (which, pixel), (factor,) = draw(key, uniform=[(), ()], bell=[(len(leaves),)])
        numbers = table[(which * len(self.sensors)).astype(jnp.int32)]
        drawn: SensorSpec = jax.tree.unflatten(
            structure, list(numbers * jnp.exp(self.jitter * factor))
        )
        plain: SensorSpec = jax.tree.unflatten(structure, list(numbers))
        pixels = jnp.array(self.pixels)[(pixel * len(self.pixels)).astype(jnp.int32)]
        bounded: dict[str, Any] = {
            "smooth_fraction": jnp.minimum(drawn.smooth_fraction, 0.95),
            "hole_sigma": jnp.maximum(drawn.hole_sigma, 2.0),
            "range_mm": plain.range_mm,
            "pixel_px": plain.pixel_px * pixels,
        }
        return dataclasses.replace(drawn, **bounded)


# Sensors with other numbers than those of the mixture by default, to validate transfer on.
SHIFTED_SENSORS = SensorMix(
    sensors=(
        dataclasses.replace(
            STRUCTURED_LIGHT,
            axial_mm=(2.0, 3.0, 0.4),
            disparity_mm=500.0 * 60.0 * 8.0,
            hole_sigma=2.5,
        ),
        dataclasses.replace(
            TIME_OF_FLIGHT, flying_px=1.0, offset_mm=5.0, bias_mm=3.0, edge_cosine=0.3
        ),
        dataclasses.replace(STEREO, axial_mm=(0.8, 9.0, 0.3), fatten_px=2.5, smooth_fraction=0.7),
    ),
    jitter=0.2,
    pixels=(1.0, 1.5, 2.5),
)


# --- What a sensor reads


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
    if spec.effects:
        hits = _outlines(jax.random.fold_in(key, _OUTLINES), hits, columns, rows, spec)
    z_mm, cosine = hits
    at = (columns, rows, frame_size)
    white = gaussian_hash(k_white, columns, rows)
    smooth = smooth_gaussian(k_patch, *at, spec.patch_px)
    noise = (1.0 - spec.smooth_fraction) ** 0.5 * white + spec.smooth_fraction**0.5 * smooth
    noisy_mm = z_mm + axial_sigma_mm(z_mm, cosine, spec) * noise
    if spec.effects:
        k_offset, k_bias = jax.random.split(jax.random.fold_in(key, _BIAS))
        noisy_mm += spec.offset_mm * jax.random.normal(k_offset)
        noisy_mm += spec.bias_mm * smooth_gaussian(k_bias, *at, spec.bias_px)
    quantized_mm = spec.disparity_mm / jnp.round(spec.disparity_mm / noisy_mm)

    ragged = uniform_hash(k_edge, columns // 2, rows // 2)
    lost = cosine < spec.edge_cosine * (1.0 - jnp.sqrt(ragged))
    lost |= smooth_gaussian(k_hole, *at, spec.hole_px) > spec.hole_sigma
    if spec.effects:
        lost |= _shadow(z_mm, columns, spec)
    seen = (noisy_mm > spec.range_mm[0]) & (noisy_mm < spec.range_mm[1]) & ~lost
    return jnp.where(seen & inside_frame(*at), quantized_mm, 0.0)


# Folded into the key of the noise, whose other draws stay the same.
_OUTLINES, _BIAS = 1, 2
_EDGE_MM = 12.0  # a difference in depth between neighbors that makes an outline
_NOTHING_MM = 300.0  # behind an outline, if there is nothing


def _outlines(
    key: jax.Array, hits: Hits, columns: jax.Array, rows: jax.Array, spec: SensorSpec
) -> Hits:
    """Outlines as the sensor sees them: fattened, and with flying pixels.

    The neighbors of a pixel are those of the lattice, as the others were not rendered; on a lattice that skips source
    pixels a smaller share of points is near an outline. A crop equals that of the frame in distribution only.
    """
    k_fat, k_fly, k_where = jax.random.split(key, 3)
    z_mm, cosine = hits
    spacing = _spacing(columns)
    nearest, farthest, beside = _neighborhood(z_mm, columns, rows)
    farthest = jnp.minimum(farthest, nearest + _NOTHING_MM)
    grown = uniform_hash(k_fat, columns // 3, rows // 3) < spec.fatten_px / spacing
    grown &= beside < z_mm - _EDGE_MM
    flying = uniform_hash(k_fly, columns, rows) < spec.flying_px / spacing
    flying &= farthest > nearest + _EDGE_MM
    between = nearest + (farthest - nearest) * uniform_hash(k_where, columns, rows)
    depth = jnp.where(flying, between, jnp.where(grown, beside, z_mm))
    return Hits(depth, jnp.where(flying | grown, 1.0, cosine))


def _spacing(places: jax.Array) -> jax.Array:
    """Pixels from one lattice point to the next, 1 or more: a pixel that is repeated is not a step away from itself."""
    return jnp.maximum((places[-1] - places[0]) / (len(places) - 1), 1.0)


_Three = tuple[jax.Array, jax.Array, jax.Array]


def _neighborhood(image: jax.Array, columns: jax.Array, rows: jax.Array) -> _Three:
    """Minimum and maximum over each point (R, C) and its four neighbors, and the minimum over those beside it.

    Neighbors are the next lattice points that show other pixels. In a loop, across which XLA:CPU does not fuse: it
    would compute the image again for every neighbor, which takes longer than to render it.
    """
    places = [(i, jnp.arange(len(at)), _repeats(at)) for i, at in enumerate((rows, columns))]

    def add(found: _Three, sign: jax.Array) -> tuple[_Three, None]:
        nearest, farthest, beside = found
        above, side = (
            image.at[(slice(None),) * i + (jnp.clip(at + sign * step, 0, len(at) - 1),)].get(
                mode="promise_in_bounds"
            )
            for i, at, step in places
        )
        nearest = jnp.minimum(nearest, jnp.minimum(above, side))
        farthest = jnp.maximum(farthest, jnp.maximum(above, side))
        return (nearest, farthest, jnp.minimum(beside, side)), None

    start = image, image, jnp.full_like(image, jnp.inf)
    (nearest, farthest, beside), _ = jax.lax.scan(add, start, jnp.array([-1, 1]))
    return nearest, farthest, beside


def _repeats(places: jax.Array) -> jax.Array:
    """How many lattice points in a row show the same pixel, () int32."""
    pixels = jnp.maximum(places[-1] - places[0], 1)
    return jnp.maximum(jnp.round((len(places) - 1) / pixels), 1.0).astype(jnp.int32)


def _shadow(z_mm: jax.Array, columns: jax.Array, spec: SensorSpec) -> jax.Array:
    """(R, C) bool: where the projector, beside the camera, does not shine; for columns in ascending order.

    It sees a surface at disparity d = shadow_mm_px / z, at column u - d. What is on the left of something nearer is
    hidden from it where that has the smaller u - d.
    """
    seen_at = columns - spec.shadow_mm_px / spec.pixel_px / z_mm
    first = jax.lax.cummin(seen_at, axis=1, reverse=True)
    return seen_at > first + 0.5


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
