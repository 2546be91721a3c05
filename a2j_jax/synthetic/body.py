"""An articulated body: sampled anatomy and pose, forward kinematics, and a surface of round cones.

The *body frame*: origin midway between the hips, +x to the person's own left, +y up (against gravity), +z forward;
right-handed, mm. Pairs are ordered (right, left), as in ITOP; angles of both sides have the same sign for mirrored
poses. Where all angles are zero, limbs hang along their own frame's −y, and the toes point along +z. Joints are ITOP's
fifteen: the head's is its center, the neck's lies between the shoulders, the torso's halfway from there to the hips,
the hand's in the palm and the foot's in the heel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.render import RoundCones, along, join_cones, overlap, stack_cones
from a2j_jax.synthetic.sampling import draw, rotation

# Stature of adults, mean and σ, mm: Fryar et al. (2016), "Anthropometric reference data for children and adults: United
# States, 2011–2014", NCHS, Vital Health Stat. 3(39): 175.7 cm and 161.8 cm; σ about 7 cm.
MEN_MM, WOMEN_MM = (1757.0, 80.0), (1618.0, 75.0)

# Lengths as fractions of stature: Drillis & Contini (1966), "Body segment parameters", as printed in Winter,
# "Biomechanics and motor control of human movement", Fig. 4.1: upper arm 0.186, forearm 0.146, hand 0.108, shank 0.246,
# foot 0.152 long and its ankle 0.039 high, shoulders 0.818 high, hips 0.530. The rest follows ITOP's labels: the hand
# is labeled in the palm 0.040 beyond the wrist, the foot in the heel 0.018 below the ankle, the hip 0.015 above the
# trochanter; likewise the half distances of the shoulder and hip joints, and the head's center above the neck.
SPINE, NECK, SHOULDER, HIP = 0.1365, 0.130, 0.105, 0.060  # SPINE: hips – torso, torso – neck
ARM, LEG = (0.186, 0.186), (0.260, 0.264)
WRIST = 0.146 / 0.186  # position of the wrist, as a fraction of the way from elbow to hand
FOOT = 0.152

# Limits, degrees: American Academy of Orthopaedic Surgeons (1965), "Joint motion: method of measuring and recording";
# the hip's flexion to 125 as in a deep squat, the knee's to 140.
SHOULDER_LIMIT_DEG = ((-40.0, 130.0), (0.0, 170.0), (-90.0, 70.0))  # as in `BodyPose.shoulder`
ELBOW_LIMIT_DEG = (0.0, 145.0)
HIP_LIMIT_DEG = ((-30.0, 125.0), (-25.0, 45.0), (-40.0, 45.0))  # flexion, abduction, outward
KNEE_LIMIT_DEG = (0.0, 140.0)
ANKLE_LIMIT_DEG = (-50.0, 22.0)  # toes up positive
SPINE_LIMIT_DEG = ((-25.0, 80.0), (-35.0, 35.0), (-45.0, 45.0))  # forward, sideways, twist
NECK_LIMIT_DEG = ((-45.0, 45.0), (-40.0, 40.0), (-60.0, 60.0))


class BodyShape(NamedTuple):
    """One person's body."""

    stature_mm: jax.Array  # ()
    spine_mm: jax.Array  # (2,) hips to torso, torso to neck
    neck_mm: jax.Array  # () neck to the head's center
    # shoulder_mm, hip_mm: () from the middle to the joint.
    shoulder_mm: jax.Array
    hip_mm: jax.Array
    arm_mm: jax.Array  # (2,) shoulder to elbow, elbow to hand
    leg_mm: jax.Array  # (2,) hip to knee, knee to foot
    girth: jax.Array  # (2,) of trunk and limbs, relative to the average at this stature


