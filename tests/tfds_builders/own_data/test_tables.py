"""The table of a folder of one's own: both forms, both coordinates, and what mistakes are told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.track_files import track_from_dict
from tests.distributions import own_data as fixture
from tfds_builders.folder_tables import find_table, read_table

TRACK = track_from_dict(fixture.TRACK)
BODY = track_from_dict({**fixture.TRACK, "like": "itop_front"})
FLAT = track_from_dict({"name": "flat", "like": "k2hpd", "joints": list(fixture.JOINTS)})
CENTERS = {"center_u": (80, "", 82), "center_v": (60, "", 62), "center_d": (600, "", 602)}


def test_both_tables_say_the_same(tmp_path: Path) -> None:
    from_csv = read_table(fixture.write_csv(tmp_path, extra=CENTERS), TRACK)
    changes = {"split": None, "center_uvd": [None, None, None]}
    from_json = read_table(fixture.write_json(tmp_path, **changes), TRACK)
    assert [row.split for row in from_csv] == ["train", "train", "test"]
    assert [row.where for row in from_csv] == ["line 2", "line 3", "line 4"]
    assert [row.where for row in from_json] == ["frame 1", "frame 2", "frame 3"]
    for one, other in zip(from_csv, from_json, strict=True):
        assert (one.frame, one.split) == (other.frame, other.split)
        np.testing.assert_array_equal(one.joints_uvd, other.joints_uvd)
    np.testing.assert_array_equal(from_csv[2].crop, [82, 62, 602])
    assert np.isnan(from_csv[1].crop).all()
    assert np.isnan(from_json[1].crop).all()


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_separators_of_spreadsheets_are_understood(tmp_path: Path, separator: str) -> None:
    path = fixture.write_csv(tmp_path, separator=separator)
    np.testing.assert_array_equal([r.joints_uvd for r in read_table(path, TRACK)], fixture.UVD)


def test_camera_coordinates_are_projected(tmp_path: Path) -> None:
    assert TRACK.camera is not None
    xyz = geometry.uvd_to_xyz(fixture.UVD, TRACK.camera)
    for path in (
        fixture.write_csv(tmp_path, "xyz", xyz),
        fixture.write_json(tmp_path, joints_uvd=None, joints_xyz_mm=xyz[1].tolist()),
    ):
        for row, uvd in zip(read_table(path, TRACK), fixture.UVD, strict=True):
            np.testing.assert_allclose(row.joints_uvd, uvd, atol=1e-9)


def test_joints_without_depth_have_two_numbers(tmp_path: Path) -> None:
    path = fixture.write_csv(tmp_path, "uv", fixture.UVD[..., :2])
    np.testing.assert_array_equal(read_table(path, FLAT)[0].joints_uvd, fixture.UVD[0, :, :2])


def test_a_folder_has_one_table(tmp_path: Path) -> None:
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
            "index_tip_d",
            "index_tip_z",
            r"csv: no column 'index_tip_d'; unknown column 'index_tip_z'; did you mean 'index_tip_d'\?$",
        ),
        ("wrist_u", "wrst_u", "no column 'wrist_u'; unknown column 'wrst_u'; did you mean 'wrist_"),
        ("wrist_u", "wrist_v", "column 'wrist_v' is there twice"),
        ("590.0", "5_90", "line 2: thumb_tip_d is '5_90', not a number"),
        ("split,frame", ",frame", "column 1 has no name, but holds 'test'"),
        ("frames/1.png", "../1.png", r"line 3: frame ../1.png: .*--allow_outside"),
        ("frames/1.png", "/tmp/1.png", r"line 3: frame /tmp/1.png: .*--allow_outside"),
        ("frames/1.png", "frames/0.png", "line 3: 'frames/0.png' was named before, in line 2"),
        ("frames/1.png", "", "line 3: names no frame"),
        ("590.0", "59O", "line 2: thumb_tip_d is '59O', not a number"),
        ("590.0", "inf", "line 2: thumb_tip_d is 'inf', not a number"),
        ("590.0", "590,0", "line 2: 12 cells, the header has 11"),
        (",590.0", "", "line 2: 10 cells, the header has 11"),
        ("test,", "my test,", "line 4: split 'my test' is not a plain word"),
        ("test,", "tset,", "line 4: split 'tset'; did you mean 'test'"),
        ("split,frame", "train,frames/9.png", "unknown column 'train'"),
    ],
)
def test_mistakes_in_csv_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
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
        lambda text: "\n".join(
            f"{i - 1 if i else ''},{line}," for i, line in enumerate(text.strip().split("\n"))
        ),
    ],
    ids=["capitals", "windows", "excel", "pandas"],
)  # fmt: skip
def test_tables_as_programs_write_them(tmp_path: Path, change: Any) -> None:
    path = fixture.write_csv(tmp_path)
    plain = read_table(path, TRACK)
    changed = change(path.read_text())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    for row, expected in zip(read_table(path, TRACK), plain, strict=True):
        assert row.frame.lower() == expected.frame
        np.testing.assert_array_equal(row.joints_uvd, expected.joints_uvd)


@pytest.mark.parametrize("word", ["", "nan", "NA", "None", "null", "#N/A"])
def test_words_for_a_missing_number(tmp_path: Path, word: str) -> None:
    path = fixture.write_csv(tmp_path)
    path.write_text(path.read_text().replace("590.0", word, 1))
    assert np.isnan(read_table(path, TRACK)[0].joints_uvd[1, 2])


def test_a_misspelt_joint_is_one_short_line(tmp_path: Path) -> None:
    path = fixture.write_csv(tmp_path)
    path.write_text(path.read_text().replace("wrist", "wrst").replace("index_tip", "index"))
    with pytest.raises(UserError) as caught:
        read_table(path, TRACK)
    assert str(caught.value) == (
        f"{path}: no column 'wrist_u', 'wrist_v', 'wrist_d' and 3 more; unknown column 'wrst_u', "
        "'wrst_v', 'wrst_d' and 3 more; did you mean 'wrist_u'?"
    )


def test_a_csv_without_contents_or_header_is_named(tmp_path: Path) -> None:
    path = fixture.write_csv(tmp_path)
    text = path.read_text()
    for new, message in (
        ("\n \n", "is empty"),
        (text.split("\n")[0], "holds no frame"),
        (text.split("\n", 1)[1], "the first line is no header; expected the columns frame, split"),
    ):
        path.write_text(new)
        with pytest.raises(UserError, match=message):
            read_table(path, TRACK)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("center_d", "center_u, center_v without center_d"),
        ("center_u", "center_v, center_d without center_u"),
    ],
)
def test_half_a_centre_is_an_error(tmp_path: Path, left_out: str, message: str) -> None:
    extra = {name: column for name, column in CENTERS.items() if name != left_out}
    with pytest.raises(UserError, match=message):
        read_table(fixture.write_csv(tmp_path, extra=extra), TRACK)


def test_a_box_is_no_centre_and_a_centre_no_box(tmp_path: Path) -> None:
    boxes = dict.fromkeys(("box_x0", "box_y0", "box_x1", "box_y1"), (1, 2, 3))
    for path, track, message in (
        (fixture.write_csv(tmp_path, extra=boxes), TRACK, "box_x0.*a center; expected center_u"),
        (fixture.write_json(tmp_path, box_px=[1, 2, 3, 4]), TRACK, "a center; expected center_uvd"),
    ):
        with pytest.raises(UserError, match=f"{message}.*none of them"):
            read_table(path, track)
    for path, message in (
        (fixture.write_csv(tmp_path, extra=CENTERS), "center_u.*a box; expected box_x0"),
        (fixture.write_json(tmp_path, center_uvd=[1, 2, 3]), "center_uvd.*a box; expected box_px"),
    ):
        with pytest.raises(UserError, match=message):
            read_table(path, BODY)


def test_joints_are_given_once(tmp_path: Path) -> None:
    twice = dict.fromkeys((f"{j}_{a}" for j in fixture.JOINTS for a in "xyz"), (1, 2, 3))
    xyz = fixture.UVD[1].tolist()
    for path, message in (
        (fixture.write_csv(tmp_path, extra=twice), "both in px .* and in mm"),
        (fixture.write_json(tmp_path, joints_xyz_mm=xyz), "frame 2: has both joints_uvd and"),
    ):
        with pytest.raises(UserError, match=message):
            read_table(path, TRACK)


def test_camera_coordinates_need_a_camera(tmp_path: Path) -> None:
    changes = {"joints_uvd": None, "joints_xyz_mm": fixture.UVD[1].tolist()}
    records = fixture.write_json(tmp_path, **changes).read_text()
    for path, message in (
        (fixture.write_csv(tmp_path, "xyz"), "pixels without depth; expected columns _u, _v"),
        (find_json(tmp_path, records), "pixels without depth; expected joints_uvd"),
    ):
        with pytest.raises(UserError, match=message):
            read_table(path, FLAT)


def find_json(folder: Path, records: str) -> Path:
    """The same records, first the one in camera coordinates."""
    path = folder / "joints.json"
    first, second, third = records.removeprefix('{"frames": [').split('{"frame"')[1:]
    path.write_text('{"frames": [{"frame"' + second + '{"frame"' + first + '{"frame"' + third)
    return path


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
        ({"frame": "frames/0.png"}, "'frames/0.png' was named before, in frame 1"),
        ({"split": "Train"}, "split 'Train'; did you mean 'train'"),
    ],
)
def test_mistakes_in_json_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = fixture.write_json(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, TRACK)
    assert f"{path}, frame 2: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_beside_the_frames_are_named(tmp_path: Path) -> None:
    path = tmp_path / "joints.json"
    path.write_text('{"frames": [], "split": "test"}')
    with pytest.raises(UserError, match="unknown key 'split'"):
        read_table(path, TRACK)


def test_null_is_what_is_not_known(tmp_path: Path) -> None:
    path = fixture.write_json(tmp_path, joints_uvd=[[1, 2, 3], None, [4, None, 5]], box_px=None)
    expected = [[1, 2, 3], [np.nan] * 3, [4, np.nan, 5]]
    np.testing.assert_array_equal(read_table(path, TRACK)[1].joints_uvd, expected)
