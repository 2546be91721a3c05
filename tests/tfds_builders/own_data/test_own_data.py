"""A folder of one's own becomes a data set, and says what it made of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.evaluation import joint_files
from a2j_jax.track_files import find_track
from tests.distributions import own_data as fixture
from tfds_builders.build import build_raw
from tfds_builders.folder import OwnDistribution
from tfds_builders.raw_files import UnreadableFrame


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames, the last of the test split, a hand of 40 px before nothing; no table yet."""
    fixture.write(tmp_path / "mine")
    return tmp_path / "mine"


def distribution(folder: Path) -> OwnDistribution:
    return OwnDistribution(find_track(folder), folder)


def test_empty_cells_are_joints_without_a_label(folder: Path) -> None:
    path = fixture.write_csv(folder)
    path.write_text(path.read_text().replace("90.0,45.0,580.0", ",,"))
    split = distribution(folder).splits()["train"]
    assert split.joints_uvd is not None
    assert np.isnan(split.joints_uvd[0, 2]).all()
    assert np.isfinite(split.joints_uvd[1]).all()
    assert any("joints.csv: 1 joint of 1 frame not labeled" in note for note in split.notes)


def test_frames_outside_the_folder_are_not_read(folder: Path, tmp_path: Path) -> None:
    fixture.write_csv(folder)
    outside = tmp_path / "outside.png"
    (folder / "frames/0.png").rename(outside)
    (folder / "frames/0.png").symlink_to(outside)
    with pytest.raises(UnreadableFrame, match="leads out of its folder"):
        distribution(folder).read_depth("frames/0.png")
    allowed = OwnDistribution(find_track(folder), folder, allow_outside=True)
    assert allowed.read_depth("frames/0.png").max() == 600
    assert allowed.read_depth(str(outside)).max() == 600


def test_a_folder_becomes_a_data_set(folder: Path, tmp_path: Path) -> None:
    fixture.write_json(folder, center_uvd=[80.0, 60.0, 600.0])
    built = build_raw(str(folder), folder, tmp_path / "data")
    assert built == tmp_path / "data" / "my_hands" / "crop32" / "1.0.0"
    track = find_track(folder)
    builder = tfds.builder_from_directory(built)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 2,
        "test": 1,
    }
    example = pipeline.example_reader(tmp_path / "data", track, "train")(1)
    np.testing.assert_array_equal(example["center_uvd"], [80, 60, 600])
    np.testing.assert_allclose(example["joints_uvd"], fixture.UVD[1], rtol=1e-6)
    assert example["frame_id"] == b"frames/1.png"
    first = pipeline.example_reader(tmp_path / "data", track, "train")(0)
    assert track.camera is not None
    mean = geometry.uvd_to_xyz(fixture.UVD[0], track.camera).mean(0)
    np.testing.assert_allclose(
        first["center_uvd"], geometry.xyz_to_uvd(mean, track.camera), rtol=1e-5
    )
    # docs/own_data.md: what to score on where there is no test split.
    assert pipeline.num_frames(tmp_path / "data", track, "train[:1]") == 1


def test_frames_whose_names_are_not_utf8(folder: Path, tmp_path: Path) -> None:
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


def test_what_was_given_and_cannot_be_used_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    centers = {"center_u": (5000,) * 3, "center_v": (5000, "", 5000), "center_d": (700,) * 3}
    fixture.write_csv(folder, extra=centers)
    splits = distribution(folder).splits()
    assert splits["train"].crops is None
    build_raw(str(folder), folder, tmp_path / "data")
    said = " ".join(capsys.readouterr().err.split())
    assert "train: warning: joints.csv: 1 of 2 centers not used, some numbers missing" in said
    assert "test: warning: joints.csv: 1 of 1 centers not used, outside the frame" in said


