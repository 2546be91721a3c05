"""Bodies: anatomy, kinematics, balance, poses within the limits of joints and as diverse as ITOP's, and flesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io

from a2j_jax.synthetic import body
from a2j_jax.tracks import ITOP
from tests.synthetic.rendering import at_rest, depth_inside, people

COUNT = 400
J = {name: index for index, name in enumerate(ITOP.joints)}
pose_body = jax.jit(body.forward_kinematics)


def sample(**options):
    keys = jax.random.split(jax.random.key(0), COUNT)
    drawn = jax.jit(jax.vmap(partial(body.sample_body, **options)))(keys)
    return jax.tree.map(np.asarray, drawn)


@pytest.fixture(scope="module")
def bodies():
    """(shape, pose, posed) of random people on their feet."""
    return sample()


@pytest.fixture(scope="module")
def cones(bodies):
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(body.body_cones))(bodies[0], bodies[2]))


@pytest.mark.slow
def test_bone_lengths_do_not_depend_on_the_pose(bodies):
    shape, _, posed = bodies
    lengths = {
        ("head", "neck"): shape.neck_mm,
        ("neck", "torso"): shape.spine_mm[:, 1],
        ("right_hip", "left_hip"): 2 * shape.hip_mm,
    }
    for side in ("right", "left"):
        shoulder, elbow, hand, hip, knee, foot = (
            f"{side}_{part}" for part in ("shoulder", "elbow", "hand", "hip", "knee", "foot")
        )
        lengths |= {("neck", shoulder): shape.shoulder_mm}
        lengths |= dict(zip([(shoulder, elbow), (elbow, hand)], shape.arm_mm.T, strict=True))
        lengths |= dict(zip([(hip, knee), (knee, foot)], shape.leg_mm.T, strict=True))
    for (a, b), length in lengths.items():
        bone = np.linalg.norm(posed.joints_mm[:, J[a]] - posed.joints_mm[:, J[b]], axis=-1)
        np.testing.assert_allclose(bone, length, rtol=1e-4)


def test_people_are_as_tall_as_adults(bodies):
    stature = bodies[0].stature_mm
    assert 1440 < stature.min() < 1520
    assert 1850 < stature.max() < 1950
    assert stature.mean() == pytest.approx((body.MEN_MM[0] + body.WOMEN_MM[0]) / 2, abs=15)


def test_upright_body_is_where_the_body_frame_says(bodies):
    shape, pose = at_rest(bodies)
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
    shape, pose = at_rest(bodies)
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


@pytest.mark.parametrize(
    ("angles", "joint", "axis", "least"),
    [
        ((0.5, 0, 0), "neck", 2, 80),  # forward
        ((0, 0.5, 0), "neck", 0, -80),  # to the right
        ((0, 0, 0.5), "left_shoulder", 2, -50),  # twisted to the left: the left shoulder goes back
    ],
)
def test_trunk_bends_forward_sideways_and_twists(bodies, angles, joint, axis, least):
    shape, pose = at_rest(bodies)
    bent = pose_body(shape, pose._replace(spine=jnp.array(angles))).joints_mm
    moved = np.asarray(bent - pose_body(shape, pose).joints_mm)[J[joint], axis]
    assert moved / least > 1


def test_nobody_falls_over(bodies):
    """The center of mass is near the lowest sole, or between both; soles lie flat in most poses."""
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


@pytest.fixture(scope="module")
def poses():
    keys = jax.random.split(jax.random.key(0), 1000)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(body.sample_pose))(keys))


@pytest.mark.parametrize("joint", ["shoulder", "elbow", "hip", "knee", "spine", "neck"])
def test_angles_stay_within_their_limits_and_use_some_of_them(poses, joint):
    low, high = np.array(getattr(body, f"{joint.upper()}_LIMIT_DEG")).T
    degrees = np.rad2deg(getattr(poses, joint)).reshape(-1, low.size)
    assert (degrees.min(axis=0) >= low - 1e-3).all()
    assert (degrees.max(axis=0) <= high + 1e-3).all()
    assert (np.ptp(degrees, axis=0) > 0.3 * (high - low)).all()


def test_arms_often_do_the_same_but_not_always(poses):
    elevation = np.rad2deg(poses.shoulder[..., 1])
    assert 0.4 < np.corrcoef(elevation.T)[0, 1] < 0.9
    assert (np.abs(elevation[:, 0] - elevation[:, 1]) > 60).mean() > 0.05


def test_left_and_right_are_alike(poses):
    for pairs in (poses.shoulder[..., 1], poses.elbow, poses.hip[..., 0], poses.knee):
        right, left = np.percentile(np.rad2deg(pairs), [25, 50, 75], axis=0).T
        np.testing.assert_allclose(right, left, atol=8)


def test_people_do_what_people_do(poses):
    knees, hips = np.rad2deg(poses.knee), np.rad2deg(poses.hip[..., 0])
    assert 0.4 < ((knees < 30) & (np.abs(hips) < 30)).all(1).mean() < 0.8, "most stand or walk"
    assert 0.03 < (knees > 60).all(1).mean() < 0.25, "some squat, sit or kneel"
    assert 0.03 < ((hips.max(1) > 50) & (knees.min(1) < 20)).mean() < 0.3, "some lift a leg"
    assert 0.15 < (np.rad2deg(poses.shoulder[..., 1]) > 70).any(1).mean() < 0.7, "arms are raised"
    assert 0.005 < (poses.carried_by == body.SEAT).mean() < 0.08
    assert 0.005 < (poses.carried_by == body.KNEES).mean() < 0.08


@pytest.fixture(scope="module")
def rendered_and_published(official):
    """Joints of people of the front preset and of ITOP's test frames, each (N, 15, 3) mm."""
    path = official / "itop_side" / "itop_side_keypoints3D_test.mat"
    published = scipy.io.loadmat(path)["keypoints3D"].astype(np.float64) * 1000
    return people("front").joints_xyz, published


