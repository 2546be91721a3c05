"""Flesh on the skeleton: the round cones that make up a hand and its forearm.

Fingers are one cone per bone. The palm is a row of metacarpals with fillers between them, so that
it is a slab and not a rake; muscles of the thumb and of the little finger thicken its edges, and
webs close the gaps at the roots of fingers and thumb. The forearm is two long parallel cones,
narrow at the wrist. Every joint is the end of some cone, hence at least one radius inside the
surface.
"""

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax.synthetic.hand import (
    HandPose,
    HandShape,
    Kinematics,
    forward_kinematics,
    sample_pose,
    sample_shape,
)
from a2j_jax.synthetic.render import RoundCones
from a2j_jax.synthetic.surface import along, join_cones, overlap, stack_cones

_MCP = np.arange(1, 6)  # joint indices, thumb first
_PIP = np.arange(6, 21, 3)

# Where the four metacarpals of index … pinky begin, hand frame of a hand of scale 1, mm.
CARPAL_MM = np.array([[14, 21, 1], [4, 22, -2], [-7, 21, -2], [-18, 19, 1]], np.float32)
FOREARM_MM = 230.0  # how much of the forearm is modelled


def hand_cones(shape: HandShape, posed: Kinematics) -> RoundCones:
    """The surface of a posed hand with forearm, in the hand frame, mm: 39 round cones."""
    return join_cones(
        _fingers(shape, posed),
        _palm(shape, posed),
        _thenar(shape, posed),
        _forearm(shape, posed),
    )


