"""Anatomy and poses: what is promised about them holds for hundreds of random hands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.skeletons import HANDS2017
from a2j_jax.synthetic import hand

COUNT = 400
FINGERS = np.array([[0, 1 + f, 6 + 3 * f, 7 + 3 * f, 8 + 3 * f] for f in range(5)])


@pytest.fixture(scope="module")
def hands():
    keys = jax.random.split(jax.random.key(0), COUNT)

    @jax.jit
    @jax.vmap
    def one(key):
        k_shape, k_pose = jax.random.split(key)
        shape, pose = hand.sample_shape(k_shape), hand.sample_pose(k_pose)
        return shape, pose, hand.forward_kinematics(shape, pose)

    return jax.tree.map(np.asarray, one(keys))


pose_hand = jax.jit(hand.forward_kinematics)


def first(hands):
    """One of the shapes, and the pose in which all angles are zero."""
    shape = jax.tree.map(lambda x: jnp.asarray(x[0]), hands[0])
    return shape, jax.tree.map(lambda x: jnp.zeros_like(jnp.asarray(x[0])), hands[1])


def test_joint_order_is_that_of_the_skeleton(hands):
    assert hands[2].joints_mm.shape == (COUNT, hand.NUM_JOINTS, 3) == (COUNT, len(HANDS2017), 3)
    assert [chain for _, chain in HANDS2017.limbs] == [tuple(chain) for chain in FINGERS]


def test_bone_lengths_do_not_depend_on_the_pose(hands):
    shape, _, posed = hands
    chains = posed.joints_mm[:, FINGERS]
    lengths = np.linalg.norm(np.diff(chains, axis=2), axis=-1)
    np.testing.assert_allclose(lengths[:, :, 1:], shape.phalanx_mm, rtol=1e-4)
    np.testing.assert_allclose(lengths[:, :, 0], np.linalg.norm(shape.mcp_mm, axis=-1), rtol=1e-4)


def test_hand_sizes_are_those_of_people(hands):
    shape = hands[0]
    # Wrist to middle fingertip, stretched: 155–235 mm covers a small woman and NYU's large subject.
    reach = np.linalg.norm(shape.mcp_mm[:, 2], axis=-1) + shape.phalanx_mm[:, 2].sum(-1)
    assert 140 < reach.min() < 165
    assert 205 < reach.max() < 250
    assert (np.diff(shape.radius_mm, axis=2) < 0).all(), "fingers taper"


def test_angles_stay_within_their_limits(hands):
    pose = hands[1]
    degrees = np.rad2deg(pose.flexion)
    limits = (hand.MCP_LIMIT_DEG, hand.PIP_LIMIT_DEG, hand.DIP_LIMIT_DEG)
    for bone, (low, high) in enumerate(limits):
        assert degrees[:, 1:, bone].min() >= low - 1e-3
        assert degrees[:, 1:, bone].max() <= high + 1e-3
    for bone, (low, high) in enumerate((hand.THUMB_MCP_LIMIT_DEG, hand.THUMB_IP_LIMIT_DEG)):
        assert degrees[:, 0, bone + 1].min() >= low - 1e-3
        assert degrees[:, 0, bone + 1].max() <= high + 1e-3
    wrist = np.rad2deg(pose.wrist)
    limits = (hand.WRIST_FLEXION_LIMIT_DEG, hand.WRIST_DEVIATION_LIMIT_DEG)
    for axis, (low, high) in enumerate(limits):
        assert low - 1e-3 <= wrist[:, axis].min() < wrist[:, axis].max() <= high + 1e-3
    assert (np.abs(np.rad2deg(pose.spread)) < 21).all()


def test_angles_use_their_range(hands):
    """Both stretched and fully folded fingers occur: limits alone would pass for a frozen hand."""
    pip = np.rad2deg(hands[1].flexion[:, 1:, 1])
    assert np.percentile(pip, 10) < 15
    assert np.percentile(pip, 90) > 75


def test_fingers_curl_together_and_dip_follows_pip(hands):
    degrees = np.rad2deg(hands[1].flexion[:, 1:])
    correlation = np.corrcoef(degrees[:, :, 1].T)
    assert correlation[np.triu_indices(4, 1)].min() > 0.3
    assert np.abs(degrees[:, :, 2] - degrees[:, :, 1] * 2 / 3).max() < 8.1


def test_fingers_bend_toward_the_palm(hands):
    """A flexed finger's tip leaves the palm on its +z side; a stretched one points to +y."""
    shape, stretched = first(hands)
    flexed = stretched._replace(flexion=jnp.full((5, 3), 0.8).at[0].set(0.0))
    straight = pose_hand(shape, stretched).joints_mm
    bent = pose_hand(shape, flexed).joints_mm
    tips = FINGERS[1:, 4]
    assert (straight[tips, 1] > 95).all()
    assert (bent[tips, 2] > 25).all()
    assert (straight[FINGERS[:, 1], 0][1:-1] > straight[FINGERS[:, 1], 0][2:]).all(), "+x is radial"


def test_flexed_wrist_brings_the_palm_toward_the_forearm(hands):
    shape, pose = first(hands)
    flexed = pose_hand(shape, pose._replace(wrist=jnp.array([0.7, 0.0])))
    elbow = -np.asarray(flexed.forearm)[:, 1]
    np.testing.assert_allclose(elbow, [0.0, -np.cos(0.7), np.sin(0.7)], atol=1e-5)
    deviated = pose_hand(shape, pose._replace(wrist=jnp.array([0.0, 0.3])))
    # Toward the thumb: the angle between the elbow and the thumb side of the hand closes.
    assert -np.asarray(deviated.forearm)[0, 1] > 0.2
