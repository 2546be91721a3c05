"""Depth images of round cones by closed-form ray intersection.

A *round cone* is the convex hull of two spheres: two ball caps and the cone tangent to both. A hand
or a body is a union of about forty (`hand_surface`, `body_surface`). For every pixel asked for, and
only for those, the nearest intersection along its ray is found in closed form; there is no mesh, no
rasteriser and no marching.

What makes this fast on a CPU: on a pixel lattice a ray is d = (x(column), y(row), 1), so every dot
product in the equations below is *a function of the column plus a function of the row*. A primitive
thus costs a handful of vectors of length C and R, and some forty operations per pixel.

What the surfaces of hand and body share: building sets of round cones, and telling how far they overlap.

Which of our 21 joints are which of NYU's 14.

Judged by bone lengths: medians over the published test labels of NYU's second subject, whose hand
is about 1.04 times ours of scale 1, against the anatomy of `hand` at that scale, mm.

    NYU                          median    ours                             scale 1.04
    index tip – index mid          43.7    TIP – PIP                              39.7
    middle tip – middle mid        47.2    TIP – PIP                              45.4
    ring tip – ring mid            42.8    TIP – PIP                              44.7
    pinky tip – pinky mid          34.6    TIP – PIP                              35.5
    thumb tip – thumb mid          19.5    TIP – IP (our thumb's DIP)             22.6
    thumb mid – thumb root         37.8    IP – anatomical MCP (its PIP)          32.9
    thumb root – wrist points      78.2    anatomical MCP – wrist                   75

So a "mid" is the PIP joint within a few mm, and the thumb's root is its anatomical MCP, some 5 mm
nearer to the wrist than ours. NYU's two wrist points lie 30 mm apart on the two sides of the wrist
and its palm point in the middle of the palm, where we have no joint.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from a2j_jax.geometry import Camera

_NEAREST_MM = 10.0  # nothing nearer than this to the camera plane is seen


class RoundCones(NamedTuple):
    """N round cones in camera coordinates.

    Attributes:
        ends_mm: (N, 2, 3) float32, centres of the two end spheres, camera xyz in mm.
        radii_mm: (N, 2) float32, their radii in mm. Where one sphere lies inside the other, the
            larger one is rendered.
    """

    ends_mm: jax.Array
    radii_mm: jax.Array


class Hits(NamedTuple):
    """What the rays met.

    Attributes:
        depth_mm: (R, C) float32, z of the nearest surface point in mm, +inf where nothing is hit.
        cosine: (R, C) float32 in [0, 1], cosine between the surface normal and the direction back
            to the camera: 1 is frontal, 0 is grazing. 0 where nothing is hit.
    """

    depth_mm: jax.Array
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

    Args:
        columns: (C,) pixel columns u, in any order, repeated or off-frame as the caller likes.
        rows: (R,) pixel rows v.
        camera: pinhole camera; fy may be negative.
        cones: the scene, camera xyz, mm.

    Returns:
        `Hits`, each (R, C) float32. Surfaces nearer than 10 mm to the camera plane are not seen.
    """
    x, y = pixel_rays(columns, rows, camera)
    dd = x * x + y * y + 1.0  # |d|²
    # Rays start on a plane in the middle of the scene rather than at the camera: every length below
    # is then of the order of the subject, not of its distance, and float32 keeps about 1 µm instead of
    # 0.1 mm.
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
    """All of one cone that is not per pixel, for slopes x (1, C), y (R, 1) and rays from z = z0."""
    (a, b), (ra, rb) = cone.ends_mm, cone.radii_mm
    # A ball inside the other adds nothing: both ends become the larger ball.
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

    A round cone is a family of balls: at height s ∈ [0, l] along the axis, centre a + s w, radius
    r(s) = r_a − q s, with w the unit axis, l its length and q = (r_a − r_b)/l the sine of the half
    angle. The ray meets the solid where it meets one of them, and which one follows from the
    infinite cone that envelops the family: with p = o − a and D = 1 − q²,

        F(t) = D (|p + t d|² − r_a²) − (w·(p + t d) − q r_a)² = k2 t² + 2 k1 t + k0 = 0

    and the point t of the envelope lies on the ball at s = (w·(p + t d) − q r_a) / D. The first root
    gives s; beyond an end of the axis it is the end's ball that can be met, hence the clip. Only a
    ray that comes down inside the cone toward its apex (k2 < 0, q w·d > 0) meets the ball that
    faces it, the wide end, before that root. A ray that misses the envelope misses every ball, so
    the last square root is its test: it is NaN.
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


