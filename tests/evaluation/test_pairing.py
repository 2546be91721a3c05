"""Frames are paired by name or number; files and data sets must be of the same track."""

import contextlib
import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation.compare import (
    compare_predictions,
    frame_numbers,
    match_names,
    read_subsets,
    rows_of,
)
from a2j_jax.evaluation.joint_files import JointSet, write_joints
from a2j_jax.evaluation.scores import marked, score_errors, with_subsets
from a2j_jax.evaluation.tables import paper_table, score_tables
from a2j_jax.track_files import find_track, track_from_dict
from a2j_jax.tracks import TrackRecord, get_track
from tests.distributions import own_data
from tfds_builders.build import build_raw

NYU, HANDS = get_track("nyu"), get_track("hands2017")
SEQUENCES = [f"test_seq_{s}/image_000{n}.png" for s in (1, 2) for n in (0, 1)]


def found_or_refused(expected, find):
    """What is found, or part of the message where it is refused."""
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            find()
    else:
        np.testing.assert_array_equal(find(), expected)


@pytest.mark.parametrize(
    ("names", "wanted", "rows"),
    [
        (["b.png", "a.png"], ["a.png", "b.png"], [1, 0]),
        (["a.PNG", "./b.png"], ["a.png", "b.png"], [0, 1]),
        (["D:\\icvl\\Depth\\" + n.replace("/", "\\") for n in SEQUENCES], SEQUENCES, [0, 1, 2, 3]),
        (SEQUENCES, [f"/icvl/Testing/Depth/{n}" for n in reversed(SEQUENCES)], [3, 2, 1, 0]),
        (["image_0001.png"], ["test_seq_1/image_0001.png"], [0]),
        (["x/0.npy", "x/1.npy"], ["0.png", "1.png"], [0, 1]),
        (["IMAGE_D00000001.PNG"], ["frame/images/image_D00000001.png"], [0]),
        (["13_00001", "13_00002"], ["13_00002"], [1]),
        (["test_seq_2/image_0000.png"], ["test_seq_1/image_0000.png"], [-1]),
        (["training/images/image_D00000001.png"], ["frame/images/image_D00000001.png"], [-1]),
        (["depth_2_0000001.png"], ["depth_1_0000001.png"], [-1]),
        (["a.png", "a.PNG"], ["a.png"], "rows 1 and 2 are both frame"),
        (SEQUENCES, ["image_0000.png"], "test_seq_1.* or .*test_seq_2"),
        (["image_0000.png"], SEQUENCES, "test_seq_1.* or .*test_seq_2"),
    ],
)
def test_names_of_the_same_frame(names, wanted, rows):
    found_or_refused(rows, lambda: match_names(names, wanted, "p.txt"))


def numbered(count, index=None):
    return JointSet(np.ones((count, 14, 3)), index=None if index is None else np.array(index))


def named(*names):
    return JointSet(np.ones((len(names), 14, 3)), frame_id=np.array(names))


@pytest.mark.parametrize(
    ("joints", "truth", "rows"),
    [
        # `--predictions official.txt mine.npz`: the labels are all rows, mine are three of them.
        (numbered(3, [0, 2, 5]), numbered(6), [0, -1, 1, -1, -1, 2]),
        (numbered(10), numbered(6, [0, 1, 3, 4, 8, 9]), [0, 1, 3, 4, 8, 9]),
        (numbered(4, [1, 3, 5, 7]), numbered(2, [3, 5]), [1, 2]),
        (numbered(4, [1, 3, 5, 7]), numbered(2, [3, 4]), "3 of 4 .* 1\\), and .* frame 4"),
        (numbered(3), numbered(4), "3 frames.*4"),
        (numbered(4, [0, 1, 3, 4]), numbered(4), "frame 4 .*4 frames"),
        (named("/d/b.png", "/d/a.png"), named("a.png", "b.png"), [1, 0]),
        (named("a.png", "c.png"), named("a.png", "b.png"), "1 of 2 .*c.png.* 1 of .*b.png"),
    ],
)
def test_names_or_numbers_join_rows(joints, truth, rows):
    found_or_refused(rows, lambda: rows_of(joints, truth, "p", "labels"))


