"""Hands: anatomy, poses, flesh, gestures, and the correspondence with the joints of other data sets."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import loadmat

from a2j_jax.geometry import Camera, uvd_to_xyz
from a2j_jax.synthetic import hand
from a2j_jax.synthetic.render import RoundCones
from a2j_jax.synthetic.render import render as render_eagerly
from a2j_jax.tracks import HANDS2017, ICVL, NYU, get_track
from tests.synthetic.rendering import at_rest, depth_inside
from tests.test_benchmarks import load

COUNT = 400
FINGERS = np.array([chain for _, chain in HANDS2017.limbs])  # from the thumb, from the wrist


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


def test_angles_stay_within_their_limits_and_use_them(hands):
    """Both stretched and fully folded fingers occur: limits alone would pass for a frozen hand."""
    flexion, wrist = np.rad2deg(hands[1].flexion), np.rad2deg(hands[1].wrist)
    for degrees, (low, high) in (
        (flexion[:, 1:, 0], hand.MCP_LIMIT_DEG),
        (flexion[:, 1:, 1], hand.PIP_LIMIT_DEG),
        (flexion[:, 1:, 2], hand.DIP_LIMIT_DEG),
        (flexion[:, 0, 1], hand.THUMB_MCP_LIMIT_DEG),
        (flexion[:, 0, 2], hand.THUMB_IP_LIMIT_DEG),
        (wrist[:, 0], hand.WRIST_FLEXION_LIMIT_DEG),
        (wrist[:, 1], hand.WRIST_DEVIATION_LIMIT_DEG),
    ):
        assert low - 1e-3 <= degrees.min() < degrees.max() <= high + 1e-3
    assert (np.abs(np.rad2deg(hands[1].spread)) < 21).all()
    assert np.percentile(flexion[:, 1:, 1], 10) < 15
    assert np.percentile(flexion[:, 1:, 1], 90) > 75


def test_fingers_curl_together_and_dip_follows_pip(hands):
    degrees = np.rad2deg(hands[1].flexion[:, 1:])
    correlation = np.corrcoef(degrees[:, :, 1].T)
    assert correlation[np.triu_indices(4, 1)].min() > 0.3
    assert np.abs(degrees[:, :, 2] - degrees[:, :, 1] * 2 / 3).max() < 8.1


def test_fingers_bend_toward_the_palm(hands):
    """A flexed finger's tip leaves the palm on its +z side; a stretched one points to +y."""
    shape, stretched = at_rest(hands)
    flexed = stretched._replace(flexion=jnp.full((5, 3), 0.8).at[0].set(0.0))
    straight = pose_hand(shape, stretched).joints_mm
    bent = pose_hand(shape, flexed).joints_mm
    tips = FINGERS[1:, 4]
    assert (straight[tips, 1] > 95).all()
    assert (bent[tips, 2] > 25).all()
    assert (straight[FINGERS[:, 1], 0][1:-1] > straight[FINGERS[:, 1], 0][2:]).all(), "+x is radial"


def test_flexed_wrist_brings_the_palm_toward_the_forearm(hands):
    shape, pose = at_rest(hands)
    flexed = pose_hand(shape, pose._replace(wrist=jnp.array([0.7, 0.0])))
    elbow = -np.asarray(flexed.forearm)[:, 1]
    np.testing.assert_allclose(elbow, [0.0, -np.cos(0.7), np.sin(0.7)], atol=1e-5)
    deviated = pose_hand(shape, pose._replace(wrist=jnp.array([0.0, 0.3])))
    # Toward the thumb: the angle between the elbow and the thumb side of the hand closes.
    assert -np.asarray(deviated.forearm)[0, 1] > 0.2


render = jax.jit(render_eagerly, static_argnums=2)

AVERAGE = hand.average_hand()
FLAT = hand.HandPose(*(jnp.zeros(shape) for shape in ((5, 3), (5,), (), (3,), (2,))))


@jax.jit
def cover(shape, pose):
    posed = hand.forward_kinematics(shape, pose)
    return posed, hand.hand_cones(shape, posed)


@pytest.fixture(scope="module")
def chosen():
    @jax.jit
    @jax.vmap
    def one(key):
        shape, pose = hand.sample_hand(key)
        posed = hand.forward_kinematics(shape, pose)
        return shape, posed, hand.hand_cones(shape, posed)

    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(0), 64)))


