from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import io

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, uvd_to_xyz, xyz_to_uvd
from a2j_jax.inference.frames import read_frame
from a2j_jax.inference.locate import (
    cut_at_jumps,
    hand_center,
    hand_centers,
    in_front_of_planes,
    person_box,
    thin_out,
)
from a2j_jax.tracks import get_track
from tests.scenes import Scene, hand, room_with_person

VGA = (640, 480)
CAMERA = get_track("nyu").camera
SR305 = Camera(476.007, 476.007, 313.683, 242.755)
ITOP = get_track("itop_front").camera
assert CAMERA is not None
assert ITOP is not None


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4)."""
    size = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.prod(np.maximum(size, 0), axis=-1)
    one, other = (np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (one, other))
    return shared / (one + other - shared)


def off_mm(depth: np.ndarray, place: np.ndarray, box: Any = None) -> float:
    """Distance of the hand's center from a place, mm."""
    center = uvd_to_xyz(hand_center(depth, CAMERA, box), CAMERA)
    return float(np.linalg.norm(center - place))


# The hand


def test_the_real_nyu_frame_has_its_center_where_the_authors_published_it(reference: Path) -> None:
    folder = reference / "frames" / "nyu_test_frame1"
    published = np.loadtxt(folder / "a2j_center_uvd_frame1.txt")
    depth = read_frame(folder / "depth_1_0000001.png", "nyu_packed")
    assert off_mm(depth, uvd_to_xyz(published, CAMERA)) < 15


# Where each hand is in the frames of a real camera: px of its palm, by eye. The hardest ones: an arm across the
# frame, one in front of the body, one whose body is as near as the hand.
@pytest.mark.parametrize(
    ("frame", "palm"),
    [
        ("20210326-230536/110.png", (285, 240)),
        ("20210326-230536/130.png", (270, 230)),
        ("20210326-230536/150.png", (305, 235)),
        ("20210326-230536/170.png", (272, 240)),
        ("20210326-230536/90.png", (312, 220)),
        ("20210326-231615/20.png", (335, 280)),
        ("20210326-231615/200.png", (330, 280)),
        ("20210326-231615/220.png", (345, 290)),
    ],
)
def test_real_hands_in_front_of_a_body(reference: Path, frame: str, palm: tuple[int, int]) -> None:
    with Image.open(reference / "frames" / "sr305_hands" / frame) as image:
        depth = np.asarray(image) * 0.125
    center = hand_center(depth, SR305)
    assert np.hypot(*(center[:2] - palm)) < 40
    nearest = np.percentile(depth[depth > 0], 1)
    assert nearest - 50 < center[2] < nearest + 150


@pytest.mark.parametrize("turn_deg", range(0, 360, 45))
@pytest.mark.parametrize("wall", [None, 200.0])
def test_the_hand_and_not_the_forearm(turn_deg: int, wall: float | None) -> None:
    palm, turn = np.array([20.0, -10.0, 700.0]), np.deg2rad(turn_deg)
    scene = hand(CAMERA, VGA, palm, turn)
    if wall is not None:
        scene.plane((0.2, 0.1, 1.0), palm + np.array([0, 0, wall]))
    depth = scene.measured(np.random.default_rng(0))
    assert off_mm(depth, palm + 35 * np.array([-np.sin(turn), np.cos(turn), 0])) < 45


def test_other_places_follow_the_likeliest_one() -> None:
    """The other end of the arm, and what is farther away."""
    near = hand(CAMERA, VGA, np.array([0.0, 0.0, 600.0]), 0.3).measured(np.random.default_rng(3))
    places = hand_centers(near, CAMERA)
    np.testing.assert_array_equal(places[0], hand_center(near, CAMERA))
    assert 2 <= len(places) <= 4
    apart = np.linalg.norm(np.diff(uvd_to_xyz(places[:2], CAMERA), axis=0))
    assert apart > 80
    assert len(hand_centers(near, CAMERA, most=1)) == 1
    with pytest.raises(UserError, match="no depth reading"):
        hand_centers(np.zeros((48, 64)), CAMERA)


