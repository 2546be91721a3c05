"""Joint names, bones and left/right pairs of every skeleton, in the order of the labels.

A skeleton is defined by its *limbs*: named chains of joints from the root outward. Bones are the consecutive pairs of
each chain; pictures color a bone by its limb. Names and bones were checked against plots of the published test labels.
"""

from dataclasses import dataclass
from itertools import pairwise

FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class Skeleton:
    """Names and connections of K joints.

    Attributes:
      name: of the joint convention.
      joints: K names, in label order. Paired joints are called `left_x` and `right_x`
        (the person's own left and right).
      limbs: (limb name, chain of joint indices from the root outward) pairs.
      groups: (group name, joint indices) pairs that are scored together, left and right pooled: the columns of ITOP's
        tables. Empty where the field has none.
      regions: the same for larger parts of the body; a joint may be in no region.
      torso: (one joint, two joints whose midpoint is the other end) of the torso diameter, the unit of PDJ, or None.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, tuple[int, ...]], ...]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    torso: tuple[int, tuple[int, int]] | None = None

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) joint indices, limb by limb."""
        return tuple(bone for _, chain in self.limbs for bone in pairwise(chain))

    @property
    def bone_limbs(self) -> tuple[int, ...]:
        """For every bone, the index of its limb."""
        return tuple(i for i, (_, chain) in enumerate(self.limbs) for _ in chain[1:])

    @property
    def left_right(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joint indices that mirror each other; empty for hands."""
        pairs = ((name, "right_" + name.removeprefix("left_")) for name in self.joints)
        return tuple(
            (self.joints.index(left), self.joints.index(right))
            for left, right in pairs
            if left.startswith("left_") and right in self.joints
        )

    def __len__(self) -> int:
        return len(self.joints)


NYU = Skeleton(
    # Joints 0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32 of the 36 of Tompson et al. (2014).
    name="nyu",
    joints=(
        "pinky_tip", "pinky_mid", "ring_tip", "ring_mid", "middle_tip", "middle_mid",
        "index_tip", "index_mid", "thumb_tip", "thumb_mid", "thumb_root",
        "wrist_pinky_side", "wrist_thumb_side", "palm",
    ),
    limbs=(
        ("thumb", (13, 10, 9, 8)),
        ("index", (13, 7, 6)),
        ("middle", (13, 5, 4)),
        ("ring", (13, 3, 2)),
        ("pinky", (13, 1, 0)),
        ("wrist", (11, 13, 12)),
    ),
)  # fmt: skip

ICVL = Skeleton(
    name="icvl",
    joints=("palm", *(f"{f}_{part}" for f in FINGERS for part in ("root", "mid", "tip"))),
    limbs=tuple((f, (0, 3 * i + 1, 3 * i + 2, 3 * i + 3)) for i, f in enumerate(FINGERS)),
)

HANDS2017 = Skeleton(
    # Wrist, the five MCPs, then PIP, DIP, TIP finger by finger (Yuan et al. 2017). On the thumb, "mcp", "pip" and "dip"
    # are the anatomical CMC, MCP and IP joints.
    name="hands2017",
    joints=(
        "wrist",
        *(f"{f}_mcp" for f in FINGERS),
        *(f"{f}_{part}" for f in FINGERS for part in ("pip", "dip", "tip")),
    ),
    limbs=tuple((f, (0, 1 + i, 6 + 3 * i, 7 + 3 * i, 8 + 3 * i)) for i, f in enumerate(FINGERS)),
)

ITOP = Skeleton(
    name="itop",
    joints=(
        "head", "neck", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow",
        "right_hand", "left_hand", "torso", "right_hip", "left_hip", "right_knee", "left_knee",
        "right_foot", "left_foot",
    ),
    limbs=(
        ("trunk", (0, 1, 8)),
        ("right arm", (1, 2, 4, 6)),
        ("left arm", (1, 3, 5, 7)),
        ("right leg", (8, 9, 11, 13)),
        ("left leg", (8, 10, 12, 14)),
    ),
    groups=(
        ("head", (0,)), ("neck", (1,)), ("shoulders", (2, 3)), ("elbows", (4, 5)),
        ("hands", (6, 7)), ("torso", (8,)), ("hips", (9, 10)), ("knees", (11, 12)),
        ("feet", (13, 14)),
    ),
    # The torso is in neither half, as in the averages of Haque et al. (ECCV 2016).
    regions=(
        ("upper_body", tuple(range(8))),
        ("lower_body", tuple(range(9, 15))),
        ("full_body", tuple(range(15))),
    ),
    # Not part of ITOP's own protocol; PDJ (Table 8) uses neck to the midpoint of the hips, as on K2HPD.
    torso=(1, (9, 10)),
)  # fmt: skip

K2HPD = Skeleton(
    # The data set documents no names; these follow from the published labels (joint 1 is the neck and 9, 12 the hips of
    # PDJ's torso diameter). Left and right assume the Kinect's mirrored image: the person's left is on the left.
    name="k2hpd",
    joints=(
        "head", "neck", "spine_mid", "left_shoulder", "left_elbow", "left_hand",
        "right_shoulder", "right_elbow", "right_hand", "left_hip", "left_knee", "left_foot",
        "right_hip", "right_knee", "right_foot", "spine_shoulder", "spine_base",
        "left_wrist", "right_wrist",
    ),
    limbs=(
        ("trunk", (0, 1, 15, 2, 16)),
        ("right arm", (15, 6, 7, 18, 8)),
        ("left arm", (15, 3, 4, 17, 5)),
        ("right leg", (16, 12, 13, 14)),
        ("left leg", (16, 9, 10, 11)),
    ),
    torso=(1, (9, 12)),
)  # fmt: skip
