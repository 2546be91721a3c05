"""Names, bones and pairs; the published labels say whether a bone is one."""

import numpy as np
import pytest
from scipy.io import loadmat

from a2j_jax.geometry import uvd_to_xyz
from a2j_jax.tracks import HANDS2017, ICVL, ITOP, K2HPD, NYU, TRACKS

ALL = [NYU, ICVL, HANDS2017, ITOP, K2HPD]


@pytest.mark.parametrize(
    ("skeleton", "count"),
    list(zip(ALL, [14, 16, 21, 15, 19], strict=True)),
    ids=lambda s: str(s)[:9],
)
def test_every_joint_has_a_name_and_hangs_on_the_skeleton(skeleton, count):
    assert len(skeleton) == len(set(skeleton.joints)) == count
    assert len(skeleton.bones) == len(skeleton.bone_limbs) == count - 1  # a tree
    reached = {0}
    for _ in skeleton.bones:
        reached |= {j for bone in skeleton.bones if reached & set(bone) for j in bone}
    assert reached == set(range(count))


@pytest.mark.parametrize("skeleton", [ITOP, K2HPD], ids=lambda s: s.name)
def test_left_and_right_pair_up(skeleton):
    paired = {joint for pair in skeleton.left_right for joint in pair}
    single = [name for i, name in enumerate(skeleton.joints) if i not in paired]
    assert not any("left" in name or "right" in name for name in single)
    assert len(paired) == 2 * len(skeleton.left_right)
    bones = {frozenset(bone) for bone in skeleton.bones}
    swap = dict(skeleton.left_right) | {right: left for left, right in skeleton.left_right}
    assert {frozenset(swap.get(j, j) for j in bone) for bone in bones} == bones


def test_hands_have_no_sides():
    assert NYU.left_right == ICVL.left_right == HANDS2017.left_right == ()


def bone_lengths(skeleton, joints):
    return np.stack(
        [np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in skeleton.bones], -1
    )


@pytest.mark.parametrize(("track", "limit_mm"), [("nyu", 110), ("icvl", 80)])
def test_bones_of_hands_are_short_and_rigid_in_the_published_labels(official, track, limit_mm):
    labels = loadmat(official / track / f"{track}_keypointsUVD_test.mat")["keypoints3D"]
    spec = TRACKS[track]
    lengths = bone_lengths(spec.skeleton, uvd_to_xyz(labels, spec.camera))
    assert np.median(lengths, axis=0).max() < limit_mm
    assert (lengths.std(axis=0) / lengths.mean(axis=0)).max() < 0.25


def test_bones_of_bodies_are_rigid_in_the_published_labels(official):
    labels = loadmat(official / "itop_side" / "itop_side_keypoints3D_test.mat")["keypoints3D"]
    lengths = bone_lengths(ITOP, labels)
    assert np.median(lengths, axis=0).max() < 0.6  # meters
    assert (lengths.std(axis=0) / lengths.mean(axis=0)).max() < 0.35
    # The person's right is on the image's left: names and sides agree.
    left, right = np.array(ITOP.left_right).T
    assert np.all(np.median(labels[:, left, 0] - labels[:, right, 0], axis=0) > 0)


def test_k2hpd_names_fit_the_published_labels(official):
    labels = loadmat(official / "k2hpd" / "k2hpd_keypoints_test.mat")["keypointsTest"].astype(float)
    median = dict(zip(K2HPD.joints, np.median(labels, axis=0), strict=True))
    down = ["head", "neck", "spine_shoulder", "spine_mid", "spine_base", "left_knee", "left_foot"]
    rows = [median[name][1] for name in down]
    assert rows == sorted(rows)
    across = ["left_hand", "left_elbow", "left_shoulder", "neck", "right_shoulder", "right_elbow"]
    columns = [median[name][0] for name in across]
    assert columns == sorted(columns)
    assert np.median(bone_lengths(K2HPD, labels), axis=0).max() < 40  # px


def test_groups_cover_every_joint_once_and_pool_left_and_right():
    groups = dict(ITOP.groups)
    assert sorted(joint for joints in groups.values() for joint in joints) == list(range(15))
    for left, right in ITOP.left_right:
        assert (right, left) in groups.values()
    regions = dict(ITOP.regions)
    assert regions["full_body"] == tuple(range(15))
    halves = (*regions["upper_body"], ITOP.joints.index("torso"), *regions["lower_body"])
    assert halves == regions["full_body"]
    assert {K2HPD.joints[joint] for joint in K2HPD.torso[1]} == {"left_hip", "right_hip"}
    assert K2HPD.joints[K2HPD.torso[0]] == "neck"
