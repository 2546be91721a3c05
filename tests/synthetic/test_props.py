"""Things around a hand: how often they come, where they are, and that nothing is there that was not asked for."""

import dataclasses

import numpy as np
import pytest

from a2j_jax.synthetic.props import PropSpec, _covered
from a2j_jax.synthetic.render import RoundCones
from tests.synthetic.rendering import compose

NOTHING = PropSpec(**dict.fromkeys(
    ("held", "in_front", "other_hand", "sleeve", "no_arm", "body", "center_tail", "center_bias_mm"), 0.0
))  # fmt: skip
COUNT = 256
# Cones of a scene: the hand, its sleeve, the bank (held, in front, or the other hand), the person, clutter.
SLEEVE, HELD, FRONT, BANK, PERSON = 39, slice(40, 42), slice(42, 44), slice(40, 56), slice(56, 58)


def scenes(**changes):
    return compose("hand", COUNT, props=dataclasses.replace(NOTHING, **changes))


@pytest.fixture(scope="module")
def bare():
    return scenes()


def there(drawn, bare, cones):
    """Which scenes have these cones (N,), where they are otherwise hidden in the hand."""
    moved = np.abs(drawn.cones.ends_mm[:, cones] - bare.cones.ends_mm[:, cones])
    return moved.reshape(len(moved), -1).max(axis=1) > 1e-3


@pytest.mark.parametrize(
    ("name", "cones"),
    [
        ("held", HELD),
        ("in_front", FRONT),
        ("other_hand", BANK),
        ("sleeve", SLEEVE),
        ("body", PERSON),
    ],
)
def test_things_come_in_the_share_asked_for_and_alone(bare, name, cones):
    drawn = scenes(**{name: 0.4})
    assert there(drawn, bare, cones).mean() == pytest.approx(0.4, abs=0.1)
    others = np.setdiff1d(np.arange(bare.cones.radii_mm.shape[1]), np.arange(60)[cones])
    assert not there(drawn, bare, others).any()
    np.testing.assert_array_equal(drawn.joints_xyz, bare.joints_xyz)
    assert np.isfinite(drawn.cones.ends_mm).all()
    assert (drawn.cones.radii_mm > 0).all()


def test_without_things_the_hand_is_that_of_a_plain_scene(bare):
    plain = compose("hand", COUNT)
    np.testing.assert_allclose(bare.joints_xyz, plain.joints_xyz, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(bare.center_xyz, plain.center_xyz, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(
        bare.cones.ends_mm[:, :39], plain.cones.ends_mm[:, :39], rtol=1e-5, atol=1e-4
    )


def test_what_is_held_hardly_reaches_into_the_fingers():
    drawn = scenes(held=1.0)
    (a, b), radius = np.moveaxis(drawn.cones.ends_mm[:, 40], 1, 0), drawn.cones.radii_mm[:, 40, 0]
    joints, axis = drawn.joints_xyz[:, 6:], b - a
    s = np.einsum("njx,nx->nj", joints - a[:, None], axis) / (axis**2).sum(-1)[:, None]
    gap = joints - a[:, None] - np.clip(s, 0, 1)[..., None] * axis[:, None]
    inside = radius - np.linalg.norm(gap, axis=-1).min(axis=1)
    # Joints are 6 to 15 mm inside the fingers.
    assert np.percentile(inside, 80) < -3
    assert 4 <= radius.min() < 8 < 20 < radius.max() <= 45
    near = np.linalg.norm((a + b) / 2 - drawn.joints_xyz.mean(axis=1), axis=-1)
    assert np.percentile(near, 90) < 120


def test_what_is_in_front_is_nearer_to_the_camera(bare):
    drawn = scenes(in_front=1.0)
    first = drawn.cones.ends_mm[:, FRONT.start, 0]
    assert (first[:, 2] < drawn.joints_xyz[..., 2].max(axis=1)).all()
    assert (np.linalg.norm(first - drawn.joints_xyz.mean(axis=1), axis=-1) < 350).all()


def test_a_person_is_behind_the_hand():
    drawn = scenes(body=1.0, body_gap_mm=(150.0, 500.0))
    trunk = drawn.cones.ends_mm[:, PERSON.start, :, 2] - drawn.cones.radii_mm[:, PERSON.start]
    gap = trunk.min(axis=1) - drawn.joints_xyz[..., 2].mean(axis=1)
    assert 140 < gap.min() < 220
    assert 430 < gap.max() < 510


def test_an_unseen_arm_ends_behind_the_wrist(bare):
    drawn = scenes(no_arm=1.0)

    def length(one):
        return np.linalg.norm(one.cones.ends_mm[:, 35, 1] - one.cones.ends_mm[:, 35, 0], axis=-1)

    assert (length(drawn) < 0.21 * length(bare)).all()


def test_centers_have_a_tail_and_a_bias(bare):
    drawn = scenes(center_tail=1.0, center_bias_mm=-8.0)
    error = drawn.center_xyz - drawn.joints_xyz.mean(axis=1)
    assert error.std(axis=0) == pytest.approx([10.0] * 3, rel=0.15)
    assert error.mean(axis=0) == pytest.approx([0, 0, -8.0], abs=2.0)


def test_nothing_hides_all_of_a_hand():
    joints = np.float32([[x, y, 500] for x in (-40, -20, 0, 20, 40) for y in (-10, 10)])
    arm = [[[-60, 0, 400], [60, 0, 400]]], [[40.0, 40.0]]
    behind = [[[-60, 0, 600], [60, 0, 600]]], [[40.0, 40.0]]
    half = [[[0, 0, 300], [60, 0, 300]]], [[14.0, 14.0]]
    for cones, share in ((arm, 1.0), (behind, 0.0), (half, 0.6)):
        found = _covered(joints, RoundCones(*map(np.float32, cones)))
        assert float(found) == pytest.approx(share, abs=0.21)
