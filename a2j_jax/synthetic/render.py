"""Depth images of round cones by closed-form ray intersection.

A *round cone* is the convex hull of two spheres: two ball caps and the cone tangent to both. A hand
is a union of about forty (`hand_surface`). For every pixel asked for, and only for those, the
nearest intersection along its ray is found in closed form; there is no mesh, no rasteriser and no
marching.

What makes this fast on a CPU: on a pixel lattice a ray is d = (x(column), y(row), 1), so every dot
product in the equations below is *a function of the column plus a function of the row*. A primitive
thus costs a handful of vectors of length C and R, and about forty multiply-adds per pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from a2j_jax.geometry import Camera

_NEAREST_MM = 10.0  # nothing nearer than this to the camera plane is seen


class RoundCones(NamedTuple):
    """N round cones in camera coordinates.

    Attributes:
        ends_mm: (N, 2, 3) float32, centres of the two end spheres, camera xyz in mm.
        radii_mm: (N, 2) float32, their radii in mm. A cone whose one sphere lies inside the other
            is rendered as that larger sphere.
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
    # is then of the order of the hand, not of its distance, and float32 keeps about 1 µm instead of
    # 0.1 mm.
    z0 = jnp.mean(cones.ends_mm[..., 2])
    prepared = jax.vmap(_prepare, (None, None, None, 0))(x, y, z0, cones)

    def nearer(best: tuple[jax.Array, jax.Array], cone: _Prepared) -> tuple[tuple, None]:
        t, slope = _intersect(cone, dd, 1.0 / dd)
        closer = (t < best[0]) & (t > _NEAREST_MM - z0)
        return (jnp.where(closer, t, best[0]), jnp.where(closer, slope, best[1])), None

    nothing = jnp.full(dd.shape, jnp.inf, jnp.float32), jnp.zeros(dd.shape, jnp.float32)
    (t, slope), _ = jax.lax.scan(nearer, nothing, prepared)
    return Hits(z0 + t, jnp.clip(slope * jax.lax.rsqrt(dd), 0.0, 1.0))


class _Prepared(NamedTuple):
    """One round cone on one lattice; the pairs are a (1, C) and an (R, 1) part to be added."""

    length: jax.Array
    radii: jax.Array  # (2,) r_a, r_b
    q: jax.Array
    wp: tuple[jax.Array, jax.Array]  # w·p − q r_a
    wd: tuple[jax.Array, jax.Array]  # w·d
    pd: tuple[jax.Array, jax.Array]  # p·d
    pp: tuple[jax.Array, jax.Array]  # |p|² − r_a²


def _prepare(x: jax.Array, y: jax.Array, z0: jax.Array, cone: RoundCones) -> _Prepared:
    """All of one cone that is not per pixel, for slopes x (1, C), y (R, 1) and rays from z = z0."""
    a, b = cone.ends_mm[0], cone.ends_mm[1]
    ra, rb = cone.radii_mm[0], cone.radii_mm[1]
    length = jnp.maximum(jnp.linalg.norm(b - a), 1e-3)
    w = (b - a) / length
    q = (ra - rb) / length
    px, py, pz = x * z0 - a[0], y * z0 - a[1], z0 - a[2]
    return _Prepared(
        length=length,
        radii=cone.radii_mm,
        q=q,
        wp=(w[0] * px, w[1] * py + (w[2] * pz - q * ra)),
        wd=(w[0] * x, w[1] * y + w[2]),
        pd=(x * px, y * py + pz),
        pp=(px * px, py * py + (pz * pz - ra * ra)),
    )


def _intersect(
    cone: _Prepared, dd: jax.Array, inverse_dd: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """First intersection of every ray o + t d with one round cone: t (+inf: none) and −n·d there.

    With a the first centre, w the unit axis to the second, l its length, r_a and r_b the radii,
    q = (r_a − r_b)/l the sine of the cone's half angle, D = 1 − q² and p = o − a, the infinite cone
    tangent to both spheres is

        F(t) = D|p + t d|² − (w·p + t w·d − q r_a)² − D r_a² = k2 t² + 2 k1 t + k0

    (shifting by q r_a moves the origin of the axis to the first tangent circle, after which the
    sphere of radius r(s) = r_a − q s/D, s ∈ [0, D l], touches the surface at height s.) The spheres
    lie inside that cone, so: the first crossing of the cone counts if its height s is on the piece
    between the tangent circles; otherwise the ray can only meet a cap. At a hit, with n the outward
    unit normal, −n·d = √(discriminant) / (D r(s)) on the cone and √(discriminant) / r on a sphere.
    """
    wp, wd, pd, pp = (a + b for a, b in (cone.wp, cone.wd, cone.pd, cone.pp))
    (ra, rb), q, length = cone.radii, cone.q, cone.length
    big_d = 1.0 - q * q

    k2 = big_d * dd - wd * wd
    k1 = big_d * pd - wp * wd
    k0 = big_d * pp - wp * wp
    disc = k1 * k1 - k0 * k2
    root = jnp.sqrt(jnp.maximum(disc, 0.0))
    t_cone = -(root + k1) / k2
    s = wp + t_cone * wd
    on_cone = (disc > 0.0) & (s > 0.0) & (s < big_d * length)
    slope_cone = root / (big_d * ra - q * s)

    t_a, slope_a = _sphere(pd, pp, ra, dd, inverse_dd)
    # The second sphere has p' = p − l w: its products follow from those of the first.
    pd_b = pd - length * wd
    pp_b = pp - 2.0 * length * wp + (length * (length - 2.0 * q * ra) + ra * ra - rb * rb)
    t_b, slope_b = _sphere(pd_b, pp_b, rb, dd, inverse_dd)

    first = t_a < t_b
    t = jnp.where(on_cone, t_cone, jnp.where(first, t_a, t_b))
    return t, jnp.where(on_cone, slope_cone, jnp.where(first, slope_a, slope_b))


def _sphere(
    pd: jax.Array, pp: jax.Array, radius: jax.Array, dd: jax.Array, inverse_dd: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """First root of |p + t d|² = r², +inf on a miss, and −n·d there. pd = p·d, pp = |p|² − r²."""
    disc = pd * pd - dd * pp
    root = jnp.sqrt(jnp.maximum(disc, 0.0))
    return jnp.where(disc > 0.0, -(pd + root) * inverse_dd, jnp.inf), root / radius