@pytest.mark.slow
def test_bone_lengths_are_like_itops(rendered_and_published):
    """Within 15 %: the people of the published test frames are tall, 1.8 m by their bones."""
    bones = [*ITOP.bones, (2, 3), (9, 10)]
    ours, theirs = (
        np.array([np.median(np.linalg.norm(j[:, a] - j[:, b], axis=-1)) for a, b in bones])
        for j in rendered_and_published
    )
    np.testing.assert_allclose(ours / theirs, 0.93, atol=0.08)


@pytest.mark.slow
def test_joints_are_where_itops_are(rendered_and_published):
    """Relative to the hips: medians within 0.14 m, and people reach at least as far as in ITOP."""
    ours, theirs = (j - j[:, 9:11].mean(axis=1, keepdims=True) for j in rendered_and_published)
    medians = [np.median(j, axis=0) for j in (ours, theirs)]
    np.testing.assert_allclose(medians[0], medians[1], atol=140)
    spread = [np.percentile(j, 95, axis=0) - np.percentile(j, 5, axis=0) for j in (ours, theirs)]
    assert (spread[0] > 0.7 * spread[1]).all()
    # Bent and crouching people are more frequent here, never beyond what a body can.
    heights = [np.percentile(j[:, 0, 1], [1, 50]) for j in (ours, theirs)]
    assert heights[0][0] < heights[1][0] + 50
    assert heights[0][1] == pytest.approx(heights[1][1], abs=130)


@pytest.mark.slow
def test_left_is_left_and_people_face_the_camera_as_in_itop(rendered_and_published):
    """A mirrored person would have their left at the wrong end of every one of these."""
    for joints in rendered_and_published:
        left_minus_right = joints[:, [3, 10], 0].mean(1) - joints[:, [2, 9], 0].mean(1)
        assert 0.85 < (left_minus_right > 0).mean() < 0.99, "left is on the image's right"
        # Anatomy, whichever way one faces: left × up = forward, where hands are held and knees
        # bend. Both cameras have y up, so their axes are the mirror image of the world's.
        world = joints * [1, -1, 1]
        across = world[:, 10] - world[:, 9]
        ahead = np.cross(across, [0, -1, 0])
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        hands = (world[:, 6:8].mean(1) - world[:, 2:4].mean(1)) * ahead
        feet = (world[:, 13:].mean(1) - world[:, 11:13].mean(1)) * ahead
        assert np.median(hands.sum(1)) > 80, "hands are held in front"
        assert np.median(feet.sum(1)) < -30, "shanks go backward"


def test_every_joint_is_inside_of_proper_cones(bodies, cones):
    assert cones.ends_mm.shape == (COUNT, 43, 2, 3)
    assert np.isfinite(cones.ends_mm).all()
    assert 8 < cones.radii_mm.min() < cones.radii_mm.max() < 180
    depth = depth_inside(bodies[2].joints_mm, cones)
    assert depth.min() > 7, "the hand's lies in a palm of 25 mm"
    assert (depth[:, 8] > 60).all(), "the torso's is in the middle of it"


def test_upright_body_has_the_size_of_a_person(bodies):
    shape, pose = at_rest(bodies)
    proportions = {
        "spine_mm": jnp.full(2, body.SPINE),
        "neck_mm": body.NECK,
        "shoulder_mm": body.SHOULDER,
        "hip_mm": body.HIP,
        "arm_mm": jnp.array(body.ARM),
        "leg_mm": jnp.array(body.LEG),
        "stature_mm": 1.0,
    }
    lengths = {name: 1720 * jnp.asarray(x) for name, x in proportions.items()}
    shape = shape._replace(**lengths, girth=jnp.ones(2))
    ends, radii = jax.jit(body.body_cones)(shape, pose_body(shape, pose))
    low = np.min(ends - radii[..., None], axis=(0, 1))
    high = np.max(ends + radii[..., None], axis=(0, 1))
    breadth, height, _ = high - low
    assert height == pytest.approx(1720, rel=0.02)
    assert 400 < breadth < 520, "arms hanging"
    assert np.ptp(ends[-8:, :, 2]) + 2 * 30 == pytest.approx(body.FOOT * 1720, abs=30)
    soles = np.asarray(ends[..., 1] - radii)[-4:]
    assert np.ptp(soles) < 3, "heel, ball and toes touch one plane"


@pytest.mark.slow
def test_least_tangled_pose_is_chosen(bodies):
    tangle = jax.jit(jax.vmap(body.penetration))
    shape, _, other = sample(candidates=1)
    chosen, random = (np.asarray(tangle(shape, posed)) for posed in (bodies[2], other))
    assert chosen.mean() < 0.5 * random.mean()
    assert (chosen < 15.0**2).mean() > 0.9


def test_penetration_sees_a_hand_in_the_belly_but_not_hanging_arms(bodies):
    shape, pose = at_rest(bodies)
    shoulder = pose.shoulder.at[:, 1].set(0.15)
    apart = pose._replace(shoulder=shoulder)
    stab = pose._replace(shoulder=shoulder.at[0, 2].set(1.5), elbow=pose.elbow.at[0].set(1.6))
    hanging, stabbed = (body.penetration(shape, pose_body(shape, p)) for p in (apart, stab))
    assert hanging < 1.0
    assert stabbed > 20.0**2
