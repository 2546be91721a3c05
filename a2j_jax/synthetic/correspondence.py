"""Which of our 21 joints are which of NYU's 14.

Judged by bone lengths: medians over the published test labels of NYU's second subject, whose hand
is about 1.04 times ours of scale 1, against the anatomy of `hand` at that scale, mm.

    NYU                          median    ours                             scale 1.04
    index tip – index mid          43.7    TIP – PIP                              39.7
    middle tip – middle mid        47.2    TIP – PIP                              45.4
    ring tip – ring mid            42.8    TIP – PIP                              44.7
    pinky tip – pinky mid          34.6    TIP – PIP                              35.5
    thumb tip – thumb mid          19.5    TIP – IP (our thumb's DIP)             22.6
    thumb mid – thumb root         37.8    IP – anatomical MCP (its PIP)          32.9
    thumb root – wrist points      78.2    anatomical MCP – wrist                   75

So a "mid" is the PIP joint within a few mm, and the thumb's root is its anatomical MCP, some 5 mm
nearer to the wrist than ours. NYU's two wrist points lie 30 mm apart on the two sides of the wrist
and its palm point in the middle of the palm, where we have no joint.
"""

import numpy as np
import numpy.typing as npt

# (NYU joint, our joint or None), in NYU's order. Ours: 8 thumb tip … 20 pinky tip, see `hand`.
HAND_TO_NYU14: tuple[tuple[int, int | None], ...] = (
    (0, 20),  # pinky tip
    (1, 18),  # pinky mid: PIP
    (2, 17),  # ring tip
    (3, 15),  # ring mid: PIP
    (4, 14),  # middle tip
    (5, 12),  # middle mid: PIP
    (6, 11),  # index tip
    (7, 9),  # index mid: PIP
    (8, 8),  # thumb tip
    (9, 7),  # thumb mid: IP, called DIP in HANDS 2017
    (10, 6),  # thumb root: anatomical MCP, called PIP in HANDS 2017; loosely
    (11, None),  # wrist, little finger's side: our one wrist joint lies between this and the next
    (12, None),  # wrist, thumb's side
    (13, None),  # palm: the middle of it
)


def hand_to_nyu14(joints: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Picks NYU's joints out of ours.

    Args:
        joints: (..., 21, D) in HANDS 2017 order, any unit.

    Returns:
        (..., 14, D) in NYU's order, same dtype, zeros where nothing corresponds, and (14,) bool:
        which do.

    Raises:
        ValueError: the second to last axis is not 21.
    """
    joints = np.asarray(joints)
    if joints.ndim < 2 or joints.shape[-2] != 21:
        raise ValueError(f"joints: expected (..., 21, D), got {joints.shape}")
    valid = np.array([ours is not None for _, ours in HAND_TO_NYU14])
    source = np.array([ours or 0 for _, ours in HAND_TO_NYU14])
    return np.where(valid[:, None], joints[..., source, :], 0).astype(joints.dtype), valid
