"""Hands found, looked at again, told apart and followed: by a made-up network that sees disks, and by what ships."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import a2j_jax
from a2j_jax import geometry
from a2j_jax.config import ModelConfig
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.following import OneHand, goes_on
from a2j_jax.inference.hands import (
    Calibration,
    HandModel,
    fingers_in_front,
    load,
    which_hand,
    with_features,
)
from a2j_jax.models.a2j import PoseNetwork, init_variables
from a2j_jax.models.anchors import Estimate, spread_px
from a2j_jax.models.resnet import ResNet
from a2j_jax.runs.experiment import make_model
from a2j_jax.tracks import HANDS2017, TRACKS, with_crop_size

TRACK = with_crop_size(TRACKS["synthetic_hand"], 32)
CAMERA = Camera(300.0, 300.0, 160.0, 120.0)
# A small right hand, mm: x to the thumb, y along the fingers, z out of the palm, as in `synthetic.hand`.
HAND = np.zeros((21, 3), np.float32)
for _row, _name in enumerate(HANDS2017.joints):
    _finger, _, _joint = _name.partition("_")
    HAND[_row, 0] = {"thumb": 36.0, "index": 36.0, "ring": -36.0, "pinky": -36.0}.get(_finger, 0.0)
    HAND[_row, 1] = -30.0 if _name == "wrist" else 0.0
    HAND[_row, 2] = 12.0 if _joint not in ("", "mcp") else 0.0
HAND -= HAND.mean(axis=0)
TURN = np.diag([1.0, -1.0, -1.0])  # the palm faces a camera whose y points down


class Disks(PoseNetwork):
    """Sees the middle of what is near the center, and there the same right hand always."""

    def __call__(self, images: Any, train: bool = False) -> Any:
        depth = images[..., 0] * TRACK.std + TRACK.mean
        near = (jnp.abs(depth) > 0.1).astype(jnp.float32)
        count = jnp.maximum(near.sum((1, 2)), 1.0)
        side = jnp.arange(TRACK.crop_size, dtype=jnp.float32)
        u, v = (near * side[None, None, :]).sum((1, 2)), (near * side[None, :, None]).sum((1, 2))
        return jnp.stack([u, v, (near * depth).sum((1, 2)), count], -1) / count[:, None], count

    def decode(self, outputs: Any, crop_size: int) -> Estimate:
        middle, count = outputs
        assert TRACK.half_window_mm is not None
        px = crop_size / (2 * TRACK.half_window_mm)
        hand = jnp.asarray(HAND @ TURN, jnp.float32) * jnp.array([px, px, 1.0])
        joints = middle[:, None, :3] + hand
        joints = joints.at[..., 2].multiply(TRACK.joint_depth_scale)
        sure = jnp.where(count > 8, 0.9, 0.05)[:, None]
        return Estimate(joints, sure * jnp.ones(21))


@pytest.fixture
def hand() -> HandModel:
    return HandModel(Disks(21), {"params": {}}, TRACK)


def disk(u: float, v: float = 120.0, depth: float = 600.0) -> np.ndarray:
    """A bumpy disk of 50 mm radius before a wall."""
    rows, columns = np.mgrid[:240, :320]
    frame = np.full((240, 320), 1500.0, np.float32)
    inside = (rows - v) ** 2 + (columns - u) ** 2 < (50 * 300 / depth) ** 2
    return np.where(inside, depth - 4.5 + (rows + columns) % 10, frame)


def test_it_looks_again_where_it_saw_the_joints(hand: HandModel) -> None:
    pose = hand(disk(200), CAMERA, center_uvd=(170, 100, 640))
    assert pose.center_uvd is not None
    assert pose.joints_xyz_mm is not None
    np.testing.assert_allclose(pose.center_uvd, (200, 120, 600), atol=4)
    found = pose.joints_uvd.mean(axis=0)
    np.testing.assert_allclose(found, (200, 120, 600), atol=4)
    xyz = geometry.uvd_to_xyz(pose.joints_uvd, CAMERA)
    np.testing.assert_allclose(pose.joints_xyz_mm, xyz, atol=1e-3)
    assert pose.score > 0.9
    # The network sees the same in the mirror, and a disk is the same there.
    assert "right or a left hand" in str(pose.warning)
    hand.handedness = "right"
    assert hand(disk(200), CAMERA, center_uvd=(170, 100, 640)).warning is None
    hand.handedness = None
    assert pose.confidence.shape == (21,)


def test_it_finds_the_disk_itself_or_in_a_box(hand: HandModel) -> None:
    for where in ({}, {"box_px": (60, 60, 140, 180)}):
        pose = hand(disk(100), (300, 300, 160, 120), **where)  # type: ignore[arg-type]
        np.testing.assert_allclose(pose.joints_uvd[:, :2].mean(axis=0), (100, 120), atol=4)


@pytest.mark.parametrize("turn", range(4))
def test_what_is_seen_in_a_turned_crop_is_turned_back(hand: HandModel, turn: int) -> None:
    seen = hand._look(disk(200), CAMERA, (180, 105, 600), 1, turn)
    np.testing.assert_allclose(seen.joints_uvd.mean(axis=1), [(200, 120, 600)] * 2, atol=4)
    turned = seen.joints_uvd - seen.joints_uvd.mean(axis=1, keepdims=True)
    straight = hand._look(disk(200), CAMERA, (180, 105, 600), 1, 0).joints_uvd
    straight = straight - straight.mean(axis=1, keepdims=True)
    # The network sees the same hand in every crop: what is turned back lies the other way. In the mirror, it is turned
    # against the first.
    back = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turn)
    np.testing.assert_allclose(turned[0, :, :2], straight[0, :, :2] @ back.T, atol=1e-3)
    np.testing.assert_allclose(turned[1, :, :2], straight[1, :, :2] @ back, atol=1e-3)


def test_looks_in_all_orientations_are_averaged_where_they_agree(
    hand: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joints move by 4 mm in one turned crop and by 100 in another: the second shows something else."""
    hand.handedness = "right"
    straight = hand._look(disk(200), CAMERA, (200, 120, 600), 3, 0)
    off_mm = np.array([0.0, 4.0, 100.0, 0.0])

    def other(*args: Any) -> Any:
        moved = straight.joints_xyz_mm + off_mm[args[-1]] * np.array([1, 0, 0])
        return straight._replace(joints_xyz_mm=moved)

    monkeypatch.setattr(hand, "_look", other)
    found = {}
    for hand.turns in (1, 2, 4):
        found[hand.turns] = hand(disk(200), CAMERA).joints_xyz_mm
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_allclose(found[4] - found[1], [[4 / 3, 0, 0]] * 21, atol=1e-3)
    with pytest.raises(UserError, match="turns"):
        HandModel(Disks(21), {"params": {}}, TRACK, turns=3)  # type: ignore[arg-type]


