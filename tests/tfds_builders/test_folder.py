"""A custom folder: its table in both forms, what mistakes are reported, and the data set it becomes."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import pipeline
from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.evaluation import joint_files
from a2j_jax.track_files import find_track, track_from_dict
from tests.distributions import own_data as fixture
from tfds_builders.build import build_raw
from tfds_builders.folder import CustomFolder, check_split_name, find_table, read_table


@pytest.fixture
def folder(tmp_path):
    """Three frames, the last of the test split, a hand of 40 px before nothing; no table yet."""
    fixture.write(tmp_path / "mine")
    return tmp_path / "mine"


def distribution(folder):
    return CustomFolder(folder, find_track(folder))


@pytest.mark.parametrize("word", ["", "nan", "NA", "None", "null", "#N/A"])
def test_joints_with_a_missing_number_are_not_labeled(folder, word):
    path = fixture.write_csv(folder)
    path.write_text(path.read_text().replace("580.0", word, 1))
    split = distribution(folder).splits()["train"]
    assert split.joints_uvd is not None
    assert np.argwhere(np.isnan(split.joints_uvd)).tolist() == [[0, 2, 0], [0, 2, 1], [0, 2, 2]]
    assert any("joints.csv: 1 joint of 1 frame not labeled" in note for note in split.notes)


def test_frames_outside_the_folder_are_not_read(folder, tmp_path):
    fixture.write_csv(folder)
    outside = tmp_path / "outside.png"
    (folder / "frames/0.png").rename(outside)
    (folder / "frames/0.png").symlink_to(outside)
    with pytest.raises(UnreadableFrame, match="leads out of its folder"):
        distribution(folder).read_depth("frames/0.png")
    allowed = CustomFolder(folder, find_track(folder), allow_outside=True)
    assert allowed.read_depth("frames/0.png").max() == 600
    assert allowed.read_depth(str(outside)).max() == 600


def test_a_folder_becomes_a_data_set(folder, tmp_path):
    fixture.write_json(folder, center_uvd=[80.0, 60.0, 600.0])
    built = build_raw(str(folder), folder, tmp_path / "data")
    assert built == tmp_path / "data" / "my_hands" / "crop32" / "1.0.0"
    track = find_track(folder)
    assert track.camera is not None
    splits = tfds.builder_from_directory(built).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 2, "test": 1}
    first, example = map(pipeline.example_reader(tmp_path / "data", track, "train"), (0, 1))
    np.testing.assert_array_equal(example["center_uvd"], [80, 60, 600])
    np.testing.assert_allclose(example["joints_uvd"], fixture.UVD[1], rtol=1e-6)
    assert example["frame_id"] == b"frames/1.png"
    mean = geometry.uvd_to_xyz(fixture.UVD[0], track.camera).mean(0)
    center = geometry.xyz_to_uvd(mean, track.camera)
    np.testing.assert_allclose(first["center_uvd"], center, rtol=1e-5)
    # docs/own_data.md: what to score on where there is no test split.
    assert pipeline.num_frames(tmp_path / "data", track, "train[:1]") == 1


def test_frames_whose_names_are_not_utf8(folder, tmp_path):
    path = fixture.write_json(folder)
    path.write_text(path.read_text().replace("frames/1.png", r"frames/\udce9.png"))
    (folder / "frames/1.png").rename(folder / "frames/\udce9.png")
    build_raw(str(folder), folder, tmp_path / "data")
    track = find_track(folder)
    example = pipeline.example_reader(tmp_path / "data", track, "train")(1)
    assert example["frame_id"] == rb"frames/\udce9.png"
    # As `a2j predict --json` names it.
    joints = joint_files.JointSet(fixture.UVD[:1], frame_id=np.array(["frames/\udce9.png"]))
    assert joints.frame_id is not None
    assert joints.frame_id.tolist() == [example["frame_id"].decode()]


def test_a_camera_of_another_track_is_noted(folder):
    track = {key: value for key, value in fixture.TRACK.items() if key != "camera"}
    (folder / "track.json").write_text(json.dumps(track))
    fixture.write_csv(folder)
    splits = distribution(folder).splits()
    note, _ = splits["train"].notes
    assert note == "Custom track, like hands2017, with its camera: track.json names none."
    assert splits["test"].notes == ()


def test_a_folder_without_training_frames_says_so(folder):
    path = fixture.write_csv(folder)
    path.write_text(path.read_text().replace("train,", "val,").replace("\n,", "\nval,"))
    notes = distribution(folder).splits()["val"].notes
    assert any("no frames are of split 'train' (splits: val, test)" in note for note in notes)


def test_frames_are_read_by_the_rules_of_the_track(folder):
    """Those of `a2j_jax.data.depth_files`; what they are is noted, with the unit."""
    counts = np.full((120, 160), 2400, np.uint16)
    np.save(folder / "frames/2.npy", counts)
    mine = CustomFolder(folder, find_track(folder), 0.25)
    assert mine.read_depth("frames/2.npy").max() == 600
    assert mine.read_depth("frames/0.png").max() == 150
    fixture.write_csv(folder)
    note = "frames: 16-bit PNG, 0.25 mm per count (frames/0.png); uint16 .npy, 0.25 mm per count"
    assert mine.splits()["train"].notes[1].startswith(note)
    Image.fromarray(np.full((120, 160), 60, np.uint8)).save(folder / "frames/8.png")
    flat = dataclasses.replace(find_track(folder), frame_format="stretch8")
    assert CustomFolder(folder, flat).read_depth("frames/8.png").max() == 60


def test_a_unit_is_above_nothing(folder):
    for unit in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"depth_unit_mm .*: expected a number above 0"):
            CustomFolder(folder, find_track(folder), unit)


def test_the_spec_is_short_and_differs_by_key(folder):
    one = distribution(folder).spec()
    fixture.write(folder.parent / "other", half_window_mm=120, mean=3.0, citation="me")
    other = distribution(folder.parent / "other").spec()
    assert [key for key in one if one[key] != other[key]] == ["half_window_mm"]
    assert len(json.dumps(one)) < 600
    assert one["camera"] == {"fx": 240.0, "fy": 240.0, "cx": 80.0, "cy": 60.0}
    fixture.write(folder.parent / "third", joints=["wrist", "tip", "top"], limbs={})
    assert distribution(folder.parent / "third").spec()["joints"] != one["joints"]


def write_records(folder, image, records, **changes):
    """`joints.json`, and a frame for each record: `image`, or what it makes of the record."""
    fixture.write(folder, **changes)
    for number, record in enumerate(records):
        record["frame"] = f"frames/{number}.npy"
        np.save(folder / record["frame"], image(record) if callable(image) else image)
    (folder / "joints.json").write_text(json.dumps({"frames": records}))


ALIKE, MIXED = ("train",) * 12, ("train", "validation", "test") * 2


@pytest.mark.parametrize(
    ("splits", "bad", "depth", "scale", "message"),
    [
        (ALIKE, {"train"}, 600, [1, 1, 0.1], r"12 of 12 .*labels \(or centers\) in cm"),
        (ALIKE, {"train"}, 4800, [1, 1, 1], r"--depth_unit_mm 0.125\)"),
        (ALIKE, {"train"}, 60, [1, 1, 1], r"--depth_unit_mm 10\)"),
        (ALIKE, {"train"}, 600, [1.5, 1.5, 1], "px of these frames"),
        (ALIKE, {"train"}, 65535, [1, 1, 1], "65,535"),
        (ALIKE, {"train"}, 600, [1, 1, 3], "are they of the same frames"),
        (ALIKE, {"train"}, 600, [1, 1, 1], ""),
        # A small split: its few frames are all off by the factor of one unit.
        (MIXED, {"test"}, 600, [1, 1, 0.001], "^test: .* 2 of 2 .*meters"),
        (MIXED, {"validation"}, 600, [1, 1, 0.1], "^validation: .*in cm"),
        (MIXED, {"train", "test"}, 6000, [1, 1, 1], "depth_unit_mm 0.1"),
        (MIXED, {*MIXED}, 600, [1 / 160, 1 / 120, 1], "in px"),
        # Odd in another way: no reason to refuse them all.
        (MIXED, {"test"}, 600, [1, 1, 3], ""),
    ],
)
def test_depth_and_labels_of_different_units_are_refused(
    tmp_path, splits, bad, depth, scale, message
):
    def image(record):
        frame = np.zeros((120, 160), np.uint16)
        frame[40:80, 60:100] = depth if record["split"] in bad else 600
        frame[:, :10] = 65535
        return frame

    uvd = {name: (fixture.UVD[0] * (scale if name in bad else 1)).tolist() for name in splits}
    records = [{"split": name, "joints_uvd": uvd[name]} for name in splits]
    folder = tmp_path / "mine"
    write_records(folder, image, records)
    if not message:
        build_raw(str(folder), folder, tmp_path / "data")
        return
    with pytest.raises(UserError, match=message):
        build_raw(str(folder), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("unit", "table", "found"),
    [
        (0.001, {}, r"65\.535 mm"),
        (0.001, {"joints_uvd": [[None] * 3] * 3}, r"65\.535 mm"),
        (0.009, {}, r"589\.81 mm"),
        (1000, {}, "6.55"),
    ],
)
def test_a_storage_unit_that_does_not_fit_is_named(tmp_path, unit, table, found):
    folder = tmp_path / "mine"
    image = np.zeros((120, 160), np.uint16)
    image[40:80, 60:100], image[:, :10], image[0, -1] = 800, 65535, 4000
    record = {"joints_uvd": [[80, 60, 800]] * 3, **table}
    write_records(folder, image, [record], storage_unit_mm=unit, depth_window_mm=100)
    message = f"storage_unit_mm {unit} does not fit.*{found}.* 4,000 mm; storage_unit_mm 0.1 would"
    with pytest.raises(UserError, match=message):
        build_raw(str(folder), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (folder / "track.json").write_text(json.dumps({**fixture.TRACK, "storage_unit_mm": 0.1}))
    build_raw(str(folder), folder, tmp_path / "data")


TRACK = track_from_dict(fixture.TRACK)
BODY = track_from_dict({**fixture.TRACK, "like": "itop_front"})
FLAT = track_from_dict({"name": "flat", "like": "k2hpd", "joints": list(fixture.JOINTS)})
CENTERS = {"center_u": (80, "", 82), "center_v": (60, "", 62), "center_d": (600, "", 602)}
BOXES: dict[str, Any] = dict.fromkeys(("box_x0", "box_y0", "box_x1", "box_y1"), (1, 2, 3))
IN_MM = {f"{j}_{a}": (1, 2, 3) for j in fixture.JOINTS for a in "xyz"}
BOTH = "has joints both in px .* and in mm"


def without(column):
    return {"extra": {name: values for name, values in CENTERS.items() if name != column}}


def write_lines(folder, lines=slice(None)):
    """Some lines of a `joints.csv`, and blank ones."""
    path = fixture.write_csv(folder)
    path.write_text("\n".join(path.read_text().split("\n")[lines]) + "\n \n")
    return path


def write_text(folder, text):
    (folder / "joints.json").write_text(text)
    return folder / "joints.json"


def test_both_tables_say_the_same(tmp_path):
    from_csv = read_table(fixture.write_csv(tmp_path, extra=CENTERS), TRACK)
    changes = {"split": None, "center_uvd": [None, None, None], "frame": r"frames\1.png"}
    from_json = read_table(fixture.write_json(tmp_path, **changes), TRACK)
    assert [row.split for row in from_csv] == ["train", "train", "test"]
    for one, other in zip(from_csv, from_json, strict=True):
        assert (one.frame, one.split) == (other.frame, other.split)
        np.testing.assert_array_equal(one.joints_uvd, other.joints_uvd)
    np.testing.assert_array_equal(from_csv[2].crop, [82, 62, 602])
    assert np.isnan(from_csv[1].crop).all()
    assert np.isnan(from_json[1].crop).all()


def test_camera_coordinates_are_projected(tmp_path):
    assert TRACK.camera is not None
    xyz = geometry.uvd_to_xyz(fixture.UVD, TRACK.camera)
    for path in (
        fixture.write_csv(tmp_path, "xyz", xyz),
        fixture.write_json(tmp_path, joints_uvd=None, joints_xyz_mm=xyz[1].tolist()),
    ):
        for row, uvd in zip(read_table(path, TRACK), fixture.UVD, strict=True):
            np.testing.assert_allclose(row.joints_uvd, uvd, atol=1e-9)


def test_joints_without_depth_have_two_numbers(tmp_path):
    path = fixture.write_csv(tmp_path, "uv", fixture.UVD[..., :2])
    rows = read_table(path, FLAT)
    np.testing.assert_array_equal(rows[0].joints_uvd, fixture.UVD[0, :, :2])


def test_a_folder_has_one_table(tmp_path):
    with pytest.raises(UserError, match=r"neither of joints\.csv and joints\.json; .*own_data\.md"):
        find_table(tmp_path)
    path = fixture.write_json(tmp_path)
    assert find_table(tmp_path) == path
    fixture.write_csv(tmp_path)
    with pytest.raises(UserError, match=r"both of joints\.csv and joints\.json"):
        find_table(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "tip_d",
            "tip_z",
            "no column 'thumb_tip_d'; unknown column 'thumb_tip_z'; .*'thumb_tip_d'",
        ),
        (
            "wrist_u,wrist_v,wrist_d,thumb_tip_u",
            "a,b,c,d",
            "_d' and 1 more; unknown .* and 1 more$",
        ),
        ("wrist_u", "wrst_u", "no column 'wrist_u'; unknown column 'wrst_u'; did you mean 'wrist_"),
        ("wrist_u", "wrist_v", "column 'wrist_v' is there twice"),
        ("split,frame", ",frame", "column 1 has no name, but holds 'test'"),
        ("split,frame", "train,frames/9.png", "unknown column 'train'"),
        ("frames/1.png", "../1.png", r"line 3: \.\.: .*--allow_outside"),
        ("frames/1.png", "/tmp/1.png", "line 3: /tmp: .*--allow_outside"),
        ("frames/1.png", "frames/0.png", "line 3: .*'frames/0.png' was named before, in line 2"),
        ("frames/1.png", "", "line 3: names no frame"),
        ("590.0", "5_90", "line 2: thumb_tip_d is '5_90', not a number"),
        ("590.0", "59O", "line 2: thumb_tip_d is '59O', not a number"),
        ("590.0", "inf", "line 2: thumb_tip_d is 'inf', not a number"),
        ("590.0", "590,0", "line 2: 12 cells, the header has 11"),
        (",590.0", "", "line 2: 10 cells, the header has 11"),
        ("test,", "my test,", "line 4: split 'my test' is not a plain word"),
        ("test,", "tset,", "line 4: split 'tset'; did you mean 'test'"),
    ],
)
def test_mistakes_in_csv_are_named(tmp_path, old, new, message):
    path = fixture.write_csv(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, TRACK)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 200


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper().replace("FRAMES", "frames").replace("TRAIN", "train").replace("TEST", "test"),
        lambda text: ("\ufeff" + text).replace("\n", "\r\n").replace("frames/", "frames\\"),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", ", "),
        lambda text: "\n".join(
            f"{i - 1 if i else ''},{line}," for i, line in enumerate(text.strip().split("\n"))
        ),
    ],
    ids=["capitals", "windows", "excel", "semicolons", "spaces", "pandas"],
)  # fmt: skip
def test_tables_as_programs_write_them(tmp_path, change, capsys, request):
    path = fixture.write_csv(tmp_path)
    plain = read_table(path, TRACK)
    changed = change(path.read_text())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    for row, expected in zip(read_table(path, TRACK), plain, strict=True):
        assert row.frame.lower() == expected.frame
        np.testing.assert_array_equal(row.joints_uvd, expected.joints_uvd)
    noted = "note: joints.csv: column 1 has no name" in capsys.readouterr().err
    assert noted == (request.node.callspec.id == "pandas")


CSV, JSON = fixture.write_csv, fixture.write_json


@pytest.mark.parametrize(
    ("write", "options", "track", "message"),
    [
        (CSV, without("center_d"), TRACK, "no column 'center_d'"),
        (CSV, without("center_u"), TRACK, "no column 'center_u'"),
        (CSV, {"extra": BOXES}, TRACK, "box_px: .*expected center_uvd"),
        (JSON, {"box_px": [1, 2, 3, 4]}, TRACK, "box_px: .*expected center_uvd"),
        (CSV, {"extra": CENTERS}, BODY, "center_uvd: .*expected box_px"),
        (JSON, {"center_uvd": [1, 2, 3]}, BODY, "center_uvd: .*expected box_px"),
        (CSV, {"extra": IN_MM}, TRACK, f"line 2: {BOTH}"),
        (JSON, {"joints_xyz_mm": [[1, 2, 3]] * 3}, TRACK, f"frame 2: {BOTH}"),
        (CSV, {"axes": "xyz"}, FLAT, "pixels without depth; expected joints_uvd"),
        (write_lines, {"lines": slice(0, 0)}, TRACK, "is empty"),
        (write_lines, {"lines": slice(0, 1)}, TRACK, "holds no frame"),
        (write_lines, {"lines": slice(1, None)}, TRACK, "no header; .*'frame', 'split'"),
        (write_text, {"text": '{"frames": [], "split": "test"}'}, TRACK, "unknown key 'split'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, write, options, track, message):
    with pytest.raises(UserError, match=message):
        read_table(write(tmp_path, **options), track)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints_uvd": [[1, 2, 3]]}, r"joints_uvd \(3 joints of uvd\), .* found 1 x 3"),
        ({"joints_uvd": [[1, 2, 3], [1, 2], [1]]}, "expected joints_uvd"),
        ({"joints_uvd": "here"}, "expected joints_uvd"),
        ({"joints_uvd": [[1, 2, "3"]] * 3}, "expected joints_uvd"),
        ({"joints_uvd": [[1, 2, True]] * 3}, "expected joints_uvd"),
        ({"split": "a" * 81}, "at most 80"),
        ({"joints": []}, "unknown key 'joints'; did you mean 'joints_uvd'"),
        ({"centre_uvd": [1, 2, 3]}, "unknown key 'centre_uvd'; did you mean 'center_uvd'"),
        ({"center_uvd": [1, 2]}, r"expected center_uvd \(3 numbers\), .* found 2"),
        ({"frame": 7}, 'expected an object with "frame"'),
        ({"frame": "frames/0.png"}, "frames/0.png.* was named before, in frame 1"),
        ({"split": "Train"}, "split 'Train'; did you mean 'train'"),
    ],
)
def test_mistakes_in_json_are_named(tmp_path, changes, message):
    path = fixture.write_json(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, TRACK)
    assert f"{path}, frame 2: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_is_what_is_not_known(tmp_path):
    path = fixture.write_json(tmp_path, joints_uvd=[[1, 2, 3], None, [4, None, 5]], box_px=None)
    expected = [[1, 2, 3], [np.nan] * 3, [4, np.nan, 5]]
    np.testing.assert_array_equal(read_table(path, TRACK)[1].joints_uvd, expected)


def test_names_of_splits():
    slips = {"Train trian training": "train", "tets TEST": "test", "validaton": "validation"}
    for names, meant in slips.items():
        for name in names.split():
            with pytest.raises(UserError, match=f"^split {name!r}; did you mean {meant!r}"):
                check_split_name(name)
    for name in ("train", "validation", "test", "test_seen", "train2", "val", "eval", "subject_3"):
        check_split_name(name)
    for name in ("my test", "3d", "", "train[:10]", "Subject", "all"):
        with pytest.raises(UserError, match=r"not a plain word|lowercase"):
            check_split_name(name)


@pytest.mark.parametrize(
    ("scale", "depth", "message"),
    [
        (
            [1, 1, 0.001],
            600,
            r"joints\.csv: .* all joints .*\(0\.58 to 0\.602\); expected mm.* meters",
        ),
        ([1, 1, -1], 600, "z points backwards: .* joints"),
        ([1, 1, 1], -600, "z points backwards: .* centers"),
        ([10, 10, 1], 600, "^.*: 9 of 9 labeled joints lie outside their 160x120 frames"),
        ([1, 1, 1], 0.6, r"joints\.csv: .* all centers .* meters"),
        ([1, 1, 1], 600, ""),
    ],
)
def test_meters_and_other_cameras_are_errors(folder, tmp_path, scale, depth, message):
    joints = fixture.UVD * scale
    if not message:
        joints[0, 0] = np.multiply((-500, 60, 0.6), scale)  # a single odd joint is no error
    centers = {"center_u": (80,) * 3, "center_v": (60,) * 3, "center_d": (depth,) * 3}
    fixture.write_csv(folder, joints=joints, extra=centers)
    if not message:
        build_raw(str(folder), folder, tmp_path / "data")
        return
    with pytest.raises(UserError, match=message):
        build_raw(str(folder), folder, tmp_path / "data")


def test_labels_in_meters_of_the_camera_are_errors(folder, tmp_path):
    xyz = geometry.uvd_to_xyz(fixture.UVD, TRACK.camera) / 1000
    fixture.write_csv(folder, "xyz", xyz)
    with pytest.raises(UserError, match="are these meters"):
        build_raw(str(folder), folder, tmp_path / "data")


def test_a_single_center_in_meters_is_an_error(folder):
    fixture.write_json(folder, center_uvd=[80.0, 60.0, 0.6])  # too few to compare with the depth
    with pytest.raises(UserError, match=r"joints\.json: .* all centers .* meters"):
        CustomFolder(folder, TRACK).splits()