class BodyPose(NamedTuple):
    """Joint angles in radians; pairs are (right, left)."""

    pelvis: jax.Array  # (2,) forward, then to the right, from the vertical
    spine: jax.Array  # (3,) forward, to the right, twist to the left of shoulders on hips
    neck: jax.Array  # (3,) the same of the head on the shoulders
    # (2, 3) plane of elevation (0 sideways, π/2 forward), elevation from hanging, and rotation about the arm's
    # axis, inward positive, as defined by the International Society of Biomechanics (Wu et al., J. Biomech.
    # 2005).
    shoulder: jax.Array
    elbow: jax.Array  # (2,) flexion
    hip: jax.Array  # (2, 3) flexion, abduction, rotation outward
    knee: jax.Array  # (2,) flexion
    ankle: jax.Array  # (2,) toes up
    carried_by: jax.Array  # () the support of the body: `FEET`, `KNEES` or a `SEAT`


class BodyKinematics(NamedTuple):
    """A posed body in the body frame."""

    joints_mm: jax.Array  # (15, 3) in ITOP's order
    # pelvis, belly, chest, head: (3, 3) rotations; columns are left, up, forward.
    pelvis: jax.Array
    belly: jax.Array
    chest: jax.Array
    head: jax.Array
    # forearm, shank, foot: (2, 3, 3) the same, of the right and of the left.
    forearm: jax.Array
    shank: jax.Array
    foot: jax.Array


FEET, KNEES, SEAT = 0.0, 1.0, 2.0
_SIDE = np.array([-1.0, 1.0], np.float32)  # right, left: the sign of x


def sample_shape(key: jax.Array) -> BodyShape:
    """A random adult: a man or a woman, every segment varied by about 3 %, girths by about 9 %."""
    (sex,), (tall, long, build, flesh) = draw(key, uniform=[()], bell=[(), (9,), (), (2,)])
    man = sex < 0.5
    stature = jnp.where(man, MEN_MM[0] + MEN_MM[1] * tall, WOMEN_MM[0] + WOMEN_MM[1] * tall)
    length = stature * (1.0 + 0.03 * long)
    # Men's shoulders are a little broader for their stature, women's hips.
    broad = jnp.where(man, 1.03, 0.97)
    return BodyShape(
        stature_mm=stature,
        spine_mm=SPINE * length[:2],
        neck_mm=NECK * length[2],
        shoulder_mm=SHOULDER * broad * length[3],
        hip_mm=HIP / broad * length[4],
        arm_mm=jnp.array(ARM) * length[5:7],
        leg_mm=jnp.array(LEG) * length[7:],
        girth=1.0 + 0.08 * build + 0.05 * flesh,
    )


def forward_kinematics(shape: BodyShape, pose: BodyPose) -> BodyKinematics:
    """Places the fifteen joints of a posed body in the body frame; bone lengths are the shape's."""
    pelvis = rotation("x", pose.pelvis[0]) @ rotation("z", pose.pelvis[1])
    half = _bent(pose.spine / 2.0)
    belly = pelvis @ half
    chest = belly @ half
    head = chest @ _bent(pose.neck)
    torso_at = belly[:, 1] * shape.spine_mm[0]
    neck_at = torso_at + chest[:, 1] * shape.spine_mm[1]
    head_at = neck_at + head[:, 1] * shape.neck_mm

    plane, elevation, inward = jnp.moveaxis(pose.shoulder, -1, 0)
    # The shoulder rises with the arm, by one degree in four beyond the first thirty.
    lift = 0.25 * jnp.maximum(elevation - jnp.pi / 6, 0.0)
    sideways = _SIDE[:, None] * rotation("z", lift * _SIDE)[..., 0]
    shoulder_at = neck_at + shape.shoulder_mm * sideways @ chest.T
    raised = rotation("y", -plane * _SIDE) @ rotation("z", elevation * _SIDE)
    upper_arm = chest @ raised @ rotation("y", (plane - inward) * _SIDE)
    forearm = upper_arm @ rotation("x", -pose.elbow)
    elbow_at = shoulder_at - shape.arm_mm[0] * upper_arm[..., 1]
    hand_at = elbow_at - shape.arm_mm[1] * forearm[..., 1]

    hip_at = shape.hip_mm * _SIDE[:, None] * pelvis[:, 0]
    thigh, shank = _legs(pose, pelvis)
    knee_at = hip_at - shape.leg_mm[0] * thigh[..., 1]
    foot_at = knee_at - shape.leg_mm[1] * shank[..., 1]
    foot = shank @ rotation("x", -pose.ankle)

    trunk = [neck_at[None], shoulder_at, elbow_at, hand_at, torso_at[None]]
    joints = jnp.concatenate([head_at[None], *trunk, hip_at, knee_at, foot_at])
    return BodyKinematics(joints, pelvis, belly, chest, head, forearm, shank, foot)


