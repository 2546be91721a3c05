"""Frames are paired by name or number; files and data sets must be of the same track."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation import compare
from a2j_jax.evaluation.joint_files import JointSet, read_joints, write_joints
from a2j_jax.evaluation.pairing import frame_numbers, match_names, read_subsets, rows_of
from a2j_jax.evaluation.scores import marked, score_errors, with_subsets
from a2j_jax.evaluation.tables import paper_table, score_tables
from a2j_jax.files import MARK, is_ours
from a2j_jax.track_files import find_track, track_from_dict
from a2j_jax.tracks import TrackRecord, get_track
from tests.distributions import own_data
from tfds_builders.build import build_raw

NYU, ICVL, HANDS = (get_track(name) for name in ("nyu", "icvl", "hands2017"))
SEQUENCES = [f"test_seq_{s}/image_000{n}.png" for s in (1, 2) for n in (0, 1)]


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
    ],
)
def test_names_of_the_same_frame(names: list[str], wanted: list[str], rows: list[int]) -> None:
    np.testing.assert_array_equal(match_names(names, wanted, "p.txt"), rows)


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["a.png", "a.PNG"], ["a.png"], "rows 1 and 2 are both frame"),
        (SEQUENCES, ["image_0000.png"], "test_seq_1.* or .*test_seq_2"),
        (["image_0000.png"], SEQUENCES, "test_seq_1.* or .*test_seq_2"),
    ],
)
def test_names_that_fit_several(names: list[str], wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match_names(names, wanted, "p.txt")


def lines(names: list[str], joints: np.ndarray) -> str:
    rows = zip(names, joints.reshape(len(joints), -1).tolist(), strict=True)
    return "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in rows)


def test_icvl_in_another_order_and_of_other_frames(tmp_path: Path) -> None:
    uvd = np.random.default_rng(0).uniform([50, 50, 300], [250, 200, 500], (4, 16, 3))
    (tmp_path / "labels.txt").write_text(lines(SEQUENCES, uvd))
    labels = tmp_path / "labels.txt"
    order = [2, 0, 3, 1]
    frames = [{"path": f"/d/Depth/{SEQUENCES[n]}", "joints_uvd": uvd[n].tolist()} for n in order]
    (tmp_path / "p.json").write_text(json.dumps({"frames": frames}))
    scores = compare.compare_predictions({"A2J": tmp_path / "p.json"}, ICVL, labels=labels)
    assert (scores["frames"], scores["mean_error_mm"]) == (4, 0.0)
    for wrong, names in {
        "image_0007": [*SEQUENCES[:3], "test_seq_2/image_0007.png"],
        "rows 2 and 4": [*SEQUENCES[:3], SEQUENCES[1]],
    }.items():
        (tmp_path / "p.txt").write_text(lines(names, uvd))
        with pytest.raises(UserError, match=wrong):
            compare.compare_predictions({"A2J": tmp_path / "p.txt"}, ICVL, labels=labels)


def test_numbers_join_rows_of_the_whole_split() -> None:
    """`--predictions official.txt mine.npz`: the labels are 8,252 rows, mine are three of them."""
    truth = JointSet(np.zeros((6, 14, 3)))
    mine = JointSet(np.zeros((3, 14, 3)), index=np.array([0, 2, 5]))
    np.testing.assert_array_equal(rows_of(mine, truth, "p", "labels"), [0, -1, 1, -1, -1, 2])
    back = dataclasses.replace(truth, index=np.array([0, 1, 3, 4, 8, 9]))
    np.testing.assert_array_equal(
        rows_of(JointSet(np.zeros((10, 14, 3))), back, "p", "labels"), [0, 1, 3, 4, 8, 9]
    )


def test_frames_that_only_one_side_has() -> None:
    uvd = np.ones((4, 14, 3))
    mine = JointSet(uvd, index=np.array([1, 3, 5, 7]))
    part = JointSet(uvd[:2], index=np.array([3, 5]))
    np.testing.assert_array_equal(rows_of(mine, part, "p", "labels"), [1, 2])
    for joints, truth, message in (
        (mine, dataclasses.replace(part, index=np.array([3, 4])), "3 of 4 .* 1\\), and .* frame 4"),
        (JointSet(uvd[:3]), JointSet(uvd), "3 frames.*4"),
        (JointSet(uvd, index=np.array([0, 1, 3, 4])), JointSet(uvd), "frame 4 .*4 frames"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of(joints, truth, "p", "labels")


def test_the_number_in_a_name_of_nyu(tmp_path: Path) -> None:
    uvd = np.random.default_rng(0).uniform(300, 400, (9, 14, 3))
    frames = [
        {"path": f"nyu/test/depth_1_{n + 1:07d}.png", "joints_uvd": uvd[n].tolist()} for n in (7, 2)
    ]
    (tmp_path / "p.json").write_text(json.dumps({"frames": frames}))
    np.savetxt(tmp_path / "labels.txt", uvd.reshape(9, -1))
    files = {"ours": tmp_path / "p.json", "official": tmp_path / "labels.txt"}
    scores = compare.compare_predictions(files, NYU, labels=tmp_path / "labels.txt")
    assert (scores["frames"], scores["frames_of"]) == (2, 8252)
    assert scores["methods"]["ours"]["mean_error_mm"] == pytest.approx(0, abs=1e-6)


def test_a_subset_of_a_custom_track_is_listed_by_names(tmp_path: Path) -> None:
    own_data.write(tmp_path / "mine")
    own_data.write_csv(tmp_path / "mine")
    build_raw(str(tmp_path / "mine"), tmp_path / "mine", tmp_path / "data")
    track = find_track(tmp_path / "mine")
    uvd = own_data.UVD + np.array([[[0, 0, 5]], [[0, 0, 9]], [[0, 0, 0]]])
    names = np.array(own_data.FRAMES[:2])
    write_joints(tmp_path / "p.npz", JointSet(uvd[:2], frame_id=names))
    write_joints(tmp_path / "one.npz", JointSet(uvd[1:2], frame_id=names[1:]))
    write_joints(tmp_path / "labels.npz", JointSet(own_data.UVD[:2], frame_id=names))

    def errors(method: str, listed: str, **against: Any) -> list[float]:
        (tmp_path / "list.txt").write_text(listed)
        scores = compare.compare_predictions(
            {"ours": tmp_path / f"{method}.npz"},
            track,
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


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".jsonl"])
def test_our_files_state_their_track(tmp_path: Path, suffix: str) -> None:
    about = {"track": TrackRecord.of(NYU).to_json(), "centers": {"depth": 2}}
    names = np.array(["depth_1_0000003.png", "sequence ä/1.png"])
    path = tmp_path / f"p{suffix}"
    write_joints(path, JointSet(np.full((2, 14, 3), 400.0), frame_id=names, about=about))
    assert is_ours(path)
    back = read_joints(path, NYU)
    assert back.record == TrackRecord.of(NYU)
    assert (back.about["centers"], back.about["written_by"]) == ({"depth": 2}, MARK)
    np.testing.assert_array_equal(back.frame_id, names)
    labels = tmp_path / "labels.npz"
    write_joints(labels, JointSet(back.joints_uvd, frame_id=names))
    scores = compare.compare_predictions({"ours": path}, NYU, labels=labels)
    assert (scores["frames"], scores["centers"]) == (2, {"depth": 2})


OTHERS: dict[str, dict[str, Any]] = {
    "joint 1 .*pinky_tip.*": {
        "skeleton": dataclasses.replace(NYU.skeleton, joints=NYU.skeleton.joints[::-1])
    },
    "joint 3 other there": {
        "skeleton": dataclasses.replace(
            NYU.skeleton, joints=(*NYU.skeleton.joints[:2], "other", *NYU.skeleton.joints[3:])
        )
    },
    "half_window_mm 300 there, 110 here": {"half_window_mm": 300.0},
    "depth_window_mm 100 there, 150 here": {"depth_window_mm": 100.0},
    "camera 600 .* there, 588.03 .* here": {"camera": dataclasses.replace(NYU.camera, fx=600.0)},
    "track mine there, nyu here": {"name": "mine"},
}


@pytest.mark.parametrize("message", OTHERS)
def test_a_file_of_something_else_is_refused(tmp_path: Path, message: str) -> None:
    other = dataclasses.replace(NYU, **OTHERS[message])
    uvd = np.full((2, 14, 3), 400.0)
    write_joints(
        tmp_path / "p.npz", JointSet(uvd, about={"track": TrackRecord.of(other).to_json()})
    )
    write_joints(tmp_path / "ok.npz", JointSet(uvd))  # says nothing, as files of before
    for files in (("p.npz", "ok.npz"), ("ok.npz", "p.npz")):
        with pytest.raises(UserError, match=f"p.npz.*{message}"):
            compare.compare_predictions({"A": tmp_path / files[0]}, NYU, labels=tmp_path / files[1])


def test_harmless_differences_pass(tmp_path: Path) -> None:
    other = dataclasses.replace(
        NYU, citation="mine", notes="none", storage_unit_mm=0.5, crop_size=96, mean=0.0, std=1.0
    )
    uvd = np.full((2, 14, 3), 400.0)
    record = TrackRecord.of(other).to_json() | {"a later key": 1}
    write_joints(tmp_path / "p.npz", JointSet(uvd, about={"track": record}))
    scores = compare.compare_predictions({"A": tmp_path / "p.npz"}, NYU, labels=tmp_path / "p.npz")
    assert scores["mean_error_mm"] == 0.0


def test_a_users_data_set_of_before_there_were_records() -> None:
    values = {"name": "mine", "like": "nyu", "joints": ["a", "b"]}
    track = track_from_dict(values)
    told = {"joints": "b, a", "half_window_mm": 300.0, "camera": {"fx": 588.03}}
    record = TrackRecord.of_dataset({"spec": {"distribution": told}}, "mine")
    assert len(record.differences(TrackRecord.of(track))) == 3
    assert TrackRecord.of_dataset({}, "mine").differences(TrackRecord.of(track)) == []
    assert TrackRecord.of_dataset({}, "nyu").differences(TrackRecord.of(track))


def test_caveats() -> None:
    one = dataclasses.replace(score_errors(np.zeros((3, 14)), NYU), frames_of=3)
    for changes, caveat in {
        (): "",
        (("frames_of", 8252),): "3 of 8,252 frames",
        (("centers", (("depth", 3),)),): "crops from depth",
        (("centers", (("nyu_center_test.mat", 2), ("depth", 1))),): "some crops from depth",
        (("centers", (("nyu_center_test.mat", 3),)),): "",
        (("frames_of", 4), ("centers", (("labels", 3),))): "3 of 4 frames, crops from labels",
    }.items():
        values = {k: dict(v) if isinstance(v, tuple) else v for k, v in changes}
        changed = dataclasses.replace(one, **values)
        assert changed.caveat == caveat
        assert list(marked({"A2J": changed})) == [f"A2J ({caveat})" if caveat else "A2J"]
        assert changed.to_json()["frames_of"] == values.get("frames_of", 3)


UVD = [[1.5] * 3] * 14
BAD: dict[str, tuple[str, str]] = {
    "twice": ('{"frames": [{"joints_uvd": 1, "joints_uvd": 2}]}', "twice"),
    "NaN": ('{"frames": [{"joints_uvd": NaN}]}', "NaN"),
    "huge": (json.dumps({"frames": [{"joints_uvd": UVD, "index": 10**30}]}), "64 bits"),
    "too large": (json.dumps({"frames": [{"joints_uvd": UVD, "index": 2**63}]}), "'index'"),
    "negative": (json.dumps({"frames": [{"joints_uvd": UVD, "index": -1}]}), "'index' -1"),
    "fraction": (json.dumps({"frames": [{"joints_uvd": UVD, "index": 1.5}]}), "'index'"),
    "texts": (json.dumps({"frames": [{"joints_uvd": [["1.5"] * 3] * 14}]}), "'joints_uvd'"),
    "truth": (json.dumps({"frames": [{"joints_uvd": [[True] * 3] * 14}]}), "'joints_uvd'"),
    "words": (json.dumps({"frames": [{"joints_uvd": UVD, "valid": ["false"] * 14}]}), "'valid'"),
    "a number": (json.dumps({"frames": [{"joints_uvd": UVD, "path": 7}]}), "'frame_id'"),
    "deep": ("[" * 100_000, "deep"),
    "about": (json.dumps({"frames": [{"joints_uvd": UVD}], "about": [1]}), "'about'"),
    "record": (json.dumps({"frames": [{"joints_uvd": UVD}], "about": {"track": 1}}), "record"),
}


@pytest.mark.parametrize("kind", BAD)
def test_malformed_json(tmp_path: Path, kind: str) -> None:
    contents, message = BAD[kind]
    (tmp_path / "p.json").write_text(contents)
    with pytest.raises(UserError, match=message) as caught:
        read_joints(tmp_path / "p.json", NYU)
    assert "p.json" in str(caught.value)


def test_a_data_set_of_something_else_is_refused(tmp_path: Path) -> None:
    own_data.write(tmp_path / "mine")
    own_data.write_csv(tmp_path / "mine")
    build_raw(str(tmp_path / "mine"), tmp_path / "mine", tmp_path / "data")
    track = find_track(tmp_path / "mine")

    def of(**changes: Any) -> TrackRecord:
        other = track_from_dict({**own_data.TRACK, **changes})
        stored = pipeline.as_stored(tmp_path / "data", other)
        return TrackRecord.of_dataset(pipeline.metadata(tmp_path / "data", stored), "")

    assert of() == of(notes="mine", citation="me", storage_unit_mm=0.5) == TrackRecord.of(track)
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
def test_frames_of_another_split_or_in_another_unit(
    tmp_path: Path, about: dict[str, Any], folder: str | None, scale: float, message: str
) -> None:
    """NYU and HANDS 2017 call the frames of both splits alike."""
    uvd = np.random.default_rng(0).uniform(300, 400, (4, 14, 3))
    names = np.array([f"depth_1_{n + 1:07d}.png" for n in range(4)])
    index = np.arange(4)
    write_joints(
        tmp_path / "labels.npz", JointSet(uvd, index=index, frame_id=names, about={"split": "test"})
    )
    called = None if folder is None else np.array([folder + name for name in names])
    found = JointSet(uvd * [1, 1, scale], index=index, frame_id=called, about=about)
    write_joints(tmp_path / "p.npz", found)

    files = {"ours": tmp_path / "p.npz"}
    expected = pytest.raises(UserError, match=message) if message else contextlib.nullcontext()
    with expected:
        scores = compare.compare_predictions(files, NYU, labels=tmp_path / "labels.npz")
        assert scores["frames"] == 4


def test_lists_are_names_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text(
        "frame/images/image_D00000003.png\t1.0\t2.0\nimage_D00000001.png\n\n"
    )
    (tmp_path / "unseen.txt").write_text("\ufeff4\n1,\n")
    lists = read_subsets({"seen": tmp_path / "seen.txt", "unseen": tmp_path / "unseen.txt"})
    index = np.arange(2, 5)  # frames may have been left out of the data set
    named = np.array([f"image_D{n + 1:08d}.png" for n in index])
    for names in (None, named):
        subsets = frame_numbers(lists, index, names)
        assert {name: numbers.tolist() for name, numbers in subsets.items()} == {
            "seen": [0, 2],
            "unseen": [1, 4],
        }


NAMES = np.array(["a/0.png", "a/1.png", "b c/0.png", "b c/2.PNG", "image_D00000001.png"])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.png\n", [20]),
        ("a/0.png 1.5 2\na/0.png 3 4\n", [10]),
        ("2.png,1.5,2\n/data/b c/0.png\t7\n", [30, 40]),
        ("/data/mine/b c/2.png\na/1\n", [20, 40]),
        ("image_D00000001.png\n", [50]),  # a custom track's: its name is no number
        ("10\n30\n", [10, 30]),
    ],
)
def test_names_are_joined_with_those_of_the_data_set(
    tmp_path: Path, text: str, numbers: list[int]
) -> None:
    (tmp_path / "list.txt").write_text(text)
    lists = read_subsets({"some": tmp_path / "list.txt"})
    found = frame_numbers(lists, np.arange(10, 60, 10), NAMES)
    assert found["some"].tolist() == numbers


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("a/0.png\nc/9.png\nc/8.png\n", NAMES, r"2 of its names .* 5 frames .* 'c/9\.png'"),
        ("image_D00000002.png\n", NAMES, r"1 of its names .* 'image_D00000002\.png'"),
        ("0.png\n", NAMES, r"frame '0\.png' may be .*'a/0\.png' .*'b c/0\.png'"),
        ("7\na/0.png\n", NAMES, "1 of its names .* '7'"),
        ("-1\n", NAMES, "names .* '-1'"),
        ("", None, "is empty"),
        ("a.png 1 2\n", None, "line begins with 'a.png'"),
        ("-1\n", None, "a number from 0"),
        ("9" * 40, None, "a number from 0"),
        ("٣\n", None, "a number from 0"),
    ],
)
def test_lists_of_no_frames_are_refused(tmp_path: Path, text: str, names: Any, said: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=rf"list\.txt: .*{said}"):
        frame_numbers(read_subsets({"some": tmp_path / "list.txt"}), np.arange(5), names)


def test_a_listed_frame_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/0.png\na/1.png\n")
    lists = read_subsets({"some": tmp_path / "list.txt"})
    found = frame_numbers(lists, np.arange(1, 5), NAMES[1:], unreadable=1)
    assert found["some"].tolist() == [1]
    with pytest.raises(UserError, match=r"'a/0\.png'"):
        frame_numbers(lists, np.arange(1, 5), NAMES[1:])


def test_a_subset_is_scored_by_frame_number() -> None:
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
    assert paper is not None
    assert paper.rows[-1][:4] == ("A2J (here)", "3.00", "3.50", "2.00")  # beside Table 2's columns
    with pytest.raises(UserError, match=r"subset 'other': none of its 1 frames is among the 3"):
        with_subsets(scores, {"other": np.array([5])}, index, HANDS, labels)


def test_without_subsets_the_json_has_none() -> None:
    scores = {"A2J": score_errors(np.ones((3, 21)), HANDS)}
    same = with_subsets(scores, {}, np.arange(3), HANDS, np.zeros((3, 21, 3)))
    assert "subsets" not in same["A2J"].to_json()