def test_a_camera_that_is_another_tracks_is_said(tmp_path: Path) -> None:
    fixture.write(tmp_path / "mine")
    track = {key: value for key, value in fixture.TRACK.items() if key != "camera"}
    (tmp_path / "mine/track.json").write_text(json.dumps(track))
    fixture.write_csv(tmp_path / "mine")
    splits = distribution(tmp_path / "mine").splits()
    note, _ = splits["train"].notes
    assert note == "Custom track, like hands2017, with its camera: track.json names none."
    assert splits["test"].notes == ()


def test_a_folder_without_training_frames_says_so(folder: Path) -> None:
    path = fixture.write_csv(folder)
    path.write_text(path.read_text().replace("train,", "val,").replace("\n,", "\nval,"))
    notes = distribution(folder).splits()["val"].notes
    assert any("no frames are of split 'train' (splits: val, test)" in note for note in notes)


def test_labels_in_metres_stop_the_build(folder: Path, tmp_path: Path) -> None:
    track = find_track(folder)
    assert track.camera is not None
    fixture.write_csv(folder, "xyz", geometry.uvd_to_xyz(fixture.UVD, track.camera) / 1000)
    with pytest.raises(UserError, match=r"joints\.csv: .*are these meters"):
        build_raw(str(folder), folder, tmp_path / "data")


def test_frames_are_read_by_the_rules_of_the_track(folder: Path) -> None:
    """Those of `a2j_jax.data.depth_files`; what they are is noted, with the unit."""
    counts = np.full((120, 160), 2400, np.uint16)
    np.save(folder / "frames/2.npy", counts)
    mine = OwnDistribution(find_track(folder), folder, 0.25)
    assert mine.read_depth("frames/2.npy").max() == 600
    assert mine.read_depth("frames/0.png").max() == 150
    fixture.write_csv(folder)
    note = "frames: 16-bit PNG, 0.25 mm per count (frames/0.png); uint16 .npy, 0.25 mm per count"
    assert mine.splits()["train"].notes[1].startswith(note)
    Image.fromarray(np.full((120, 160), 60, np.uint8)).save(folder / "frames/8.png")
    with pytest.raises(UnreadableFrame, match="8-bit"):
        mine.read_depth("frames/8.png")
    flat = dataclasses.replace(find_track(folder), frame_format="stretch8")
    assert OwnDistribution(flat, folder).read_depth("frames/8.png").max() == 60
    np.save(folder / "frames/metres.npy", np.full((120, 160), 0.6, np.float32))
    with pytest.raises(UnreadableFrame, match="metres"):
        distribution(folder).read_depth("frames/metres.npy")


def test_a_unit_is_above_nothing(folder: Path) -> None:
    for unit in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"depth_unit_mm .*: expected a number above 0"):
            OwnDistribution(find_track(folder), folder, unit)


def test_the_spec_is_short_and_differs_by_key(folder: Path) -> None:
    one = distribution(folder).spec()
    fixture.write(folder.parent / "other", half_window_mm=120, mean=3.0, citation="me")
    other = distribution(folder.parent / "other").spec()
    assert [key for key in one if one[key] != other[key]] == ["half_window_mm"]
    assert len(json.dumps(one)) < 600
    assert one["camera"] == {"fx": 240.0, "fy": 240.0, "cx": 80.0, "cy": 60.0}
    fixture.write(folder.parent / "third", joints=["wrist", "tip", "top"], limbs={})
    assert distribution(folder.parent / "third").spec()["joints"] != one["joints"]


