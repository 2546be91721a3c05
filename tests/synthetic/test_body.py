"""Anatomy and kinematics of bodies: bone lengths, left and right, which way joints bend, standing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.skeletons import ITOP
from a2j_jax.synthetic import body
from a2j_jax.synthetic.body import sample_body

COUNT = 400
J = {name: index for index, name in enumerate(ITOP.joints)}
pose_body = jax.jit(body.forward_kinematics)


@pytest.fixture(scope="module")
def bodies():
    """(shape, pose, posed) of random people on their feet."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(sample_body))(keys))


def upright(bodies):
    """One of the shapes, and the pose in which all angles are zero."""
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), bodies[0])
    return shape, jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), bodies[1])


def test_bone_lengths_do_not_depend_on_the_pose(bodies):
    shape, _, posed = bodies

    def bone(a, b):
        return np.linalg.norm(posed.joints_mm[:, J[a]] - posed.joints_mm[:, J[b]], axis=-1)

    def same(length, *bones):
        for a, b in bones:
            np.testing.assert_allclose(bone(a, b), length, rtol=1e-4)

    same(shape.neck_mm, ("head", "neck"))
    same(shape.spine_mm[:, 1], ("neck", "torso"))
    for side in ("right", "left"):
        same(shape.shoulder_mm, ("neck", f"{side}_shoulder"))
        same(shape.arm_mm[:, 0], (f"{side}_shoulder", f"{side}_elbow"))
        same(shape.arm_mm[:, 1], (f"{side}_elbow", f"{side}_hand"))
        same(shape.leg_mm[:, 0], (f"{side}_hip", f"{side}_knee"))
        same(shape.leg_mm[:, 1], (f"{side}_knee", f"{side}_foot"))
    same(2 * shape.hip_mm, ("right_hip", "left_hip"))


def test_people_are_as_tall_as_adults(bodies):
    stature = bodies[0].stature_mm
    assert 1440 < stature.min() < 1520
    assert 1850 < stature.max() < 1950
    assert stature.mean() == pytest.approx((body.MEN_MM[0] + body.WOMEN_MM[0]) / 2, abs=15)


def test_upright_body_is_where_the_body_frame_says(bodies):
    shape, pose = upright(bodies)
    j = np.asarray(pose_body(shape, pose).joints_mm)
    for left, right in ITOP.left_right:
        np.testing.assert_allclose(j[left] * [-1, 1, 1], j[right], atol=1e-2)
        assert j[left, 0] > 50, "the person's left is +x"
    for higher, lower in (("head", "neck"), ("neck", "torso"), ("torso", "left_hip")):
        assert j[J[higher], 1] > j[J[lower], 1] + 100
    np.testing.assert_allclose(j[:, 2], 0, atol=1e-2)
    reach = j[J["head"], 1] - j[J["left_foot"], 1]
    assert reach == pytest.approx(0.93 * float(shape.stature_mm), rel=0.05)


@pytest.mark.parametrize("side", [0, 1])
def test_joints_bend_the_way_people_do(bodies, side):
    shape, pose = upright(bodies)
    sign, name = (-1, 1)[side], ("right", "left")[side]

    def moved(**angles):
        """Where a joint of that side goes from hanging, seen with its own side on +x."""
        changed = {k: getattr(pose, k).at[side].set(jnp.array(v)) for k, v in angles.items()}
        after = pose_body(shape, pose._replace(**changed)).joints_mm
        return (np.asarray(after) - rest) * [sign, 1, 1]

    rest = np.asarray(pose_body(shape, pose).joints_mm)
    hand, elbow, foot, knee = (J[f"{name}_{part}"] for part in ("hand", "elbow", "foot", "knee"))
    half = np.pi / 2
    assert moved(elbow=half)[hand, 2] > 250, "the forearm comes forward"
    assert moved(knee=half)[foot, 2] < -300, "the heel goes backward"
    assert moved(hip=[half, 0, 0])[knee, 2] > 300, "the knee comes forward"
    assert moved(hip=[0, 0.5, 0])[foot, 0] > 300, "the leg goes to its own side"
    assert moved(shoulder=[0, half, 0])[elbow, 0] > 200, "the arm goes to its own side"
    assert moved(shoulder=[half, half, 0])[elbow, 2] > 200, "the arm goes forward"
    assert moved(shoulder=[0, 0, 1], elbow=half)[hand, 0] < -200, "the forearm lies on the belly"
    others = [i for i, joint in enumerate(ITOP.joints) if not joint.startswith(name)]
    assert np.abs(moved(elbow=half, knee=half)[others]).max() < 1e-3


def test_trunk_bends_forward_sideways_and_twists(bodies):
    shape, pose = upright(bodies)
    neck, left = J["neck"], J["left_shoulder"]
    straight = np.asarray(pose_body(shape, pose).joints_mm)
    for angles, joint, axis in (((0.5, 0, 0), neck, 2), ((0, 0.5, 0), neck, 0)):
        bent = np.asarray(pose_body(shape, pose._replace(spine=jnp.array(angles))).joints_mm)
        moved = (bent - straight)[joint, axis]
        assert moved > 80 if axis == 2 else moved < -80, "forward; to the right"
    twisted = pose_body(shape, pose._replace(spine=jnp.array([0, 0, 0.5]))).joints_mm
    assert twisted[left, 2] < -50, "to the left: the left shoulder goes back"


def test_nobody_falls_over(bodies):
    """The centre of mass is near the lowest sole, or between both; soles lie flat in most poses."""
    shape, pose, posed = bodies
    on_feet = pose.carried_by == body.FEET
    assert 0.9 < on_feet.mean() < 1.0
    j = posed.joints_mm[on_feet]
    mass = np.einsum("njk,j->nk", j, body._MASS / body._MASS.sum())[:, [0, 2]]
    soles = j[:, 13:] + 0.045 * shape.stature_mm[on_feet, None, None] * np.array([0, 0, 1])
    low, high = soles[..., [0, 2]].min(1), soles[..., [0, 2]].max(1)
    outside = np.maximum(np.maximum(low - mass, mass - high), 0).max(-1)
    assert np.median(outside) < 30
    assert np.percentile(outside, 95) < 150
    standing_foot = np.argmin(j[:, 13:, 1], axis=1)
    tilt = posed.foot[on_feet][np.arange(len(j)), standing_foot, 1, 2]
    assert np.percentile(np.abs(tilt), 75) < 0.05
