"""An articulated body: sampled anatomy, joint angles, forward kinematics. Pure functions of a key.

The *body frame*: origin midway between the hips, +x to the person's own left, +y up (against
gravity), +z to where the person faces; right-handed, mm. Paired things are ordered (right, left),
as ITOP orders its joints; angles of both sides have the same sign for mirrored poses. Limbs hang
along their own frame's −y where all angles are zero, and the toes point along +z.

Joints are ITOP's fifteen: the head's is its centre, the neck's lies between the shoulders, the
torso's halfway from there to the hips, the hand's in the palm and the foot's in the heel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.draws import draw
from a2j_jax.synthetic.kinematics import rotation

# Stature of adults, mean and σ, mm: Fryar et al. (2016), "Anthropometric reference data for
# children and adults: United States, 2011–2014", NCHS, Vital Health Stat. 3(39): 175.7 cm and
# 161.8 cm; σ about 7 cm.
MEN_MM, WOMEN_MM = (1757.0, 80.0), (1618.0, 75.0)

# Lengths as fractions of stature: Drillis & Contini (1966), "Body segment parameters", as printed
# in Winter, "Biomechanics and motor control of human movement", Fig. 4.1: upper arm 0.186, forearm
# 0.146, hand 0.108, shank 0.246, foot 0.152 long and its ankle 0.039 high, shoulders 0.818 high,
# hips 0.530. What that figure does not say follows ITOP's labels: the hand is labelled in the palm
# 0.040 beyond the wrist, the foot in the heel 0.018 below the ankle, the hip 0.015 above the
# trochanter; and so the half distances of shoulders and hips, which are those of joint centres, and
# the head's centre above the neck.
SPINE, NECK, SHOULDER, HIP = 0.1365, 0.130, 0.105, 0.060  # SPINE: hips – torso, torso – neck
ARM, LEG = (0.186, 0.186), (0.260, 0.264)
WRIST = 0.146 / 0.186  # where on the way from elbow to hand the wrist is
FOOT = 0.152

# Limits, degrees: American Academy of Orthopaedic Surgeons (1965), "Joint motion: method of
# measuring and recording"; the hip's flexion to 125 as in a deep squat, the knee's to 140.
PLANE_LIMIT_DEG = (-40.0, 130.0)  # of elevation: 0 sideways, 90 forward
ELEVATION_LIMIT_DEG = (0.0, 170.0)
SHOULDER_ROTATION_LIMIT_DEG = (-90.0, 70.0)  # inward positive
ELBOW_LIMIT_DEG = (0.0, 145.0)
HIP_FLEXION_LIMIT_DEG = (-30.0, 125.0)
HIP_ABDUCTION_LIMIT_DEG = (-25.0, 45.0)
HIP_ROTATION_LIMIT_DEG = (-40.0, 45.0)  # outward positive
KNEE_LIMIT_DEG = (0.0, 140.0)
ANKLE_LIMIT_DEG = (-50.0, 22.0)  # toes up positive
SPINE_LIMIT_DEG = ((-25.0, 80.0), (-35.0, 35.0), (-45.0, 45.0))  # forward, sideways, twist
NECK_LIMIT_DEG = ((-45.0, 45.0), (-40.0, 40.0), (-60.0, 60.0))


class BodyShape(NamedTuple):
    """One person's body.

    Attributes:
        stature_mm: () how tall.
        spine_mm: (2,) hips to torso, torso to neck.
        neck_mm: () neck to the head's centre.
        shoulder_mm, hip_mm: () from the middle to the joint.
        arm_mm: (2,) shoulder to elbow, elbow to hand.
        leg_mm: (2,) hip to knee, knee to foot.
        girth: (2,) of trunk and limbs, for their stature; 1 for average.
    """

    stature_mm: jax.Array
    spine_mm: jax.Array
    neck_mm: jax.Array
    shoulder_mm: jax.Array
    hip_mm: jax.Array
    arm_mm: jax.Array
    leg_mm: jax.Array
    girth: jax.Array


class BodyPose(NamedTuple):
    """Joint angles in radians; pairs are (right, left).

    Attributes:
        pelvis: (2,) forward, then to the right, from the vertical.
        spine: (3,) forward, to the right, twist to the left of shoulders on hips.
        neck: (3,) the same of the head on the shoulders.
        shoulder: (2, 3) plane of elevation (0 sideways, π/2 forward), elevation from hanging, and
            rotation about the arm's axis, inward positive; the first two and the third as the
            International Society of Biomechanics has them (Wu et al., J. Biomech. 2005).
        elbow: (2,) flexion.
        hip: (2, 3) flexion, abduction, rotation outward.
        knee: (2,) flexion.
        ankle: (2,) toes up.
        carried_by: () what carries the body: `FEET`, `KNEES` or a `SEAT`.
    """

    pelvis: jax.Array
    spine: jax.Array
    neck: jax.Array
    shoulder: jax.Array
    elbow: jax.Array
    hip: jax.Array
    knee: jax.Array
    ankle: jax.Array
    carried_by: jax.Array


class BodyKinematics(NamedTuple):
    """A posed body in the body frame.

    Attributes:
        joints_mm: (15, 3) in ITOP's order.
        pelvis, belly, chest, head: (3, 3) rotations; columns are left, up, forward.
        upper_arm, forearm, thigh, shank, foot: (2, 3, 3) the same, of the right and of the left.
    """

    joints_mm: jax.Array
    pelvis: jax.Array
    belly: jax.Array
    chest: jax.Array
    head: jax.Array
    upper_arm: jax.Array
    forearm: jax.Array
    thigh: jax.Array
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
    # The shoulder itself rises with the arm, about a degree in four beyond the first thirty.
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
    return BodyKinematics(
        joints, pelvis, belly, chest, head, upper_arm, forearm, thigh, shank, foot
    )


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


# Share of the body's mass near each joint, in ITOP's order: Winter, Table 4.1 (head 0.081, trunk
# 0.497, upper arm 0.028, forearm and hand 0.022, thigh 0.100, shank and foot 0.061), every
# segment's share split between its ends.
_MASS = np.array(
    [0.081, 0.140, 0.014, 0.014, 0.025, 0.025, 0.011, 0.011, 0.200, 0.128, 0.128, 0.080, 0.080,
     0.0315, 0.0315],
    np.float32,
)  # fmt: skip
_MOST_LEAN = np.deg2rad(20.0)
_FEET = slice(13, 15)
_SOLE = 0.045  # the middle of the sole lies so far before the heel, in statures


def standing(shape: BodyShape, pose: BodyPose) -> BodyPose:
    """The same pose as gravity has it: leaning so that it does not fall, soles on the ground.

    The whole body turns, by at most 20°, until its centre of mass is above the sole that is lowest,
    or between both; who kneels or sits stays. Then each ankle lays its sole flat as far as it can;
    where the shank lies down, as in kneeling, the toes stretch backward.
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