def test_the_mirrored_look_is_mirrored_back(hand: HandModel) -> None:
    """The network sees a right hand in a mirror, too: mirrored back it is a left one, in the same place."""
    right = dataclasses.replace(hand(disk(200), CAMERA))
    hand.handedness = "left"
    left = hand(disk(200), CAMERA)
    hand.handedness = "right"
    given = hand(disk(200), CAMERA)
    hand.handedness = None
    assert (left.handedness, left.handedness_probability) == ("left", 1.0)
    middle = left.joints_uvd.mean(axis=0)
    np.testing.assert_allclose(middle, right.joints_uvd.mean(axis=0), atol=4)
    assert left.joints_xyz_mm is not None
    assert given.joints_xyz_mm is not None
    assert fingers_in_front(left.joints_xyz_mm, CAMERA) < 0
    assert fingers_in_front(given.joints_xyz_mm, CAMERA) > 0


def test_fingers_tell_right_from_left() -> None:
    right = HAND @ TURN
    left = right * [-1, 1, 1]
    assert fingers_in_front(right, CAMERA) == pytest.approx(12.0)
    assert fingers_in_front(left, CAMERA) == pytest.approx(-12.0)
    traced = jax.jit(lambda joints: fingers_in_front(joints, CAMERA, jnp))
    np.testing.assert_allclose(traced(np.stack([right, left])), (12.0, -12.0), rtol=1e-5)
    y_up = dataclasses.replace(CAMERA, fy=-CAMERA.fy)
    assert fingers_in_front(right * [1, -1, 1], y_up) == pytest.approx(12.0)
    equal = np.zeros((2, 4))
    better = np.array([[3.0, 1.0, 0.9, 0.0], [4.0, 2.0, 0.1, 0.0]])
    # A network that knows both sees the same in both looks, which are averaged.
    logit, looks = which_hand(np.stack([left, left]), equal, CAMERA)
    assert logit < -1
    assert looks == [0, 1]
    twice = which_hand(np.stack([left, left]), equal, CAMERA, side_by_fingers=0.2)
    assert twice[0] == pytest.approx(2 * logit)
    # One that knows right hands sees one in each: the better look decides, unless it is known.
    left = left + np.float32([0.0, 0.0, 60.0])
    logit, looks = which_hand(np.stack([right, left]), better, CAMERA)
    assert logit > 0
    assert looks == [0]
    logit, looks = which_hand(np.stack([right, left]), better[::-1], CAMERA)
    assert logit < 0
    assert looks == [1]
    assert which_hand(np.stack([right, left]), better, CAMERA, given="left")[1] == [1]
    assert which_hand(np.stack([right, left]), better, CAMERA, evidence=-99.0)[1] == [1]
    assert which_hand(np.stack([right, right]), equal, CAMERA, given="left")[1] == [0, 1]


