"""The example on disk and the order of frames, whoever reads them."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.data import crops
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.tracks import TRACKS, get_track, with_crop_size
from tfds_builders.base import config_name
from tfds_builders.examples import features, make_example


def example_of(track, **changes):
    width, height = track.frame_size
    frame = np.full((height, width), 700, np.uint16)
    fields = {
        "index": 3,
        "frame_id": "a/b.png",
        "crop": crops.cut(frame, track, box_px=[20.0, 30.0, 120.5, 140.25]),
        "joints_uvd": np.full((track.num_joints, track.joint_dims), 42.5),
        **changes,
    }
    return make_example(track, **fields)


@pytest.mark.parametrize("name", TRACKS)
def test_examples_of_every_track_survive_the_disk_format(name):
    track = with_crop_size(get_track(name), 32)
    example = example_of(track)
    spec = features(track)
    serialized = spec.serialize_example(example)
    back = spec.deserialize_example_np(serialized)
    assert set(back) == set(example)
    for key, value in example.items():
        if key == "frame_id":
            assert back[key] == value.encode()
        else:
            assert np.asarray(back[key]).dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(back[key], value)
    assert back["canvas"].shape == (40, 40)
    np.testing.assert_array_equal(back["box_px"], [20.0, 30.0, 120.5, 140.25])


def test_labels_of_another_skeleton_are_refused():
    track = get_track("nyu")
    with pytest.raises(UserError, match=r"'a/b.png': labels of shape \(36, 3\).*14 joints"):
        example_of(track, joints_uvd=np.zeros((36, 3)))


def test_a_frame_may_have_its_own_camera_and_missing_joints():
    track = get_track("nyu")
    camera = Camera(476.007, 476.007, 313.683, 242.755)
    valid = np.arange(14) > 2
    example = example_of(track, camera=camera, valid=valid)
    np.testing.assert_allclose(example["camera"], camera.as_array(), rtol=1e-6)
    np.testing.assert_array_equal(example["valid"], valid)


def test_labels_that_are_not_numbers_do_not_count():
    track = get_track("nyu")
    joints = np.full((14, 3), 42.5)
    joints[3, 1] = np.nan
    example = example_of(track, joints_uvd=joints)
    assert np.flatnonzero(~example["valid"]).tolist() == [3]
    assert np.isfinite(example["joints_uvd"]).all()
    unlabelled = example_of(track, joints_uvd=None)
    assert not unlabelled["valid"].any()
    assert unlabelled["joints_uvd"].shape == (14, 3)


def test_crop_sizes_live_side_by_side():
    assert config_name(with_crop_size(get_track("nyu"), 96)) == "crop96"


def test_examples_can_be_read_back_without_our_code(tmp_path):
    """`tfds.builder_from_directory` needs the folder alone."""
    track = with_crop_size(get_track("synthetic_hand"), 16)
    spec = features(track)
    spec.save_config(tmp_path)
    restored = tfds.features.FeaturesDict.from_config(tmp_path)
    assert restored["canvas"].shape == (20, 20)
    assert restored["canvas"].np_dtype == np.uint16