def test_every_joint_is_at_least_its_radius_inside_of_proper_cones(chosen):
    shape, posed, cones = chosen
    assert posed.joints_mm.shape[1:] == (len(HANDS2017), 3)
    assert cones.ends_mm.shape[1:] == (39, 2, 3)
    length = np.linalg.norm(cones.ends_mm[:, :, 1] - cones.ends_mm[:, :, 0], axis=-1)
    assert (cones.radii_mm > 3.0).all()
    assert (np.abs(cones.radii_mm[..., 0] - cones.radii_mm[..., 1]) < length).mean() > 0.99
    inside = depth_inside(posed.joints_mm, cones)
    tips = shape.radius_mm[:, :, 1:].reshape(64, 15)
    radius = np.concatenate([shape.radius_mm[:, :, 0], tips], axis=1)
    assert (inside[:, 1:] >= radius - 1e-3).all()
    assert inside[:, 0].min() > 6.0, "the wrist"


def test_forearm_is_smooth_and_narrow_at_the_wrist():
    """Seen from the palm, its width grows steadily from the wrist toward the elbow: no beads."""
    _, cones = cover(AVERAGE, FLAT)
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
    assert depth_inside(row[None], RoundCones(*(x[None] for x in cones))).min() > 6.0


def test_the_least_tangled_candidate_is_taken(chosen):
    shape, posed, _ = chosen

    @jax.jit
    @jax.vmap
    def tangles(shape, posed, key):
        other = hand.forward_kinematics(shape, hand.sample_pose(key))
        return hand.penetration(shape, posed), hand.penetration(shape, other)

    least, blind = tangles(shape, posed, jax.random.split(jax.random.key(9), 64))
    assert least.mean() < 0.6 * blind.mean()


def test_penetration_sees_a_finger_in_another_but_not_a_flat_hand():
    open_hand = FLAT._replace(
        spread=jnp.deg2rad(jnp.asarray(hand.SPREAD_DEG)),
        thumb=jnp.deg2rad(jnp.array([50.0, 10.0, 40.0])),
    )
    crossed = FLAT._replace(spread=jnp.deg2rad(jnp.array([0.0, -18, 18, 0, 0])))
    tangle = jax.jit(hand.penetration)
    assert tangle(AVERAGE, cover(AVERAGE, open_hand)[0]) < 5.0
    assert tangle(AVERAGE, cover(AVERAGE, crossed)[0]) > 50.0


GESTURES = ("natural", "pinch", "fist", "pointing", "counting", "flat", "claw")


@pytest.fixture(scope="module")
def varied():
    """Settings -> 400 shapes, poses, posed hands and their `penetration` at scale 1, mm²."""

    @jax.jit
    @jax.vmap
    def one(key, spec):
        shape, pose = hand.sample_hand(key, spec)
        posed = hand.forward_kinematics(shape, pose)
        return shape, pose, posed, hand.penetration(shape, posed) / shape.scale**2

    def sample(**shares):
        spec = dataclasses.replace(hand.VARIED, **{**dict.fromkeys(GESTURES, 0.0), **shares})
        specs = jax.tree.map(lambda x: jnp.full(COUNT, x), spec if shares else hand.VARIED)
        return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(0), COUNT), specs))

    return sample


RECORDED = [
    [46.98, 106.9, 76.53],
    [40.57, 172.54, 29.78],
    [11.44, 200.45, 9.61],
    [-38.33, 181.07, -2.69],
    [-67.54, 144.82, 21.61],
]


def test_default_hands_are_those_of_the_quickstart():
    """Joints of one key, as sampled when the quickstart was published."""
    shape, pose = jax.jit(hand.sample_hand)(jax.random.key(7))
    tips = pose_hand(shape, pose).joints_mm[FINGERS[:, 4]]
    np.testing.assert_allclose(tips, RECORDED, atol=0.01)


def test_people_are_children_and_adults_with_proportions_that_vary_together(varied):
    shape = varied()[0]
    child = shape.scale < 0.85
    assert 0.15 < child.mean() < 0.25
    reach = np.linalg.norm(shape.mcp_mm[:, 2], axis=-1) + shape.phalanx_mm[:, 2].sum(-1)
    assert 105 < reach.min() < 120, "five years"
    assert 220 < reach.max() < 250, "a large man"
    # Relative to the size: children have thick fingers, broad palms are thick ones, fingers lengthen together.
    girth = (shape.radius_mm / hand.RADIUS_MM).mean((1, 2)) / shape.scale
    breadth = (shape.mcp_mm[:, 1, 0] - shape.mcp_mm[:, 4, 0]) / shape.scale
    length = (shape.phalanx_mm / hand.PHALANX_MM).mean(-1) / shape.scale[:, None]
    assert 1.05 < girth[child].mean() / girth[~child].mean() < 1.15
    assert 0.3 < np.corrcoef(girth[~child], breadth[~child])[0, 1] < 0.7
    assert np.corrcoef(length.T)[np.triu_indices(5, 1)].min() > 0.4
    assert 0.03 < breadth.std() / breadth.mean() < 0.06