def test_a_box_says_which_of_two_hands() -> None:
    near, far = np.array([-120.0, 0.0, 500.0]), np.array([150.0, 0.0, 800.0])
    scene, other = (hand(CAMERA, VGA, palm, 0.0) for palm in (near, far))
    scene.depth = np.minimum(scene.depth, other.depth)
    depth = scene.measured(np.random.default_rng(2))
    assert off_mm(depth, near) < 60
    u, v, _ = xyz_to_uvd(far, CAMERA)
    assert off_mm(depth, far, (u - 75, v - 100, u + 75, v + 40)) < 60


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_every_number_type_unreadable_values_and_stray_near_readings(dtype: type) -> None:
    depth = hand(CAMERA, VGA, np.array([0.0, 0.0, 600.0]), 0.3).measured(np.random.default_rng(3))
    depth = depth.astype(dtype)
    before = hand_center(depth, CAMERA)
    assert before.dtype == np.float64
    depth[30:40, 5:15] = 300.0
    if dtype != np.uint16:
        depth[depth == 0] = np.nan
        depth[:20] = -np.inf
    np.testing.assert_allclose(hand_center(depth, CAMERA), before, atol=1.0)


def test_no_reading_is_an_error() -> None:
    with pytest.raises(UserError, match="no depth reading"):
        hand_center(np.zeros((48, 64), np.uint16), CAMERA)
    depth = np.zeros((480, 640))
    depth[:100, :100] = 500
    for box in ((300, 300, 400, 400), (700, 500, 800, 600), (-50, -50, -10, -10)):
        with pytest.raises(UserError, match="inside the box"):
            hand_center(depth, CAMERA, box)
    with pytest.raises(UserError, match="no depth reading"):
        person_box(np.zeros((24, 32)), 5.0)


def test_scattered_readings_still_give_a_point_in_the_frame() -> None:
    depth = np.zeros((480, 640))
    depth[1::40, 1::40] = 600.0
    u, v, d = hand_center(depth, CAMERA)
    assert 0 <= u < 640
    assert 0 <= v < 480
    assert 500 < d < 700


# The person


@pytest.mark.parametrize(
    ("name", "files", "bar"), [("itop_front", "itop_side", 0.82), ("itop_top", "itop_top", 0.80)]
)
def test_people_in_the_poses_of_itop(official: Path, name: str, files: str, bar: float) -> None:
    """Real poses, made-up rooms: compared with the boxes the authors published for those poses."""
    track = get_track(name)
    assert track.camera is not None
    folder = official / files
    joints = io.loadmat(folder / f"{files}_keypoints3D_test.mat")["keypoints3D"] * 1000.0
    boxes = io.loadmat(folder / f"{files}_bndbox_test.mat")["FRbndbox_test"]
    rng = np.random.default_rng(0)
    rows = np.linspace(0, len(joints) - 1, 24).astype(int)
    overlaps, inside = [], []
    for row in rows:
        depth = room_with_person(joints[row].astype(np.float64), track.camera, "top" in name, rng)
        box = person_box(depth, track.label_box_margin_px / 2, track.camera)
        uv = np.clip(xyz_to_uvd(joints[row], track.camera)[:, :2], 0, [319, 239])
        overlaps.append(overlap(box, np.clip(boxes[row], 0, [319, 239, 319, 239])))
        inside.append(((uv >= box[:2]) & (uv <= box[2:])).all(axis=-1).mean())
    assert np.mean(overlaps) > bar
    assert np.mean(inside) > 0.98


def _standing(x: float, z: float) -> np.ndarray:
    """ITOP's 15 joints of someone who stands there, mm, y up."""
    side = np.array([0, 0, -180, 180, -250, 250, -280, 280, 0, -110, 110, -110, 110, -110, 110])
    up = np.array([750, 560, 520, 520, 250, 250, 0, 0, 250, 0, 0, -420, -420, -820, -820])
    return np.stack([x + side, up.astype(float), np.full(15, z)], axis=1)