def along(a: jax.Array, b: jax.Array, fraction: float) -> jax.Array:
    """The point (..., 3) a fraction of the way from a to b."""
    return a + fraction * (b - a)


def stack_cones(*rows: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> RoundCones:
    """Rows of (end a, end b, radius a, radius b), leading axes allowed, into one set."""
    starts, ends, ra, rb = zip(*rows, strict=True)

    def points(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1, 3)) for x in xs])

    def radii(xs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.concatenate([jnp.reshape(x, (-1,)) for x in xs])

    return RoundCones(
        jnp.stack([points(starts), points(ends)], axis=1), jnp.stack([radii(ra), radii(rb)], axis=1)
    )


def join_cones(*sets: RoundCones) -> RoundCones:
    """Several sets as one, in their order."""
    return RoundCones(*(jnp.concatenate(field) for field in zip(*sets, strict=True)))


def overlap(centre: jax.Array, radius: jax.Array, counted: np.ndarray) -> jax.Array:
    """How badly balls run into each other: the sum of overlap², () mm².

    Flesh yields: overlap is counted only from a fifth of the touching distance on.

    Args:
        centre: (N, 3) mm.
        radius: (N,) mm.
        counted: (N, N) bool, the pairs that count.
    """
    gap = jnp.linalg.norm(centre[:, None] - centre[None, :] + 1e-6, axis=-1)
    depth = jnp.maximum(0.8 * (radius[:, None] + radius[None, :]) - gap, 0.0)
    return jnp.sum(jnp.where(counted, depth, 0.0) ** 2)


# (NYU joint, our joint or None), in NYU's order. Ours: 8 thumb tip … 20 pinky tip, see `hand`.
HAND_TO_NYU14: tuple[tuple[int, int | None], ...] = (
    (0, 20),  # pinky tip
    (1, 18),  # pinky mid: PIP
    (2, 17),  # ring tip
    (3, 15),  # ring mid: PIP
    (4, 14),  # middle tip
    (5, 12),  # middle mid: PIP
    (6, 11),  # index tip
    (7, 9),  # index mid: PIP
    (8, 8),  # thumb tip
    (9, 7),  # thumb mid: IP, called DIP in HANDS 2017
    (10, 6),  # thumb root: anatomical MCP, called PIP in HANDS 2017; loosely
    (11, None),  # wrist, little finger's side: our one wrist joint lies between this and the next
    (12, None),  # wrist, thumb's side
    (13, None),  # palm: the middle of it
)


def hand_to_nyu14(joints: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Picks NYU's joints out of ours.

    Args:
        joints: (..., 21, D) in HANDS 2017 order, any unit.

    Returns:
        (..., 14, D) in NYU's order, same dtype, zeros where nothing corresponds, and (14,) bool:
        which do.

    Raises:
        ValueError: the second to last axis is not 21.
    """
    joints = np.asarray(joints)
    if joints.ndim < 2 or joints.shape[-2] != 21:
        raise ValueError(f"joints: expected (..., 21, D), got {joints.shape}")
    valid = np.array([ours is not None for _, ours in HAND_TO_NYU14])
    source = np.array([ours or 0 for _, ours in HAND_TO_NYU14])
    return np.where(valid[:, None], joints[..., source, :], 0).astype(joints.dtype), valid