def _bent(angles: jax.Array) -> jax.Array:
    """(3, 3) rotation of one vertebra on the next by (forward, to the right, twist to the left)."""
    forward, sideways, twist = angles
    return rotation("x", forward) @ rotation("z", sideways) @ rotation("y", twist)


def _legs(pose: BodyPose, pelvis: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Frames of thighs and shanks, each (2, 3, 3)."""
    flexion, abduction, outward = jnp.moveaxis(pose.hip, -1, 0)
    thigh = pelvis @ rotation("x", -flexion) @ rotation("z", abduction * _SIDE)
    thigh = thigh @ rotation("y", outward * _SIDE)
    return thigh, thigh @ rotation("x", pose.knee)


# Share of the body's mass near each joint, in ITOP's order: Winter, Table 4.1 (head 0.081, trunk 0.497, upper arm
# 0.028, forearm and hand 0.022, thigh 0.100, shank and foot 0.061), every segment's share split between its ends.
_MASS = np.array(
    [0.081, 0.140, 0.014, 0.014, 0.025, 0.025, 0.011, 0.011, 0.200, 0.128, 0.128, 0.080, 0.080,
     0.0315, 0.0315],
    np.float32,
)  # fmt: skip
_MOST_LEAN = np.deg2rad(20.0)
_FEET = slice(13, 15)
_SOLE = 0.045  # distance of the middle of the sole in front of the heel, in statures


def standing(shape: BodyShape, pose: BodyPose) -> BodyPose:
    """Balances a pose, with the soles on the ground.

    The body turns, by at most 20°, until its center of mass is above the lowest sole, or between both, unless it kneels
    or sits. Then each ankle lays its sole as flat as it can; where the shank is horizontal, as in kneeling, the toes
    point backward.
    """
    joints = forward_kinematics(shape, pose).joints_mm
    mass = joints.T @ (_MASS / _MASS.sum())
    soles = joints[_FEET] + _SOLE * shape.stature_mm * jnp.array([0.0, 0.0, 1.0])
    offset = mass - soles.T @ jax.nn.softmax(-soles[:, 1] / 40.0)
    lean = jnp.arctan2(jnp.stack([-offset[2], offset[0]]), jnp.maximum(offset[1], 300.0))
    lean = jnp.where(pose.carried_by == FEET, jnp.clip(lean, -_MOST_LEAN, _MOST_LEAN), 0.0)
    pose = pose._replace(pelvis=pose.pelvis + lean)

    _, shank = _legs(pose, rotation("x", pose.pelvis[0]) @ rotation("z", pose.pelvis[1]))
    up = shank[:, 1]  # the vertical, seen from the shank
    flat = jnp.rad2deg(jnp.arctan2(-up[:, 2], up[:, 1]))
    low, high = ANKLE_LIMIT_DEG
    ankle = jnp.interp(flat, jnp.array([low, high, 45.0, 80.0]), jnp.array([low, high, high, low]))
    return pose._replace(ankle=jnp.deg2rad(ankle))


# Poses are drawn around modes, one of the legs and one of each arm: a fraction of the way from standing with hanging
# arms to the mode, plus a small deviation of every angle, within its limits.
# Weight; plane of elevation, elevation, rotation inward, elbow flexion of one arm, degrees.
ARMS = {
    "hanging": (0.34, 40, 7, 5, 15),
    "raised sideways": (0.10, 5, 85, 0, 15),
    "overhead": (0.10, 40, 148, 0, 25),
    "pointing forward": (0.13, 85, 80, 0, 12),
    "held forward": (0.11, 60, 18, 10, 85),
    "across the chest": (0.09, 80, 38, 50, 95),
    "on the hip": (0.05, -5, 42, 55, 95),
    "at the head": (0.06, 65, 75, 10, 125),
    "hands up": (0.06, 0, 80, -80, 90),
}
# Weight; then for the leading leg and for the other: angle of the thigh forward of the vertical, abduction, rotation
# outward, knee flexion; then the forward lean of the trunk (degrees); the smallest stable fraction of the mode; and the
# support of the body.
LEGS = {
    "standing": (0.50, (2, 2, 8, 5), (2, 2, 8, 5), 0, 0, FEET),
    "legs apart": (0.05, (0, 17, 14, 5), (0, 17, 14, 5), 0, 0, FEET),
    "walking": (0.12, (24, 2, 5, 12), (-14, 2, 5, 22), 3, 0, FEET),
    "knee raised": (0.07, (85, 8, 5, 95), (0, 2, 8, 4), 0, 0.2, FEET),
    "leg lifted forward": (0.04, (50, 4, 5, 14), (-3, 3, 8, 6), -4, 0.2, FEET),
    "leg lifted sideways": (0.04, (4, 38, 5, 6), (0, 0, 8, 4), 0, 0.2, FEET),
    "heel to the back": (0.03, (-6, 2, 5, 95), (2, 3, 8, 6), 4, 0.2, FEET),
    "squatting": (0.07, (78, 14, 12, 125), (78, 14, 12, 125), 36, 0.2, FEET),
    "lunging": (0.04, (62, 3, 3, 74), (-22, 2, 3, 40), 8, 0.3, FEET),
    "sitting": (0.03, (82, 9, 8, 84), (84, 9, 8, 86), -2, 1, SEAT),
    "kneeling on one": (0.015, (84, 8, 6, 86), (0, 4, 3, 98), 4, 1, KNEES),
    "kneeling": (0.015, (6, 7, 4, 108), (6, 7, 4, 108), 4, 1, KNEES),
}
BENDING = 0.15  # share of people who bend down in addition
TOGETHER = 0.5  # share of people whose arms have the same mode

_ARM_SIGMA_DEG = np.array([14.0, 11.0, 12.0, 12.0], np.float32)
_LEG_SIGMA_DEG = np.array([4.0, 3.0, 7.0, 5.0], np.float32)


def _chosen(weights: np.ndarray, uniform: jax.Array) -> jax.Array:
    """Indices (...) of rows drawn with these weights, from uniform numbers (...)."""
    bounds = np.cumsum(weights / weights.sum())[:-1]
    return jnp.sum(uniform[..., None] >= jnp.asarray(bounds), axis=-1)


def _within(degrees: jax.Array, *limits: tuple[float, float]) -> jax.Array:
    """Angles (..., n) clipped to n pairs of limits, degrees, in radians."""
    low, high = jnp.asarray(limits).T
    return jnp.deg2rad(jnp.clip(degrees, low, high))


def sample_pose(key: jax.Array) -> BodyPose:
    """A random pose within the anatomical limits, not yet balanced by `standing`."""
    k_arms, k_legs, k_trunk = jax.random.split(key, 3)
    arms = _arm_angles(k_arms)
    thighs, lean, carried_by = _leg_angles(k_legs)
    pelvis, spine, neck = _trunk_angles(k_trunk, lean, carried_by)
    # Legs are drawn relative to the vertical; the pelvis's tilt adds to the hip's flexion.
    hips = thighs[:, :3] + jnp.stack([pelvis[0], 0.0, 0.0])
    return BodyPose(
        pelvis=jnp.deg2rad(pelvis),
        spine=_within(spine, *SPINE_LIMIT_DEG),
        neck=_within(neck, *NECK_LIMIT_DEG),
        shoulder=_within(arms[:, :3], *SHOULDER_LIMIT_DEG),
        elbow=_within(arms[:, 3:], ELBOW_LIMIT_DEG)[:, 0],
        hip=_within(hips, *HIP_LIMIT_DEG),
        knee=_within(thighs[:, 3:], KNEE_LIMIT_DEG)[:, 0],
        ankle=jnp.zeros(2),
        carried_by=carried_by,
    )


def _arm_angles(key: jax.Array) -> jax.Array:
    """(2, 4) degrees of the right and the left arm, the columns of `ARMS`."""
    (mode, share, together), (own,) = draw(key, uniform=[(2,), (2,), ()], bell=[(2, 4)])
    table = np.array(list(ARMS.values()), np.float32)
    same = together < TOGETHER
    mode, share = jnp.where(same, mode[0], mode), jnp.where(same, share[0], share)
    goal = jnp.asarray(table[:, 1:])[_chosen(table[:, 0], mode)]
    rest = jnp.asarray(table[0, 1:])
    # Three of four arms have reached their mode.
    reached = jnp.minimum(0.2 + 1.1 * share, 1.0)[:, None]
    return rest + reached * (goal - rest) + _ARM_SIGMA_DEG * own


def _leg_angles(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(2, 4) degrees of the right and the left leg, as in `LEGS`; the trunk's lean; the support."""
    (mode, share, side), (own,) = draw(key, uniform=[(), (), ()], bell=[(2, 4)])
    rows = list(LEGS.values())
    chosen = _chosen(np.array([row[0] for row in rows]), mode)
    goal = jnp.array([row[1:3] for row in rows], jnp.float32)[chosen]
    lean, least, carried_by = jnp.array([row[3:] for row in rows], jnp.float32)[chosen]
    rest = jnp.array(rows[0][1:3], jnp.float32)
    reached = least + (1.0 - least) * share
    legs = rest + reached * (goal - rest)
    legs = jnp.where(side < 0.5, legs, legs[::-1])
    return legs + _LEG_SIGMA_DEG * own, reached * lean, carried_by


def _trunk_angles(
    key: jax.Array, lean: jax.Array, carried_by: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Degrees of pelvis (2,), spine (3,) and neck (3,); bending is shared by pelvis and spine."""
    (often, far), (hips, back, head) = draw(key, uniform=[(), ()], bell=[(2,), (3,), (3,)])
    bend = jnp.where(often < BENDING, 10.0 + 60.0 * far, 0.0)
    forward = lean + bend * jnp.where(carried_by == FEET, 1.0, 0.5)
    pelvis = jnp.array([4.0, 3.0]) * hips + jnp.stack([0.55 * forward, 0.0])
    spine = jnp.array([6.0, 6.0, 10.0]) * back + jnp.stack([4.0 + 0.45 * forward, 0.0, 0.0])
    # People keep looking ahead: the neck compensates half of the back's bend.
    neck = jnp.array([9.0, 7.0, 18.0]) * head + jnp.stack([4.0 - 0.4 * forward, 0.0, 0.0])
    return pelvis, spine, neck


_HEAD, _NECK, _TORSO = 0, 1, 8
_SHOULDERS, _ELBOWS, _HANDS = slice(2, 4), slice(4, 6), slice(6, 8)
_HIPS, _KNEES, _FEET = slice(9, 11), slice(11, 13), slice(13, 15)

_TWO = np.ones(2, np.float32)


def body_cones(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """The surface of a posed body in the body frame, mm: 43 round cones.

    Sizes are fractions of stature times the girth of trunk or limbs; breadths and depths are those of average adults
    (head 0.155 m broad, chest 0.30 × 0.23 m, hips 0.33 m at a stature of 1.72 m) with light clothing. Every joint lies
    in a cone.
    """
    parts = _head, _trunk_surface, _arm_surface, _leg_surface
    return join_cones(*(part(shape, posed) for part in parts))


def _pair(x: float, y: float, z: float) -> jax.Array:
    """(2, 3): the points (−x, y, z) and (x, y, z), on the right and on the left."""
    return jnp.stack([_SIDE * x, _TWO * y, _TWO * z], axis=-1)


def _head(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """Skull, jaw and neck. 3 cones."""
    h = shape.stature_mm

    def at(*fractions: float) -> jax.Array:
        return posed.joints_mm[_HEAD] + posed.head @ (h * jnp.array(fractions))

    nape = posed.joints_mm[_NECK] + 0.005 * h * posed.chest[:, 1]
    return stack_cones(
        (at(0, 0.006, -0.012), at(0, 0.004, 0.012), 0.046 * h, 0.044 * h),
        (at(0, 0.0, 0.013), at(0, -0.036, 0.022), 0.044 * h, 0.032 * h),
        (nape, at(0, -0.025, -0.008), 0.040 * h, 0.036 * h),
    )


def _trunk_surface(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """Shoulders, ribs, belly, hips and seat. 14 cones."""
    h, g = shape.stature_mm, shape.stature_mm * shape.girth[0]
    j = posed.joints_mm

    def chest(points: jax.Array) -> jax.Array:
        return j[_NECK] + g * points @ posed.chest.T

    def belly(points: jax.Array) -> jax.Array:
        return j[_TORSO] + g * points @ posed.belly.T

    def pelvis(points: jax.Array) -> jax.Array:
        return g * points @ posed.pelvis.T

    yoke, hips = chest(_pair(0.052, -0.035, 0.0)), pelvis(_pair(0.038, 0.005, 0.0))
    nape = jnp.broadcast_to(j[_NECK] + 0.038 * h * posed.chest[:, 1], (2, 3))
    seat = pelvis(_pair(0.042, -0.012, -0.022))
    slim, wide = 0.055 * g * _TWO, 0.058 * g * _TWO
    front = chest(jnp.array([0.0, -0.060, 0.004])), belly(jnp.array([0.0, -0.02, 0.008]))
    return stack_cones(
        (nape, j[_SHOULDERS], 0.026 * h * _TWO, 0.033 * g * _TWO),
        (yoke[0], yoke[1], 0.060 * g, 0.060 * g),
        (chest(_pair(0.056, -0.045, 0.0)), belly(_pair(0.040, -0.01, 0.0)), wide, wide),
        (front[0], front[1], 0.062 * g, 0.063 * g),
        (belly(_pair(0.038, 0.0, 0.0)), pelvis(_pair(0.045, 0.03, 0.0)), wide, wide),
        (front[1], pelvis(jnp.array([0.0, 0.02, 0.004])), 0.063 * g, 0.062 * g),
        (hips[0], hips[1], 0.063 * g, 0.063 * g),
        (seat, along(j[_HIPS], j[_KNEES], 0.22), 0.056 * g * _TWO, 0.050 * g * _TWO),
        (j[_HIPS], pelvis(_pair(0.048, 0.03, 0.0)), slim, slim),
    )


def _arm_surface(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """Shoulder muscle, upper arm, forearm; two cones of palm, fingers and thumb. 14 cones."""
    h, g = shape.stature_mm, shape.stature_mm * shape.girth[1] * _TWO
    shoulder, elbow, hand = (posed.joints_mm[part] for part in (_SHOULDERS, _ELBOWS, _HANDS))
    wrist = along(elbow, hand, WRIST)
    down, flat = -posed.forearm[..., 1], posed.forearm[..., 2]  # along the fingers, to the thumb
    across, palm, s = 0.009 * h * flat, hand + 0.012 * h * down, h * _TWO
    knuckles, tips = hand + 0.02 * h * down, hand + 0.056 * h * down
    thumb = hand + h * (0.030 * flat + 0.006 * down)
    return stack_cones(
        (shoulder, along(shoulder, elbow, 0.4), 0.036 * g, 0.031 * g),
        (shoulder, elbow, 0.031 * g, 0.025 * g),
        (elbow, wrist, 0.0265 * g, 0.0170 * g),
        (wrist + 0.4 * across, palm + across, 0.0160 * s, 0.0145 * s),
        (wrist - 0.4 * across, palm - across, 0.0160 * s, 0.0140 * s),
        (knuckles, tips, 0.0155 * s, 0.0090 * s),
        (wrist + across, thumb, 0.0110 * s, 0.0070 * s),
    )


def _leg_surface(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """Thigh, calf, heel to ball, ball to toes. 12 cones."""
    h, g = shape.stature_mm, shape.stature_mm * shape.girth[1] * _TWO
    hip, knee, foot = (posed.joints_mm[part] for part in (_HIPS, _KNEES, _FEET))
    middle = along(hip, knee, 0.5)
    calf = along(knee, foot, 0.3) - 0.008 * h * posed.shank[..., 2]
    up, ahead = posed.foot[..., 1], posed.foot[..., 2]
    sole, toes = 0.021 * h * _TWO, 0.013 * h * _TWO
    # Heel, ball and toes stand on one plane; the heel reaches one radius behind its joint.
    ball = foot + 0.055 * h * ahead - 0.001 * h * up
    tip = foot + (FOOT - 0.034) * h * ahead - 0.008 * h * up
    return stack_cones(
        (hip, middle, 0.053 * g, 0.046 * g),
        (middle, knee, 0.046 * g, 0.034 * g),
        (knee, calf, 0.034 * g, 0.034 * g),
        (calf, foot, 0.034 * g, sole),
        (foot, ball, sole, 0.020 * h * _TWO),
        (ball, tip, 0.020 * h * _TWO, toes),
    )


# The limb of each ball of `penetration`: right and left arm, right and left leg, trunk.
_OWNER = np.array([0, 1] * 4 + [2, 3] * 4 + [4] * 7)
_COUNTED = _OWNER[:, None] < _OWNER[None, :]
# Thighs start in the trunk: no overlap with it.
_COUNTED &= ~((np.isin(np.arange(len(_OWNER)), (8, 9)))[:, None] & (_OWNER == 4)[None, :])


def penetration(shape: BodyShape, posed: BodyKinematics) -> jax.Array:
    """How far limbs intersect each other and the trunk: `overlap` of sample balls, () mm²."""
    j, h = posed.joints_mm, shape.stature_mm
    arm = [j[_ELBOWS], along(j[_ELBOWS], j[_HANDS], 0.5), j[_HANDS]]
    arm.append(j[_HANDS] - 0.05 * h * posed.forearm[..., 1])
    leg = [along(j[_HIPS], j[_KNEES], 0.5), j[_KNEES], along(j[_KNEES], j[_FEET], 0.5), j[_FEET]]
    chest = j[_NECK] + h * _pair(0.05, -0.05, 0.0) @ posed.chest.T
    belly = j[_TORSO] + h * _pair(0.045, -0.01, 0.0) @ posed.belly.T
    hips = h * _pair(0.045, 0.01, 0.0) @ posed.pelvis.T
    balls = jnp.concatenate([*arm, *leg, chest, belly, hips, j[:1]])
    limbs = np.array([0.025, 0.022, 0.018, 0.016, 0.045, 0.034, 0.03, 0.025], np.float32)
    radii = np.concatenate([np.repeat(limbs, 2), np.full(6, 0.062, np.float32), [0.055]])
    return overlap(balls, h * radii.astype(np.float32), _COUNTED)


def sample_body(key: jax.Array, candidates: int = 4) -> tuple[BodyShape, BodyPose, BodyKinematics]:
    """A random balanced body: a random shape in the least self-intersecting of several random poses."""
    k_shape, k_pose = jax.random.split(key)
    # Otherwise XLA fuses each of these steps into all its uses, and compiles three times as long.
    apart = jax.lax.optimization_barrier
    shape, drawn = apart(
        (sample_shape(k_shape), jax.vmap(sample_pose)(jax.random.split(k_pose, candidates)))
    )
    poses = apart(jax.vmap(lambda pose: standing(shape, pose))(drawn))
    posed = apart(jax.vmap(lambda pose: forward_kinematics(shape, pose))(poses))
    best = jnp.argmin(jax.vmap(lambda one: penetration(shape, one))(posed))
    return apart((shape, *jax.tree.map(lambda x: x[best], (poses, posed))))
