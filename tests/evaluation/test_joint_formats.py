"""Rows, columns and units of published files are read, or refused by line."""

from pathlib import Path

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation import joint_files
from a2j_jax.evaluation.joint_files import read_rows, split_columns
from a2j_jax.tracks import get_track

VALUES = [[1.5, -2.0, 300.0], [4.0, 5e-3, 6e2]]


@pytest.mark.parametrize(
    "text",
    [
        "1.5 -2 300\n4 0.005 600",
        "1.5 -2 300 \n4 0.005 600 \n",
        "1.5,-2,300\r\n4,0.005,600\r\n",
        "1.5, -2, 300,\n4, 0.005, 600,\n",
        "1.5\t-2\t300\t\n4\t5e-3\t6.0E+02\t\n",
        "\n  1.5   -2 300\n\n \t\n4 0.005 600\n\n",
        "\ufeff1.5 -2 300\n4 0.005 600\n",
        "# u v d\n1.5;-2;300\n  # between\n4;0.005;600;\n",
        "; a header\n1.5 -2 300\n4 0.005 600\n% the end\n",
        "1.5 -2 3_00\n4 0.005 600\n",  # slower, as Python reads it
    ],
)
def test_separators_blank_lines_and_exponents(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.txt").write_bytes(text.encode())
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, VALUES)
    assert rows.names is None


def test_names_in_front(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a/b.png 1.5 -2 300 \n\nc.png,4,0.005,600\n", "utf-8")
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, VALUES)
    assert rows.names == ("a/b.png", "c.png")
    np.testing.assert_array_equal(rows.lines, [1, 3])


def test_what_numpy_writes(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    np.savetxt(path, VALUES, delimiter="; ", header="u; v; d", footer="px px mm", encoding="utf-8")
    rows = read_rows(path)
    np.testing.assert_array_equal(rows.values, VALUES)
    np.testing.assert_array_equal(rows.lines, [2, 3])
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="empty"):
        read_rows(path)


def test_not_a_number_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1 nan inf\n-inf 2 NaN\n")
    expected = [[1, np.nan, np.inf], [-np.inf, 2, np.nan]]
    np.testing.assert_array_equal(read_rows(tmp_path / "rows.txt").values, expected)


def test_many_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 100, (50, 6))
    np.savetxt(tmp_path / "rows.txt", values, fmt="%.17g")
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, values)
    np.testing.assert_array_equal(rows.lines, np.arange(1, 51))
    with (tmp_path / "rows.txt").open("a") as file:
        file.write("1 2 3 4 5\n")
    with pytest.raises(UserError, match="row 51: expected 6 numbers"):
        read_rows(tmp_path / "rows.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("1 2 3\n\n4 5\n", "row 3: expected 3 numbers as in the first row, found 2"),
        ("1 2 3\n4 5\n6 7 8 9\n", "row 2: expected 3"),  # the total would be right
        ("1 2 3\n4 x5 6\n", "row 2: not a number: 'x5'"),
        ("1 2 3\n4 5 6 # seven\n", "row 2: not a number: '#'"),
        ("a 1 2\n3 4\n", "row 2: expected 2"),
        ("a 1 2\nb\n", "row 2: expected 2 numbers as in the first row, found 0"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(tmp_path / "rows.txt")
    assert "rows.txt" in str(caught.value)


def test_what_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "utf16.txt").write_bytes("1 2 3\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"utf16\.txt.*not readable as text"):
        read_rows(tmp_path / "utf16.txt")
    with pytest.raises(UserError, match="not readable"):
        read_rows(tmp_path)


NYU, ICVL, ITOP, K2HPD = (get_track(name) for name in ("nyu", "icvl", "itop_front", "k2hpd"))
RNG = np.random.default_rng(0)
HAND = RNG.uniform([100, 100, 600], [540, 380, 900], (20, 14, 3))
BODY = RNG.uniform([40, 20, 2000], [280, 220, 3500], (20, 15, 3))


def to_uvd_mm(joints: np.ndarray, track, coordinates="unknown"):
    return joint_files.to_uvd_mm(joints, track, "p.txt", coordinates)


def xyz_of(uvd: np.ndarray, track) -> np.ndarray:
    return geometry.uvd_to_xyz(uvd, track.camera)


def test_columns() -> None:
    confidence = RNG.random((20, 14))
    plain, nothing = split_columns(HAND.reshape(20, -1), NYU, "p.txt")
    np.testing.assert_array_equal(plain, HAND)
    assert nothing is None
    beside = np.concatenate([HAND, confidence[..., None]], -1).reshape(20, -1)
    behind = np.concatenate([HAND.reshape(20, -1), confidence], -1)
    for values in (beside, behind):
        joints, found = split_columns(values, NYU, "p.txt")
        np.testing.assert_array_equal(joints, HAND)
        np.testing.assert_array_equal(found, confidence)


def test_other_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected 42 numbers \(14 joints × 3\), found 63"):
        split_columns(np.ones((2, 63)), NYU, "p.txt")
    with pytest.raises(UserError, match="found 56: one more per joint, but neither"):
        split_columns(np.full((2, 56), 30.0), NYU, "p.txt")


def test_pixels_pass_through() -> None:
    joints, notes = to_uvd_mm(HAND, NYU)
    np.testing.assert_array_equal(joints, HAND)
    assert notes == ()
    flat = RNG.uniform(0, 1, (3, 19, 2))
    np.testing.assert_array_equal(to_uvd_mm(flat, K2HPD)[0], flat)


def test_meters_are_recognized_by_their_size() -> None:
    for uvd, track in ((HAND, NYU), (BODY, ITOP)):
        joints, notes = to_uvd_mm(uvd * [1, 1, 1e-3], track)
        np.testing.assert_allclose(joints, uvd)
        assert notes == ("depth read as meters",)
        joints, notes = to_uvd_mm(xyz_of(uvd, track) / 1000, track)
        np.testing.assert_allclose(joints, uvd)
        assert len(notes) == 2


def test_camera_coordinates_where_the_file_says_so() -> None:
    joints, notes = to_uvd_mm(xyz_of(HAND, NYU), NYU, "xyz")
    np.testing.assert_allclose(joints, HAND)
    assert "588.03" in notes[0]
    backwards, notes = to_uvd_mm(xyz_of(HAND, NYU) * [1, -1, -1], NYU, "xyz")
    np.testing.assert_allclose(backwards, HAND)
    assert any("backwards" in note for note in notes)


@pytest.mark.parametrize("y_sign", [1, -1])
def test_camera_coordinates_in_place_of_pixels_are_refused(y_sign: int) -> None:
    with pytest.raises(UserError, match=r"look like camera coordinates.*588\.03"):
        to_uvd_mm(xyz_of(HAND, NYU) * [1, y_sign, 1], NYU)


def test_poor_predictions_are_not_refused() -> None:
    far_off = HAND + np.array([2000.0, -900.0, 50.0])
    np.testing.assert_array_equal(to_uvd_mm(far_off, NYU)[0], far_off)
    zeros = np.zeros((2, 14, 3))
    np.testing.assert_array_equal(to_uvd_mm(zeros, NYU)[0], zeros)


def test_points_that_have_no_pixel() -> None:
    xyz = xyz_of(HAND, NYU)
    xyz[3, 4, 2] = 0
    with pytest.raises(UserError, match="z = 0"):
        to_uvd_mm(xyz, NYU, "xyz")
