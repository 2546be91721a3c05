"""NYU as shipped: where it is found, which joints and frames come out, what is refused."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.tracks import PUBLISHED_FRAMES, get_track
from tests.distributions import nyu as fixture
from tfds_builders import nyu
from tfds_builders.nyu import Nyu

TRACK = get_track("nyu")


def test_another_view(tmp_path):
    labels = fixture.write_views(tmp_path, {"test": 2}, (1, 3))["test"]
    distribution = Nyu(tmp_path, TRACK, view=3)
    split = distribution.splits()["test"]
    np.testing.assert_array_equal(split.joints_uvd, labels[2])
    assert split.frame_ids[1] == "depth_3_0000002.png"
    np.testing.assert_array_equal(
        distribution.read_depth(split.sources[1]),
        fixture.draw_depth(labels[2, 1], TRACK, 2001),
    )
    assert any("view 1 only" in note for note in split.notes)
    assert distribution.spec() != Nyu(tmp_path, TRACK).spec()
    with pytest.raises(UserError, match=r"test/depth_2_\* holds no frames"):
        Nyu(tmp_path, TRACK, view=2).splits()
    with pytest.raises(UserError, match="view 4"):
        Nyu(tmp_path, TRACK, view=4)


def test_labels_of_view_1_alone(tmp_path):
    joints = fixture.write_views(tmp_path, {"test": 2}, (1,))["test"]
    path = tmp_path / "dataset" / "test" / "joint_data.mat"
    savemat(path, {"joint_uvd": loadmat(path)["joint_uvd"][:1]})
    np.testing.assert_array_equal(nyu.read_labels(path, 1), joints[0])
    with pytest.raises(UserError, match="holds view 1 alone, not view 3"):
        nyu.read_labels(path, 3)


def test_published_labels_come_out_as_published(official, tmp_path):
    """The 14 joints in the order of the authors' own label file."""
    published = loadmat(official / "nyu" / "nyu_keypointsUVD_test.mat")["keypoints3D"]
    three_views = np.stack([published, published + 1, published + 2])
    fixture.write_labels(tmp_path / "test" / "joint_data.mat", three_views)
    (tmp_path / "test" / "depth_1_0000001.png").touch()
    split = Nyu(tmp_path, TRACK).splits()["test"]
    assert len(split) == PUBLISHED_FRAMES["nyu"]["test"]
    np.testing.assert_array_equal(split.joints_uvd, published.astype(np.float32))
    # Those labels and the authors' predictions agree: the 8.61 mm of the paper.
    predictions = np.loadtxt(official / "nyu_861_epoch32_UVD.txt").reshape(-1, 14, 3)
    apart = geometry.uvd_to_xyz(predictions, TRACK.camera) - geometry.uvd_to_xyz(
        split.joints_uvd, TRACK.camera
    )
    assert np.linalg.norm(apart, axis=-1).mean() == pytest.approx(8.6098, abs=1e-3)


def test_nan_labels_are_counted(tmp_path):
    joints = fixture.write_views(tmp_path, {"test": 2}, (1,))["test"]
    joints[0, 1, 4, 2] = np.nan
    fixture.write_labels(tmp_path / "dataset/test/joint_data.mat", joints)
    split = Nyu(tmp_path, TRACK).splits()["test"]
    assert np.argwhere(np.isnan(split.joints_uvd)).tolist() == [[1, 4, axis] for axis in range(3)]
    assert "1 joint of 1 frame not labeled" in split.notes[0]


@pytest.mark.parametrize("shape", [(3, 5, 21, 3), (5, 36, 3), (2, 5, 36, 3), (3, 0, 36, 3)])
def test_labels_of_another_data_set(tmp_path, shape):
    (tmp_path / "test").mkdir()
    savemat(tmp_path / "test" / "joint_data.mat", {"joint_uvd": np.zeros(shape)})
    with pytest.raises(UserError, match="joint_uvd has shape") as error:
        Nyu(tmp_path, TRACK).splits()
    assert "\n" not in str(error.value)
