"""What a diagnosis finds: the unit, the camera and the hand, by a made-up network that sees disks."""

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.doctor import Diagnosis, diagnose, draw, sentences, suspicious
from a2j_jax.inference.hands import HandModel
from tests.inference.test_hands import CAMERA, TRACK, Disks, disk


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return HandModel(Disks(21), {"params": {}}, TRACK)


def fixes(diagnosis: Diagnosis) -> dict[str, str]:
    return {found.what: found.fix for found in diagnosis.findings if found.fix}


def test_a_frame_in_mm(hand):
    found = diagnose(disk(200), CAMERA, hand)
    (pose,) = found.poses
    assert pose.score > 0.9
    np.testing.assert_allclose(found.places_uvd[0], (200, 120, 600), atol=25)
    # The made-up hand is small, and the same in the mirror.
    assert fixes(found).keys() <= {"wrist to middle tip", "hand"}
    assert "right or a left hand" in fixes(found)["hand"]
    figure = draw(found, TRACK, "caption", "a2j doctor frame.png")
    frame, crop, answer = figure.axes
    assert len(frame.texts) == len(found.places_uvd)
    assert crop.images[0].get_array().shape == (32, 32) == answer.images[0].get_array().shape


@pytest.mark.parametrize(("factor", "unit"), [(8, "0.125 (SR300, SR305: 0.6 m)"), (10, "0.1 (")])
def test_counts_that_are_no_mm(hand, factor, unit):
    counts = (disk(200) * factor).astype(np.uint16)
    found = diagnose(counts, CAMERA, hand)
    assert unit in fixes(found)["depth unit"]
    assert 200 < found.depth_mm[120, 200] < 1000
    given = diagnose(counts, CAMERA, hand, unit_mm=1 / factor)
    assert "depth unit" not in fixes(given)
    wrong = diagnose(counts, CAMERA, hand, unit_mm=1.0)
    assert unit in fixes(wrong)["depth unit"]
    assert wrong.depth_mm[120, 200] == counts[120, 200]


def test_meters(hand):
    found = diagnose(disk(200) / 1000, CAMERA, hand)
    assert "meters" in fixes(found)["depth unit"]
    np.testing.assert_allclose(found.depth_mm, disk(200), rtol=1e-5)


def test_intrinsics_of_twice_the_size(hand):
    camera = Camera(600.0, 600.0, 320.0, 240.0)
    suggested = fixes(diagnose(disk(200), camera, hand))["principal point"]
    assert "640x480" in suggested
    assert "--camera 300,300,160,120" in suggested


@pytest.mark.parametrize("focal", [(3000.0, 3000.0), (300.0, 200.0)])
def test_an_impossible_focal_length(hand, focal):
    camera = Camera(*focal, 160.0, 120.0)
    assert "field of view" in fixes(diagnose(disk(200), camera, hand))


def test_a_hand_that_is_cut_off(hand):
    found = diagnose(disk(318), CAMERA, hand)
    (pose,) = found.poses
    assert ("place" in fixes(found)) == (pose.joints_uvd[:, 0].max() > 317), pose


def test_several_hands(hand):
    """All that were asked for are listed and drawn; one more, or one less, is pointed out."""
    two = np.minimum(disk(80), disk(250, depth=620))
    found = diagnose(two, CAMERA, hand, most=2)
    assert sorted(round(pose.joints_uvd[:, 0].mean(), -1) for pose in found.poses) == [80, 250]
    listed = [finding.what for finding in found.findings]
    assert {f"hand {n}: {what}" for n in (0, 1) for what in ("place", "side")} <= set(listed)
    assert "hands in view" not in fixes(found)
    frame, *others = draw(found, TRACK, "caption", "a2j doctor frame.png").axes
    assert {"hand 0", "hand 1"} <= {text.get_text() for text in frame.texts}
    assert [axes.get_title().partition(":")[0] for axes in others] == ["hand 0"] * 2 + [
        "hand 1"
    ] * 2
    one = diagnose(two, CAMERA, hand)
    assert len(one.poses) == 1
    assert "--hands 2" in fixes(one)["hands in view"]
    assert "asked for 2" in fixes(diagnose(disk(80), CAMERA, hand, most=2))["hands in view"]


def test_a_sensor_that_saw_nothing(hand):
    found = diagnose(np.full((240, 320), 65535, np.uint16), CAMERA, hand)
    assert found.poses == ()
    assert "saw nothing" in fixes(found)["without reading"]


def test_a_crop_without_pixels(hand):
    """A unit that is far off."""
    found = diagnose(disk(200), CAMERA, hand, unit_mm=200.0)
    assert "depth unit" in fixes(found)
    assert len(draw(found, TRACK, "caption", "a2j doctor frame.png").axes) == 1


def test_no_hand_at_all(hand):
    """The likeliest place is shown, and why it is none."""
    found = diagnose(np.full((240, 320), 1000, np.uint16), CAMERA, hand, most=2)
    assert len(found.poses) == 1
    assert fixes(found)["hand 0: side"]


def test_nothing_in_the_frame(hand):
    found = diagnose(np.zeros((240, 320), np.uint16), CAMERA, hand)
    assert found.poses == ()
    assert "without reading" in fixes(found)
    assert len(draw(found, TRACK, "caption", "a2j doctor frame.png").axes) == 1


@pytest.mark.parametrize("values", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint16)])
def test_no_depth(hand, values):
    with pytest.raises(UserError, match=r"expected one depth image|8-bit"):
        diagnose(values, CAMERA, hand)


def test_a_caption_is_of_sentences(hand):
    fixes = suspicious(diagnose(np.zeros((240, 320), np.uint16), CAMERA, hand).findings)
    text = sentences(["frame.png", *fixes, "unit: 1 mm"])
    assert text.startswith("frame.png. without reading: the camera saw nothing: ")
    assert text.endswith("is this the depth stream? unit: 1 mm.")