def around(who: np.ndarray) -> np.ndarray:
    """The box around a person's joints, with a margin, in a frame of ITOP."""
    uv = xyz_to_uvd(who, ITOP)[:, :2]
    return np.clip(np.concatenate([uv.min(0) - 15, uv.max(0) + 15]), 0, [319, 239] * 2)


def test_a_given_point_says_which_of_two_people() -> None:
    rng = np.random.default_rng(1)
    left, right = _standing(-700, 2600), _standing(500, 3000)
    one, other = (room_with_person(who, ITOP, False, rng) for who in (left, right))
    depth = np.where((one < other) & (one > 0), one, other)
    for who in (left, right):
        center = xyz_to_uvd(who.mean(axis=0), ITOP)
        assert overlap(person_box(depth, 7.5, ITOP, near_uvd=center), around(who)) > 0.8
    with pytest.raises(UserError, match="near the given center"):
        person_box(depth, 7.5, ITOP, near_uvd=(160, 120, 300))


def test_grey_levels_without_a_camera() -> None:
    who = _standing(100, 2800)
    depth = room_with_person(who, ITOP, False, np.random.default_rng(2))
    assert overlap(person_box((depth / 25).astype(np.uint8), 7.5), around(who)) > 0.8


def test_nothing_but_a_wall_still_gives_a_box() -> None:
    box = person_box(np.full((240, 320), 2000.0), 7.5, get_track("itop_top").camera)
    np.testing.assert_array_equal(box, [0, 0, 319, 239])


# The pieces


def test_walls_and_floors_go_and_what_stands_before_them_stays() -> None:
    camera = Camera(300.0, -300.0, 80.0, 60.0)
    scene = Scene(camera, (160, 120))
    scene.plane((0.3, 0.1, 1.0), np.array([0.0, 0.0, 3000.0]))
    scene.plane((0.0, 1.0, 0.0), np.array([0.0, -400.0, 0.0]))
    scene.sphere(np.array([100.0, 0.0, 2300.0]), 250.0)
    front = in_front_of_planes(scene.depth.astype(np.float32))
    truth = Scene(camera, (160, 120))
    truth.sphere(np.array([100.0, 0.0, 2300.0]), 250.0)
    sphere = np.isfinite(truth.depth)
    assert front[sphere].mean() > 0.97
    assert front[~sphere].mean() < 0.01


def test_a_torso_is_not_a_wall() -> None:
    depth = np.full((120, 160), 3000.0, np.float32)
    depth[20:, 50:110] = 2000.0
    front = in_front_of_planes(depth)
    assert front[20:, 50:110].all()
    assert not front[:20].any()


def test_the_far_side_of_a_jump_comes_loose() -> None:
    depth = np.full((5, 6), 500, np.float32)
    depth[:, 3:] = 600
    depth[2, 0] = 0
    kept = cut_at_jumps(depth, depth > 0, 50.0)
    expected = depth > 0
    expected[:, 3] = False
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(cut_at_jumps(depth, depth > 0, 150.0), depth > 0)


@pytest.mark.parametrize("box", [None, (100.4, 50.0, 420.0, 300.9), (-30.0, -1.0, 90.0, 900.0)])
def test_a_view_knows_where_its_readings_are(box: tuple[float, ...] | None) -> None:
    rows, columns = np.mgrid[:480, :640]
    view = thin_out(1 + columns + 1000 * rows, box)
    np.testing.assert_array_equal(view.depth, 1 + view.columns + 1000 * view.rows[:, None])
    x0, y0, x1, y1 = box or (0, 0, 639, 479)
    assert max(0, int(x0)) <= view.columns[0] < max(0, x0) + view.stride
    assert min(639, x1) - view.stride < view.columns[-1] <= min(639, x1)
    assert max(0, int(y0)) <= view.rows[0]
    assert view.rows[-1] <= min(479, y1)
    assert 80 <= len(view.columns) <= 240