def test_all_poses_stay_within_their_limits_and_barely_intersect(varied):
    _, pose, _, tangle = varied()
    flexion = np.rad2deg(pose.flexion)
    for degrees, (low, high) in (
        (flexion[:, 1:, 0], hand.MCP_LIMIT_DEG),
        (flexion[:, 1:, 1], hand.PIP_LIMIT_DEG),
        (flexion[:, 1:, 2], hand.DIP_LIMIT_DEG),
        (flexion[:, 0, 1], hand.THUMB_MCP_LIMIT_DEG),
        (flexion[:, 0, 2], hand.THUMB_IP_LIMIT_DEG),
    ):
        assert low - 1e-3 <= degrees.min() < degrees.max() <= high + 1e-3
    assert np.percentile(tangle, 95) < 0.5


def test_gestures_have_the_shares_of_the_settings():
    choose = jax.jit(jax.vmap(hand._choose_gesture, (0, None)))
    chosen = choose(jax.random.split(jax.random.key(1), 4000), hand.VARIED)
    shares = [getattr(hand.VARIED, name) for name in GESTURES]
    counted = np.bincount(np.asarray(chosen.kind), minlength=8) / 4000
    np.testing.assert_allclose(counted, [*shares, 1 - sum(shares)], atol=0.02)


def test_each_gesture_looks_like_itself(varied):
    def stretched(pose):
        """(N, 4) bool: a finger with less than 60° and one with more than 150° of flexion in all."""
        total = np.rad2deg(pose.flexion[:, 1:].sum(-1))
        assert ((total < 60) | (total > 150)).mean() > 0.99
        return total < 60

    assert not stretched(varied(fist=1.0)[1]).any()
    np.testing.assert_array_equal(
        stretched(varied(pointing=1.0)[1]).all(0), [True, False, False, False]
    )
    assert stretched(varied(flat=1.0)[1]).mean() > 0.99
    subsets = stretched(varied(counting=1.0)[1])
    assert len(np.unique(subsets, axis=0)) == 16
    assert 0.4 < subsets.mean() < 0.6
    claw = np.rad2deg(varied(claw=1.0)[1].flexion[:, 1:].mean((0, 1)))
    np.testing.assert_allclose(claw, [0, 72, 48], atol=6)


def test_a_pinch_brings_tips_together(varied):
    shape, _, posed, _ = varied(pinch=1.0)
    tips, radius = posed.joints_mm[:, FINGERS[:, 4]], shape.radius_mm[:, :, 3]
    apart = np.linalg.norm(tips[:, 1:] - tips[:, :1], axis=-1) - radius[:, 1:] - radius[:, :1]
    assert np.percentile(np.abs(apart.min(1)), 90) < 2.0
    chosen = np.bincount(apart.argmin(1), minlength=4) / COUNT
    np.testing.assert_allclose(chosen, [0.5, 0.25, 0.125, 0.125], atol=0.08)


def test_natural_poses_have_the_means_of_the_recorded_ones(varied):
    prior = json.loads(Path(hand.__file__).with_name("pose_prior.json").read_text())
    degrees = np.rad2deg(varied(natural=1.0)[1].flexion[:, 1:])
    np.testing.assert_allclose(
        degrees.mean(0)[:, 1], np.reshape(prior["mean"][:12], (4, 3))[:, 1], atol=8
    )
    assert np.corrcoef(degrees[:, :, 1].T)[np.triu_indices(4, 1)].min() > 0.5


def test_the_prior_is_what_its_script_fits(reference):
    fitted = load("fit_pose_prior").fit(reference / "poses" / "animbank.pose")
    shipped = json.loads(Path(hand.__file__).with_name("pose_prior.json").read_text())
    assert fitted.keys() == shipped.keys()
    for name in fitted.keys() - {"source"}:
        np.testing.assert_allclose(fitted[name], shipped[name], atol=0.05, err_msg=name)