@pytest.mark.parametrize(
    ("depth", "scale", "message"),
    [
        (600, [1, 1, 0.1], r"12 of 12 .*labels \(or centers\) in cm"),
        (4800, [1, 1, 1], r"--depth_unit_mm 0.125\)"),
        (60, [1, 1, 1], r"--depth_unit_mm 10\)"),
        (600, [1.5, 1.5, 1], "px of these frames"),
        (65535, [1, 1, 1], "65,535"),
        (600, [1, 1, 3], "are they of the same frames"),
        (600, [1, 1, 1], ""),
    ],
)
def test_depth_and_labels_of_different_units_are_refused(
    tmp_path: Path, depth: int, scale: list[float], message: str
) -> None:
    folder = tmp_path / "mine"
    fixture.write(folder)
    image = np.zeros((120, 160), np.uint16)
    image[40:80, 60:100], image[:, :10] = depth, 65535
    records = []
    for number in range(12):
        np.save(folder / f"frames/{number}.npy", image)
        records.append(
            {"frame": f"frames/{number}.npy", "joints_uvd": (fixture.UVD[0] * scale).tolist()}
        )
    (folder / "joints.json").write_text(json.dumps({"frames": records}))
    if not message:
        build_raw(str(folder), folder, tmp_path / "data")
        return
    with pytest.raises(UserError, match=message):
        build_raw(str(folder), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("unit", "table", "found"),
    [
        (0.001, {}, r"end at 65\.535 mm"),
        (0.001, {"joints_uvd": [[None] * 3] * 3}, r"end at 65\.535 mm"),
        (0.009, {}, r"end at 589\.81 mm"),
        (1000, {}, "end at 6.55"),
    ],
)
def test_a_storage_unit_that_does_not_fit_is_named(
    tmp_path: Path, unit: float, table: dict[str, Any], found: str
) -> None:
    folder = tmp_path / "mine"
    fixture.write(folder, storage_unit_mm=unit, depth_window_mm=100)
    image = np.zeros((120, 160), np.uint16)
    image[40:80, 60:100], image[:, :10], image[0, -1] = 800, 65535, 4000
    np.save(folder / "frames/0.npy", image)
    record = {"frame": "frames/0.npy", "joints_uvd": [[80, 60, 800]] * 3, **table}
    (folder / "joints.json").write_text(json.dumps({"frames": [record]}))
    message = f"storage_unit_mm {unit} .*{found}.* largest found is 4,000 mm; storage_unit_mm 0.1 would fit"
    with pytest.raises(UserError, match=message):
        build_raw(str(folder), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (folder / "track.json").write_text(json.dumps({**fixture.TRACK, "storage_unit_mm": 0.1}))
    build_raw(str(folder), folder, tmp_path / "data")


@pytest.mark.parametrize(
    ("bad", "change", "message"),
    [
        # Of a few frames, found by their depth: all off by the factor of one unit.
        ({"test"}, lambda uvd, image: (uvd * [1, 1, 0.001], image), "^test: .* 2 of 2 .*meters"),
        ({"validation"}, lambda uvd, image: (uvd * [1, 1, 0.1], image), "^validation: .*in cm"),
        ({"train", "test"}, lambda uvd, image: (uvd, image * 10), "depth_unit_mm 0.1"),
        ({"train", "test", "validation"}, lambda uvd, image: (uvd / [160, 120, 1], image), "in px"),
        # Odd in another way: no reason to refuse them all.
        ({"test"}, lambda uvd, image: (uvd * [1, 1, 3], image), ""),
    ],
)
def test_one_small_split_in_another_unit_is_refused(
    tmp_path: Path, bad: set[str], change: Any, message: str
) -> None:
    folder = tmp_path / "mine"
    fixture.write(folder)
    records = []
    for number, split in enumerate(("train", "validation", "test") * 2):
        image = np.zeros((120, 160), np.uint16)
        image[40:80, 60:100] = 600
        uvd = fixture.UVD[0]
        if split in bad:
            uvd, image = change(uvd, image)
        np.save(folder / f"frames/{number}.npy", image)
        name = f"frames/{number}.npy"
        records.append({"frame": name, "split": split, "joints_uvd": uvd.tolist()})
    (folder / "joints.json").write_text(json.dumps({"frames": records}))
    if message:
        with pytest.raises(UserError, match=message):
            build_raw(str(folder), folder, tmp_path / "data")
    else:
        build_raw(str(folder), folder, tmp_path / "data")
