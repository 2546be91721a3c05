"""Flesh: every joint is inside it, nothing is degenerate, sizes are a person's, few limbs are tangled."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.synthetic import body
from a2j_jax.synthetic import body as body_surface

COUNT = 400


@pytest.fixture(scope="module")
def bodies():
    """(shape, pose, posed, cones)."""
    drawn = sample()
    cones = jax.jit(jax.vmap(body_surface.body_cones))(drawn[0], drawn[2])
    return jax.tree.map(np.asarray, (*drawn, cones))


def sample(**options):
    keys = jax.random.split(jax.random.key(0), COUNT)
    return jax.jit(jax.vmap(partial(body_surface.sample_body, **options)))(keys)


def inside(points, cones):
    """(N, P) signed depth of points below the nearest surface of (N, C) round cones, mm."""
    a, b = np.moveaxis(cones.ends_mm, 2, 0)
    axis = b - a
    share = np.einsum("npcx,ncx->npc", points[:, :, None] - a[:, None], axis)
    share = np.clip(share / np.square(axis).sum(-1)[:, None], 0, 1)[..., None]
    nearest = a[:, None] + share * axis[:, None]
    radii = cones.radii_mm[:, None, :, :1] * (1 - share) + cones.radii_mm[:, None, :, 1:] * share
    return (radii[..., 0] - np.linalg.norm(points[:, :, None] - nearest, axis=-1)).max(-1)


def test_every_joint_is_inside(bodies):
    depth = inside(bodies[2].joints_mm, bodies[3])
    assert depth.min() > 7, "the hand's lies in a palm of 25 mm"
    assert (depth[:, 8] > 60).all(), "the torso's is in the middle of it"


def test_all_cones_are_proper(bodies):
    ends, radii = bodies[3]
    assert ends.shape == (COUNT, 43, 2, 3)
    assert np.isfinite(ends).all()
    assert radii.min() > 8
    assert radii.max() < 180


def test_upright_body_has_the_size_of_a_person(bodies):
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), bodies[0])._replace(
        stature_mm=jnp.array(1720.0), girth=jnp.ones(2)
    )
    pose = jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), bodies[1])
    proportions = {
        "spine_mm": jnp.full(2, body.SPINE),
        "neck_mm": body.NECK,
        "shoulder_mm": body.SHOULDER,
        "hip_mm": body.HIP,
        "arm_mm": jnp.array(body.ARM),
        "leg_mm": jnp.array(body.LEG),
    }
    shape = shape._replace(**{name: 1720 * jnp.asarray(x) for name, x in proportions.items()})
    ends, radii = body_surface.body_cones(shape, body.forward_kinematics(shape, pose))
    low = np.min(ends - radii[..., None], axis=(0, 1))
    high = np.max(ends + radii[..., None], axis=(0, 1))
    height, breadth = (high - low)[1], (high - low)[0]
    assert height == pytest.approx(1720, rel=0.02)
    assert 400 < breadth < 520, "arms hanging"
    feet = ends[-8:, :, 2]
    assert np.ptp(feet) + 2 * 30 == pytest.approx(body.FOOT * 1720, abs=30)


def test_soles_are_flat(bodies):
    """Heel, ball and toes of an upright person touch one plane."""
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), bodies[0])
    pose = jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), bodies[1])
    ends, radii = body_surface.body_cones(shape, body.forward_kinematics(shape, pose))
    bottom = np.asarray(ends[..., 1] - radii)[-4:]
    assert np.ptp(bottom) < 3


@pytest.mark.slow
def test_least_tangled_pose_is_chosen(bodies):
    tangle = jax.jit(jax.vmap(body_surface.penetration))
    shape, _, other = sample(candidates=1)
    chosen, random = (np.asarray(tangle(shape, posed)) for posed in (bodies[2], other))
    assert chosen.mean() < 0.5 * random.mean()
    assert (chosen < 15.0**2).mean() > 0.9


def test_penetration_sees_a_hand_in_the_belly_but_not_hanging_arms(bodies):
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), bodies[0])
    pose = jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), bodies[1])
    apart = pose._replace(shoulder=pose.shoulder.at[:, 1].set(0.15))
    stab = apart._replace(
        shoulder=apart.shoulder.at[0, 2].set(1.5), elbow=apart.elbow.at[0].set(1.6)
    )
    hanging, stabbed = (
        body_surface.penetration(shape, body.forward_kinematics(shape, p)) for p in (apart, stab)
    )
    assert hanging < 1.0
    assert stabbed > 20.0**2