def test_the_number_in_a_name_of_nyu(tmp_path):
    uvd = np.random.default_rng(0).uniform(300, 400, (9, 14, 3))
    frames = [
        {"path": f"nyu/test/depth_1_{n + 1:07d}.png", "joints_uvd": uvd[n].tolist()} for n in (7, 2)
    ]
    (tmp_path / "p.json").write_text(json.dumps({"frames": frames}))
    np.savetxt(tmp_path / "labels.txt", uvd.reshape(9, -1))
    files = {"ours": tmp_path / "p.json", "official": tmp_path / "labels.txt"}
    scores = compare_predictions(files, NYU, labels=tmp_path / "labels.txt")
    assert (scores["frames"], scores["frames_of"]) == (2, 8252)
    assert scores["methods"]["ours"]["mean_error_mm"] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def own(tmp_path):
    """A custom track, with its data set in `data`."""
    own_data.write(tmp_path / "mine")
    own_data.write_csv(tmp_path / "mine")
    build_raw(str(tmp_path / "mine"), tmp_path / "mine", tmp_path / "data")
    return find_track(tmp_path / "mine")


def test_a_subset_of_a_custom_track_is_listed_by_names(tmp_path, own):
    uvd = own_data.UVD + np.array([[[0, 0, 5]], [[0, 0, 9]], [[0, 0, 0]]])
    names = np.array(own_data.FRAMES[:2])
    write_joints(tmp_path / "p.npz", JointSet(uvd[:2], frame_id=names))
    write_joints(tmp_path / "one.npz", JointSet(uvd[1:2], frame_id=names[1:]))
    write_joints(tmp_path / "labels.npz", JointSet(own_data.UVD[:2], frame_id=names))

    files, data = {"ours": tmp_path / "p.npz"}, tmp_path / "data"
    with pytest.raises(UserError, match="no split 'validation'"):
        compare_predictions(files, own, data_dir=data, split="validation")

    def errors(method, listed, **against):
        (tmp_path / "list.txt").write_text(listed)
        scores = compare_predictions(
            {"ours": tmp_path / f"{method}.npz"},
            own,
            split="train",
            subset_files={"some": tmp_path / "list.txt"},
            **against,
        )
        return [round(s["mean_error_mm"]) for s in (scores, scores["subsets"]["some"])]

    for against in ({"data_dir": tmp_path / "data"}, {"labels": tmp_path / "labels.npz"}):
        assert errors("p", "1.png\n", **against) == [7, 9]
        assert errors("p", "1\n", **against) == [7, 9]
        # Of a list of frames of the data set, those without predictions count for nothing.
        assert errors("one", "0.png\n1.png\n", **against) == [9, 9]
        assert errors("one", "1\n", **against) == [9, 9]
        with pytest.raises(UserError, match=r"list\.txt: 1 of its names .*'frames/2\.npy'"):
            errors("p", "1.png\nframes/2.npy\n", **against)


OTHERS: dict[str, dict[str, Any]] = {
    "joint 1 .*pinky_tip.*": {
        "skeleton": dataclasses.replace(NYU.skeleton, joints=NYU.skeleton.joints[::-1])
    },
    "half_window_mm 300 there, 110 here": {"half_window_mm": 300.0},
    "depth_window_mm 100 there, 150 here": {"depth_window_mm": 100.0},
    "camera 600 .* there, 588.03 .* here": {"camera": dataclasses.replace(NYU.camera, fx=600.0)},
    "track mine there, nyu here": {"name": "mine"},
}


@pytest.mark.parametrize("message", OTHERS)
def test_a_file_of_something_else_is_refused(tmp_path, message):
    other = dataclasses.replace(NYU, **OTHERS[message])
    uvd = np.full((2, 14, 3), 400.0)
    write_joints(
        tmp_path / "p.npz", JointSet(uvd, about={"track": TrackRecord.of(other).to_json()})
    )
    write_joints(tmp_path / "ok.npz", JointSet(uvd))  # says nothing, as files of before
    for files in (("p.npz", "ok.npz"), ("ok.npz", "p.npz")):
        with pytest.raises(UserError, match=f"p.npz.*{message}"):
            compare_predictions({"A": tmp_path / files[0]}, NYU, labels=tmp_path / files[1])


def test_harmless_differences_pass(tmp_path):
    other = dataclasses.replace(
        NYU, citation="mine", notes="none", storage_unit_mm=0.5, crop_size=96, mean=0.0, std=1.0
    )
    uvd = np.full((2, 14, 3), 400.0)
    record = TrackRecord.of(other).to_json() | {"a later key": 1}
    write_joints(tmp_path / "p.npz", JointSet(uvd, about={"track": record}))
    scores = compare_predictions({"A": tmp_path / "p.npz"}, NYU, labels=tmp_path / "p.npz")
    assert scores["mean_error_mm"] == 0.0


