"""The anchors that are drawn are those that `aggregate` averages."""

import jax
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.data import augment
from a2j_jax.errors import UserError
from a2j_jax.figures import anchor_figures as votes
from a2j_jax.models.anchors import aggregate, anchor_grid, anchor_weights
from a2j_jax.runs.experiment import resolve
from a2j_jax.runs.load import Restored
from a2j_jax.tracks import HANDS2017, ITOP, K2HPD, NYU, Skeleton
from tests import tiny
from tests.evaluation import made_up


def restored(track="synthetic_hand"):
    config = tiny.config(track=track)
    return Restored(resolve(config), tiny.variables(track), 7, False)


def examples(track, positions=(2, 5)):
    return {number: made_up.example(number, track) for number in positions}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic_hand", "itop_front", "k2hpd"])
def test_votes_are_those_that_aggregate_averages(name):
    network = restored(name)
    shown = examples(network.track)
    found = votes.frame_votes(network, shown, [0, 3], min_weight=1 / 60)
    canvas, center = (np.stack([e[k] for e in shown.values()]) for k in ("canvas", "center_uvd"))
    images = augment.evaluation_images(canvas, center[:, 2], network.track)
    heads = jax.jit(network.model.apply)(network.variables, images)
    weights, offsets = np.asarray(anchor_weights(heads)), np.asarray(heads.offset)
    predicted = np.asarray(aggregate(heads, anchor_grid(tiny.SIZE, tiny.SIZE)).joints)
    assert [frame.position for frame in found] == [2, 5]
    for row, frame in enumerate(found):
        for joint, vote in zip((0, 3), frame.joints, strict=True):
            assert vote.joint == network.track.skeleton.joints[joint]
            kept = np.flatnonzero(weights[row, :, joint] > 1 / 60)
            kept = kept[np.argsort(-weights[row, kept, joint], kind="stable")]
            assert 0 < len(kept) < weights.shape[1]
            np.testing.assert_allclose(vote.weight, weights[row, kept, joint], rtol=1e-4)
            np.testing.assert_array_equal(vote.anchor_uv, anchor_grid(32, 32)[kept])
            offset = offsets[row, kept, joint]
            np.testing.assert_allclose(vote.offset_uv, offset, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(vote.predicted_uv, predicted[row, joint, :2], rtol=1e-4)
            mean = weights[row, :, joint] @ anchor_grid(32, 32)
            np.testing.assert_allclose(vote.mean_anchor_uv, mean, rtol=1e-4)


def test_all_votes_together_are_the_joint():
    network = restored()
    (frame,) = votes.frame_votes(network, examples(network.track, [0]), [4], min_weight=0.0)
    (vote,) = frame.joints
    assert len(vote.weight) == 64
    assert vote.weight.sum() == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(vote.weight) <= 0).all()
    (frame,) = votes.frame_votes(network, examples(network.track, [0]), [4], vote.weight[3])
    assert len(frame.joints[0].weight) == 3, "heavier than the least weight"
    np.testing.assert_allclose(
        vote.weight @ (vote.anchor_uv + vote.offset_uv), vote.predicted_uv, rtol=1e-4
    )


def test_labels_are_in_the_crop_and_errors_in_space():
    network = restored()
    example = made_up.example(1, network.track)
    (frame,) = votes.frame_votes(network, {0: example}, [2], 0.02)
    (vote,) = frame.joints
    label = geometry.frame_to_crop(example["joints_uvd"][2:3, :2], example["box_px"], 32)[0]
    np.testing.assert_allclose(vote.label_uv, label)
    assert vote.surround_px == pytest.approx(np.linalg.norm(vote.mean_anchor_uv - label))
    assert vote.error > 0
    assert frame.name == "made_up/1"
    np.testing.assert_allclose(frame.tile.truth_uv[2], label)
    np.testing.assert_allclose(frame.tile.joints_uv[2], vote.predicted_uv)


def test_a_frame_without_labels_has_no_errors():
    network = restored()
    example = made_up.example(0, network.track)
    example["valid"] = np.zeros(21, bool)
    (frame,) = votes.frame_votes(network, {0: example}, [2], 0.02)
    assert frame.error is None
    assert (frame.joints[0].label_uv, frame.joints[0].error) == (None, None)
    assert frame.joints[0].surround_px is None
    example["valid"][1] = True
    (frame,) = votes.frame_votes(network, {0: example}, [1, 2], 0.02)
    assert frame.error == frame.joints[0].error
    assert frame.joints[1].error is None


def test_frames_are_evenly_spaced(tiny_data):
    for count, positions in ((1, [10]), (3, [3, 10, 16]), (30, list(range(20)))):
        track = restored().track
        assert list(votes.evenly_spaced(tiny_data, track, "test", count)) == positions


@pytest.mark.parametrize(
    ("skeleton", "names"),
    [
        (HANDS2017, ["wrist", "index_tip", "pinky_tip"]),
        (NYU, ["palm", "index_tip", "wrist_thumb_side"]),
        (ITOP, ["head", "right_hand", "left_foot"]),
        (K2HPD, ["head", "right_hand", "left_foot"]),
        (Skeleton("own", ("a", "b", "c"), ()), ["a", "c"]),
    ],
)
def test_joints_that_nobody_named(skeleton, names):
    assert [skeleton.joints[k] for k in votes.joint_numbers(None, skeleton)] == names


def test_named_joints():
    assert votes.joint_numbers(["ring_tip", "wrist", "ring_tip"], HANDS2017) == [17, 0]
    with pytest.raises(UserError, match=r"no such joint; did you mean 'ring_tip'\?"):
        votes.joint_numbers(["rng_tip"], HANDS2017)