def _fingers(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Three cones per finger, MCP-PIP-DIP-TIP; the thumb's first is its metacarpal. 15 cones."""
    joints = posed.joints_mm
    chain = jnp.concatenate([joints[_MCP][:, None], joints[6:].reshape(5, 3, 3)], axis=1)
    r = shape.radius_mm
    return stack_cones((chain[:, :-1], chain[:, 1:], r[:, :-1], r[:, 1:]))


def _palm(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Metacarpals, fillers between them, knuckle ridge and finger webs. 15 cones."""
    flesh = shape.scale * shape.thickness
    carpal = shape.scale * CARPAL_MM
    mcp, pip = posed.joints_mm[_MCP][1:], posed.joints_mm[_PIP][1:]
    knuckle = shape.radius_mm[1:, 0] * 1.06
    four, three = jnp.ones(4), jnp.ones(3)
    between_mcp = along(mcp[1:], mcp[:-1], 0.5)
    between_carpal = along(carpal[1:], carpal[:-1], 0.5)
    hollow = 2.0 * flesh * jnp.array([0.0, 0.0, 1.0])
    # A web reaches almost half way up the proximal phalanges.
    web = along(between_mcp, along(pip[1:], pip[:-1], 0.5), 0.36)
    thin = jnp.minimum(knuckle[1:], knuckle[:-1])
    return stack_cones(
        (carpal, mcp, 14.0 * flesh * four, knuckle),
        (between_carpal, between_mcp, 13.5 * flesh * three, thin * 0.97),
        (mcp[1:], mcp[:-1], knuckle[1:] * 0.93, knuckle[:-1] * 0.93),
        (carpal[1:3] + hollow, mcp[1:3] + hollow, 12.5 * flesh * jnp.ones(2), knuckle[1:3] * 0.95),
        (between_mcp, web, thin * 0.92, thin * 0.62),
    )


def _thenar(shape: HandShape, posed: Kinematics) -> RoundCones:
    """The thumb's and the little finger's muscles, and the web between thumb and index. 5 cones."""
    flesh = shape.scale * shape.thickness
    joints, palmward = posed.joints_mm, jnp.array([0.0, 0.0, 1.0])
    thumb_cmc, thumb_mcp, index_mcp, pinky_mcp = joints[1], joints[6], joints[2], joints[5]
    index_carpal, heel = shape.scale * CARPAL_MM[0], shape.scale * jnp.array([-22.0, 20.0, 4.0])
    ball = shape.scale * jnp.array([14.0, 20.0, 5.0])
    thumb_mid, thumb_far = (along(thumb_cmc, thumb_mcp, f) for f in (0.5, 0.8))
    return stack_cones(
        (ball, heel, 15.5 * flesh, 15.5 * flesh),
        (ball, along(ball, thumb_mcp, 0.75), 17.0 * flesh, 14.5 * flesh),
        (thumb_far, along(index_carpal, index_mcp, 0.62), 7.5 * flesh, 8.5 * flesh),
        (thumb_mid, along(index_carpal, index_mcp, 0.35), 11.5 * flesh, 12.0 * flesh),
        (heel, along(heel, pinky_mcp, 0.85) + 2.5 * palmward * flesh, 16.5 * flesh, 12.5 * flesh),
    )  # fmt: skip


def _forearm(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Radius and ulna side of the forearm, from an oval wrist of about 58 × 38 mm. 4 cones."""
    flesh = shape.scale * shape.thickness
    side = posed.forearm[:, 0]
    elbow = -FOREARM_MM * posed.forearm[:, 1] * shape.scale
    narrow, wide = side * 10.0 * flesh, side * 15.0 * flesh
    r_wrist, r_elbow = 19.0 * flesh, 34.0 * flesh * shape.forearm
    carpal = shape.scale * CARPAL_MM
    return stack_cones(
        (narrow, elbow + wide, r_wrist, r_elbow),
        (-narrow, elbow - wide, r_wrist, r_elbow),
        (narrow, carpal[0], r_wrist * 0.98, 14.5 * flesh),
        (-narrow, carpal[3], r_wrist * 0.98, 14.5 * flesh),
    )


def penetration(shape: HandShape, posed: Kinematics) -> jax.Array:
    """How badly fingers run into each other and the palm: `overlap` of sample balls, () mm².

    Balls sit at the joints and the middles of the bones beyond the MCP, and in the palm.
    """
    joints = posed.joints_mm
    chain = jnp.concatenate([joints[_MCP][:, None], joints[6:].reshape(5, 3, 3)], axis=1)
    r = shape.radius_mm
    balls = jnp.concatenate([(chain[:, 1:] + chain[:, :-1]) / 2, chain[:, 1:]], axis=1)
    radii = jnp.concatenate([(r[:, 1:] + r[:, :-1]) / 2, r[:, 1:]], axis=1)
    carpal = shape.scale * CARPAL_MM
    palm = jnp.concatenate([along(carpal, joints[2:6], f) for f in (0.4, 0.75, 1.0)])
    centre = jnp.concatenate([balls.reshape(-1, 3), palm])
    radius = jnp.concatenate([radii.reshape(-1), jnp.full(12, 12.0) * shape.scale])
    owner = np.concatenate([np.repeat(np.arange(5), 6), np.full(12, 5)])
    # The thumb's metacarpal and the proximal phalanges are rooted in the palm: never count them
    # there.
    rooted = np.concatenate([np.tile([1, 0, 0, 0, 0, 0], 5), np.zeros(12)]) > 0
    rooted[[0, 3]] = True
    counted = owner[:, None] < owner[None, :]
    counted &= ~(rooted[:, None] & (owner == 5)[None, :])
    return overlap(centre, radius, counted)


def sample_hand(key: jax.Array, candidates: int = 4) -> tuple[HandShape, HandPose]:
    """A random hand: of several random poses of one random shape, the least tangled one."""
    k_shape, k_pose = jax.random.split(key)
    shape = sample_shape(k_shape)
    poses = jax.vmap(sample_pose)(jax.random.split(k_pose, candidates))
    tangles = jax.vmap(lambda pose: penetration(shape, forward_kinematics(shape, pose)))(poses)
    best = jnp.argmin(tangles)
    return shape, jax.tree.map(lambda x: x[best], poses)