def test_a_hand_is_followed_lost_and_found_again(hand: HandModel) -> None:
    """A nearer disk beside it does not distract: the hand of the frame before is looked for first."""
    both = np.minimum(disk(140), disk(260, depth=580))
    blank = np.zeros((240, 320), np.float32)
    sequence = [disk(100), disk(120), both, blank, disk(260)]
    poses = list(hand.track(sequence, CAMERA))
    u = [pose.joints_uvd[:, 0].mean() for pose in poses]
    np.testing.assert_allclose(np.delete(u, 3), (100, 120, 140, 260), atol=5)
    assert np.isnan(u[3])
    assert poses[3].score == 0
    assert poses[3].warning == "no depth reading"
    assert all(pose.score > 0.9 for pose in np.delete(np.array(poses, object), 3))


def test_an_empty_frame_is_logged_once_with_its_name(hand: HandModel, logged: list[str]) -> None:
    follow, blank = OneHand(hand), np.zeros((240, 320), np.float32)
    for number in range(3):
        assert follow(blank, CAMERA, f"clip.mkv#{number}").warning == "no depth reading"
    assert logged == ["clip.mkv#0: no depth reading"]


def test_several_hands_are_found_and_followed(hand: HandModel) -> None:
    """Numbers stay with hands as they move and come and go; what is asked for is an upper bound."""
    middles = [(80, 250), (90, 240), (100,), (110, 230), (110, 230), (110, 230)]
    frames = [np.min([disk(u) for u in frame], axis=0) for frame in middles]
    found = hand.find(frames[0], CAMERA)
    assert sorted(round(pose.joints_uvd[:, 0].mean(), -1) for pose in found) == [80, 250]
    assert len(hand.find(frames[0], CAMERA, most=1)) == 1
    assert len(hand.find(frames[2], CAMERA)) == 1
    assert hand.find(np.full((240, 320), 1500.0), CAMERA) == []
    for none in (
        lambda: hand.find(frames[0], CAMERA, most=0),
        lambda: list(hand.follow([], most=0)),
    ):
        with pytest.raises(UserError, match="most=0"):
            none()

    followed = list(hand.follow([*frames, np.zeros((240, 320))], CAMERA))
    by_number = [{pose.number: pose.joints_uvd[:, 0].mean() for pose in one} for one in followed]
    left = next(number for number, u in by_number[0].items() if u < 160)
    assert set(by_number[0]) == {0, 1}
    np.testing.assert_allclose(
        [one[left] for one in by_number[:6]], [80, 90, 100, 110, 110, 110], atol=5
    )
    assert set(by_number[2]) == {left}
    # Found at once where it is expected, and by its number.
    assert all(set(one) == {0, 1} for one in by_number[3:6])
    assert followed[6] == []


