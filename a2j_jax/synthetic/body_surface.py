"""Flesh on the skeleton: the 43 round cones that make up a clothed body.

Sizes are fractions of stature times the girth of trunk or limbs; breadths and depths are those of
average adults (head 0.155 m broad, chest 0.30 × 0.23 m, hips 0.33 m at a stature of 1.72 m) with
light clothing. Every joint lies in a cone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.body import (
    FOOT,
    WRIST,
    BodyKinematics,
    BodyPose,
    BodyShape,
    forward_kinematics,
    sample_shape,
    standing,
)
from a2j_jax.synthetic.body_poses import sample_pose
from a2j_jax.synthetic.render import RoundCones
from a2j_jax.synthetic.surface import along, join_cones, overlap, stack_cones

_HEAD, _NECK, _TORSO = 0, 1, 8
_SHOULDERS, _ELBOWS, _HANDS = slice(2, 4), slice(4, 6), slice(6, 8)
_HIPS, _KNEES, _FEET = slice(9, 11), slice(11, 13), slice(13, 15)
_SIDE = np.array([-1.0, 1.0], np.float32)
_TWO = np.ones(2, np.float32)


def body_cones(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """The surface of a posed body in the body frame, mm: 43 round cones."""
    return join_cones(
        _head(shape, posed), _trunk(shape, posed), _arms(shape, posed), _legs(shape, posed)
    )


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


def _trunk(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
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


def _arms(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
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


def _legs(shape: BodyShape, posed: BodyKinematics) -> RoundCones:
    """Thigh, calf, heel to ball, ball to toes. 12 cones."""
    h, g = shape.stature_mm, shape.stature_mm * shape.girth[1] * _TWO
    hip, knee, foot = (posed.joints_mm[part] for part in (_HIPS, _KNEES, _FEET))
    middle = along(hip, knee, 0.5)
    calf = along(knee, foot, 0.3) - 0.008 * h * posed.shank[..., 2]
    up, ahead = posed.foot[..., 1], posed.foot[..., 2]
    sole, toes = 0.021 * h * _TWO, 0.013 * h * _TWO
    # Heel, ball and toes stand on one plane; the heel is as far behind its joint as it is thick.
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


# What each ball of `penetration` belongs to: right and left arm, right and left leg, trunk.
_OWNER = np.array([0, 1] * 4 + [2, 3] * 4 + [4] * 7)
_COUNTED = _OWNER[:, None] < _OWNER[None, :]
# Thighs are rooted in the trunk: never count them there.
_COUNTED &= ~((np.isin(np.arange(len(_OWNER)), (8, 9)))[:, None] & (_OWNER == 4)[None, :])


def penetration(shape: BodyShape, posed: BodyKinematics) -> jax.Array:
    """How badly limbs run into each other and the trunk: `overlap` of sample balls, () mm²."""
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
    """A random body on its feet: of several random poses of one shape, the least tangled one."""
    k_shape, k_pose = jax.random.split(key)
    # XLA would fuse each of these steps into all uses of it, and compile three times as long.
    apart = jax.lax.optimization_barrier
    shape, drawn = apart(
        (sample_shape(k_shape), jax.vmap(sample_pose)(jax.random.split(k_pose, candidates)))
    )
    poses = apart(jax.vmap(lambda pose: standing(shape, pose))(drawn))
    posed = apart(jax.vmap(lambda pose: forward_kinematics(shape, pose))(poses))
    best = jnp.argmin(jax.vmap(lambda one: penetration(shape, one))(posed))
    return apart((shape, *jax.tree.map(lambda x: x[best], (poses, posed))))
