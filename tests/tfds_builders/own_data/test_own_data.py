"""A folder of one's own: both tables, both kinds of coordinates, and what they are told when wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from a2j_jax import geometry, input_pipeline
from a2j_jax.errors import UserError
from a2j_jax.track_files import find_track
from tfds_builders.build import build_raw
from tfds_builders.own_data.own_data import OwnDistribution, read_table

JOINTS = ("wrist", "thumb_tip", "index_tip")
TRACK = {
    "name": "my_hands",
    "like": "hands2017",
    "camera": {"fx": 240.0, "fy": 240.0, "cx": 80.0, "cy": 60.0},
    "frame_size": [160, 120],
    "joints": list(JOINTS),
    "limbs": {"thumb": ["wrist", "thumb_tip"], "index": ["wrist", "index_tip"]},
    "crop_size": 32,
}
UVD = (
    np.array([[[80, 60, 600], [70, 50, 590], [90, 45, 580]]] * 3, float)
    + np.arange(3)[:, None, None]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames, the last of the test split, a hand of 40 px before nothing."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "track.json").write_text(json.dumps(TRACK))
    depth = np.zeros((120, 160), np.uint16)
    depth[40:80, 60:100] = 600
    for number in range(2):
        Image.fromarray(depth).save(tmp_path / f"frames/{number}.png")
    np.save(tmp_path / "frames/2.npy", depth.astype(np.float32))
    return tmp_path


def names() -> list[str]:
    return ["frames/0.png", "frames/1.png", "frames/2.npy"]


def write_csv(folder: Path, axes: str = "uvd", joints: np.ndarray = UVD, extra: str = "") -> None:
    header = ["split", "frame", *(f"{j}_{a}" for j in JOINTS for a in axes)]
    lines = [", ".join(header) + extra]
    for name, split, values in zip(names(), ("train", "", "test"), joints, strict=True):
        lines.append(",".join([split, name, *(f"{v!r}" for v in values.ravel().tolist())]))
    (folder / "joints.csv").write_text("\n".join(lines) + "\n\n")


def write_json(folder: Path, **changes: Any) -> None:
    records = [
        {"frame": name, "split": split, "joints_uvd": uvd.tolist()}
        for name, split, uvd in zip(names(), ("train", "train", "test"), UVD, strict=True)
    ]
    records[1].update(changes)
    (folder / "joints.json").write_text(json.dumps({"frames": records}))


def test_both_tables_say_the_same(folder: Path) -> None:
    track = find_track(folder)
    write_csv(folder)
    from_csv = read_table(folder, track)
    (folder / "joints.csv").unlink()
    write_json(folder)
    from_json = read_table(folder, track)
    assert [row.split for row in from_csv] == ["train", "train", "test"]
    for one, other in zip(from_csv, from_json, strict=True):
        assert (one.frame, one.split) == (other.frame, other.split)
        np.testing.assert_array_equal(one.joints_uvd, other.joints_uvd)
        assert np.isnan(one.crop).all()


def test_camera_coordinates_are_projected(folder: Path) -> None:
    track = find_track(folder)
    assert track.camera is not None
    write_csv(folder, "xyz", geometry.uvd_to_xyz(UVD, track.camera))
    for row, uvd in zip(read_table(folder, track), UVD, strict=True):
        np.testing.assert_allclose(row.joints_uvd, uvd, atol=1e-9)


def test_empty_cells_are_joints_without_a_label(folder: Path) -> None:
    write_csv(folder)
    text = (folder / "joints.csv").read_text().replace("90.0,45.0,580.0", ",,")
    (folder / "joints.csv").write_text(text)
    splits = OwnDistribution(find_track(folder), folder).splits()
    joints = splits["train"].joints_uvd
    assert joints is not None
    assert np.isnan(joints[0, 2]).all()
    assert np.isfinite(joints[1]).all()


def test_a_folder_becomes_a_data_set(folder: Path, tmp_path: Path) -> None:
    write_json(folder, center_uvd=[80.0, 60.0, 600.0])
    built = build_raw(str(folder), folder, tmp_path / "data")
    assert built == tmp_path / "data" / "my_hands" / "crop32" / "1.0.0"
    track = find_track(folder)
    builder = tfds.builder_from_directory(built)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 2,
        "test": 1,
    }
    example = input_pipeline.example_reader(tmp_path / "data", track, "train")(1)
    np.testing.assert_array_equal(example["center_uvd"], [80, 60, 600])
    np.testing.assert_allclose(example["joints_uvd"], UVD[1], rtol=1e-6)
    assert example["frame_id"] == b"frames/1.png"
    first = input_pipeline.example_reader(tmp_path / "data", track, "train")(0)
    mean = geometry.uvd_to_xyz(UVD[0], track.camera).mean(0)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        first["center_uvd"], geometry.xyz_to_uvd(mean, track.camera), rtol=1e-5
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("index_tip_d", "index_tip_z", "columns missing: index_tip_d; unknown: index_tip_z"),
        ("wrist_u", "wrst_u", "no columns of joint 'wrist'"),
        ("frames/1.png", "frames/0.png", "frame 2: 'frames/0.png' was named before"),
        ("590.0", "59O", "line 2: thumb_tip_d is '59O', not a number"),
        (",590.0", "", "line 2: 10 cells, the header has 11"),
        ("test,", "my test,", "split 'my test' is not a plain word"),
    ],
)
def test_mistakes_in_the_table_are_named(folder: Path, old: str, new: str, message: str) -> None:
    write_csv(folder)
    text = (folder / "joints.csv").read_text()
    assert old in text
    (folder / "joints.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        read_table(folder, find_track(folder))
    assert "joints.csv" in str(caught.value)


def test_mistakes_in_json_are_named(folder: Path) -> None:
    track = find_track(folder)
    for changes, message in (
        ({"joints_uvd": [[1, 2, 3]]}, r"frame 2: joints should be numbers of shape \(3, 3\)"),
        ({"frame": 7}, 'frame 2: expected an object with "frame"'),
    ):
        write_json(folder, **changes)
        with pytest.raises(UserError, match=message):
            read_table(folder, track)
    (folder / "joints.json").unlink()
    with pytest.raises(UserError, match=r"expected one of joints\.csv and joints\.json"):
        read_table(folder, track)