def test_hands_that_cross_keep_their_numbers(hand: HandModel) -> None:
    """The made-up network sees one disk in the middle of both when they are close."""
    sides = range(90, -91, -10)
    frames = [np.minimum(disk(160 - x, depth=640), disk(160 + x)) for x in sides]
    followed = [
        {p.number: p.joints_uvd[:, 0].mean() for p in ps} for ps in hand.follow(frames, CAMERA)
    ]
    assert min(map(len, followed)) == 1
    assert set().union(*followed) == {0, 1}
    last = {number: 320 - u for number, u in followed[0].items()}
    assert followed[-1] == pytest.approx(last, abs=8)


def test_a_hand_is_remembered_for_some_frames(hand: HandModel) -> None:
    """Five in the open; then it is a new one."""
    both, one, none = np.minimum(disk(80), disk(250)), disk(80), np.zeros((240, 320))
    for unseen, numbers in (([one] * 4, {0, 1}), ([none] * 5, {0, 1}), ([none] * 6, {2, 3})):
        last = list(hand.follow([both, *unseen, both], CAMERA))[-1]
        assert {pose.number for pose in last} == numbers


def test_a_sequence_goes_on_with_the_same_hand(hand: HandModel) -> None:
    """Otherwise smoothing would blend two of them."""
    hand.handedness = "right"
    before, near, far = (hand(disk(u), CAMERA) for u in (100, 110, 200))
    assert goes_on(before, near)
    assert not goes_on(before, far)
    assert not goes_on(None, near)
    assert not goes_on(before, dataclasses.replace(near, score=0.1))
    assert not goes_on(before, dataclasses.replace(near, handedness="left"))


def test_a_learned_score_decides(hand: HandModel) -> None:
    never = HandModel(Disks(21), {"params": {}}, TRACK, calibration=Calibration([0.0] * 4, -9.0))
    assert hand(disk(100), CAMERA).score > 0.9
    pose = never(disk(100), CAMERA)
    assert pose.score < 0.01
    assert "no hand" in str(pose.warning)
    other = HandModel(Disks(21), {"params": {}}, TRACK, calibration=Calibration([0.0] * 9, 0.0))
    with pytest.raises(UserError, match="9 weights: expected 4"):
        other(disk(100), CAMERA)


def test_expected_errors_grow_with_the_spread_of_the_votes(hand: HandModel) -> None:
    assert hand(disk(100), CAMERA).expected_error_mm is None
    known = Calibration([0.0] * 4, 9.0, list(range(21)), 2.0, 0.5)
    pose = HandModel(Disks(21), {"params": {}}, TRACK, calibration=known)(disk(100), CAMERA)
    assert pose.expected_error_mm is not None
    spread = spread_px(pose.confidence)
    np.testing.assert_allclose(pose.expected_error_mm, np.arange(21) + 2.5 * spread, rtol=1e-6)
    assert spread[0] == pytest.approx(4.0 / 9.0)


@pytest.mark.slow
def test_the_trunk_is_part_of_the_score() -> None:
    """The last of its features alone, as a weight says."""
    config = ModelConfig(backbone="resnet18", width=4, head_features=4, head_depth=0)
    model = make_model(config, TRACK)
    variables = init_variables(model, jax.random.key(0), 32, 32)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    _, pooled = with_features(model, variables, images)
    assert pooled.shape == (2, 32)
    last = ResNet("resnet18", 4).apply({k: v["trunk"] for k, v in variables.items()}, images, False)
    np.testing.assert_allclose(pooled, last.regression.mean((1, 2)), rtol=1e-5)
    known = Calibration([0.0] * 35 + [2.0], 0.5)
    logits = known.logits(np.zeros((2, 4)), np.asarray(pooled))
    np.testing.assert_allclose(logits, 0.5 + 2.0 * np.asarray(pooled)[:, -1], rtol=1e-5)


