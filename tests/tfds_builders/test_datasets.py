"""What the readers of all data sets have in common: frames and labels, where the files lie, labels without frames."""

import importlib
import pickle

import numpy as np
import pytest

from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.tracks import get_track
from tests.distributions import hands2017, icvl
from tests.distributions.drawing import draw_depth
from tfds_builders.build import DATASETS

BOTH = ["train", "test"]


@pytest.mark.parametrize(
    ("track", "ids", "background", "off"),
    [
        ("nyu", lambda _, n: [f"depth_1_{i + 1:07d}.png" for i in range(n)], 2001, 0),
        ("icvl", icvl.frame_names, 0, 0),  # 32001, for nothing seen, becomes our 0
        # Labels are printed with four decimals of a mm: a thousandth of a px, or of a mm.
        ("hands2017", hands2017.frame_names, 0, 1e-3),
    ],
)
def test_frames_and_labels_are_what_was_written(tmp_path, track, ids, background, off):
    fixture = importlib.import_module(f"tests.distributions.{track}")
    labels = fixture.write(tmp_path, {"train": 7, "test": 5})
    dataset = pickle.loads(pickle.dumps(DATASETS[track](tmp_path, get_track(track))))
    splits = dataset.splits()
    assert {name: len(split) for name, split in splits.items()} == {"train": 7, "test": 5}
    for name, split in splits.items():
        assert list(split.frame_ids) == ids(name, len(split))
        assert track == "icvl" or split.numbers.tolist() == list(range(len(split)))
        if (track, name) == ("hands2017", "test"):  # whose labels are not public, unlike its boxes
            assert split.joints_uvd is None
        else:
            np.testing.assert_allclose(split.joints_uvd, labels[name], rtol=0, atol=off)
            assert split.joints_uvd.dtype == np.float32
            assert (split.boxes_px, split.notes, split.faults) == (None, (), ())
        for source, joints in zip(split.sources, labels[name], strict=True):
            expected = draw_depth(joints, get_track(track), background)
            np.testing.assert_array_equal(dataset.read_depth(source), expected)


@pytest.mark.parametrize("track", ["nyu", "icvl", "hands2017", "k2hpd"])
def test_missing_frames_are_counted_and_refused(tmp_path, track):
    importlib.import_module(f"tests.distributions.{track}").write(tmp_path, {"train": 3})
    dataset = DATASETS[track](tmp_path, get_track(track))
    first, second, third = dataset.splits()["train"].sources
    (tmp_path / second).unlink()
    split = dataset.splits()["train"]
    assert list(split.sources) == [first, second, third]
    (fault,) = split.faults
    assert "at least 1 missing" in fault or "1 of 3 frames are not in depth_data" in fault
    with pytest.raises(UnreadableFrame, match=r"\.png: no such file"):
        dataset.read_depth(second)


@pytest.mark.parametrize(
    ("track", "part", "place", "named", "splits"),
    [  # a part of the download, where it lies, and the folder that is named
        ("nyu", "dataset", "dataset", "", BOTH),
        ("nyu", "dataset", "dataset", "dataset", BOTH),
        ("nyu", "dataset", "dataset", "dataset/test", ["test"]),
        ("nyu", "dataset", "nyu_hand_dataset_v2/dataset", "", BOTH),
        ("nyu", "dataset", "nyu", "", BOTH),
        ("nyu", "dataset", "NYU_Hand/Dataset", "", BOTH),
        ("nyu", "dataset", "test", "test", BOTH),  # happens to be called as a split
        ("icvl", "Testing", "Testing", "", ["test"]),
        ("icvl", "Testing", "testing", "", ["test"]),
        ("icvl", "", "", "Testing", ["test"]),
        ("icvl", "", "ICVL_Hand", "", BOTH),
        ("hands2017", "", "", "training", ["train"]),
        ("hands2017", "", "", "frame", ["test"]),
        ("hands2017", "", "Hands2017_data", "", BOTH),
        ("itop_front", "", "sub", "", BOTH),
        ("k2hpd", "depth_data", "depth_data", "", BOTH),
        ("k2hpd", "", "", "depth_data", BOTH),
        ("k2hpd", "", "K2HPD", "", BOTH),
    ],
)
def test_the_data_lie_where_people_put_them(tmp_path, track, part, place, named, splits):
    fixture = importlib.import_module(f"tests.distributions.{track.split('_')[0]}")
    options = {"annotations_in": "depth_data"} if track == "k2hpd" else {}
    fixture.write(tmp_path / "download", {"train": 1, "test": 1}, **options)
    plain = DATASETS[track](tmp_path / "download", get_track(track)).splits()
    (tmp_path / "raw" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "download" / part).rename(tmp_path / "raw" / place)
    dataset = DATASETS[track](tmp_path / "raw" / named, get_track(track))
    found = dataset.splits()
    assert list(found) == splits
    for name, split in found.items():
        assert list(split.frame_ids) == list(plain[name].frame_ids)
        assert split.faults == plain[name].faults
        if split.joints_uvd is not None:
            np.testing.assert_array_equal(split.joints_uvd, plain[name].joints_uvd)
        assert dataset.read_depth(split.sources[0]).any()


LABELS = {
    "icvl": "Training/labels.txt",
    "hands2017": "training/Training_Annotation.txt",
    "k2hpd": "test_annos.txt",
}


@pytest.mark.parametrize(
    ("track", "line", "frames", "message"),
    [
        ("icvl", "a/b.png" + " 1" * 48, "", "Depth: no such folder"),
        ("hands2017", "a.png" + " 1" * 63, "", "images: no such folder"),
        ("k2hpd", "00000001.png" + " 1" * 38, "", "depth_images: no such folder"),
        # Labels of another data set.
        ("icvl", "a/b.png" + " 1" * 42, "Training/Depth", r"row 1: .*48 numbers \(16 joints"),
        ("hands2017", "a.png" + " 1" * 42, "training/images", r"row 1: .*63 numbers \(21 joints"),
        ("k2hpd", "00000001.png" + " 1" * 37, "depth_data/depth_images", "row 1: .*19 pairs"),
        ("k2hpd", "<title>404</title>", "depth_data/depth_images", "row 1: .*19 pairs"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, track, line, frames, message):
    path = tmp_path / LABELS[track]
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    (tmp_path / frames).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=message) as error:
        DATASETS[track](tmp_path, get_track(track)).splits()
    assert "\n" not in str(error.value)
    assert frames or error.value.instructions == DATASETS[track].DOWNLOAD
