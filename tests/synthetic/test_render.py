"""Closed-form intersections against independent answers: sphere tracing, algebra for a ball."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.geometry import Camera
from a2j_jax.synthetic.render import RoundCones, along, join_cones, overlap, stack_cones
from a2j_jax.synthetic.render import render as render_eagerly

render = jax.jit(render_eagerly, static_argnums=2)

CAMERA = Camera(600.0, -580.0, 40.0, 30.0)
COLUMNS, ROWS = np.arange(0, 80, 2), np.arange(0, 60, 2)


def cones_at(rng, count, spread=60.0, depth=500.0):
    ends = rng.normal(size=(count, 2, 3)) * [spread, spread, spread] + [0, 0, depth]
    return ends, rng.uniform(4.0, 30.0, (count, 2))


def rays(columns, rows, camera):
    x, y = np.meshgrid((columns - camera.u0) / camera.fx, (rows - camera.v0) / camera.fy)
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def distance_to_round_cone(p, a, b, ra, rb):
    """Signed distance, by minimizing |p − c(s)| − r(s) over the segment: no cone algebra at all.

    The function is convex in s, so a ternary search finds it.
    """
    low, high = np.zeros(p.shape[:-1]), np.ones(p.shape[:-1])

    def ball(s):
        c = a + s[..., None] * (b - a)
        return np.linalg.norm(p - c, axis=-1) - (ra + s * (rb - ra))

    for _ in range(40):
        one, other = low + (high - low) / 3, high - (high - low) / 3
        left = ball(one) < ball(other)
        low, high = np.where(left, low, one), np.where(left, other, high)
    return ball((low + high) / 2)


def march(directions, ends, radii, start=100.0, stop=1200.0):
    """Sphere tracing: z of the first surface, inf for a miss, nan where it does not settle."""
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    t = np.full(unit.shape[:-1], start)
    for _ in range(120):
        gaps = [
            distance_to_round_cone(t[..., None] * unit, a, b, ra, rb)
            for (a, b), (ra, rb) in zip(ends, radii, strict=True)
        ]
        t = np.minimum(t + np.min(gaps, axis=0), stop)
    settled = np.min(gaps, axis=0) < 1e-6
    z = t * unit[..., 2]
    return np.where(t >= stop, np.inf, np.where(settled, z, np.nan))


def cones_of(ends, radii):
    return RoundCones(jnp.asarray(ends, jnp.float32), jnp.asarray(radii, jnp.float32))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sphere_tracing(seed):
    ends, radii = cones_at(np.random.default_rng(seed), 3)
    columns, rows = COLUMNS[::2], ROWS[::2]
    expected = march(rays(columns, rows, CAMERA), ends, radii)
    got = np.asarray(render(columns, rows, CAMERA, cones_of(ends, radii)).depth_mm)
    assert 0.1 < np.isfinite(expected).mean() < 0.999
    both = np.isfinite(expected) & np.isfinite(got)
    # Where a ray only grazes a surface the march stalls or the two disagree about hit and miss.
    assert (np.isfinite(expected) != np.isfinite(got)).mean() < 0.01
    np.testing.assert_allclose(got[both], expected[both], atol=0.05)


@pytest.mark.parametrize("z", [(400.0, 520.0), (520.0, 400.0)], ids=["wide", "narrow"])
@pytest.mark.parametrize("shift", [0.0, 6.0, 25.0])
def test_looking_along_the_axis(z, shift):
    """The ray inside the infinite cone: from the wide end, from the narrow end, at a slant."""
    ends = np.array([[[0.0, 0.0, z[0]], [shift, -shift, z[1]]]])
    radii = np.array([[30.0, 8.0]])
    expected = march(rays(COLUMNS, ROWS, CAMERA), ends, radii)
    got = render(COLUMNS, ROWS, CAMERA, cones_of(ends, radii)).depth_mm
    both = np.isfinite(expected)
    assert both.mean() > 0.2
    np.testing.assert_allclose(np.asarray(got)[both], expected[both], atol=0.05)


def test_a_ball_by_algebra():
    center, radius = np.array([5.0, -8.0, 640.0]), 25.0
    ends = np.stack([center, center])[None]
    hits = render(COLUMNS, ROWS, CAMERA, cones_of(ends, [[radius, radius]]))
    d = rays(COLUMNS, ROWS, CAMERA)
    dd, dc = (d * d).sum(-1), d @ center
    disc = dc**2 - dd * (center @ center - radius**2)
    seen = disc > 0
    t = np.where(seen, (dc - np.sqrt(np.maximum(disc, 0))) / dd, np.inf)
    normal = (t[seen][:, None] * d[seen] - center) / radius
    cosine = -(normal * d[seen]).sum(-1) / np.sqrt(dd[seen])
    np.testing.assert_array_equal(np.isfinite(hits.depth_mm), seen)
    np.testing.assert_allclose(np.asarray(hits.depth_mm)[seen], t[seen], atol=0.02)
    np.testing.assert_allclose(np.asarray(hits.cosine)[seen], cosine, atol=5e-3)


def test_cosine_is_that_of_the_depth_maps_own_normals():
    ends, radii = [[[-30.0, -10.0, 480.0], [40.0, 15.0, 530.0]]], [[22.0, 12.0]]
    columns, rows = np.arange(10, 60, 0.5), np.arange(10, 50, 0.5)
    hits = render(columns, rows, CAMERA, cones_of(ends, radii))
    z = np.where(np.isfinite(hits.depth_mm), hits.depth_mm, np.nan).astype(np.float64)
    d = rays(columns, rows, CAMERA)
    points = z[..., None] * d
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    expected = np.abs((normal * d).sum(-1)) / np.linalg.norm(d, axis=-1)
    inner = np.isfinite(expected) & (np.asarray(hits.cosine) > 0.4)
    assert inner.sum() > 500
    np.testing.assert_allclose(np.asarray(hits.cosine)[inner], expected[inner], atol=0.03)


def test_one_ball_inside_the_other_is_the_larger_ball():
    inside = cones_of([[[0, 0, 500], [3, 0, 500]]], [[30.0, 10.0]])
    alone = cones_of([[[0, 0, 500], [0, 0, 500]]], [[30.0, 30.0]])
    a, b = (render(COLUMNS, ROWS, CAMERA, cones).depth_mm for cones in (inside, alone))
    np.testing.assert_allclose(a, b, atol=1e-3)


def test_only_the_pixels_asked_for_and_nothing_behind_the_camera():
    ends, radii = cones_at(np.random.default_rng(5), 4)
    cones = cones_of(ends, radii)
    whole = render(COLUMNS, ROWS, CAMERA, cones).depth_mm
    part = render(COLUMNS[[7, 3, 3]], ROWS[[9, 1]], CAMERA, cones).depth_mm
    np.testing.assert_allclose(part, np.asarray(whole)[[9, 1]][:, [7, 3, 3]], rtol=1e-6)
    behind = cones_of(ends * [1, 1, -1], radii)
    assert not np.isfinite(render(COLUMNS, ROWS, CAMERA, behind).depth_mm).any()


def test_rows_of_single_and_paired_cones_stack_in_order():
    points = jnp.arange(18.0).reshape(6, 3)
    pair = stack_cones((points[:2], points[2:4], jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
    single = stack_cones((points[4], points[5], jnp.array(5.0), jnp.array(6.0)))
    both = join_cones(pair, single)
    np.testing.assert_array_equal(both.ends_mm[:, 0], points[jnp.array([0, 1, 4])])
    np.testing.assert_array_equal(both.ends_mm[:, 1], points[jnp.array([2, 3, 5])])
    np.testing.assert_array_equal(both.radii_mm, [[1, 3], [2, 4], [5, 6]])
    np.testing.assert_array_equal(along(points[0], points[1], 1 / 3), points[0] + 1)


def test_overlap_begins_at_four_fifths_of_touching_and_counts_what_is_asked():
    center = jnp.array([[0.0, 0, 0], [70, 0, 0], [500, 0, 0], [530, 0, 0]])
    radius, pairs = jnp.full(4, 50.0), np.triu(np.ones((4, 4), bool), 1)
    assert overlap(center, radius, pairs) == pytest.approx(10.0**2 + 50.0**2, rel=1e-5)
    pairs[2, 3] = False
    assert overlap(center, radius, pairs) == pytest.approx(10.0**2, rel=1e-5)