def test_a_frame_without_a_hand_scores_low(hand: HandModel, logged: list[str]) -> None:
    empty = np.full((240, 320), 1500.0, np.float32)
    empty[5:7, 5:7] = 600.0
    pose = hand(empty, CAMERA)
    assert pose.warning is not None
    assert len([one for one in logged if "compiled" not in one]) == 1


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (np.zeros((240, 320)), {}, "no depth reading"),
        (np.full((240, 320), np.nan), {}, "no depth reading"),
        (disk(100) / 1000, {}, "meters"),
        (np.full((240, 320), 90, np.uint8), {}, "8-bit"),
        (np.zeros((240, 320, 3)), {}, "one depth image"),
        ("frame.png", {}, "found a path"),
        (disk(100), {"camera": (300, 300)}, "Camera"),
        (disk(100), {"center_uvd": (900, 0, 600)}, "outside"),
        (disk(100), {"center_uvd": (1, 1, 600), "box_px": (0, 0, 9, 9)}, "one of the two"),
        (disk(100), {"box_px": (9, 9, 9, 9)}, "x0 < x1"),
        (disk(100), {"box_px": (400, 50, 500, 150)}, "outside the frame of 320 x 240 px"),
        (np.zeros((240, 320)), {"center_uvd": (1, 1, 600)}, "no depth reading"),
    ],
)
def test_what_is_no_frame_or_place(
    hand: HandModel, frame: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        hand(frame, **{"camera": CAMERA, **options})


def test_a_second_hand_is_warned_of_where_one_is_looked_for(
    hand: HandModel, logged: list[str]
) -> None:
    both = np.minimum(disk(80), disk(250))
    for _ in range(2):
        hand(both, CAMERA, name="frame.png")
    list(hand.track([both], CAMERA))
    assert [text[:31] for text in logged if "another" in text] == [
        "frame.png: another hand is in v"
    ]
    fresh = HandModel(Disks(21), {"params": {}}, TRACK)
    fresh(both, CAMERA, center_uvd=(80, 120, 600))
    fresh.find(both, CAMERA)
    fresh(disk(80), CAMERA)
    list(HandModel(Disks(21), {"params": {}}, TRACK).track([disk(80)], CAMERA))
    assert sum("another" in text for text in logged) == 1


@pytest.mark.parametrize("size", [(640, 480), (424, 240), (160, 120)])
def test_intrinsics_of_another_frame_size(hand: HandModel, size: tuple[int, int]) -> None:
    """Twice and half of it, and another shape."""
    camera = Camera(300.0, 300.0, size[0] / 2, size[1] / 2)
    assert "principal point" in str(hand(disk(100), camera).warning)
    assert "principal" not in str(hand(disk(100), Camera(300.0, 300.0, 170.0, 112.0)).warning)


def test_intrinsics_of_another_resolution_are_warned_of(hand: HandModel, logged: list[str]) -> None:
    twice = Camera(600.0, 600.0, 320.0, 240.0)
    for _ in range(2):
        pose = hand(disk(100), twice, center_uvd=(100, 120, 600))
        assert "320x240, the camera's principal point 320,240 lies outside" in str(pose.warning)
    assert sum("principal point" in message for message in logged) == 1


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'nope'; expected hand-small"):
        a2j_jax.load("nope")
    (tmp_path / "hand.npz").write_text("a note")
    with pytest.raises(UserError, match=r"hand\.npz"):
        load(tmp_path / "hand.npz")
    for options in ({"handedness": "both"}, {"tips": "nail"}):
        with pytest.raises(UserError, match="expected"):
            HandModel(Disks(21), {"params": {}}, TRACK, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="21 joints of HANDS 2017"):
        HandModel(Disks(14), {"params": {}}, TRACKS["nyu"])


def test_tips_on_the_skin() -> None:
    model = HandModel(Disks(21), {"params": {}}, TRACK, tips="skin")
    assert model(disk(100), CAMERA).joints_uvd.shape == (21, 3)


PROGRAM = """
import sys
import a2j_jax
assert "jax" not in sys.modules
hand = a2j_jax.load("hand-small")
print(sorted({"tensorflow_datasets", "grain", "array_record", "optax", "orbax", "a2j_jax.training"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_loading_imports_nothing_of_training_or_data_sets() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]"], done.stderr


@pytest.mark.slow
def test_the_weights_that_ship_find_rendered_hands() -> None:
    from a2j_jax.synthetic.views import track_frames

    model = load("hand-small", handedness="right")
    errors = []
    for truth in track_frames(model.spec, 8, seed=77):
        pose = model(truth["frame"])
        assert pose.joints_xyz_mm is not None
        apart = pose.joints_xyz_mm - truth["joints_xyz"]
        errors.append(np.linalg.norm(apart, axis=-1).mean())
    assert np.median(errors) < 35
