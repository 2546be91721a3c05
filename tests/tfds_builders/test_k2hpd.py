"""K2HPD as downloaded: frames gray or RGB, label lines of any separator, the official labels."""

import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import io

from a2j_jax.errors import UserError
from a2j_jax.tracks import PUBLISHED_FRAMES, get_track
from tests.distributions import k2hpd as raw
from tfds_builders.k2hpd import K2hpd, read_annotations

FRAMES = {"train": 5, "test": 4}
TRACK = get_track("k2hpd")
PAIRS = [str(number) for number in range(38)]


@pytest.mark.parametrize("annotations_in", ["", "depth_data"])
def test_frames_and_labels_are_what_was_written(tmp_path, annotations_in):
    labels = raw.write(tmp_path, FRAMES, annotations_in=annotations_in)
    distribution = pickle.loads(pickle.dumps(K2hpd(tmp_path, TRACK)))
    splits = distribution.splits()
    assert list(splits) == ["train", "test"]
    kinds = set()
    for name, split in splits.items():
        assert len(set(split.frame_ids)) == len(split) == FRAMES[name]
        np.testing.assert_array_equal(split.joints_uvd, labels[name])
        assert (split.joints_uvd.dtype, split.rows, split.notes) == (np.float32, None, ())
        for frame_id, source in zip(split.frame_ids, split.sources, strict=True):
            assert source == f"depth_data/depth_images/{frame_id}"
            gray, pixels = (
                distribution.read_depth(source),
                np.asarray(Image.open(tmp_path / source)),
            )
            assert (gray.shape, gray.dtype) == ((212, 256), np.uint16)
            # As shipped; stretched before it is cropped, not here.
            np.testing.assert_array_equal(gray, pixels[..., 0] if pixels.ndim == 3 else pixels)
            kinds.add((pixels.ndim, gray.min() > 0))
    assert {(2, False), (3, False), (2, True)} <= kinds


@pytest.mark.parametrize(("labeled", "on_disk"), [(".PNG", ".png"), (".png", ".Png")])
def test_names_are_found_in_any_letter_case(tmp_path, labeled, on_disk):
    raw.write(tmp_path / "K2HPD", {"test": 2})
    path = tmp_path / "K2HPD" / "test_annos.txt"
    path.write_text(path.read_text().replace(".png", labeled))
    for frame in sorted((tmp_path / "K2HPD" / "depth_data" / "depth_images").iterdir()):
        frame.rename(frame.with_suffix(on_disk))
    distribution = K2hpd(tmp_path, TRACK)  # a folder deeper, too
    split = distribution.splits()["test"]
    assert (len(split), split.faults) == (2, ())
    assert distribution.read_depth(split.sources[1]).any()


@pytest.mark.parametrize(
    "line",
    [  # others are in the made-up distribution
        "00000001.png" + " ".join(PAIRS),  # nothing between name and number
        "\ufeff00000001.png, " + ", ".join(PAIRS),
        "00000001.png " + " ".join(f"({x}, {x + 1})" for x in range(0, 38, 2)),
        "00000001.png" + ",".join(f"[{x},{x + 1}]" for x in range(0, 38, 2)),
        "0000001.png\t" + "\t".join(f"{number}.0" for number in PAIRS),  # a name of 11 characters
    ],
)
def test_separators(tmp_path, line):
    path = tmp_path / "test_annos.txt"
    path.write_text(line + "\r\n\r\n , \n" + line.removeprefix("\ufeff"), encoding="utf-8")
    names, joints = read_annotations(path)
    assert len(names) == 2
    assert set(names) <= {"00000001.png", "0000001.png"}
    assert joints.dtype == np.float32
    np.testing.assert_array_equal(joints, np.arange(38.0).reshape(1, 19, 2).repeat(2, axis=0))


def test_a_frame_named_twice_is_kept_twice(tmp_path):
    labels = raw.write(tmp_path, {"test": 2})
    path = tmp_path / "test_annos.txt"
    path.write_text(path.read_text().strip() + "\n" + path.read_text())
    split = K2hpd(tmp_path, TRACK).splits()["test"]
    one, two = split.frame_ids[:2]
    assert list(split.frame_ids) == [one, two, f"{one}#2", f"{two}#2"]
    assert split.sources[2] == split.sources[0]
    assert "2 lines naming a frame again" in split.notes[0]
    np.testing.assert_array_equal(split.joints_uvd, np.concatenate([labels["test"]] * 2))


def test_joints_that_are_no_numbers_are_not_labeled(tmp_path):
    raw.write(tmp_path, {"test": 2})
    (tmp_path / "test_annos.txt").write_text(f"00000001.png nan 7 {' '.join(PAIRS[2:])}\n")
    split = K2hpd(tmp_path, TRACK).splits()["test"]
    assert np.isnan(split.joints_uvd[0]).all(axis=-1).tolist() == [True] + [False] * 18
    assert "1 joint of 1 frame not labeled" in split.notes[0]


def test_labels_are_compared_with_the_official_ones(tmp_path):
    labels = raw.write(tmp_path / "raw", FRAMES)
    official = tmp_path / "official"
    official.mkdir()

    def notes(split, **variables):
        if variables:
            io.savemat(official / f"k2hpd_keypoints_{split}.mat", variables)
        (note,) = K2hpd(tmp_path / "raw", TRACK, official).splits()[split].notes
        return note

    with pytest.raises(UserError, match=r"keypoints_dir .*absent: no such folder"):
        K2hpd(tmp_path / "raw", TRACK, tmp_path / "absent").splits()
    assert "k2hpd_keypoints_test.mat not found" in notes("test")
    agreed = notes("test", keypointsTest=labels["test"].astype(np.uint8))
    assert "all 76 joints agree with test_annos.txt" in agreed
    train = labels["train"].astype(np.int16)
    train[1, 3] += 7
    train[1, 4, 1] -= 1
    train[4, 0, 0] -= 2
    differing = notes("train", keypointsTrain=train)
    assert "3 of 95 joints, in 2 frames, are a pixel or more from train_annos.txt" in differing
    assert "at most 7.0 px" in differing
    assert "labels not compared" in notes("train", keypointsTrain=train[:4])
    # The labels themselves are the text file's in any case.
    joints = K2hpd(tmp_path / "raw", TRACK, official).splits()["train"].joints_uvd
    np.testing.assert_array_equal(joints, labels["train"])
    assert K2hpd(tmp_path / "raw", TRACK, official).spec() == K2hpd(tmp_path / "raw", TRACK).spec()


def test_the_published_labels_have_the_published_frames(official):
    for split, variable in (("train", "keypointsTrain"), ("test", "keypointsTest")):
        labels = io.loadmat(official / "k2hpd" / f"k2hpd_keypoints_{split}.mat")[variable]
        assert labels.shape == (PUBLISHED_FRAMES["k2hpd"][split], 19, 2)
