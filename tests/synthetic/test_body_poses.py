"""Poses stay within the limits of joints, use them, and are as diverse as those of ITOP's people."""

import jax
import numpy as np
import pytest
import scipy.io

from a2j_jax.skeletons import ITOP
from a2j_jax.synthetic import body
from a2j_jax.synthetic.body import sample_pose
from a2j_jax.synthetic.body_scene import FRONT, BodyView
from a2j_jax.tracks import get_track

COUNT = 1000


@pytest.fixture(scope="module")
def poses():
    keys = jax.random.split(jax.random.key(0), COUNT)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(sample_pose))(keys))


@pytest.mark.parametrize(
    ("angles", "limits"),
    [
        (lambda p: p.shoulder[..., 0], body.PLANE_LIMIT_DEG),
        (lambda p: p.shoulder[..., 1], body.ELEVATION_LIMIT_DEG),
        (lambda p: p.shoulder[..., 2], body.SHOULDER_ROTATION_LIMIT_DEG),
        (lambda p: p.elbow, body.ELBOW_LIMIT_DEG),
        (lambda p: p.hip[..., 0], body.HIP_FLEXION_LIMIT_DEG),
        (lambda p: p.hip[..., 1], body.HIP_ABDUCTION_LIMIT_DEG),
        (lambda p: p.hip[..., 2], body.HIP_ROTATION_LIMIT_DEG),
        (lambda p: p.knee, body.KNEE_LIMIT_DEG),
        *((lambda p, i=i: p.spine[:, i], limit) for i, limit in enumerate(body.SPINE_LIMIT_DEG)),
        *((lambda p, i=i: p.neck[:, i], limit) for i, limit in enumerate(body.NECK_LIMIT_DEG)),
    ],
)
def test_angles_stay_within_their_limits_and_use_some_of_them(poses, angles, limits):
    degrees = np.rad2deg(angles(poses))
    assert degrees.min() >= limits[0] - 1e-3
    assert degrees.max() <= limits[1] + 1e-3
    assert np.ptp(degrees) > 0.3 * (limits[1] - limits[0])


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
    track = get_track("synthetic_body")
    view = BodyView(track.label_box_margin_px, FRONT)

    def joints(key):
        return view.compose(key, track.camera, track.frame_size).joints_xyz

    keys = jax.random.split(jax.random.key(1), COUNT)
    path = official / "itop_side" / "itop_side_keypoints3D_test.mat"
    published = scipy.io.loadmat(path)["keypoints3D"].astype(np.float64) * 1000
    return np.asarray(jax.jit(jax.vmap(joints))(keys)), published


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
