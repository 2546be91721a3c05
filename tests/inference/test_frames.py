"""Reading depth frames: what each format means, and one clear line for each wrong one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2j_jax.errors import UserError
from a2j_jax.inference.frames import (
    frame_from_array,
    read_frame,
    unpack_nyu,
)

DEPTH = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 300


def save_png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_16_bit_png_is_millimetres(tmp_path: Path) -> None:
    depth = read_frame(save_png(tmp_path / "d.png", DEPTH))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, DEPTH)


def test_depth_unit_scales_an_integer_image(tmp_path: Path) -> None:
    depth = read_frame(save_png(tmp_path / "d.png", DEPTH), depth_unit_mm=0.125)
    np.testing.assert_allclose(depth, DEPTH * 0.125)


def test_depth_unit_scales_whole_numbers_and_no_millimetres(tmp_path: Path) -> None:
    path = tmp_path / "d.npy"
    np.save(path, DEPTH)
    np.testing.assert_allclose(read_frame(path, depth_unit_mm=0.125), DEPTH * 0.125)
    np.save(path, DEPTH.astype(np.float32))
    with pytest.raises(UserError, match="decimal numbers, which are taken for mm"):
        read_frame(path, depth_unit_mm=0.125)


def test_nyu_packed(tmp_path: Path) -> None:
    rgb = np.stack([np.full_like(DEPTH, 77), DEPTH >> 8, DEPTH & 255], -1).astype(np.uint8)
    path = save_png(tmp_path / "d.png", rgb)
    np.testing.assert_array_equal(read_frame(path, "nyu_packed"), DEPTH)
    np.testing.assert_array_equal(unpack_nyu(rgb), DEPTH)
    with pytest.raises(UserError, match=r"3 channel.*expected a one-channel 16-bit.*--track nyu"):
        read_frame(path, "depth16")


def test_a_plain_16_bit_frame_is_fine_for_nyu(tmp_path: Path) -> None:
    path = save_png(tmp_path / "d.png", DEPTH)
    np.testing.assert_array_equal(read_frame(path, "nyu_packed"), DEPTH)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_npy_is_millimetres_of_any_number_type(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "d.npy", DEPTH.astype(dtype))
    np.testing.assert_array_equal(read_frame(tmp_path / "d.npy"), DEPTH)


def test_nan_infinity_and_negative_are_no_reading() -> None:
    array = np.array([[np.nan, np.inf, -5.0, 1e300, 700.0]])
    np.testing.assert_array_equal(frame_from_array(array), [[0, 0, 0, 0, 700]])


def test_8_bit_grey_is_depth_only_where_the_track_says_so(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = save_png(tmp_path / "d.png", grey)
    np.testing.assert_array_equal(read_frame(path, "stretch8"), grey)
    with pytest.raises(UserError, match=r"uint8 image of 1 channel.*16-bit"):
        read_frame(path, "depth16")
    with pytest.raises(UserError, match=r"uint8 image of 1 channel.*16-bit"):
        read_frame(path, "nyu_packed")


def test_of_colour_only_the_first_channel_is_grey(tmp_path: Path) -> None:
    rgb = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    path = save_png(tmp_path / "d.png", rgb)
    np.testing.assert_array_equal(read_frame(path, "stretch8"), rgb[..., 0])


def test_each_kind_of_bad_file_has_its_own_clear_line(tmp_path: Path) -> None:
    whole = save_png(tmp_path / "whole.png", np.tile(DEPTH, (40, 40))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    np.save(tmp_path / "three.npy", np.zeros((2, 3, 4)))
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "cut.npy", np.ones((50, 50)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:300])
    np.savez(tmp_path / "archive.npz", d=DEPTH)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "blank.npy", np.zeros((4, 4)))
    np.save(tmp_path / "negative.npy", np.full((4, 4), -700.0))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "frame.exr").write_bytes(b"exr")
    cases = {
        "missing.png": "no such file",
        "cut.png": "truncated",
        "text.png": "not readable as an image",
        "three.npy": r"found shape \(2, 3, 4\)",
        "object.npy": "not readable as a numeric",
        "text.npy": "expected numbers in mm",
        "cut.npy": "not readable as a numeric",
        "archive.npy": "archive",
        "blank.npy": "no reading at all",
        "negative.npy": r"no depth is above 0 \(the lowest is -700\)",
        "folder.png": r"is a folder; name the frames in it",
        "frame.exr": "unknown kind of frame",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_frame(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", [0.0, -1.0, np.nan])
def test_a_depth_unit_must_be_positive(tmp_path: Path, unit: float) -> None:
    with pytest.raises(UserError, match="depth unit"):
        read_frame(save_png(tmp_path / "d.png", DEPTH), depth_unit_mm=unit)