def test_a_users_data_set_of_before_there_were_records():
    values = {"name": "mine", "like": "nyu", "joints": ["a", "b"]}
    track = track_from_dict(values)
    told = {"joints": "b, a", "half_window_mm": 300.0, "camera": {"fx": 588.03}}
    record = TrackRecord.of_dataset({"spec": {"distribution": told}}, "mine")
    assert len(record.differences(TrackRecord.of(track))) == 3
    assert TrackRecord.of_dataset({}, "mine").differences(TrackRecord.of(track)) == []
    assert TrackRecord.of_dataset({}, "nyu").differences(TrackRecord.of(track))


def test_caveats():
    one = dataclasses.replace(score_errors(np.zeros((3, 14)), NYU), frames_of=3)
    for frames_of, centers, caveat in (
        (3, None, ""),
        (8252, None, "3 of 8,252 frames"),
        (3, {"depth": 3}, "crops from depth"),
        (3, {"nyu_center_test.mat": 2, "depth": 1}, "some crops from depth"),
        (3, {"nyu_center_test.mat": 3}, ""),
        (4, {"labels": 3}, "3 of 4 frames, crops from labels"),
    ):
        changed = dataclasses.replace(one, frames_of=frames_of, centers=centers)
        assert changed.caveat == caveat
        assert list(marked({"A2J": changed})) == [f"A2J ({caveat})" if caveat else "A2J"]


def test_a_data_set_of_something_else_is_refused(tmp_path, own):
    def of(**changes):
        other = track_from_dict({**own_data.TRACK, **changes})
        stored = pipeline.as_stored(tmp_path / "data", other)
        return TrackRecord.of_dataset(pipeline.metadata(tmp_path / "data", stored), "")

    assert of() == of(notes="mine", citation="me", storage_unit_mm=0.5) == TrackRecord.of(own)
    camera = {**own_data.TRACK["camera"], "fx": 250.0}  # type: ignore[dict-item]
    for message, changes in {
        "joint 1 wrist there, index_tip here": {"joints": list(own_data.JOINTS[::-1])},
        "half_window_mm 100 there, 300 here": {"half_window_mm": 300},
        "camera 240 240 80 60 there, 250 240 80 60 here": {"camera": camera},
        "storage_unit_mm 1 there, 0.5 here": {"storage_unit_mm": 0.5},
    }.items():
        with pytest.raises(UserError, match=message):
            pipeline.metadata(tmp_path / "data", track_from_dict({**own_data.TRACK, **changes}))
    folder = next((tmp_path / "data" / "my_hands").glob("crop32/*"))
    other = track_from_dict({**own_data.TRACK, "name": "yours"})
    with pytest.raises(UserError, match="track my_hands there, yours here"):
        pipeline.find_dataset(folder, other)


@pytest.mark.parametrize(
    ("about", "folder", "scale", "message"),
    [
        ({"split": "test[:50%]"}, "dataset/test/", 1, ""),
        ({"split": "train"}, "", 1, "split 'train'"),
        ({"split": "train"}, None, 1, "split 'train'"),
        ({}, "D:\\nyu\\train\\", 1, "split 'train'"),
        ({}, "/home/train/nyu/test/", 1, ""),
        ({}, "", 0.1, "100 times those of the labels"),  # 35 cm, taken for meters
        ({}, "", 0.01, "10 times those of the labels"),
        ({}, "", 10, "10 times those of the labels"),
        ({}, "", 2, ""),
    ],
)
def test_frames_of_another_split_or_in_another_unit(tmp_path, about, folder, scale, message):
    """NYU and HANDS 2017 call the frames of both splits alike."""
    uvd = np.random.default_rng(0).uniform(300, 400, (4, 14, 3))
    names = np.array([f"depth_1_{n + 1:07d}.png" for n in range(4)])
    index = np.arange(4)
    labels = JointSet(uvd, index=index, frame_id=names, about={"split": "test"})
    write_joints(tmp_path / "labels.npz", labels)
    called = None if folder is None else np.array([folder + name for name in names])
    found = JointSet(uvd * [1, 1, scale], index=index, frame_id=called, about=about)
    write_joints(tmp_path / "p.npz", found)
    files = {"ours": tmp_path / "p.npz"}
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        scores = compare_predictions(files, NYU, labels=tmp_path / "labels.npz")
        assert scores["frames"] == 4


