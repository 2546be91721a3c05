"""ICVL as shipped: recorded frames and rotated copies, two test sequences, missing files."""

import numpy as np
import pytest
from scipy.io import loadmat

from a2j_jax.errors import UserError
from a2j_jax.tracks import PUBLISHED_FRAMES, get_track
from tests.distributions import icvl as fixture
from tfds_builders.icvl import Icvl

TRACK = get_track("icvl")


def test_rotated_copies_can_be_left_out(tmp_path):
    """Rows count the lines of the label file, wherever rotated copies are in it."""
    labels = fixture.write(tmp_path, {"train": 7})["train"]
    names, order = fixture.training_names(7), [5, 0, 6, 1, 2, 3, 4]  # 5 and 6 are rotated copies
    fixture.write_labels(tmp_path / "Training", [names[row] for row in order], labels[order])
    split = Icvl(tmp_path, TRACK, rotations=False).splits()["train"]
    assert (split.frame_ids, split.total) == (names[:5], 7)
    assert split.rows.tolist() == [1, 3, 4, 5, 6]
    np.testing.assert_array_equal(split.joints_uvd, labels[:5])
    assert split.faults == ()  # nor do folders of rotated copies count
    assert Icvl(tmp_path, TRACK).spec() != Icvl(tmp_path, TRACK, rotations=False).spec()


def test_repeated_lines_are_left_out_and_counted(tmp_path):
    labels = fixture.write(tmp_path, {"train": 2})["train"]
    names = fixture.training_names(2)
    fixture.write_labels(tmp_path / "Training", [*names, names[0]], labels[[0, 1, 1]])
    split = Icvl(tmp_path, TRACK).splits()["train"]
    assert (split.frame_ids, split.total, split.rows.tolist()) == (names, 3, [0, 1])
    np.testing.assert_array_equal(split.joints_uvd, labels)
    assert any("1 repeated line left out" in note for note in split.notes)


def test_published_labels_come_out_as_published(official, tmp_path):
    published = loadmat(official / "icvl" / "icvl_keypointsUVD_test.mat")
    published = next(value for name, value in published.items() if not name.startswith("__"))
    names = [f"test_seq_1/image_{row:04d}.png" for row in range(702)]
    names += [f"test_seq_2/image_{row:04d}.png" for row in range(894)]
    fixture.write_labels(tmp_path / "Testing", names, published)
    frame = tmp_path / "Testing" / "Depth" / names[0]
    frame.parent.mkdir(parents=True)
    frame.touch()
    split = Icvl(tmp_path, TRACK).splits()["test"]
    assert len(split) == PUBLISHED_FRAMES["icvl"]["test"]
    np.testing.assert_allclose(split.joints_uvd, published, atol=1e-4)


@pytest.mark.parametrize(("kept", "gone"), [(1, 2), (2, 1)])
def test_one_test_sequence_alone(tmp_path, kept, gone):
    labels = fixture.write(tmp_path, {"test": 4})["test"]
    (tmp_path / "Testing" / f"test_seq_{gone}.txt").unlink()
    split = Icvl(tmp_path, TRACK).splits()["test"]
    assert split.frame_ids == [f"test_seq_{kept}/image_000{row}.png" for row in range(2)]
    np.testing.assert_array_equal(split.joints_uvd, labels[2 * kept - 2 : 2 * kept])
    assert any(f"test_seq_{gone}.txt is missing" in fault for fault in split.faults)


@pytest.mark.parametrize("prefix", ["Depth/", "Depth\\", "depth/", "./Depth/", "Training/Depth/"])
def test_names_that_begin_above_the_depth_folder(tmp_path, prefix):
    fixture.write(tmp_path, {"train": 3})
    path = tmp_path / "Training" / "labels.txt"
    path.write_text("".join(prefix + line for line in path.read_text().splitlines(True)))
    (tmp_path / "Training" / "Depth").rename(tmp_path / "Training" / "depth")  # in any letter case
    distribution = Icvl(tmp_path, TRACK, rotations=False)
    split = distribution.splits()["train"]
    assert split.frame_ids == fixture.training_names(3)[:2]
    assert distribution.read_depth(split.sources[0]).any()


def test_only_rotated_copies(tmp_path):
    fixture.write_labels(tmp_path / "Training", ["180/b/c.png"], np.ones((1, 16, 3)))
    (tmp_path / "Training" / "Depth").mkdir()
    with pytest.raises(UserError, match="only rotated copies"):
        Icvl(tmp_path, TRACK, rotations=False).splits()
