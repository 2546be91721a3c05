"""Files in, JSON and an overlay out; and the one real frame that is labeled."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import crops
from a2j_jax.errors import UserError
from a2j_jax.evaluation.scores import score_predictions
from a2j_jax.inference.frame_predictor import Location, PoseEstimate
from a2j_jax.inference.frames import (
    CSV_COLUMNS,
    camera_from,
    frame_files,
    predict_files,
    read_frame,
    to_json,
    write_overlay,
)
from a2j_jax.tracks import TrackSpec, get_track

NYU = get_track("nyu")


class FakePredictor:
    """Answers with joints at the center, so that files and formats can be tested alone."""

    def __init__(self, track: TrackSpec) -> None:
        self.track = self.spec = track
        self.camera = track.camera
        self.asked: list[Any] = []

    def __call__(
        self, depth: Any, center_uvd: Any, box_px: Any, camera: Any, name: str
    ) -> PoseEstimate:
        if center_uvd is not None and center_uvd[2] <= 0:
            raise UserError("center depth 0 mm")
        self.asked.append((center_uvd, box_px, camera))
        self.depth = depth
        where = np.asarray(center_uvd if box_px is None else [*box_px[:2], 700.0], np.float64)
        joints = np.tile(where + 1 / 3, (self.track.num_joints, 1))
        flat = self.track.joint_dims == 2
        return PoseEstimate(
            joints_uvd=joints[:, :2] if flat else joints,
            joints_xyz_mm=None if flat else joints * 2,
            confidence=np.full(self.track.num_joints, 0.5),
            box_px=np.array([2.5, 3.5, 20.0, 30.0]),
            center_depth_mm=None if flat else 700.0,
            milliseconds=1.23456,
            center_uvd=None if center_uvd is None else np.asarray(center_uvd, np.float64),
        )

    def locate(self, depth: Any, camera: Any) -> Location:
        center = np.array([depth.shape[1] / 2, depth.shape[0] / 2, depth[0, 0]])
        by_center = self.track.crop_by == "center"
        return Location(center_uvd=center) if by_center else Location(box_px=np.arange(4.0))


def save_frames(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((40, 50), 700 + i, np.uint16)).save(path)
    return paths


def test_without_center_and_box_each_frame_says_where_to_look(tmp_path: Path) -> None:
    fake: Any = FakePredictor(NYU)
    for i, prediction in enumerate(predict_files(fake, save_frames(tmp_path, 2))):
        assert prediction.located is not None
        centers = prediction.located, prediction.estimate
        for center in (*(one.center_uvd for one in centers), fake.asked[-1][0]):
            np.testing.assert_array_equal(center, [25, 20, 700 + i])
    fake = FakePredictor(get_track("itop_top"))
    (prediction,) = predict_files(fake, save_frames(tmp_path, 1))
    assert prediction.located is not None
    np.testing.assert_array_equal(prediction.located.box_px, np.arange(4.0))
    assert fake.asked[0][0] is None
    (prediction,) = predict_files(fake, save_frames(tmp_path, 1), boxes_px=[(1, 2, 3, 4)])
    assert prediction.located is None


@pytest.mark.parametrize(
    ("camera", "warned"),
    [
        (geometry.Camera(50, 50, 25, 20), ""),
        (geometry.Camera(588, 588, 320, 240), "principal point 320,240 lies outside"),
        (None, "takes 640x480"),
    ],
)
def test_frames_of_another_size_are_warned_of(
    tmp_path: Path, logged: list[str], camera: geometry.Camera | None, warned: str
) -> None:
    fake: Any = FakePredictor(NYU)
    (path,) = save_frames(tmp_path, 1)
    list(predict_files(fake, [path] * 2, [(1.0, 2.0, 700.0)], camera=camera))
    assert fake.asked[-1][2] == (camera or NYU.camera)
    assert logged[0] == f"{path}: 16-bit PNG, 1 mm per count"
    assert len(logged) == 1 + bool(warned)
    assert warned in logged[-1]


def test_the_unit_is_the_tracks_unless_given(tmp_path: Path) -> None:
    """Of counts alone: decimal numbers are mm whatever the unit of the track."""
    eighths = dataclasses.replace(NYU, depth_unit_mm=0.125)
    fake: Any = FakePredictor(eighths)
    paths = save_frames(tmp_path, 1)
    np.save(tmp_path / "floats.npy", np.full((40, 50), 700.0))
    for path, track, unit, expected in (
        (paths[0], None, None, 87.5),
        (paths[0], None, 0.25, 175),
        (paths[0], NYU, None, 700),
        (tmp_path / "floats.npy", None, None, 700),
    ):
        list(predict_files(fake, [path], [(1, 1, 700)], track=track, depth_unit_mm=unit))
        assert fake.depth.max() == expected
    with pytest.raises(UserError, match="decimal numbers"):
        list(predict_files(fake, [tmp_path / "floats.npy"], [(1, 1, 700)], depth_unit_mm=0.25))


def test_json_is_the_contracted_object(tmp_path: Path) -> None:
    paths = save_frames(tmp_path, 2)
    fake: Any = FakePredictor(NYU)
    found = list(predict_files(fake, paths, centers_uvd=[(10, 12, 700)]))
    out = json.loads(json.dumps(to_json(found, NYU), allow_nan=False))
    assert (out["track"], out["joint_names"]) == ("nyu", list(NYU.skeleton.joints))
    assert [f["path"] for f in out["frames"]] == [str(p) for p in paths]
    expected = {
        "path": str(paths[0]),
        "joints_uvd": [[10.3333, 12.3333, 700.3333]] * 14,
        "joints_xyz_mm": [[20.6667, 24.6667, 1400.6667]] * 14,
        "confidence": [0.5] * 14,
        "box_px": [2.5, 3.5, 20.0, 30.0],
        "center_uvd": [10, 12, 700],
        "milliseconds": 1.235,
        "warning": None,
    }
    assert list(out["frames"][0].items()) == list(expected.items())
    fake = FakePredictor(get_track("k2hpd"))  # 2D: u, v and no xyz
    (flat,) = predict_files(fake, paths[:1], boxes_px=[(1, 2, 3, 4)])
    out = flat.to_json()
    assert "joints_xyz_mm" not in out
    assert np.shape(out["joints_uvd"]) == (19, 2)
    assert out["center_uvd"] is None


def test_a_row_for_each_joint_of_a_frame(tmp_path: Path) -> None:
    paths = save_frames(tmp_path, 2)
    fake: Any = FakePredictor(NYU)
    _, found = predict_files(fake, paths, centers_uvd=[(10, 12, 700)])
    rows = found.csv_rows(NYU.skeleton.joints)
    numbers = (10.3333, 12.3333, 700.3333, 20.6667, 24.6667, 1400.6667, 0.5, None)
    assert rows == [(str(paths[1]), 1, joint, *numbers) for joint in NYU.skeleton.joints]
    k2hpd = get_track("k2hpd")
    fake = FakePredictor(k2hpd)
    (flat,) = predict_files(fake, paths[:1], boxes_px=[(1, 2, 3, 4)])
    row = dict(zip(CSV_COLUMNS, flat.csv_rows(k2hpd.skeleton.joints)[18], strict=True))
    assert (row["joint"], row["u_px"], row["confidence"]) == (
        k2hpd.skeleton.joints[18],
        1.3333,
        0.5,
    )
    assert [row[name] for name in ("depth_mm", "x_mm", "y_mm", "z_mm")] == [None] * 4


def test_one_center_for_all_frames_or_one_for_each(tmp_path: Path) -> None:
    paths = save_frames(tmp_path, 3)
    fake: Any = FakePredictor(NYU)
    list(predict_files(fake, paths, centers_uvd=[(1, 1, 700)]))
    list(predict_files(fake, paths, centers_uvd=[(i, 1, 700) for i in range(3)]))
    assert [c[0] for c, _, _ in fake.asked] == [1, 1, 1, 0, 1, 2]
    with pytest.raises(UserError, match="2 centers_uvd for 3 frames"):
        list(predict_files(fake, paths, centers_uvd=[(1, 1, 700)] * 2))
    with pytest.raises(UserError, match="no depth frames"):
        list(predict_files(fake, []))
    with pytest.raises(UserError, match=r"1\.png: center depth 0 mm"):
        list(predict_files(fake, paths[:2], centers_uvd=[(1, 1, 700), (1, 1, 0)]))


def test_a_recording_among_files(tmp_path: Path) -> None:
    """Its frames count as so many, and other networks than hand models look at each on its own."""
    (single,) = save_frames(tmp_path, 1)
    stack = tmp_path / "stack.npy"
    np.save(stack, np.full((2, 40, 50), 700, np.uint16))
    fake: Any = FakePredictor(NYU)
    found = list(predict_files(fake, [single, stack], centers_uvd=[(i, 1, 700) for i in range(3)]))
    assert [one.path for one in found] == [str(single), f"{stack}#0", f"{stack}#1"]
    assert [one.number for one in found] == [c[0] for c, _, _ in fake.asked] == [0, 1, 2]
    (_, last) = predict_files(fake, [stack])
    assert last.located is not None
    with pytest.raises(UserError, match="2 centers_uvd for 3 frames"):
        list(predict_files(fake, [single, stack], centers_uvd=[(1, 1, 700)] * 2))


def test_the_frame_format_can_be_named(tmp_path: Path) -> None:
    rgb = np.full((40, 50, 3), (9, 2, 188), np.uint8)  # 700 mm
    Image.fromarray(rgb).save(tmp_path / "p.png")
    fake: Any = FakePredictor(get_track("synthetic_hand"))
    with pytest.raises(UserError, match="need track 'nyu'"):
        list(predict_files(fake, [tmp_path / "p.png"], centers_uvd=[(1, 1, 700)]))
    (found,) = predict_files(fake, [tmp_path / "p.png"], centers_uvd=[(1, 1, 700)], track=NYU)
    assert (found.region == 700).all()
    assert found.origin_px == (2, 3)
    assert found.region.shape == (28, 19)


@pytest.mark.parametrize("count", [1, 5])
def test_overlay(tmp_path: Path, count: int) -> None:
    fake: Any = FakePredictor(NYU)
    found = list(predict_files(fake, save_frames(tmp_path, count), centers_uvd=[(10, 12, 700)]))
    path = write_overlay(found, NYU, tmp_path / "out" / "overlay.png")
    with Image.open(path) as image:
        assert np.asarray(image.convert("L")).std() > 5
    # The joints (10⅓, 12⅓) of the frame, in pixels of a region that starts at (2, 3).
    tile = found[0].tile(NYU)
    np.testing.assert_allclose(tile.joints_uv, np.full((14, 2), (8 + 1 / 3, 9 + 1 / 3)))
    assert (tile.title, tile.far) == ("0.png", 850)


def test_a_camera_is_four_numbers() -> None:
    assert camera_from() is None
    assert camera_from(1, -2, 3, 0) == geometry.Camera(1.0, -2.0, 3.0, 0.0)
    with pytest.raises(UserError, match="--fx --cy without --fy --cx"):
        camera_from(fx=476.0, cy=0.0)
    for bad in (0.0, np.nan, -476.0, 1e-320):
        with pytest.raises(UserError, match="camera fx"):
            camera_from(bad, 1, 1, 1)


def test_a_folder_is_the_frames_in_it(tmp_path: Path) -> None:
    """By name, whatever the case of their suffix, without the companions that systems leave beside them."""
    others = (".DS_Store", "._a.png", "notes.txt", "b.PNG/x.png")
    for name in ("c.Npy", "a.png", "B.PNG", "d.tiff", *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = ["B.PNG", "a.png", "c.Npy", "d.tiff"]
    assert frame_files([tmp_path]) == [tmp_path / name for name in names]
    again = tmp_path / "a.png"
    assert frame_files([again, str(tmp_path)]) == [again, *(tmp_path / name for name in names)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no depth frames in this folder.*\.tiff"):
        frame_files([tmp_path / "empty"])
    with pytest.raises(UserError, match=r"gone\.png: no such file"):
        frame_files([tmp_path / "gone.png"])


def test_the_real_frame(reference: Path) -> None:
    """Read NYU's packed PNG, crop it as published, and score the authors' prediction: 4.31 mm."""
    folder = reference / "frames" / "nyu_test_frame1"
    depth = read_frame(folder / "depth_1_0000001.png", "nyu_packed")
    center = np.loadtxt(folder / "a2j_center_uvd_frame1.txt")
    labels, authors = (
        np.loadtxt(folder / name).reshape(1, 14, 3)
        for name in ("gt_uvd_14joints_frame1.txt", "a2j_prediction_uvd_frame1.txt")
    )
    assert (depth.shape, depth.min(), depth.max()) == ((480, 640), 731, 2001)
    assert score_predictions(authors, labels, NYU).mean_error == pytest.approx(4.31, abs=5e-3)
    # Every label lies on or a little behind the surface the sensor saw, as the frame's notes say.
    u, v = np.round(labels[0, :, :2]).astype(int).T
    behind = labels[0, :, 2] - depth[v, u]
    assert behind.min() > -1
    assert behind.max() < 37
    # The crop holds the whole hand: no label outside it.
    crop = crops.cut(crops.to_storage_units(depth, NYU), NYU, center_uvd=center)
    in_crop = crops.joints_to_crop(labels[0], crop.box_px, center[2], NYU)
    assert (in_crop[:, :2] > 0).all()
    assert (in_crop[:, :2] < NYU.crop_size).all()