def numbers_in(folder, text, index, names, **told):
    """The numbers of the frames that a list names."""
    (folder / "list.txt").write_text(text)
    lists = read_subsets({"some": folder / "list.txt"})
    found = frame_numbers(lists, np.array(index), names, **told)["some"].tolist()
    return found


NAMES = np.array(["a/0.png", "a/1.png", "b c/0.png", "b c/2.PNG", "image_D00000001.png"])
HANDS_NAMES = np.array([f"image_D{n:08d}.png" for n in (3, 4, 5)])


SOME = range(2, 5), None  # frames may have been left out of the data set
SOME_HANDS = range(2, 5), HANDS_NAMES
NAMED = range(10, 60, 10), NAMES


@pytest.mark.parametrize(
    ("text", "frames", "found"),
    [
        ("frame/images/image_D00000003.png\t1.0\t2.0\nimage_D00000001.png\n\n", SOME, [0, 2]),
        ("frame/images/image_D00000003.png\t1.0\t2.0\nimage_D00000001.png\n", SOME_HANDS, [0, 2]),
        ("\ufeff4\n1,\n", SOME, [1, 4]),
        ("\ufeff4\n1,\n", SOME_HANDS, [1, 4]),
        ("1.png\n", NAMED, [20]),
        ("a/0.png 1.5 2\na/0.png 3 4\n", NAMED, [10]),
        ("2.png,1.5,2\n/data/b c/0.png\t7\n", NAMED, [30, 40]),
        ("/data/mine/b c/2.png\na/1\n", NAMED, [20, 40]),
        ("image_D00000001.png\n", NAMED, [50]),  # a custom track's: its name is no number
        ("10\n30\n", NAMED, [10, 30]),
        ("a/0.png\nc/9.png\nc/8.png\n", NAMED, r"2 of its names .* 5 frames .* 'c/9\.png'"),
        ("image_D00000002.png\n", NAMED, r"1 of its names .* 'image_D00000002\.png'"),
        ("0.png\n", NAMED, r"frame '0\.png' may be .*'a/0\.png' .*'b c/0\.png'"),
        ("7\na/0.png\n", NAMED, "1 of its names .* '7'"),
        ("-1\n", NAMED, "names .* '-1'"),
        ("", SOME, "is empty"),
        ("a.png 1 2\n", SOME, "line begins with 'a.png'"),
        ("-1\n", SOME, "a number from 0"),
        ("9" * 40, SOME, "a number from 0"),
        ("٣\n", SOME, "a number from 0"),
    ],
)
def test_lists_are_names_or_numbers(tmp_path, text, frames, found):
    expected = rf"list\.txt: .*{found}" if isinstance(found, str) else found
    found_or_refused(expected, lambda: numbers_in(tmp_path, text, *frames))


def test_a_listed_frame_that_cannot_be_read_is_left_out(tmp_path):
    listed = tmp_path, "a/0.png\na/1.png\n", range(1, 5), NAMES[1:]
    assert numbers_in(*listed, unreadable=1) == [1]
    with pytest.raises(UserError, match=r"'a/0\.png'"):
        numbers_in(*listed)


def test_a_subset_is_scored_by_frame_number():
    errors = np.repeat([[1.0], [2.0], [6.0]], 21, axis=1)
    labels = np.zeros((3, 21, 3))
    index = np.array([10, 20, 30])
    subsets = {"seen": np.array([10, 30, 99]), "unseen": np.array([20])}
    scores = with_subsets({"A2J": score_errors(errors, HANDS)}, subsets, index, HANDS, labels)
    told = scores["A2J"].to_json()
    assert told["mean_error_mm"] == 3.0
    assert told["subsets"]["seen"]["mean_error_mm"] == 3.5
    assert told["subsets"]["seen"]["frames"] == 2
    assert told["subsets"]["unseen"]["mean_error_mm"] == 2.0
    labels_of_rows = [row[0] for row in score_tables(scores)[0][0].rows]
    assert "mean error, seen (2 frames)" in labels_of_rows
    paper = paper_table("hands2017", scores)
    assert paper.rows[-1][:4] == ("A2J (here)", "3.00", "3.50", "2.00")  # beside Table 2's columns
    with pytest.raises(UserError, match=r"subset 'other': none of its 1 frames is among the 3"):
        with_subsets(scores, {"other": np.array([5])}, index, HANDS, labels)
