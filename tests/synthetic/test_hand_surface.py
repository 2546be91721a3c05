"""Flesh: every joint is inside it, nothing is degenerate, and tangled poses are avoided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.geometry import Camera
from a2j_jax.synthetic import hand
from a2j_jax.synthetic import hand as hand_surface
from a2j_jax.synthetic.render import RoundCones
from a2j_jax.synthetic.render import render as render_eagerly

render = jax.jit(render_eagerly, static_argnums=2)

AVERAGE = hand.HandShape(
    scale=jnp.ones(()),
    mcp_mm=jnp.asarray(hand.MCP_MM),
    phalanx_mm=jnp.asarray(hand.PHALANX_MM),
    radius_mm=jnp.asarray(hand.RADIUS_MM),
    thickness=jnp.ones(()),
    forearm=jnp.ones(()),
)
FLAT = hand.HandPose(*(jnp.zeros(shape) for shape in ((5, 3), (5,), (), (3,), (2,))))


@jax.jit
def cover(shape, pose):
    posed = hand.forward_kinematics(shape, pose)
    return posed, hand_surface.hand_cones(shape, posed)


def depth_inside(points, ends, radii):
    """How deep points (N, 3) lie inside a union of round cones (from balls along the axes), mm."""
    s = np.linspace(0.0, 1.0, 65)[:, None, None]
    centers = (1 - s) * ends[:, 0] + s * ends[:, 1]
    swept = (1 - s[..., 0]) * radii[:, 0] + s[..., 0] * radii[:, 1]
    gap = np.linalg.norm(points[:, None, None] - centers, axis=-1) - swept
    return -gap.min(axis=(1, 2))


@pytest.fixture(scope="module")
def hands():
    @jax.jit
    @jax.vmap
    def one(key):
        shape, pose = hand_surface.sample_hand(key)
        posed = hand.forward_kinematics(shape, pose)
        return shape, posed, hand_surface.hand_cones(shape, posed)

    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(0), 64)))


def test_every_joint_is_at_least_its_radius_inside(hands):
    shape, posed, cones = hands
    for i in range(64):
        inside = depth_inside(posed.joints_mm[i], cones.ends_mm[i], cones.radii_mm[i])
        radius = np.concatenate([shape.radius_mm[i, :, 0], shape.radius_mm[i, :, 1:].ravel()])
        assert (inside[1:] >= radius - 1e-3).all()
        assert inside[0] > 6.0, "the wrist"


def test_all_cones_are_proper(hands):
    _, _, cones = hands
    assert cones.ends_mm.shape[1:] == (39, 2, 3)
    length = np.linalg.norm(cones.ends_mm[:, :, 1] - cones.ends_mm[:, :, 0], axis=-1)
    assert (cones.radii_mm > 3.0).all()
    assert (np.abs(cones.radii_mm[..., 0] - cones.radii_mm[..., 1]) < length).mean() > 0.99


def test_forearm_is_smooth_and_narrow_at_the_wrist():
    """Seen from the palm, its width grows steadily from the wrist toward the elbow: no beads."""
    shape = jax.tree.map(jnp.ones_like, hand.sample_shape(jax.random.key(0)))
    shape = shape._replace(
        mcp_mm=jnp.asarray(hand.MCP_MM),
        phalanx_mm=jnp.asarray(hand.PHALANX_MM),
        radius_mm=jnp.asarray(hand.RADIUS_MM),
    )
    pose = jax.tree.map(jnp.zeros_like, hand.sample_pose(jax.random.key(0)))
    cones = hand_surface.hand_cones(shape, hand.forward_kinematics(shape, pose))
    far = RoundCones(
        cones.ends_mm * jnp.array([1.0, -1.0, -1.0]) + jnp.array([0, 0, 1000.0]), cones.radii_mm
    )
    columns, rows = np.arange(-100, 101), np.arange(-30, 180, 5)
    seen = np.isfinite(render(columns, rows, Camera(1000.0, 1000.0, 0.0, 0.0), far).depth_mm)
    width = seen.sum(axis=1)
    wrist, forearm = width[(rows > 0) & (rows < 25)], width[(rows >= 25) & (rows < 170)]
    assert 50 < wrist.min() < 68
    assert (np.diff(forearm) >= 0).all()
    assert np.abs(np.diff(forearm, n=2)).max() <= 2, "no bumps"


def test_palm_is_filled():
    """No hole and no deep groove between the metacarpals of a flat hand."""
    posed, cones = cover(AVERAGE, FLAT)
    index, pinky = np.asarray(posed.joints_mm[2]), np.asarray(posed.joints_mm[5])
    row = np.linspace(0.75 * index, 0.75 * pinky, 60)
    inside = depth_inside(row, np.asarray(cones.ends_mm), np.asarray(cones.radii_mm))
    assert inside.min() > 6.0


def test_the_least_tangled_candidate_is_taken(hands):
    shape, posed, _ = hands

    @jax.jit
    @jax.vmap
    def tangles(shape, posed, key):
        other = hand.forward_kinematics(shape, hand.sample_pose(key))
        penetration = hand_surface.penetration
        return penetration(shape, posed), penetration(shape, other)

    chosen, blind = tangles(shape, posed, jax.random.split(jax.random.key(9), 64))
    assert chosen.mean() < 0.6 * blind.mean()


def test_penetration_sees_a_finger_in_another_but_not_a_flat_hand():
    open_hand = FLAT._replace(
        spread=jnp.deg2rad(jnp.asarray(hand.SPREAD_DEG)),
        thumb=jnp.deg2rad(jnp.array([50.0, 10.0, 40.0])),
    )
    crossed = FLAT._replace(spread=jnp.deg2rad(jnp.array([0.0, -18, 18, 0, 0])))
    tangle = jax.jit(hand_surface.penetration)
    assert tangle(AVERAGE, cover(AVERAGE, open_hand)[0]) < 5.0
    assert tangle(AVERAGE, cover(AVERAGE, crossed)[0]) > 50.0
