import numpy as np
import pytest

from a2j_jax.skeletons import HANDS2017, NYU
from a2j_jax.synthetic.render import HAND_TO_NYU14, hand_to_nyu14


def test_names_agree():
    parts = {"tip": "tip", "mid": "pip", "root": "pip"}
    for nyu, ours in HAND_TO_NYU14:
        if ours is None:
            assert NYU.joints[nyu] in ("wrist_pinky_side", "wrist_thumb_side", "palm")
            continue
        finger, part = NYU.joints[nyu].split("_")
        expected = "dip" if (finger, part) == ("thumb", "mid") else parts[part]
        assert HANDS2017.joints[ours] == f"{finger}_{expected}"
    assert [nyu for nyu, _ in HAND_TO_NYU14] == list(range(14))


def test_picks_joints_and_says_which():
    joints = np.arange(2 * 21 * 3, dtype=np.float32).reshape(2, 21, 3)
    nyu, valid = hand_to_nyu14(joints)
    assert nyu.shape == (2, 14, 3)
    assert nyu.dtype == np.float32
    assert valid.sum() == 11
    np.testing.assert_array_equal(nyu[:, 6], joints[:, 11])
    assert (nyu[:, ~valid] == 0).all()
    with pytest.raises(ValueError, match=r"\(\.\.\., 21, D\), got \(14, 3\)"):
        hand_to_nyu14(np.zeros((14, 3)))