def test_nyus_joints_are_those_of_the_same_names():
    joints = np.arange(2 * 21 * 3, dtype=np.float32).reshape(2, 21, 3)
    nyu, valid = hand.hand_to_nyu14(joints)
    assert nyu.shape == (2, 14, 3)
    assert nyu.dtype == np.float32
    parts = {"tip": "tip", "mid": "pip", "root": "pip"}
    for index, name in enumerate(NYU.joints):
        if not valid[index]:
            assert name in ("wrist_pinky_side", "wrist_thumb_side", "palm")
            assert (nyu[:, index] == 0).all()
            continue
        finger, part = name.split("_")
        ours = "dip" if name == "thumb_mid" else parts[part]
        expected = joints[:, HANDS2017.joints.index(f"{finger}_{ours}")]
        np.testing.assert_array_equal(nyu[:, index], expected)


def test_joints_are_named_as_in_hands2017():
    """Of a stretched hand, each finger's joints lie on one line from its MCP, the thumb on the thumb's side."""
    joints = np.asarray(cover(AVERAGE, FLAT)[0].joints_mm)
    named = dict(zip(HANDS2017.joints, joints, strict=True))
    for row, finger in enumerate(("thumb", "index", "middle", "ring", "pinky")):
        chain = np.stack([named[f"{finger}_{part}"] for part in ("mcp", "pip", "dip", "tip")])
        lengths = np.linalg.norm(np.diff(chain, axis=0), axis=-1)
        np.testing.assert_allclose(lengths, hand.PHALANX_MM[row], rtol=1e-4)
        assert np.linalg.norm(chain[3] - chain[0]) == pytest.approx(lengths.sum(), rel=1e-4)
    np.testing.assert_array_equal(named["wrist"], 0.0)
    assert named["thumb_mcp"][2] > named["pinky_mcp"][2]


def test_icvls_joints_are_the_middles_of_bones():
    joints = np.random.default_rng(0).normal(0, 50, (2, 21, 3)).astype(np.float32)
    icvl = hand.hand_to_icvl16(joints)
    assert (icvl.shape, icvl.dtype) == ((2, 16, 3), np.float32)
    ends = {"root": ("mcp", "pip"), "mid": ("pip", "dip"), "tip": ("dip", "tip")}
    for index, name in enumerate(ICVL.joints[1:], start=1):
        finger, part = name.split("_")
        a, b = (joints[:, HANDS2017.joints.index(f"{finger}_{end}")] for end in ends[part])
        np.testing.assert_allclose(icvl[:, index], (a + b) / 2, atol=1e-4)


def test_icvls_bones_have_the_lengths_of_its_published_labels(reference):
    uvd = loadmat(reference / "official" / "icvl" / "icvl_keypointsUVD_test.mat")["keypoints3D"]
    camera = get_track("icvl").camera
    assert camera is not None
    labels = uvd_to_xyz(uvd.astype(np.float64), camera)
    ours = hand.hand_to_icvl16(0.93 * np.asarray(cover(AVERAGE, FLAT)[0].joints_mm))
    bones = np.array([b for b, limb in zip(ICVL.bones, ICVL.bone_limbs, strict=True) if limb > 0])
    lengths = [
        np.linalg.norm(x[..., bones[:, 1], :] - x[..., bones[:, 0], :], axis=-1)
        for x in (labels, ours)
    ]
    apart = np.abs(lengths[1] - np.median(lengths[0], axis=0))
    assert apart.mean() < 2.0
    assert apart.max() < 6.0


def test_skin_tips_are_where_fingers_end(chosen):
    """Against the ball at the end of the rendered finger, whose radius differs from hand to hand."""
    shape, posed, cones = chosen
    joints, tips = posed.joints_mm, FINGERS[:, 4]
    onward = joints[:, tips] - joints[:, tips - 1]
    onward /= np.linalg.norm(onward, axis=-1, keepdims=True)
    true = joints[:, tips] + shape.radius_mm[:, :, 3:] * onward
    outside = depth_inside(true, cones)
    assert np.abs(outside[outside < 1.0]).max() < 0.01, (
        "on the surface where nothing else covers it"
    )
    assert (outside < 1.0).mean() > 0.8
    moved = hand.skin_tips(joints)
    error = np.linalg.norm(moved[:, tips] - true, axis=-1)
    assert error.mean() < 1.0
    assert np.linalg.norm(joints[:, tips] - true, axis=-1).mean() > 7.0
    rest = np.setdiff1d(np.arange(21), tips)
    np.testing.assert_array_equal(moved[:, rest], joints[:, rest])
    assert moved.dtype == joints.dtype
    in_jax = jax.jit(hand.skin_tips)(joints)
    assert isinstance(in_jax, jax.Array)
    np.testing.assert_allclose(in_jax, moved, atol=1e-3)
